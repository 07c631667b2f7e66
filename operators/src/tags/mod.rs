//! Tags: values of each key that are correct at every instant; and segments of keys, by rules on
//! their tags.
//!
//! ```text
//! rows ⇄ by key ⇄ held until the watermark ▷ processed in order ▷ changes of tags
//!                 those behind it correct     time passes      ▷ late rows
//!                                                              ▷ profiles
//!                                                              ▷ changes of segments
//! ```
//!
//! The value of a tag at T is that of its definition over the events up to T, even without a recent
//! event: the watermark ends waits, expires values and removes events from windows. The state of
//! events is a commutative monoid, or is ordered by time and id. A late event therefore results in
//! the same state as an event in time.
//!
//! - [`rolling`]: aggregates over windows, from sparse tiles; [`tiled_state`] and [`accumulator`] are the
//!   content of a tile;
//! - [`ranking`], [`funnel`], [`absence`]: the other kinds;
//! - [`event`]: the inputs of pieces from a row;
//! - [`aggregator`]: the state of a kind, decoded on demand;
//! - [`key_state`]: all pieces of a key, and the passage of time; [`codec`]: their encoding;
//! - [`timers`]: the next change of each key without an event;
//! - [`key_distribution`]: counts over all keys, for scores by quantiles;
//! - [`key_store`]: the keys of a lane, recently changed ones decoded and the others encoded; their
//!   snapshots;
//! - [`state_schema`]: converts stored keys to a changed set of tags;
//! - [`segments`]: rules, evaluated in bulk;
//! - [`snapshot_reader`] and [`change_history`]: the profile of a key now, and in the past.

mod absence;
mod accumulator;
mod aggregator;
mod change_history;
mod changes;
mod codec;
mod definition;
mod event;
mod funnel;
mod key_distribution;
mod key_state;
mod key_store;
mod plan;
mod profile;
mod ranking;
mod rolling;
mod segments;
mod set;
mod slots;
mod snapshot_reader;
mod state_schema;
mod tagger;
#[cfg(test)]
mod tests;
mod tiled_state;
mod timers;
mod value;

pub use change_history::ChangeHistory;
pub use definition::{
    Again, Function, FunnelMode, Over, Profile, Rule, Segment, Segments, Spill, Tag, TagKind,
    TagsSpec, Thresholds,
};
pub use set::Tags;
pub use snapshot_reader::{KeyProfile, Lookup, SnapshotReader, TagTile, TagValue};
