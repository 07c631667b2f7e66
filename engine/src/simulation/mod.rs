//! The whole engine on one thread and in virtual time, from a seed.
//!
//! A [`campaign`] draws a [`pipeline`] of the engine's own kinds of nodes, rows in
//! a [`broker`] like Kafka, and then trouble: processes are killed, stopped and
//! woken after others took over; the store fails in every way it knows
//! ([`chaos`]); partitions are added, grow and expire. In the end one process
//! finishes the work in peace, and an [`oracle`] that knows nothing but the rows
//! says what readers must see.
//!
//! The same seed gives the same run, operation by operation: time is tokio's
//! paused clock, names come from seeded ids, there is no other thread, and
//! nothing is kept in an order of chance. `TAGFLOW_SIM_SEED=17` runs that seed
//! alone, with `TAGFLOW_SIM_TRACE=1` aloud; `TAGFLOW_SIM_SEEDS=20000` says how many.
//!
//! That it can fail is shown by drivers that [`lie`] makes wrong.

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
