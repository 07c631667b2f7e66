//! Compiled tags: the pieces of state, and the tags that are computed from them.

use std::{fmt::Write, time::Duration};

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use tagflow_engine::{Error, Result, time::micros};

use super::{
    absence::AbsencePlan,
    aggregator::{AggregatorKind, AggregatorSpec},
    definition::{Function, Over, Rule, Segment, Tag, TagKind, TagsSpec, Thresholds},
    funnel::FunnelPlan,
    key_distribution::KeyDistribution,
    ranking::RankingPlan,
    rolling::RollingPlan,
    tiled_state::TiledStateKind,
    value::Value,
};
use crate::expr;

/// The least number of items that a ranking stores.
const MIN_CAPACITY: usize = 100;

/// The number of stored items for each item in its list.
const CAPACITY_FACTOR: usize = 10;

/// The state of a key, and the values that are computed from it.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) pieces: Vec<AggregatorSpec>,
    pub(super) tags: Vec<TagPlan>,
    /// Times at which rules change without an event.
    pub(super) time_triggers: Vec<TimeTrigger>,
    /// The tags that rules read, as indexes in `tags`.
    pub(super) rule_tags: Vec<usize>,
    /// Whether rules read a tag, or a tag that depends on it.
    pub(super) is_in_rules: Vec<bool>,
    /// The names of the segments.
    pub(super) segments: Vec<String>,
    /// The rules of each segment.
    pub(super) rules: Vec<String>,
    /// The shortest membership, by segment.
    pub(super) holds_us: Vec<i64>,
    pub(super) state_ttl_us: Option<i64>,
}

/// A tag.
#[derive(Debug, Clone)]
pub(super) struct TagPlan {
    pub(super) name: String,
    pub(super) data_type: DataType,
    /// The fingerprint of its value.
    pub(super) fingerprint: String,
    pub(super) source: Source,
    /// The index of the piece from which it is finally computed.
    pub(super) piece: usize,
    /// The life of a value; an absence has its own.
    pub(super) ttl_us: Option<i64>,
    /// The value before any event.
    pub(super) default: Value,
    /// Whether it, or its input, is a score by quantiles. Then it is null before any event, and the
    /// first event gives it a value.
    pub(super) goes_by_quantiles: bool,
}

/// The input of a tag: indexes in the plan.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Aggregator {
        /// The value to read from a series.
        read: Option<Read>,
    },
    TimeSince {
        tag: usize,
        unit_us: i64,
    },
    Score {
        tag: usize,
        /// `None` until they are known.
        thresholds: Option<Vec<f64>>,
        /// The number of quantiles, if it scores by quantiles.
        quantiles: Option<usize>,
        is_reversed: bool,
    },
}

/// The value of a series that a tag reads.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) function: Function,
    /// The length of the window.
    window_us: i64,
    /// Its index among the windows.
    pub(super) window: usize,
}

impl TagPlan {
    /// Whether its changes are emitted. Those of a time since would never end.
    pub(super) fn has_changes(&self) -> bool {
        !matches!(self.source, Source::TimeSince { .. })
    }
}

/// A change of a rule or a score as time passes.
#[derive(Debug, Clone)]
pub(super) struct TimeTrigger {
    /// The tag with the time since.
    pub(super) since: usize,
    pub(super) unit_us: i64,
    /// The numbers of units; `None` for each unit.
    pub(super) after: Option<Vec<i64>>,
    /// The score.
    pub(super) score: Option<usize>,
    /// The score with the thresholds in `after`.
    thresholds_of: Option<usize>,
}

impl Plan {
    /// Compiles `spec`.
    ///
    /// # Errors
    /// `Config` if a tag is invalid; `Internal` if a column differs from its declaration.
    pub(super) fn new(spec: &TagsSpec) -> Result<Self> {
        let fields = fields(&spec.tags, &spec.input)?;
        let mut plan = Self {
            state_ttl_us: spec.state_ttl.map(micros),
            rule_tags: spec.segments.tags.clone(),
            ..Self::default()
        };
        for (tag, field) in spec.tags.iter().zip(&fields) {
            plan.add(spec, tag, field);
        }
        plan.complete_series(spec)?;
        plan.add_rules(spec);
        Ok(plan)
    }

