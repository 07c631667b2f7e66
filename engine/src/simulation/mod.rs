//! The whole engine on one thread and in virtual time, from a seed.
//!
//! A [`campaign`] draws a [`pipeline`] of the engine's own nodes, rows in a [`broker`] like Kafka,
//! and then faults. Processes are killed, or stopped and woken after others took over. The store
//! fails in every supported way ([`chaos`]). Partitions are added, grow and expire. In the end a
//! process finishes the work without faults. An [`oracle`], which reads only the rows, determines
//! the visible result.
//!
//! The same seed gives the same run, operation by operation: time is tokio's paused clock, names
//! are seeded ids, there is no other thread, and no collection has a random order.
//! `TAGFLOW_SIM_SEED=17` runs that seed alone, and `TAGFLOW_SIM_TRACE=1` prints it.
//! `TAGFLOW_SIM_SEEDS=20000` sets the number of seeds.
//!
//! Drivers with a wrong protocol ([`lie`]) show that the simulation can fail.

mod broker;
mod campaign;
mod chaos;
mod effect;
mod failpoints;
mod hold;
mod lie;
mod oracle;
mod pipeline;
mod table;
mod tally;
mod tests;
mod trace;
mod world;
