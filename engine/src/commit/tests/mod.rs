//! The protocol against a store that fails in every way it knows.

mod audit;
mod collect;
mod crashes;
mod damage;
mod owners;
mod replace;
mod stores;
mod world;