    fn add(&mut self, spec: &TagsSpec, tag: &Tag, field: &Field) {
        let place = self.tags.len();
        let name = |column: &usize| spec.input.field(*column).name().as_str();
        let mut fingerprint = String::new();
        let mut default = Value::Null;
        let mut goes_by_quantiles = false;
        let (piece, source) = match &tag.kind {
            TagKind::Aggregate {
                function,
                argument,
                filter,
                over,
            } => {
                default = match (function, field.data_type()) {
                    (Function::Count | Function::Distinct { .. }, _)
                    | (Function::Sum, DataType::Int64) => Value::Int(0),
                    (Function::Sum, DataType::Decimal128(..)) => Value::Decimal(0),
                    (Function::Sum, _) => Value::Float(0.0),
                    _ => Value::Null,
                };
                let (tile, window) = match over {
                    Over::Lifetime => (None, i64::MAX),
                    Over::Rolling { window, tile } => (Some(micros(*tile)), micros(*window)),
                };
                let piece = self.series(spec, *filter, *argument, tile);
                let of = &mut self.pieces[piece];
                of.tags.push(place);
                let _ = write!(
                    fingerprint,
                    "{function:?} in {window}us; {}",
                    of.fingerprint
                );
                if let AggregatorKind::RollingAggregate(series) = &mut of.kind {
                    for part in TiledStateKind::of(*function, series.argument_type.as_ref()) {
                        if !series.parts.contains(&part) {
                            series.parts.push(part);
                        }
                    }
                    if !series.windows.contains(&window) {
                        series.windows.push(window);
                    }
                }
                let read = Some(Read {
                    function: *function,
                    window_us: window,
                    window: 0,
                });
                (piece, Source::Aggregator { read })
            }
            TagKind::TopK {
                argument,
                weight,
                filter,
                k,
                half_life,
            } => {
                let capacity = (k * CAPACITY_FACTOR).max(MIN_CAPACITY);
                let _ = write!(
                    fingerprint,
                    "top of {}; weight {}; where {}; half-life {}us; of {capacity}",
                    name(argument),
                    weight.as_ref().map_or("1", name),
                    filter.as_ref().map_or("true", name),
                    micros(*half_life),
                );
                let kind = AggregatorKind::Ranking(RankingPlan {
                    filter: *filter,
                    argument: *argument,
                    weight: *weight,
                    half_life_us: micros(*half_life),
                    k: *k,
                    capacity,
                });
                self.piece(&fingerprint, kind, place)
            }
            TagKind::Funnel {
                within,
                mode,
                steps,
            } => {
                let _ = write!(fingerprint, "{mode:?} funnel in {}us", micros(*within));
                for (step, column) in steps {
                    let _ = write!(fingerprint, "; {step}: {}", name(column));
                }
                let kind = AggregatorKind::Funnel(FunnelPlan {
                    within_us: micros(*within),
                    mode: *mode,
                    steps: steps.clone(),
                });
                self.piece(&fingerprint, kind, place)
            }
            TagKind::Absence {
                after,
                expect,
                same,
                within,
                again,
            } => {
                default = Value::Bool(false);
                let _ = write!(
                    fingerprint,
                    "no {} after {} in {}us; again {again:?}; for {:?}",
                    name(expect),
                    name(after),
                    micros(*within),
                    tag.ttl
                );
                for column in same {
                    let _ = write!(fingerprint, "; same {}", name(column));
                }
                let kind = AggregatorKind::Absence(AbsencePlan {
                    after: *after,
                    expect: *expect,
                    same: same.clone(),
                    within_us: micros(*within),
                    again: *again,
                    ttl_us: tag.ttl.map(micros),
                    lateness_us: micros(spec.lateness),
                });
                self.piece(&fingerprint, kind, place)
            }
            TagKind::TimeSince { tag, unit } => {
                let of = &self.tags[*tag].fingerprint;
                let _ = write!(fingerprint, "units of {}us since {of}", micros(*unit));
                let since = Source::TimeSince {
                    tag: *tag,
                    unit_us: micros(*unit),
                };
                (self.made_of(place, *tag), since)
            }
            TagKind::Score {
                tag,
                thresholds,
                is_reversed,
            } => {
                let of = &self.tags[*tag].fingerprint;
                let (thresholds, quantiles) = match thresholds {
                    Thresholds::At(thresholds) => {
                        let _ = write!(fingerprint, "score {thresholds:?} {is_reversed} of {of}");
                        (Some(thresholds.clone()), None)
                    }
                    Thresholds::Quantiles(parts) => {
                        let every = micros(spec.rescore_every);
                        let _ = write!(
                            fingerprint,
                            "score in {parts} each {every}us {is_reversed} of {of}"
                        );
                        (None, Some(*parts))
                    }
                };
                goes_by_quantiles = quantiles.is_some() || self.tags[*tag].goes_by_quantiles;
                let before_any = self.tags[*tag].default.number(&self.tags[*tag].data_type);
                default = score(thresholds.as_deref(), *is_reversed, before_any);
                self.add_score_ticks(place, *tag, place, thresholds.as_deref());
                let score = Source::Score {
                    tag: *tag,
                    thresholds,
                    quantiles,
                    is_reversed: *is_reversed,
                };
                (self.made_of(place, *tag), score)
            }
        };
        let ttl = tag
            .ttl
            .filter(|_| !matches!(tag.kind, TagKind::Absence { .. }));
        if let Some(ttl) = ttl {
            let _ = write!(fingerprint, "; for {}us", micros(ttl));
        }
        self.tags.push(TagPlan {
            name: tag.name.clone(),
            data_type: field.data_type().clone(),
            fingerprint,
            source,
            piece,
            ttl_us: ttl.map(micros),
            default,
            goes_by_quantiles,
        });
    }

