//! Builds the operator's configuration from the block of the file.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::{
    common::DFSchema,
    logical_expr::{Expr, case, cast},
    prelude::lit,
};
use tagflow_operators::tags::{
    Absence, Again, Aggregate, Function, Funnel, FunnelMode, Over, Profile, Score, Spill, Tag,
    TagKind, TagsSpec, Thresholds, TimeSince, TopK,
};

use super::{
    PlannedTags,
    columns::{Columns, Laid, kept_as},
    rules,
};
use tagflow_config::diagnostic::{Diagnostics, Position, unknown};

use crate::{
    spec::{
        self, Setting, Spec, SqlText, Tags,
        tags::{
            AbsenceTag, AggregateTag, FunnelTag, ScoreTag, TagAgg, TagDefinition, TagMemory,
            TopKTag,
        },
    },
    sql::{Lineage, Program, Relation, Rows, SqlError},
};

/// Plans the tags and segments of `spec`, whose other relations are in `program`.
/// Errors are added to `diagnostics`.
pub(crate) fn plan(
    spec: &Spec,
    program: &Program,
    diagnostics: &mut Diagnostics,
) -> Option<PlannedTags> {
    let tags = spec.tags.as_ref()?;
    let relation = program.relation(&tags.from)?;
    let mut planner = Planner::new(tags, relation, program, diagnostics)?;
    let mut plain = Vec::new();
    let mut is_sound = tags.define.names().count() == tags.define.len();
    for (name, tag) in tags.define.iter() {
        match planner.plain(name, tag) {
            Some(planned) => plain.extend(planned),
            None => is_sound = false,
        }
    }
    let Planner {
        columns,
        schema,
        key,
        time,
        id,
        events,
        ..
    } = planner;
    let laid = columns.lay();
    let input = laid.schema();
    for tag in &mut plain {
        for place in tag.kind.columns_mut() {
            *place = laid.places[*place];
        }
    }
    let mut planned = plain;
    is_sound &= derived(tags, &mut planned, &input, diagnostics);
    if !is_sound {
        return None;
    }
    let segments = rules::segments(spec, &planned, &input, program.catalog(), diagnostics)?;
    let Laid {
        columns,
        carried,
        places,
    } = laid;
    let reads = columns[..carried].iter().map(|(_, field)| field.name());
    Some(PlannedTags {
        from: tags.from.value().clone(),
        reads: reads.cloned().collect(),
        schema,
        spec: TagsSpec {
            pipeline: Arc::from(spec.name.as_str()),
            node: Arc::from(TAGS),
            input,
            key: places[key],
            time: places[time],
            id: id.map(|id| places[id]),
            shown: carried,
            personal: BTreeSet::new(),
            lateness: *tags.allowed_lateness,
            state_ttl: tags.state_ttl.as_deref().copied(),
            spill: tags.memory.as_ref().map(spill),
            profile: Profile::default(),
            rescore_every: RESCORE_EVERY,
            counted: Vec::new(),
            tags: planned,
            segments,
        },
        columns,
        events,
    })
}

fn spill(memory: &TagMemory) -> Spill {
    let folder = memory.spill.as_ref().map(|folder| PathBuf::from(&**folder));
    Spill {
        folder: folder.unwrap_or_else(|| std::env::temp_dir().join("tagflow")),
        memory_bytes: usize::try_from(memory.limit.bytes()).unwrap_or(usize::MAX),
    }
}

/// Quantile thresholds are recomputed at midnight UTC.
const RESCORE_EVERY: Duration = Duration::from_hours(24);

/// The node's name.
const TAGS: &str = "tags";

/// The default column that identifies an event.
const EVENT_ID: &str = "event_id";

