//! Tags: what is known about each key, right as of every instant; and segments of
//! keys, by rules on their tags.
//!
//! ```text
//! rows ⇄ by key ⇄ held until the watermark ▷ taken in order ▷ changes of tags
//!                 those behind it correct     time passes   ▷ late rows
//!                                                           ▷ profiles
//!                                                           ▷ changes of segments
//! ```
//!
//! The value of a tag as of T is that of its definition over the events up to T,
//! whether or not there has been one lately: events leave windows, waits end and
//! values expire on the watermark. Everything that is kept of events is a
//! commutative monoid or is put in its place by time and id, so that a late event
//! leads to the state that it would have led to in time.
//!
//! - [`series`]: aggregates over windows, from sparse tiles; [`part`] and
//!   [`partial`] are what a tile holds;
//! - [`ranking`], [`funnel`], [`absence`]: the other kinds;
//! - [`event`]: what pieces take of a row;
//! - [`piece`]: one of these, decoded when something looks into it;
//! - [`user`]: all pieces of one key, and how time passes for it; [`coding`]: how it rests;
//! - [`timers`]: when it next does so;
//! - [`population`]: counts over all keys, for scores by quantiles;
//! - [`users`]: the keys of a lane, the busy ones in hand and the others at rest,
//!   encoded; what is stored of them;
//! - [`layout`]: how stored keys become those of a changed set of tags;
//! - [`segments`]: rules, evaluated in bulk;
//! - [`known`] and [`told`]: what is known of a key now, and what was.

mod absence;
mod changes;
mod coding;
mod definition;
mod event;
mod funnel;
mod known;
mod layout;
mod part;
mod partial;
mod piece;
mod plan;
mod population;
mod profile;
mod ranking;
mod segments;
mod series;
mod set;
mod tagger;
#[cfg(test)]
mod tests;
mod timers;
mod told;
mod user;
mod users;
mod value;

pub use definition::{
    Again, Cuts, Function, FunnelMode, Over, Profile, Rule, Segment, Segments, Spill, Tag, TagKind,
    TagsSpec,
};
pub use known::{Known, Lookup, Profiled, TagTile, TagValue};
pub use set::Tags;
pub use told::Told;