    /// The piece from which `tag` is computed through another tag.
    fn made_of(&mut self, tag: usize, other: usize) -> usize {
        let piece = self.tags[other].piece;
        self.pieces[piece].tags.push(tag);
        piece
    }

    /// Adds the ticks of `score`, if `tag` depends on a time since. `score` is the score of `of`
    /// with the thresholds `thresholds`.
    fn add_score_ticks(&mut self, score: usize, tag: usize, of: usize, thresholds: Option<&[f64]>) {
        match &self.tags[tag].source {
            Source::TimeSince { tag, unit_us } => self.time_triggers.push(TimeTrigger {
                since: *tag,
                unit_us: *unit_us,
                after: Some(trigger_values(thresholds)),
                score: Some(score),
                thresholds_of: Some(of),
            }),
            Source::Score {
                tag: next,
                thresholds,
                ..
            } => {
                let (next, thresholds) = (*next, thresholds.clone());
                self.add_score_ticks(score, next, tag, thresholds.as_deref());
            }
            Source::Aggregator { .. } => {}
        }
    }

    /// How long after its first event a tag no longer includes earlier events; `None` if it always
    /// does.
    pub(super) fn covers_us(&self, tag: usize) -> Option<i64> {
        match (
            &self.tags[tag].source,
            &self.pieces[self.tags[tag].piece].kind,
        ) {
            (Source::Aggregator { read: Some(read) }, _) => {
                (read.window_us < i64::MAX).then_some(read.window_us)
            }
            (Source::TimeSince { tag, .. } | Source::Score { tag, .. }, _) => self.covers_us(*tag),
            (_, AggregatorKind::Funnel(funnel)) => Some(funnel.within_us),
            (_, AggregatorKind::Absence(absence)) => {
                Some(absence.within_us.saturating_add(absence.ttl_us?))
            }
            (_, AggregatorKind::RollingAggregate(_) | AggregatorKind::Ranking(_)) => None,
        }
    }

    /// This plan with the thresholds of `key_distribution`.
    pub(super) fn cut(&self, population: &KeyDistribution) -> Self {
        let mut plan = self.clone();
        for (place, tag) in plan.tags.iter_mut().enumerate() {
            let Source::Score {
                thresholds,
                quantiles: Some(_),
                ..
            } = &mut tag.source
            else {
                continue;
            };
            *thresholds = population
                .thresholds_of(&tag.fingerprint)
                .map(<[f64]>::to_vec);
            for tick in plan
                .time_triggers
                .iter_mut()
                .filter(|it| it.thresholds_of == Some(place))
            {
                tick.after = Some(trigger_values(thresholds.as_deref()));
            }
        }
        plan
    }

    /// Adds the piece of a tag.
    fn piece(&mut self, fingerprint: &str, kind: AggregatorKind, tag: usize) -> (usize, Source) {
        self.pieces.push(AggregatorSpec {
            fingerprint: fingerprint.to_owned(),
            kind,
            tags: vec![tag],
        });
        (self.pieces.len() - 1, Source::Aggregator { read: None })
    }

