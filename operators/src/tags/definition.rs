//! The definitions of tags and segments.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use tagflow_engine::Result;

use super::set::Tags;
use crate::{expr::can_fail, row_errors::RowErrors};

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

/// The definition of a value. A `usize` is a column of the input unless stated otherwise.
#[derive(Debug, Clone, PartialEq)]
pub enum TagKind {
    /// An aggregate of the events that pass the filter.
    Aggregate {
        /// The function.
        function: Function,
        /// The argument; rows with null do not count. `None` counts rows.
        argument: Option<usize>,
        /// The condition.
        filter: Option<usize>,
        /// The span of events.
        over: Over,
    },
    /// The items with the highest weight: a list of up to `k`, the heaviest first. A weight decays
    /// with the time since its event.
    TopK {
        /// The item: `Utf8`; rows with null do not count.
        argument: usize,
        /// The weight of an event. A weight of null, zero or less does not count. `None` weighs 1.
        weight: Option<usize>,
        /// The condition.
        filter: Option<usize>,
        /// The length of the list.
        k: usize,
        /// The time in which a weight halves.
        half_life: Duration,
    },
    /// The furthest step of the funnel that the events of the last `within` reach; null if they do
    /// not reach the first one.
    Funnel {
        /// The longest time for all steps.
        within: Duration,
        /// The events that are allowed between the steps.
        mode: FunnelMode,
        /// Names and conditions of the steps, at most 32.
        steps: Vec<(String, usize)>,
    },
    /// Whether an expected event did not happen in time: true from `within` after an `after` event,
    /// if no `expect` event with the same `same` followed, at that time at the latest.
    Absence {
        /// The condition that begins a wait.
        after: usize,
        /// The condition that ends it.
        expect: usize,
        /// Columns that must be equal in both events; nulls are equal.
        same: Vec<usize>,
        /// The length of a wait.
        within: Duration,
        /// The effect of an `after` event on a current wait.
        again: Again,
    },
    /// The time since a tag's value, in whole units; null if that is null. It emits no changes.
    TimeSince {
        /// The index in [`TagsSpec::tags`] of a tag that is a timestamp.
        tag: usize,
        /// The unit.
        unit: Duration,
    },
    /// A score from 1 to the number of thresholds and one: 1 and the number of thresholds that are
    /// not above the value; null if that is null.
    Score {
        /// The index in [`TagsSpec::tags`] of a tag that is a number.
        tag: usize,
        /// The thresholds.
        thresholds: Thresholds,
        /// Whether low values have the high scores.
        is_reversed: bool,
    },
}

impl TagsSpec {
    /// Whether a rule of a segment can fail on the tags of a key.
    ///
    /// # Errors
    /// `Config` if a tag is invalid.
    pub fn can_fail(&self) -> Result<bool> {
        let fields = Tags::fields(&self.tags, &self.input)?;
        let read = self.segments.tags.iter();
        let read: Vec<_> = read.map(|tag| fields[*tag].clone()).collect();
        let schema = Schema::new(read);
        let rules = self.segments.segments.iter();
        let mut rules = rules
            .flat_map(|it| [Some(&it.enter), it.exit.as_ref()])
            .flatten();
        Ok(rules.any(|rule| can_fail(&rule.condition, &schema)))
    }

    /// The tags whose values depend on columns that are `personal`.
    pub fn personal_tags(&self, personal: impl Fn(usize) -> bool) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for tag in &self.tags {
            let of = tag.kind.reads().map(|of| &self.tags[of].name);
            if of.is_some_and(|of| names.contains(of))
                || tag.kind.columns().into_iter().any(&personal)
            {
                names.insert(tag.name.clone());
            }
        }
        names
    }
}

impl TagKind {
    /// The columns that it reads.
    fn columns(&self) -> Vec<usize> {
        match self {
            Self::Aggregate {
                argument, filter, ..
            } => argument.iter().chain(filter).copied().collect(),
            Self::TopK {
                argument,
                weight,
                filter,
                ..
            } => [argument]
                .into_iter()
                .chain(weight)
                .chain(filter)
                .copied()
                .collect(),
            Self::Funnel { steps, .. } => steps.iter().map(|(_, column)| *column).collect(),
            Self::Absence {
                after,
                expect,
                same,
                ..
            } => [after, expect].into_iter().chain(same).copied().collect(),
            Self::TimeSince { .. } | Self::Score { .. } => Vec::new(),
        }
    }

    /// The tag from which it is computed.
    pub(super) fn reads(&self) -> Option<usize> {
        match self {
            Self::TimeSince { tag, .. } | Self::Score { tag, .. } => Some(*tag),
            _ => None,
        }
    }

    /// The same, mutable.
    pub(super) fn reads_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::TimeSince { tag, .. } | Self::Score { tag, .. } => Some(tag),
            _ => None,
        }
    }
}

/// The thresholds of a score.
#[derive(Debug, Clone, PartialEq)]
pub enum Thresholds {
    /// At these numbers, ascending.
    At(Vec<f64>),
    /// Quantiles over the values of all keys, with this number of parts, at least two. The
    /// thresholds are the least numbers above the lowest 1/n, 2/n … of the keys with a value, at
    /// the last multiple of [`TagsSpec::rescore_every`]. Numbers are distinguished to one in 8,192.
    /// The score is null before the first multiple. Its tag may not depend on another such score.
    Quantiles(usize),
}

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// The number of rows: `Int64`, 0 without rows.
    Count,
    /// The sum, 0 without rows: `Int64` (saturating), `Decimal128(38, s)` or `Float64`.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The mean: `Float64`.
    Avg,
    /// The sample standard deviation: `Float64`, null with fewer than two.
    Std,
    /// The number of distinct values: `Int64`, 0 without rows. Exact up to a bound; above it an
    /// estimate with a relative standard error of 1 / √bound.
    Distinct {
        /// The bound.
        exact_up_to: u32,
    },
    /// The value with the lowest event time.
    First,
    /// The value with the highest event time.
    Last,
    /// The values with the highest event times, the newest first: a list.
    LastK {
        /// The length of the list.
        k: u32,
    },
}

/// The span of events of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Over {
    /// All events.
    Lifetime,
    /// At T, the events in (T − window, T].
    Rolling {
        /// The length of the window.
        window: Duration,
        /// Events leave together with the last instant of their tile of this width. A microsecond
        /// is exact.
        tile: Duration,
    },
}

/// The events that are allowed between the steps of a funnel: the modes of `ClickHouse`'s
/// `windowFunnel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunnelMode {
    /// Any.
    Default,
    /// Only reached steps: the search ends at an event that is no step, or at a step whose
    /// predecessor was not reached.
    StrictOrder,
    /// No step a second time except the first one: the search ends there.
    StrictDeduplication,
    /// Any, but a step's event time is above that of the step before it.
    StrictIncrease,
}

/// The effect of an event that would begin a wait during another wait with the same values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It begins a wait of its own.
    Each,
    /// None.
    First,
    /// The wait restarts.
    Restart,
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
