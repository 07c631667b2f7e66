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
//! - [`kinds`]: the kinds of tags, a file each, with their definitions, states and values;
//! - [`event`]: the events of a key; [`change`]: a change of a tag;
//! - [`definition`]: the definitions of tags and segments; [`set`]: a checked set;
//!   [`plan`]: their compiled form;
//! - [`aggregator`]: the state of a kind, decoded on demand;
//! - [`key_state`]: all pieces of a key, and the passage of time; [`codec`]: their encoding;
//! - [`timers`]: the next change of each key without an event;
//! - [`key_distribution`]: counts over all keys, for scores by quantiles;
//! - [`key_store`]: the keys of a lane, recently changed ones decoded and the others encoded; their
//!   snapshots;
//! - [`state_schema`]: converts stored keys to a changed set of tags;
//! - [`segments`]: rules, evaluated in bulk;
//! - [`tagger`]: the operator;
//! - [`lookup`], [`snapshot_reader`] and [`change_history`]: the profile of a key now, in a commit
//!   and in the past.

mod aggregator;
mod change;
mod change_history;
mod changes;
mod codec;
mod definition;
mod event;
mod fields;
mod key_distribution;
mod key_profile;
mod key_state;
mod key_store;
mod kinds;
mod lookup;
mod member;
mod plan;
mod profile;
mod segments;
mod set;
mod slots;
mod snapshot_reader;
mod state_schema;
mod tagger;
#[cfg(test)]
mod tests;
mod time_trigger;
mod timers;
mod value;

pub use change_history::ChangeHistory;
pub use definition::{Profile, Rule, Segment, Segments, Spill, Tag, TagsSpec};
pub use key_profile::{KeyProfile, TagTile, TagValue};
pub use kinds::{
    Absence, Again, Aggregate, Function, Funnel, FunnelMode, Over, Score, TagKind, Thresholds,
    TimeSince, TopK,
};
pub use lookup::Lookup;
pub use set::Tags;
pub use snapshot_reader::SnapshotReader;