    /// The index of the series with these events, created on demand.
    fn series(
        &mut self,
        spec: &TagsSpec,
        filter: Option<usize>,
        argument: Option<usize>,
        tile: Option<i64>,
    ) -> usize {
        let known = self.pieces.iter().position(|piece| match &piece.kind {
            AggregatorKind::RollingAggregate(it) => {
                (it.filter, it.argument, it.tile) == (filter, argument, tile)
            }
            _ => false,
        });
        known.unwrap_or_else(|| {
            let field = |column: usize| spec.input.field(column);
            let text = |column: Option<usize>| {
                column.map_or(String::new(), |column| {
                    format!(" {}: {}", field(column).name(), field(column).data_type())
                })
            };
            let tiles = tile.map_or("all".into(), |tile| format!("{tile}us"));
            self.pieces.push(AggregatorSpec {
                fingerprint: format!("of{}; where{}; tiles {tiles}", text(argument), text(filter)),
                kind: AggregatorKind::RollingAggregate(RollingPlan {
                    filter,
                    argument,
                    argument_type: argument.map(|column| field(column).data_type().clone()),
                    tile,
                    windows: Vec::new(),
                    parts: Vec::new(),
                }),
                tags: Vec::new(),
            });
            self.pieces.len() - 1
        })
    }

    /// Sorts the windows of each series, and sets their indexes in the tags.
    fn complete_series(&mut self, spec: &TagsSpec) -> Result<()> {
        for piece in &mut self.pieces {
            let AggregatorKind::RollingAggregate(series) = &mut piece.kind else {
                continue;
            };
            series.windows.sort_unstable();
            series.parts.sort_unstable();
            if let Some(tile) = series.tile
                && (tile <= 0 || series.windows.iter().any(|window| *window < tile))
            {
                return Err(Error::config(format!(
                    "a window of `{}` is below its tile",
                    spec.node
                )));
            }
        }
        for tag in &mut self.tags {
            if let Source::Aggregator { read: Some(read) } = &mut tag.source
                && let AggregatorKind::RollingAggregate(series) = &self.pieces[tag.piece].kind
            {
                let windows = &series.windows;
                read.window = windows.partition_point(|window| *window < read.window_us);
            }
        }
        Ok(())
    }

    fn add_rules(&mut self, spec: &TagsSpec) {
        self.is_in_rules = vec![false; self.tags.len()];
        for tag in &self.rule_tags {
            let mut tag = *tag;
            loop {
                self.is_in_rules[tag] = true;
                match self.tags[tag].source {
                    Source::TimeSince { tag: of, .. } | Source::Score { tag: of, .. } => tag = of,
                    Source::Aggregator { .. } => break,
                }
            }
        }
        for segment in &spec.segments.segments {
            self.segments.push(segment.name.to_string());
            self.rules.push(rules_text(segment));
            self.holds_us.push(micros(segment.hold_at_least));
            for rule in [Some(&segment.enter), segment.exit.as_ref()]
                .into_iter()
                .flatten()
            {
                for (column, values) in &rule.time_triggers {
                    let Source::TimeSince { tag, unit_us } =
                        self.tags[self.rule_tags[*column]].source
                    else {
                        continue;
                    };
                    let mut after: Vec<i64> = values.iter().flat_map(|it| [*it, it + 1]).collect();
                    after.sort_unstable();
                    after.dedup();
                    self.time_triggers.push(TimeTrigger {
                        since: tag,
                        unit_us,
                        after: (!after.is_empty()).then_some(after),
                        score: None,
                        thresholds_of: None,
                    });
                }
            }
        }
    }
}

/// The fingerprint of a segment's members.
fn rules_text(segment: &Segment) -> String {
    let rule = |rule: &Rule| {
        format!(
            "{}; looks at {:?}",
            expr::sql(&rule.condition),
            rule.time_triggers
        )
    };
    format!(
        "enter {}; exit {:?}; hold {:?}",
        rule(&segment.enter),
        segment.exit.as_ref().map(rule),
        segment.hold_at_least
    )
}

/// The numbers of units at which a score with these thresholds may change.
fn trigger_values(thresholds: Option<&[f64]>) -> Vec<i64> {
    let thresholds = thresholds.unwrap_or_default().iter();
    thresholds.map(|cut| cut.ceil() as i64).collect()
}

/// The score of a number; null without thresholds.
pub(super) fn score(thresholds: Option<&[f64]>, is_reversed: bool, number: Option<f64>) -> Value {
    let (Some(number), Some(thresholds)) = (number, thresholds) else {
        return Value::Null;
    };
    let passed = thresholds.partition_point(|cut| *cut <= number);
    let score = if is_reversed {
        thresholds.len() - passed
    } else {
        passed
    };
    Value::Int(score as i64 + 1)
}

