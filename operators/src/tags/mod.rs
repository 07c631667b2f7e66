//! Tags: what is known about each key, right as of every instant.

mod definition;

pub use definition::{
    Again, Function, FunnelMode, Over, Rule, Segment, Segments, Tag, TagKind, TagsSpec,
};
