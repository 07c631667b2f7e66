//! `tags`: what is known about each user, right as of every instant.
//!
//! A tag is one of: an aggregate of events ([`aggregate`]) over some windows
//! ([`window`]), the heaviest items ([`top_k`]), the furthest step of a
//! [`funnel`], something that did not happen ([`absence`]), or a value that follows
//! from another tag ([`derived`]).

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
