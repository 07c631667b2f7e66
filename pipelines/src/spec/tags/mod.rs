//! `tags`: the properties of each user, correct as of every instant.
//!
//! The kinds of tags:
//! - [`aggregate`]: an aggregate of events over some windows ([`window`])
//! - [`top_k`]: the heaviest items
//! - [`funnel`]: the furthest step reached
//! - [`absence`]: whether an event did not follow
//! - [`derived`]: a value derived from another tag

mod absence;
mod aggregate;
mod block;
mod definition;
mod derived;
mod funnel;
mod memory;
mod top_k;
mod window;

pub use absence::{Absence, AbsenceTag, Again};
pub use aggregate::{AggregateTag, TagAgg};
pub use block::Tags;
pub use definition::TagDefinition;
pub use derived::{ScoreTag, TimeSinceTag, Unit};
pub use funnel::{Funnel, FunnelMode, FunnelTag};
pub use memory::TagMemory;
pub use top_k::{TopK, TopKTag};
pub use window::TagWindow;
