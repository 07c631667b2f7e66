//! Tags, compiled: which states there are, and which tags are made of them.

use std::{fmt::Write, time::Duration};

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use tagflow_engine::{Error, Result, time::micros};

use super::{
    absence::AbsencePlan,
    definition::{Cuts, Function, Over, Rule, Segment, Tag, TagKind, TagsSpec},
    funnel::FunnelPlan,
    part::PartKind,
    piece::{PieceKind, PiecePlan},
    population::Population,
    ranking::RankingPlan,
    series::SeriesPlan,
    value::Value,
};
use crate::expr;

/// So many items a ranking knows at least.
const MIN_CAPACITY: usize = 100;

/// And so many for each that it shows.
const CAPACITY_FACTOR: usize = 10;

/// What there is to know of a key.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) pieces: Vec<PiecePlan>,
    pub(super) tags: Vec<TagPlan>,
    /// Times at which rules change with no event.
    pub(super) ticks: Vec<Tick>,
    /// The tags that rules read, as places in `tags`.
    pub(super) rule_tags: Vec<usize>,
    /// Whether rules read a tag, or one that is made of it.
    pub(super) is_in_rules: Vec<bool>,
    /// The names of the segments.
    pub(super) segments: Vec<String>,
    /// The rules of each.
    pub(super) rules: Vec<String>,
    /// For how long a member stays at least, by segment.
    pub(super) holds_us: Vec<i64>,
    pub(super) state_ttl_us: Option<i64>,
}

/// A tag.
#[derive(Debug, Clone)]
pub(super) struct TagPlan {
    pub(super) name: String,
    pub(super) data_type: DataType,
    /// What its value depends on.
    pub(super) fingerprint: String,
    pub(super) source: Source,
    /// The place of the piece that it is made of in the end.
    pub(super) piece: usize,
    /// How long a value lasts; an absence knows by itself.
    pub(super) ttl_us: Option<i64>,
    /// The value before any event.
    pub(super) default: Value,
    /// Whether it, or what it is of, is a score by quantiles: then it is null before any
    /// event, and has a value with the first, whatever that is.
    pub(super) goes_by_quantiles: bool,
}

/// Where a tag's value comes from: places in the plan.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Piece {
        /// What to read, of a series.
        read: Option<Read>,
    },
    TimeSince {
        tag: usize,
        unit_us: i64,
    },
    Score {
        tag: usize,
        /// None while nobody knows them.
        cuts: Option<Vec<f64>>,
        /// Into how many parts all keys are cut, if they are.
        quantiles: Option<usize>,
        is_reversed: bool,
    },
}

/// Which value of a series a tag is.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) function: Function,
    /// The length of the window.
    window_us: i64,
    /// Its place among the windows.
    pub(super) window: usize,
}

impl TagPlan {
    /// Whether its changes come out: those of a time since would never end.
    pub(super) fn has_changes(&self) -> bool {
        !matches!(self.source, Source::TimeSince { .. })
    }
}

/// When a rule or a score may change because time goes by.
#[derive(Debug, Clone)]
pub(super) struct Tick {
    /// The tag whose time counts.
    pub(super) since: usize,
    pub(super) unit_us: i64,
    /// After how many units; after each where it is none.
    pub(super) after: Option<Vec<i64>>,
    /// The score.
    pub(super) score: Option<usize>,
    /// The score whose cuts `after` is.
    cuts_of: Option<usize>,
}