/// The tags that are derived from others, each after its inputs.
fn derived(
    tags: &Tags,
    planned: &mut Vec<Tag>,
    input: &SchemaRef,
    diagnostics: &mut Diagnostics,
) -> bool {
    let mut waiting: Vec<_> = tags.define.iter().collect();
    waiting.retain(|(_, tag)| matches!(tag, TagDefinition::TimeSince(_) | TagDefinition::Score(_)));
    let mut is_sound = true;
    loop {
        let before = waiting.len();
        waiting.retain(|(name, tag)| {
            let of = match tag {
                TagDefinition::TimeSince(tag) => &tag.time_since,
                TagDefinition::Score(tag) => &tag.score,
                _ => return false,
            };
            let Some(place) = planned.iter().position(|tag| tag.name == **of) else {
                return true;
            };
            let path = format!("tags.define.{name}");
            let fields = match tagflow_operators::tags::Tags::fields(planned, input) {
                Ok(fields) => fields,
                Err(error) => {
                    diagnostics.error(name.at(), path, error.chain());
                    is_sound = false;
                    return false;
                }
            };
            match derive(tag, place, &fields[place]) {
                Ok(kind) => planned.push(Tag {
                    name: name.to_string(),
                    kind,
                    ttl: None,
                }),
                Err(error) => {
                    let diagnostic = diagnostics.error(of.at(), path, error.message);
                    diagnostic.help = error.help;
                    is_sound = false;
                }
            }
            false
        });
        if waiting.len() == before {
            // The remaining tags read a tag in error, or themselves.
            return is_sound && waiting.is_empty();
        }
    }
}

/// The tag that is derived from the one at `place`.
fn derive(tag: &TagDefinition, place: usize, of: &Field) -> Result<TagKind, SqlError> {
    let kind = of.data_type();
    match tag {
        TagDefinition::TimeSince(_) if !matches!(kind, DataType::Timestamp(..)) => Err(
            SqlError::new(format!("`{}` is {}, and no time", of.name(), called(kind))).help(
                "take the `last`, `first`, `min` or `max` of a time, such as that of the event",
            ),
        ),
        TagDefinition::TimeSince(tag) => Ok(TagKind::TimeSince(TimeSince {
            tag: place,
            unit: tag.unit.duration(),
        })),
        TagDefinition::Score(_) if !kind.is_numeric() => Err(SqlError::new(format!(
            "`{}` is {}, and no number",
            of.name(),
            called(kind)
        ))),
        TagDefinition::Score(tag) => Ok(TagKind::Score(Score {
            tag: place,
            thresholds: thresholds(tag),
            is_reversed: *tag.reversed,
        })),
        _ => Err(SqlError::new("the tag follows from no other")),
    }
}

/// The thresholds of a score: quantiles if the file has no numbers.
fn thresholds(tag: &ScoreTag) -> Thresholds {
    let numbers = tag.cuts.iter().flatten().map(|cut| **cut);
    match &tag.quantiles {
        Some(parts) => Thresholds::Quantiles(**parts as usize),
        None => Thresholds::At(numbers.collect()),
    }
}

/// A type in a message.
fn called(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 => "a string".to_owned(),
        DataType::Boolean => "true or false".to_owned(),
        DataType::Timestamp(..) => "a time".to_owned(),
        DataType::Date32 => "a date".to_owned(),
        kind if kind.is_numeric() => "a number".to_owned(),
        DataType::List(_) => "a list".to_owned(),
        kind => format!("a {kind}"),
    }
}

struct Planner<'a, 'd> {
    relation: &'a Relation,
    schema: datafusion::common::DFSchemaRef,
    columns: Columns<'a>,
    key: usize,
    time: usize,
    id: Option<usize>,
    events: Option<String>,
    diagnostics: &'d mut Diagnostics,
}

