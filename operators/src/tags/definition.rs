//! What tags and segments are made of.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;

/// Tags of each key, and segments over them.
#[derive(Debug, Clone)]
pub struct TagsSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The node's name, for late rows and errors.
    pub node: Arc<str>,
    /// The rows that come in, with [`OFFSET_COLUMN`](tagflow_engine::graph::OFFSET_COLUMN)
    /// last where the source stamps it. Conditions, arguments and weights are columns
    /// of it, computed before; a column is named after the expression that it holds,
    /// because the state's fingerprint goes by these names. Arguments are
    /// `Boolean`, `Int64`, `Float64`, `Decimal128`, `Utf8`, `Date32` or
    /// `Timestamp(µs, "UTC")`; conditions are `Boolean`, weights `Float64`.
    pub input: SchemaRef,
    /// The column with whom the tags are of: `Utf8` or `Int64`. Rows where it is
    /// null are filtered out.
    pub key: usize,
    /// The column with the event time: a `Timestamp(µs, "UTC")` without nulls.
    pub time: usize,
    /// The column that tells apart events of one time: `Utf8` or `Int64`. Without
    /// it their partition and offset do.
    pub id: Option<usize>,
    /// The columns that late rows show, in front of those that are computed.
    pub shown: usize,
    /// The columns of `input` whose values late rows do not show.
    pub personal: BTreeSet<String>,
    /// How far behind the watermark an event still corrects what it touches.
    pub lateness: Duration,
    /// A key is forgotten this long after its last event; never without it.
    pub state_ttl: Option<Duration>,
    /// Where keys rest that memory has no room for; all stay in memory without it.
    pub spill: Option<Spill>,
    /// When all tags of all keys come out.
    pub profile: Profile,
    /// How often the cuts of scores by quantiles are found anew, in event time.
    pub recut_every: Duration,
    /// The tags, as places in `tags`, of which comes out how often they have which
    /// value, in place of profiles and when these are due; see [`Tags::population`].
    ///
    /// [`Tags::population`]: super::Tags::population
    pub counted: Vec<usize>,
    /// The tags. A tag that reads another stands after it.
    pub tags: Vec<Tag>,
    /// The segments.
    pub segments: Segments,
}

/// Where keys rest that memory has no room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spill {
    /// A folder on a local disk.
    pub folder: PathBuf,
    /// The states of keys take no more memory than this, about, all lanes together.
    pub memory_bytes: usize,
}

/// When all tags of all keys come out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// As of each multiple of this in event time, where one is wanted, at
    /// [`Tags::PROFILE`](super::Tags::PROFILE).
    pub every: Option<Duration>,
    /// Before a barrier, as of how far all have come by then, where a multiple of this
    /// has passed since the barrier before, or where the rows have ended; each at
    /// [`Tags::newest`](super::Tags::newest) of its place.
    pub newest: Vec<Duration>,
}

/// A value that is kept for each key.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// Its name: a column of the profile.
    pub name: String,
    /// What it is.
    pub kind: TagKind,
    /// How long the value lasts after the newest event, or the firing, that it is
    /// made of; then it is what it was before any event.
    pub ttl: Option<Duration>,
}

/// How a value comes about. A `usize` is a column of the input unless it says
/// otherwise.
#[derive(Debug, Clone, PartialEq)]
pub enum TagKind {
    /// An aggregate of the events that pass the filter.
    Aggregate {
        /// Of which kind.
        function: Function,
        /// The argument; rows where it is null do not count. None counts rows.
        argument: Option<usize>,
        /// The condition.
        filter: Option<usize>,
        /// Over which events.
        over: Over,
    },
    /// The items with the highest weight, where a weight decays with the time
    /// since its event: a list of up to `k`, the heaviest first.
    TopK {
        /// The item: `Utf8`; rows where it is null do not count.
        argument: usize,
        /// What an event weighs; not above zero or null: nothing. None weighs 1.
        weight: Option<usize>,
        /// The condition.
        filter: Option<usize>,
        /// How many.
        k: usize,
        /// The time in which a weight halves.
        half_life: Duration,
    },
    /// The furthest step of the funnel that the events of the last `within` reach;
    /// null where they do not reach the first.
    Funnel {
        /// How long a passage may take.
        within: Duration,
        /// What may lie between the steps.
        mode: FunnelMode,
        /// Names and conditions of the steps, at most 32.
        steps: Vec<(String, usize)>,
    },
    /// Whether something did not happen in time: true from `within` after an
    /// `after` event that no `expect` event with the same `same` followed, neither
    /// sooner nor at that very time.
    Absence {
        /// The condition that begins a wait.
        after: usize,
        /// The condition that ends it.
        expect: usize,
        /// Columns in which both events must be the same; nulls are the same.
        same: Vec<usize>,
        /// For how long to wait.
        within: Duration,
        /// What an `after` event does to a wait that goes on.
        again: Again,
    },
    /// The time since a tag's, in whole units; null where that is null. It has no
    /// changes of its own.
    TimeSince {
        /// The place in [`TagsSpec::tags`] of a tag that is a timestamp.
        tag: usize,
        /// The unit.
        unit: Duration,
    },
    /// A score from 1 to the number of cuts and one: 1 and the number of cuts that
    /// are not above the value; null where that is null.
    Score {
        /// The place in [`TagsSpec::tags`] of a tag that is a number.
        tag: usize,
        /// Where it goes up.
        cuts: Cuts,
        /// Whether low values have the high scores.
        is_reversed: bool,
    },
}

