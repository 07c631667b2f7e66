//! The definitions of tags and segments.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;

use super::kinds::TagKind;
use crate::row_errors::RowErrors;

/// Tags of each key, and segments over them.
#[derive(Debug, Clone)]
pub struct TagsSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The node's name, for late rows and errors.
    pub node: Arc<str>,
    /// The input rows, with [`OFFSET_COLUMN`](tagflow_engine::graph::OFFSET_COLUMN) last if the
    /// source adds it. Conditions, arguments and weights are precomputed columns. Each column is
    /// named after its expression, because the state's fingerprint contains the names. Arguments
    /// are `Boolean`, `Int64`, `Float64`, `Decimal128`, `Utf8`, `Date32` or `Timestamp(µs, "UTC")`;
    /// conditions are `Boolean`, weights `Float64`.
    pub input: SchemaRef,
    /// The column of the key: `Utf8` or `Int64`. Rows with a null key are filtered out.
    pub key: usize,
    /// The column with the event time: a `Timestamp(µs, "UTC")` without nulls.
    pub time: usize,
    /// The column that distinguishes events with the same time: `Utf8` or `Int64`. Without it,
    /// their partition and offset do.
    pub id: Option<usize>,
    /// The number of columns in late rows, before the computed ones.
    pub shown: usize,
    /// The columns of `input` whose values late rows must mask.
    pub personal: BTreeSet<String>,
    /// How far behind the watermark an event may be to correct tags.
    pub lateness: Duration,
    /// The time after its last event at which a key is forgotten; `None` for never.
    pub state_ttl: Option<Duration>,
    /// The disk for keys that exceed the memory; `None` keeps all in memory.
    pub spill: Option<Spill>,
    /// When all tags of all keys are emitted.
    pub profile: Profile,
    /// The interval of new thresholds for scores by quantiles, in event time.
    pub rescore_every: Duration,
    /// Tags whose value counts are emitted in place of profiles, at the same times; see
    /// [`Tags::population`]. Indexes in `tags`.
    ///
    /// [`Tags::population`]: super::Tags::population
    pub counted: Vec<usize>,
    /// The tags. A tag that reads another one follows it.
    pub tags: Vec<Tag>,
    /// The segments.
    pub segments: Segments,
}

/// The disk for keys that exceed the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spill {
    /// A folder on a local disk.
    pub folder: PathBuf,
    /// The approximate memory limit for the states of keys, for all lanes together.
    pub memory_bytes: usize,
}

/// When all tags of all keys are emitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// At each multiple of this in event time, at [`Tags::PROFILE`](super::Tags::PROFILE); `None`
    /// for never.
    pub every: Option<Duration>,
    /// Before a barrier, at the watermark that all lanes have reached, if a multiple of this
    /// period has passed since the barrier before. Also before the barrier at the end of the rows.
    /// Each period has its output: [`Tags::newest`](super::Tags::newest) of its index.
    pub newest: Vec<Duration>,
}

/// A value for each key.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// Its name: a column of the profile.
    pub name: String,
    /// Its kind.
    pub kind: TagKind,
    /// The life of the value after its newest event, or after its firing. Then the tag has its
    /// initial value.
    pub ttl: Option<Duration>,
}

impl TagsSpec {
    /// The tags whose values depend on columns that are `personal`.
    pub fn personal_tags(&self, personal: impl Fn(usize) -> bool) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for tag in &self.tags {
            let of = tag.kind.reads().map(|of| &self.tags[of].name);
            if of.is_some_and(|of| names.contains(of))
                || tag
                    .kind
                    .clone()
                    .columns_mut()
                    .iter()
                    .any(|column| personal(**column))
            {
                names.insert(tag.name.clone());
            }
        }
        names
    }
}

/// The definitions of segments.
#[derive(Debug, Clone, Default)]
pub struct Segments {
    /// The tags that the rules read, as indexes in [`TagsSpec::tags`]. Each is a column of the
    /// rules' input, in this order.
    pub tags: Vec<usize>,
    /// The segments.
    pub segments: Vec<Segment>,
    /// The treatment of key states on which a rule fails: the state stays unchanged.
    pub errors: RowErrors,
}

/// Keys to which a rule applies.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The name.
    pub name: Arc<str>,
    /// A key for which this is true enters.
    pub enter: Rule,
    /// A key for which this is true leaves. Without it, a key leaves when `enter` is not true.
    pub exit: Option<Rule>,
    /// The shortest time between entering and leaving.
    pub hold_at_least: Duration,
}

/// A condition on tags.
#[derive(Debug, Clone)]
pub struct Rule {
    /// An expression over the columns of [`Segments::tags`]; `Boolean`.
    pub condition: Arc<dyn PhysicalExpr>,
    /// The text of its author.
    pub text: Arc<str>,
    /// The times at which the rule may change without an event, for the [`TagKind::TimeSince`] tags
    /// that it reads: the tag's index in [`Segments::tags`], with the values that the rule
    /// compares. A rule may change when the tag reaches such a value and when it passes the value.
    /// Without values, it may change at each unit.
    pub time_triggers: Vec<(usize, Vec<i64>)>,
}
