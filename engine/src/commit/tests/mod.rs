//! The protocol against a store that fails in every supported way.

mod audit;
mod collect;
mod crashes;
mod damage;
mod identity;
mod owners;
mod presence;
mod replace;
mod stores;
mod world;