impl TagKind {
    /// The tag that it follows from.
    pub(super) fn reads(&self) -> Option<usize> {
        match self {
            Self::TimeSince { tag, .. } | Self::Score { tag, .. } => Some(*tag),
            _ => None,
        }
    }

    /// The same, to change it.
    pub(super) fn reads_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::TimeSince { tag, .. } | Self::Score { tag, .. } => Some(tag),
            _ => None,
        }
    }
}

/// Where a score goes up.
#[derive(Debug, Clone, PartialEq)]
pub enum Cuts {
    /// At these numbers, ascending.
    At(Vec<f64>),
    /// By the values of all keys, into so many parts, two at least: at the least
    /// numbers above those of the lowest 1/n, 2/n … of the keys that have one, as of the
    /// last multiple of [`TagsSpec::recut_every`]. Numbers are told apart to one in
    /// 8,192. The score is null before the first. What it is of goes by no such score.
    Quantiles(usize),
}

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// Their number: `Int64`, 0 without any.
    Count,
    /// Their sum, 0 without any: of `Int64` (saturating), `Decimal128(38, s)` or
    /// `Float64`.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The mean: `Float64`.
    Avg,
    /// The sample standard deviation: `Float64`, null with fewer than two.
    Std,
    /// How many different ones: `Int64`, 0 without any. Exact up to a bound, an
    /// estimate with a relative standard error of 1 / √bound above it.
    Distinct {
        /// The bound.
        exact_up_to: u32,
    },
    /// The one with the lowest event time.
    First,
    /// The one with the highest event time.
    Last,
    /// The ones with the highest event times, the newest first: a list.
    LastK {
        /// At most so many.
        k: u32,
    },
}

/// Over which events a tag goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Over {
    /// All of them.
    Lifetime,
    /// As of T, those in (T − window, T].
    Rolling {
        /// How far back.
        window: Duration,
        /// Events leave together with the last instant of their tile of this
        /// width. A microsecond is exact.
        tile: Duration,
    },
}

/// What may lie between the steps of a funnel: the modes of `ClickHouse`'s
/// `windowFunnel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunnelMode {
    /// Anything.
    Default,
    /// No other event: the search ends with the first that is not the next step.
    StrictOrder,
    /// The search ends where a step comes a second time.
    StrictDeduplication,
    /// Anything, but a step's event time is above that of the step before it.
    StrictIncrease,
}

/// What an event does that would begin a wait while one with the same values goes
/// on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It begins a wait of its own.
    Each,
    /// Nothing.
    First,
    /// The wait begins anew.
    Restart,
}

/// Who belongs to what.
#[derive(Debug, Clone, Default)]
pub struct Segments {
    /// The tags that the rules read, as places in [`TagsSpec::tags`]; each a column
    /// of the rules' input, in this order.
    pub tags: Vec<usize>,
    /// The segments.
    pub segments: Vec<Segment>,
}

/// Keys to which a rule applies.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its name.
    pub name: Arc<str>,
    /// Whoever this is true for enters.
    pub enter: Rule,
    /// Whoever this is true for leaves. Without it, whoever `enter` is not true
    /// for.
    pub exit: Option<Rule>,
    /// Nobody leaves sooner after they entered.
    pub hold_at_least: Duration,
}

/// A condition on tags.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Over the columns of [`Segments::tags`]; `Boolean`.
    pub condition: Arc<dyn PhysicalExpr>,
    /// How its author wrote it.
    pub text: Arc<str>,
    /// When it may change with no event, for the [`TagKind::TimeSince`] tags that it
    /// reads: the tag's place in [`Segments::tags`], with the values at which the
    /// rule looks. A rule may change when the tag comes to such a value and when it
    /// goes past it; without values, at each unit.
    pub ticks: Vec<(usize, Vec<i64>)>,
}
