//! The kinds of tags, a file each: its definition, its compiled form, its state with the encoding,
//! and its values.
//!
//! A tag is computed from a state ([`stateful`]), or from another tag ([`derived`]). Only [`list`]
//! names the kinds: a new one needs its file, and a line in the list. [`dispatch`] calls the methods
//! of a kind.

mod absence;
mod aggregate;
mod context;
mod derived;
mod dispatch;
mod funnel;
mod list;
mod score;
mod stateful;
mod time_since;
mod top_k;

pub use absence::{Absence, Again};
pub use aggregate::{Aggregate, Function, Over};
pub use funnel::{Funnel, FunnelMode};
pub use list::TagKind;
pub use score::{Score, Thresholds};
pub use time_since::TimeSince;
pub use top_k::TopK;

pub(crate) use aggregate::{Components, Read, TiledStateKind};
pub(crate) use context::Context;
pub(crate) use derived::InputTag;
pub(crate) use list::{AggregatorKind, Compiled, CompiledInput, Derived, State};
pub(crate) use stateful::{Outcome, Tile};