impl<'a, 'd> Planner<'a, 'd> {
    /// Finds the event time, the key and the id.
    fn new(
        tags: &'a Tags,
        relation: &'a Relation,
        program: &'a Program,
        diagnostics: &'d mut Diagnostics,
    ) -> Option<Self> {
        let from = tags.from.as_str();
        let mut wrong = |at: Position, path: &str, message: String, help: &str| {
            let diagnostic = diagnostics.error(at, format!("tags.{path}"), message);
            diagnostic.help(help);
        };
        let lineage = relation.lineage.iter();
        let time = lineage.zip(relation.schema.fields());
        let mut time = time.filter(|(lineage, _)| **lineage == Lineage::EventTime);
        let time = match (time.next(), relation.rows) {
            (_, Rows::Pairs) => {
                let message = format!("`{from}` joins streams, and tags are of single events");
                wrong(
                    tags.from.at(),
                    "from",
                    message,
                    "take the rows of one of them",
                );
                return None;
            }
            (None, _) => {
                let message = format!("the rows of `{from}` have no event time");
                let help = "carry the event time of the source through unchanged";
                wrong(tags.from.at(), "from", message, help);
                return None;
            }
            (Some((_, time)), _) => time.name().as_str(),
        };
        let mut is_sound = true;
        let mut check = |setting: &Setting<String>, path: &str| {
            let names = || {
                relation
                    .schema
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str())
            };
            let message = match relation.schema.field_with_name(setting) {
                Ok(field) if [DataType::Utf8, DataType::Int64].contains(field.data_type()) => {
                    return;
                }
                Ok(field) => format!(
                    "`{}` is {}, and neither a string nor an integer",
                    setting.shown(),
                    called(field.data_type())
                ),
                Err(_) => {
                    let names = unknown(setting, names().collect::<Vec<_>>());
                    format!("column `{}` not found in `{from}`{names}", setting.shown())
                }
            };
            diagnostics.error(setting.at(), format!("tags.{path}"), message);
            is_sound = false;
        };
        check(&tags.key, "key");
        if let Some(id) = &tags.event_id {
            check(id, "event_id");
        }
        if !is_sound {
            return None;
        }
        let can_be_id = |name: &&str| {
            let field = relation.schema.field_with_name(name);
            field.is_ok_and(|it| [DataType::Utf8, DataType::Int64].contains(it.data_type()))
        };
        let id = match &tags.event_id {
            Some(id) => Some(id.as_str()),
            None => Some(EVENT_ID).filter(can_be_id),
        };
        let schema = DFSchema::try_from_qualified_schema(from, &relation.schema);
        let schema = Arc::new(schema.ok()?);
        let always = [tags.key.as_str(), time];
        let events = program.definition_of(from, &always);
        let events = match events {
            Ok(events) => events,
            Err(fault) => {
                diagnostics.error(tags.from.at(), "tags.from", fault.error.message);
                return None;
            }
        };
        let mut columns = Columns::new(program, from, Arc::clone(&schema), always);
        Some(Self {
            key: columns.carried(&tags.key),
            time: columns.carried(time),
            id: id.map(|id| columns.carried(id)),
            relation,
            schema,
            columns,
            events,
            diagnostics,
        })
    }

    /// The columns of a tag over events; `None` for other tags.
    fn plain(&mut self, name: &str, tag: &TagDefinition) -> Option<Vec<Tag>> {
        let path = format!("tags.define.{name}");
        let one = |kind, ttl: Option<&Setting<Duration>>| {
            vec![Tag {
                name: name.to_owned(),
                kind,
                ttl: ttl.map(|ttl| **ttl),
            }]
        };
        match tag {
            TagDefinition::Aggregate(tag) => self.aggregate(name, tag, &path),
            TagDefinition::TopK(tag) => Some(one(self.top_k(tag, &path)?, None)),
            TagDefinition::Funnel(tag) => Some(one(self.funnel(tag, &path)?, None)),
            TagDefinition::Absence(tag) => Some(one(self.absence(tag, &path)?, tag.ttl.as_ref())),
            TagDefinition::TimeSince(_) | TagDefinition::Score(_) => Some(Vec::new()),
        }
    }

    fn aggregate(&mut self, name: &str, tag: &AggregateTag, path: &str) -> Option<Vec<Tag>> {
        let filter = self.condition_or_none(tag.filter.as_ref(), path);
        let argument = match &tag.arg {
            None => Some(None),
            Some(text) => {
                let must_be_number = matches!(*tag.agg, TagAgg::Sum | TagAgg::Avg | TagAgg::Std);
                let condition = filter.flatten();
                self.argument(text, path, must_be_number, condition)
                    .map(Some)
            }
        };
        let (argument, filter) = (argument?, filter?);
        let function = match *tag.agg {
            TagAgg::Count => Function::Count,
            TagAgg::Sum => Function::Sum,
            TagAgg::Min => Function::Min,
            TagAgg::Max => Function::Max,
            TagAgg::Avg => Function::Avg,
            TagAgg::Std => Function::Std,
            TagAgg::Distinct => Function::Distinct {
                exact_up_to: tag.exact_up_to() as u32,
            },
            TagAgg::First => Function::First,
            TagAgg::Last => Function::Last,
            TagAgg::LastK => Function::LastK {
                k: tag.k.as_deref().copied().unwrap_or(1) as u32,
            },
        };
        let over = |width: Option<Duration>| match width {
            None => Over::Lifetime,
            Some(window) => Over::Rolling {
                window,
                tile: tag.tile(window),
            },
        };
        let overs: Vec<Over> = match &tag.windows {
            None => vec![Over::Lifetime],
            Some(windows) => windows.iter().map(|window| over(window.width())).collect(),
        };
        let names = TagDefinition::Aggregate(tag.clone()).outputs(name);
        let tags = names.into_iter().zip(overs).map(|(name, over)| Tag {
            name,
            kind: TagKind::Aggregate(Aggregate {
                function,
                argument,
                filter,
                over,
            }),
            ttl: tag.ttl.as_deref().copied(),
        });
        Some(tags.collect())
    }

    fn top_k(&mut self, tag: &TopKTag, path: &str) -> Option<TagKind> {
        let filter = self.condition_or_none(tag.filter.as_ref(), path);
        let argument = self.value(&tag.top_k.arg, path).and_then(|(expr, _)| {
            let condition = filter.flatten();
            let column = self.columns.computed(expr, &DataType::Utf8, condition);
            self.reported(column, &tag.top_k.arg, path)
        });
        let weight = match &tag.weights {
            None => None,
            Some(weights) => {
                let by = self.column(&tag.weigh_by, path)?;
                let by = cast(by, DataType::Utf8);
                let mut weights = weights.iter();
                let (first, heavy) = weights.next()?;
                let mut cases = case(by);
                let mut cases = cases.when(lit(&**first), lit(**heavy));
                for (name, weight) in weights {
                    cases = cases.when(lit(&**name), lit(**weight));
                }
                let weight = cases.end().map_err(|error| SqlError::of_planner(&error));
                let weight = weight
                    .and_then(|weight| self.columns.computed(weight, &DataType::Float64, None));
                Some(self.reported_at(weight, tag.weigh_by.at(), path)?)
            }
        };
        Some(TagKind::TopK(TopK {
            argument: argument?,
            weight,
            filter: filter?,
            k: *tag.top_k.k as usize,
            half_life: *tag.top_k.half_life,
        }))
    }

    fn funnel(&mut self, tag: &FunnelTag, path: &str) -> Option<TagKind> {
        let mut steps = Vec::new();
        let mut is_sound = true;
        for (name, text) in tag.funnel.steps.iter() {
            match self.condition(text, &format!("{path}.funnel.steps.{name}")) {
                Some(step) => steps.push((name.to_string(), step)),
                None => is_sound = false,
            }
        }
        is_sound.then_some(TagKind::Funnel(Funnel {
            within: *tag.funnel.within,
            mode: match *tag.funnel.mode {
                spec::tags::FunnelMode::Default => FunnelMode::Default,
                spec::tags::FunnelMode::StrictOrder => FunnelMode::StrictOrder,
                spec::tags::FunnelMode::StrictDeduplication => FunnelMode::StrictDeduplication,
                spec::tags::FunnelMode::StrictIncrease => FunnelMode::StrictIncrease,
            },
            steps,
        }))
    }

    fn absence(&mut self, tag: &AbsenceTag, path: &str) -> Option<TagKind> {
        let absence = &tag.absence;
        let after = self.condition(&absence.after, &format!("{path}.absence.after"));
        let expect = self.condition(&absence.expect, &format!("{path}.absence.expect"));
        let same: Vec<_> = absence
            .same
            .iter()
            .map(|column| {
                let place = format!("{path}.absence.same");
                let expr = self.column(column, &place)?;
                let kind = self.relation.schema.field_with_name(column).ok()?;
                let Some(kind) = kept_as(kind.data_type()) else {
                    let kind = called(kind.data_type());
                    let message =
                        format!("`{}` is {kind}, which a tag cannot keep", column.shown());
                    self.diagnostics.error(column.at(), place, message);
                    return None;
                };
                let computed = self.columns.computed(expr, &kind, None);
                self.reported_at(computed, column.at(), &place)
            })
            .collect();
        Some(TagKind::Absence(Absence {
            after: after?,
            expect: expect?,
            same: same.into_iter().collect::<Option<_>>()?,
            within: *absence.within,
            again: match *absence.again {
                spec::tags::Again::Each => Again::Each,
                spec::tags::Again::First => Again::First,
                spec::tags::Again::Restart => Again::Restart,
            },
        }))
    }

    /// A column of the events.
    fn column(&mut self, setting: &Setting<String>, path: &str) -> Option<Expr> {
        let fields = self.relation.schema.fields();
        if let Ok((qualifier, field)) = self.schema.qualified_field_with_unqualified_name(setting) {
            return Some(Expr::Column((qualifier, field).into()));
        }
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let names = unknown(setting, names);
        let default = if setting.is_default() {
            "; say which column `weights` go by with `weigh_by`"
        } else {
            ""
        };
        let message = format!("column `{}` not found{names}{default}", setting.shown());
        self.diagnostics.error(setting.at(), path, message);
        None
    }

    #[expect(clippy::option_option, reason = "absent is not in error")]
    fn condition_or_none(&mut self, text: Option<&SqlText>, path: &str) -> Option<Option<usize>> {
        match text {
            None => Some(None),
            Some(text) => self.condition(text, &format!("{path}.where")).map(Some),
        }
    }

    fn condition(&mut self, text: &SqlText, path: &str) -> Option<usize> {
        let (expr, kind) = self.value(text, path)?;
        if ![DataType::Boolean, DataType::Null].contains(&kind) {
            let message = format!(
                "the condition `{}` is {}, neither true nor false",
                text.text().trim(),
                called(&kind)
            );
            self.diagnostics.error(text.at(), path, message);
            return None;
        }
        let column = self.columns.computed(expr, &DataType::Boolean, None);
        self.reported(column, text, path)
    }

    /// The column of an argument, which is read where `condition` is true.
    fn argument(
        &mut self,
        text: &SqlText,
        path: &str,
        must_be_number: bool,
        condition: Option<usize>,
    ) -> Option<usize> {
        let path = format!("{path}.arg");
        let (expr, kind) = self.value(text, &path)?;
        let shown = text.text().trim();
        let mistake = match kept_as(&kind) {
            Some(kind) if !must_be_number || kind.is_numeric() => {
                let column = self.columns.computed(expr, &kind, condition);
                return self.reported(column, text, &path);
            }
            Some(kind) => format!("`{shown}` is {}, and no number", called(&kind)),
            None => format!("`{shown}` is {}, which a tag cannot keep", called(&kind)),
        };
        self.diagnostics.error(text.at(), path, mistake);
        None
    }

    fn value(&mut self, text: &SqlText, path: &str) -> Option<(Expr, DataType)> {
        for warning in self.columns.warnings(text) {
            let diagnostic = self.diagnostics.warning(text.at(), path, warning.message);
            diagnostic.help = warning.help;
        }
        match self.columns.expression(text) {
            Ok(value) => Some(value),
            Err(errors) => {
                for error in errors {
                    rules::report(text, path, error, self.diagnostics);
                }
                None
            }
        }
    }

    fn reported<T>(
        &mut self,
        result: Result<T, SqlError>,
        text: &SqlText,
        path: &str,
    ) -> Option<T> {
        result
            .map_err(|error| rules::report(text, path, error, self.diagnostics))
            .ok()
    }

    fn reported_at<T>(
        &mut self,
        result: Result<T, SqlError>,
        at: Position,
        path: &str,
    ) -> Option<T> {
        result
            .map_err(|error| {
                self.diagnostics.error(at, path, error.message);
            })
            .ok()
    }
}