/// The fields of `tags` over rows of `input`, as in a profile.
///
/// # Errors
/// `Config` if a tag is invalid.
pub(super) fn fields(tags: &[Tag], input: &Schema) -> Result<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::with_capacity(tags.len());
    for tag in tags {
        let wrong = |what: String| Err(Error::config(format!("tag `{}`: {what}", tag.name)));
        let read = |other: usize| {
            fields
                .get(other)
                .map(Field::data_type)
                .ok_or_else(|| Error::internal(format!("tag `{}` reads one behind it", tag.name)))
        };
        let of = |column: usize| input.field(column).data_type();
        let (data_type, is_nullable) = match &tag.kind {
            TagKind::Aggregate {
                function, argument, ..
            } => {
                let argument = argument.map(of);
                if let Some(argument) = argument
                    && !Value::can_be(argument)
                {
                    return wrong(format!("a value cannot be of type {argument}"));
                }
                // A sum is null if its type cannot hold it; a sum of floats is infinite.
                let is_nullable = match function {
                    Function::Count | Function::Distinct { .. } => false,
                    Function::Sum => argument != Some(&DataType::Float64),
                    _ => true,
                };
                match (function, argument) {
                    (Function::Count, _) | (Function::Distinct { .. }, Some(_)) => {
                        (DataType::Int64, is_nullable)
                    }
                    (Function::Sum, Some(DataType::Decimal128(_, scale))) => {
                        (DataType::Decimal128(38, *scale), is_nullable)
                    }
                    (Function::Sum, Some(kind @ (DataType::Int64 | DataType::Float64))) => {
                        (kind.clone(), is_nullable)
                    }
                    (
                        Function::Avg | Function::Std,
                        Some(DataType::Int64 | DataType::Float64 | DataType::Decimal128(..)),
                    ) => (DataType::Float64, is_nullable),
                    (
                        Function::Min | Function::Max | Function::First | Function::Last,
                        Some(argument),
                    ) => (argument.clone(), is_nullable),
                    (Function::LastK { .. }, Some(argument)) => (list_of(argument), is_nullable),
                    (_, Some(argument)) => {
                        return wrong(format!("there is no {function:?} of {argument}"));
                    }
                    (_, None) => return wrong("an argument is missing".into()),
                }
            }
            TagKind::TopK { argument, .. } => {
                if !Value::can_be(of(*argument)) {
                    return wrong(format!("a value cannot be of type {}", of(*argument)));
                }
                (list_of(of(*argument)), true)
            }
            TagKind::Funnel { .. } => (DataType::Utf8, true),
            TagKind::Absence { .. } => (DataType::Boolean, false),
            TagKind::TimeSince { tag: other, unit } => {
                if !matches!(read(*other)?, DataType::Timestamp(TimeUnit::Microsecond, _)) {
                    return wrong(format!("`{}` is no time", tags[*other].name));
                }
                if *unit < Duration::from_micros(1) {
                    return wrong("the unit is zero".into());
                }
                (DataType::Int64, true)
            }
            TagKind::Score {
                tag: other,
                thresholds,
                ..
            } => {
                let is_number = matches!(
                    read(*other)?,
                    DataType::Int64 | DataType::Float64 | DataType::Decimal128(..)
                );
                if !is_number {
                    return wrong(format!("`{}` is no number", tags[*other].name));
                }
                let by_quantiles = matches!(thresholds, Thresholds::Quantiles(_));
                if by_quantiles && goes_by_quantiles(tags, *other) {
                    return wrong(format!(
                        "`{}` goes by quantiles itself; score the tag that it is of",
                        tags[*other].name
                    ));
                }
                (DataType::Int64, true)
            }
        };
        fields.push(Field::new(&tag.name, data_type, is_nullable));
    }
    Ok(fields)
}

/// Whether a tag, or its input, is a score by quantiles.
fn goes_by_quantiles(tags: &[Tag], tag: usize) -> bool {
    match &tags[tag].kind {
        TagKind::Score {
            thresholds: Thresholds::Quantiles(_),
            ..
        } => true,
        kind => kind.reads().is_some_and(|tag| goes_by_quantiles(tags, tag)),
    }
}

fn list_of(item: &DataType) -> DataType {
    DataType::new_list(item.clone(), true)
}