impl Plan {
    /// Compiles `spec`.
    ///
    /// # Errors
    /// `Config` where a tag cannot be; `Internal` where a column is not what it is
    /// said to be.
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
                if let PieceKind::Series(series) = &mut of.kind {
                    for part in PartKind::of(*function, series.argument_type.as_ref()) {
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
                (piece, Source::Piece { read })
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
                let kind = PieceKind::Ranking(RankingPlan {
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
                let kind = PieceKind::Funnel(FunnelPlan {
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
                let kind = PieceKind::Absence(AbsencePlan {
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
                cuts,
                is_reversed,
            } => {
                let of = &self.tags[*tag].fingerprint;
                let (cuts, quantiles) = match cuts {
                    Cuts::At(cuts) => {
                        let _ = write!(fingerprint, "score {cuts:?} {is_reversed} of {of}");
                        (Some(cuts.clone()), None)
                    }
                    Cuts::Quantiles(parts) => {
                        let every = micros(spec.recut_every);
                        let _ = write!(
                            fingerprint,
                            "score in {parts} each {every}us {is_reversed} of {of}"
                        );
                        (None, Some(*parts))
                    }
                };
                goes_by_quantiles = quantiles.is_some() || self.tags[*tag].goes_by_quantiles;
                let before_any = self.tags[*tag].default.number(&self.tags[*tag].data_type);
                default = score(cuts.as_deref(), *is_reversed, before_any);
                self.add_score_ticks(place, *tag, place, cuts.as_deref());
                let score = Source::Score {
                    tag: *tag,
                    cuts,
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

    /// The piece that `tag` is made of, by way of another tag.
    fn made_of(&mut self, tag: usize, other: usize) -> usize {
        let piece = self.tags[other].piece;
        self.pieces[piece].tags.push(tag);
        piece
    }

    /// Adds the ticks of `score`, if `tag`, which `of` scores by `cuts`, is made of a
    /// time since.
    fn add_score_ticks(&mut self, score: usize, tag: usize, of: usize, cuts: Option<&[f64]>) {
        match &self.tags[tag].source {
            Source::TimeSince { tag, unit_us } => self.ticks.push(Tick {
                since: *tag,
                unit_us: *unit_us,
                after: Some(looks(cuts)),
                score: Some(score),
                cuts_of: Some(of),
            }),
            Source::Score {
                tag: next, cuts, ..
            } => {
                let (next, cuts) = (*next, cuts.clone());
                self.add_score_ticks(score, next, tag, cuts.as_deref());
            }
            Source::Piece { .. } => {}
        }
    }

    /// How long after its first event a tag goes over no event from before that; none
    /// if it always does.
    pub(super) fn covers_us(&self, tag: usize) -> Option<i64> {
        match (
            &self.tags[tag].source,
            &self.pieces[self.tags[tag].piece].kind,
        ) {
            (Source::Piece { read: Some(read) }, _) => {
                (read.window_us < i64::MAX).then_some(read.window_us)
            }
            (Source::TimeSince { tag, .. } | Source::Score { tag, .. }, _) => self.covers_us(*tag),
            (_, PieceKind::Funnel(funnel)) => Some(funnel.within_us),
            (_, PieceKind::Absence(absence)) => {
                Some(absence.within_us.saturating_add(absence.ttl_us?))
            }
            (_, PieceKind::Series(_) | PieceKind::Ranking(_)) => None,
        }
    }

    /// This plan with the cuts of `population`.
    pub(super) fn cut(&self, population: &Population) -> Self {
        let mut plan = self.clone();
        for (place, tag) in plan.tags.iter_mut().enumerate() {
            let Source::Score {
                cuts,
                quantiles: Some(_),
                ..
            } = &mut tag.source
            else {
                continue;
            };
            *cuts = population.cuts_of(&tag.fingerprint).map(<[f64]>::to_vec);
            for tick in plan.ticks.iter_mut().filter(|it| it.cuts_of == Some(place)) {
                tick.after = Some(looks(cuts.as_deref()));
            }
        }
        plan
    }

    /// Adds the piece that a tag is made of.
    fn piece(&mut self, fingerprint: &str, kind: PieceKind, tag: usize) -> (usize, Source) {
        self.pieces.push(PiecePlan {
            fingerprint: fingerprint.to_owned(),
            kind,
            tags: vec![tag],
        });
        (self.pieces.len() - 1, Source::Piece { read: None })
    }

    /// The place of the series of these events, which is made where it is not there.
    fn series(
        &mut self,
        spec: &TagsSpec,
        filter: Option<usize>,
        argument: Option<usize>,
        tile: Option<i64>,
    ) -> usize {
        let known = self.pieces.iter().position(|piece| match &piece.kind {
            PieceKind::Series(it) => (it.filter, it.argument, it.tile) == (filter, argument, tile),
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
            self.pieces.push(PiecePlan {
                fingerprint: format!("of{}; where{}; tiles {tiles}", text(argument), text(filter)),
                kind: PieceKind::Series(SeriesPlan {
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

    /// Sorts the windows of each series, and lets the tags know their places.
    fn complete_series(&mut self, spec: &TagsSpec) -> Result<()> {
        for piece in &mut self.pieces {
            let PieceKind::Series(series) = &mut piece.kind else {
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
            if let Source::Piece { read: Some(read) } = &mut tag.source
                && let PieceKind::Series(series) = &self.pieces[tag.piece].kind
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
                    Source::Piece { .. } => break,
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
                for (column, values) in &rule.ticks {
                    let Source::TimeSince { tag, unit_us } =
                        self.tags[self.rule_tags[*column]].source
                    else {
                        continue;
                    };
                    let mut after: Vec<i64> = values.iter().flat_map(|it| [*it, it + 1]).collect();
                    after.sort_unstable();
                    after.dedup();
                    self.ticks.push(Tick {
                        since: tag,
                        unit_us,
                        after: (!after.is_empty()).then_some(after),
                        score: None,
                        cuts_of: None,
                    });
                }
            }
        }
    }
}

/// What a segment's members depend on.
fn rules_text(segment: &Segment) -> String {
    let rule = |rule: &Rule| format!("{}; looks at {:?}", expr::sql(&rule.condition), rule.ticks);
    format!(
        "enter {}; exit {:?}; hold {:?}",
        rule(&segment.enter),
        segment.exit.as_ref().map(rule),
        segment.hold_at_least
    )
}

/// After how many units a score with these cuts may change.
fn looks(cuts: Option<&[f64]>) -> Vec<i64> {
    let cuts = cuts.unwrap_or_default().iter();
    cuts.map(|cut| cut.ceil() as i64).collect()
}

/// The score of a number; none without cuts.
pub(super) fn score(cuts: Option<&[f64]>, is_reversed: bool, number: Option<f64>) -> Value {
    let (Some(number), Some(cuts)) = (number, cuts) else {
        return Value::Null;
    };
    let passed = cuts.partition_point(|cut| *cut <= number);
    let score = if is_reversed {
        cuts.len() - passed
    } else {
        passed
    };
    Value::Int(score as i64 + 1)
}

/// The fields of `tags` over rows of `input`, as they are in a profile.
///
/// # Errors
/// `Config` where a tag cannot be.
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
                let is_nullable = !matches!(
                    function,
                    Function::Count | Function::Sum | Function::Distinct { .. }
                );
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
                tag: other, cuts, ..
            } => {
                let is_number = matches!(
                    read(*other)?,
                    DataType::Int64 | DataType::Float64 | DataType::Decimal128(..)
                );
                if !is_number {
                    return wrong(format!("`{}` is no number", tags[*other].name));
                }
                let by_quantiles = matches!(cuts, Cuts::Quantiles(_));
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

/// Whether a tag, or one that it is of, is a score by quantiles.
fn goes_by_quantiles(tags: &[Tag], tag: usize) -> bool {
    match &tags[tag].kind {
        TagKind::Score {
            cuts: Cuts::Quantiles(_),
            ..
        } => true,
        kind => kind.reads().is_some_and(|tag| goes_by_quantiles(tags, tag)),
    }
}

fn list_of(item: &DataType) -> DataType {
    DataType::new_list(item.clone(), true)
}
