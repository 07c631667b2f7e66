//! What a windowed aggregation computes, and the shapes of its stages' rows.

use std::{collections::BTreeSet, fmt::Write, ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
};
use datafusion::{
    common::{DataFusionError, ScalarValue},
    physical_expr::expressions::{Column, Literal},
    physical_plan::PhysicalExpr,
};
use tagflow_engine::{
    Error, EventTime, Result,
    graph::OFFSET_COLUMN,
    operator::{Operator, OperatorFactory},
    state::KEY_GROUP_COLUMN,
    time,
};
use twox_hash::XxHash3_64;

use super::{
    Aggregate, Emission, Windows,
    assigner::pane_of,
    finalize::Finalize,
    partial::Partial,
    session::Sessions,
    table::{Inputs, Table},
    updating::Updating,
    windows::Span,
};
use crate::expr::sql;

/// A windowed aggregation, as planned.
#[derive(Debug, Clone)]
pub struct AggregationSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The query's name, for late rows and errors.
    pub query: Arc<str>,
    /// The rows that come in: the columns that the query reads, with
    /// [`OFFSET_COLUMN`] last where the source stamps it.
    pub input: SchemaRef,
    /// The column of `input` with the event time: a `Timestamp(µs, "UTC")`
    /// without nulls.
    pub time: usize,
    /// The columns of `input` whose values late rows do not show.
    pub personal: BTreeSet<String>,
    /// How event time is cut.
    pub windows: Windows,
    /// When results come out.
    pub emission: Emission,
    /// What else rows are grouped by.
    pub keys: Vec<Key>,
    /// What is computed of each group.
    pub aggregates: Vec<Aggregate>,
}

/// A grouping expression besides the window.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its value, from a row of the input.
    pub expr: Arc<dyn PhysicalExpr>,
    /// The name of its output column.
    pub name: String,
}

/// The type of a window's value: a struct of `start` and `end`.
pub fn window_type() -> DataType {
    DataType::Struct(window_fields())
}

pub(super) fn window_fields() -> Fields {
    Fields::from(vec![
        Field::new("start", utc(), false),
        Field::new("end", utc(), false),
    ])
}

pub(super) fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}

/// A checked [`AggregationSpec`], from which both stages are made.
///
/// Between the stages go two kinds of rows, both hashed by
/// [`Aggregation::hash_columns`]:
///
/// - *states*, from the partial stage's `Port::MAIN` to the final stage's input
///   0: `_pane_start`, the keys, the accumulators' states in columns that are named
///   by the aggregates' definitions ([`Aggregation::partial_schema`]);
/// - *stragglers*, from its `Port::ASIDE` to input 1: `_pane_start`, the
///   keys, the input's own columns ([`Aggregation::straggler_schema`]).
///
/// The final stage emits the results by `Port::MAIN` ([`Aggregation::output_schema`])
/// and late rows by `Port::ASIDE` ([`tagflow_schemas::late::schema`]).
#[derive(Debug, Clone)]
pub struct Aggregation {
    pub(super) spec: AggregationSpec,
    /// Whether there were no keys, so that a constant was put in their place.
    pub(super) keyless: bool,
    /// How many of the aggregates come out; the others bound sessions, or date keys.
    visible: usize,
    /// How long after its end a window takes rows.
    pub(super) lateness_us: i64,
    pub(super) partial: SchemaRef,
    pub(super) straggler: SchemaRef,
    pub(super) stored: SchemaRef,
    pub(super) output: SchemaRef,
    /// The expressions that the aggregates read, each once.
    pub(super) inputs: Vec<Arc<dyn PhysicalExpr>>,
    /// Which of `inputs` each aggregate reads.
    pub(super) reads: Vec<Reads>,
    /// How many state columns each aggregate has.
    pub(super) state_widths: Vec<usize>,
}

/// The places in [`Aggregation::inputs`] of what one aggregate reads.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    pub(super) arguments: Vec<usize>,
    pub(super) filter: Option<usize>,
}

/// How many columns of a state or straggler row come before the keys: the
/// pane's start.
pub(super) const LEAD: usize = 1;

impl Aggregation {
    /// Checks `spec` and works out the shapes of the rows between the stages.
    ///
    /// # Errors
    /// `Config` where the event time is not a UTC timestamp in microseconds,
    /// the windows make no sense, or an aggregate cannot be made.
    pub fn new(mut spec: AggregationSpec) -> Result<Arc<Self>> {
        let query = Arc::clone(&spec.query);
        let wrong = |reason: &str| Error::config(format!("the windows of `{query}`: {reason}"));
        spec.windows.check().map_err(wrong)?;
        spec.emission.check(&spec.windows).map_err(wrong)?;
        let time = match spec.input.fields().get(spec.time) {
            Some(field) if *field.data_type() == utc() => field.name().clone(),
            Some(field) => {
                return Err(Error::config(format!(
                    "column `{}` of `{}` is not an event time: its type is `{}`",
                    field.name(),
                    spec.query,
                    field.data_type()
                )));
            }
            None => {
                return Err(Error::internal(format!(
                    "query `{}` has no column {} for its event time",
                    spec.query, spec.time
                )));
            }
        };
        let keyless = spec.keys.is_empty();
        if keyless {
            spec.keys.push(Key {
                expr: Arc::new(Literal::new(ScalarValue::Int8(Some(0)))),
                name: "_all".into(),
            });
        }
        let visible = spec.aggregates.len();
        let time: Arc<dyn PhysicalExpr> = Arc::new(Column::new(&time, spec.time));
        if let Windows::Session { .. } = spec.windows {
            spec.aggregates.push(Aggregate::first(&time, &spec.input)?);
            spec.aggregates.push(Aggregate::last(&time, &spec.input)?);
        } else if spec.emission.ttl.is_some() {
            spec.aggregates.push(Aggregate::last(&time, &spec.input)?);
        }

        let unplannable = |error: DataFusionError| {
            Error::config(format!("cannot aggregate in `{}`", spec.query)).with_source(error)
        };
        let mut lead = vec![Field::new("_pane_start", utc(), false)];
        let mut output = vec![Field::new("window", window_type(), false)];
        for key in &spec.keys {
            let field = key.expr.return_field(&spec.input).map_err(unplannable)?;
            let field = field.as_ref().clone().with_name(&key.name);
            lead.push(field.clone());
            if !keyless {
                output.push(field);
            }
        }

        let mut states = lead.clone();
        let mut inputs: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        let mut reads = Vec::new();
        let mut state_widths = Vec::new();
        let mut place = |expr: &Arc<dyn PhysicalExpr>| {
            inputs
                .iter()
                .position(|known| known == expr)
                .unwrap_or_else(|| {
                    inputs.push(Arc::clone(expr));
                    inputs.len() - 1
                })
        };
        for (i, aggregate) in spec.aggregates.iter().enumerate() {
            let fields = aggregate.function.state_fields().map_err(unplannable)?;
            state_widths.push(fields.len());
            let id = XxHash3_64::oneshot(aggregate.definition.as_bytes());
            states.extend(fields.iter().enumerate().map(|(j, field)| {
                Field::new(format!("{id:016x}_{j}"), field.data_type().clone(), true)
            }));
            if i < visible {
                let field = aggregate.function.field();
                output.push(Field::new(&aggregate.name, field.data_type().clone(), true));
            }
            reads.push(Reads {
                arguments: aggregate.arguments().iter().map(&mut place).collect(),
                filter: aggregate.filter.as_ref().map(&mut place),
            });
        }

        let more = spec.emission.columns(&spec.windows);
        output.extend(more.iter().map(|field| field.as_ref().clone()));

        let mut stored = states.clone();
        stored.push(Field::new(KEY_GROUP_COLUMN, DataType::UInt8, true));
        let mut straggler: Vec<_> = lead.into_iter().map(Arc::new).collect();
        straggler.extend(spec.input.fields().iter().cloned());

        let aggregation = Self {
            keyless,
            visible,
            lateness_us: time::micros(spec.emission.lateness),
            partial: Arc::new(Schema::new(states)),
            straggler: Arc::new(Schema::new(straggler)),
            stored: Arc::new(Schema::new(stored)),
            output: Arc::new(Schema::new(output)),
            inputs,
            reads,
            state_widths,
            spec,
        };
        Table::new(&aggregation)?;
        Ok(Arc::new(aggregation))
    }

    /// The stage before the exchange.
    pub fn partial(self: &Arc<Self>) -> OperatorFactory {
        let aggregation = Arc::clone(self);
        Arc::new(move |_| Ok(Box::new(Partial::new(Arc::clone(&aggregation))?)))
    }

    /// The stage after the exchange.
    pub fn finalize(self: &Arc<Self>) -> OperatorFactory {
        let aggregation = Arc::clone(self);
        Arc::new(move |_| {
            let aggregation = Arc::clone(&aggregation);
            let spec = &aggregation.spec;
            let stage: Box<dyn Operator> = match (spec.emission.ttl, &spec.windows) {
                (Some(ttl), _) => Box::new(Updating::new(aggregation, ttl)?),
                (None, &Windows::Session { gap }) => Box::new(Sessions::new(aggregation, gap)?),
                (None, _) => Box::new(Finalize::new(aggregation)?),
            };
            Ok(stage)
        })
    }

    /// The columns of state and straggler rows by which they are exchanged:
    /// the keys, or a constant where there are none.
    pub fn hash_columns(&self) -> Vec<usize> {
        (LEAD..self.group_width()).collect()
    }

    /// The rows with accumulator states.
    pub fn partial_schema(&self) -> SchemaRef {
        Arc::clone(&self.partial)
    }

    /// The rows that may be late.
    pub fn straggler_schema(&self) -> SchemaRef {
        Arc::clone(&self.straggler)
    }

    /// The results: `window` (of [`window_type`]), the keys, the aggregates, and
    /// the [`Emission::columns`].
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// What determines the meaning of the groups: the window, the keys, and for how
    /// long windows are corrected: with more time, windows whose panes are gone would
    /// be corrected from nothing. Not the aggregates, which come and go
    /// ([`Aggregation::definitions`]), nor previews. Columns of the input go by their
    /// names.
    pub fn fingerprint(&self) -> String {
        let spec = &self.spec;
        let time = spec.input.field(spec.time).name();
        let mut text = format!("{} by {time}", spec.windows);
        if !spec.emission.lateness.is_zero() {
            let lateness = humantime::format_duration(spec.emission.lateness);
            let _ = write!(text, "; corrected for {lateness}");
        }
        if let Some(ttl) = spec.emission.ttl {
            let ttl = humantime::format_duration(ttl);
            let _ = write!(text, "; keys forgotten after {ttl}");
        }
        let fields = &self.partial.fields()[LEAD..self.group_width()];
        for (key, field) in spec.keys.iter().zip(fields).skip(usize::from(self.keyless)) {
            let key = sql(&key.expr);
            let _ = write!(text, "; key {key}: {}", field.data_type());
        }
        text
    }

    /// What determines the meaning of the state of each aggregate that comes out, by
    /// its name: its definition and the types of its state.
    pub fn definitions(&self) -> impl Iterator<Item = (&str, String)> {
        let aggregates = self.visible().iter().enumerate();
        aggregates.map(|(place, aggregate)| {
            let states = self.partial.fields()[self.states(place)].iter();
            let types: Vec<String> = states.map(|it| it.data_type().to_string()).collect();
            let definition = format!("{}; kept as {}", aggregate.definition, types.join(", "));
            (aggregate.name.as_str(), definition)
        })
    }

    /// The places of an aggregate's state among the columns of state rows.
    pub(super) fn states(&self, aggregate: usize) -> Range<usize> {
        let before: usize = self.state_widths[..aggregate].iter().sum();
        let first = self.group_width() + before;
        first..first + self.state_widths[aggregate]
    }

    /// The pane that starts at `start`.
    pub(super) fn pane(&self, start: i64) -> Result<Span> {
        pane_of(start, &self.spec.windows)
    }

    /// The pane that starts at `start`, for states that came before it closed.
    ///
    /// # Errors
    /// `Internal` where it has closed at `closed_through`.
    pub(super) fn open_pane(&self, start: i64, closed_through: EventTime) -> Result<Span> {
        let pane = self.pane(start)?;
        if self.closes(pane) <= closed_through {
            return Err(Error::internal(format!(
                "states of the pane at {} came to `{}` after it had closed at {closed_through}",
                EventTime::from_micros(start),
                self.spec.query,
            )));
        }
        Ok(pane)
    }

    /// The watermark from which on no row of `pane` counts.
    pub(super) fn closes(&self, pane: Span) -> EventTime {
        let end = self.spec.windows.last_end(pane);
        EventTime::from_micros(end.saturating_add(self.lateness_us))
    }

    /// The aggregates that come out.
    pub(super) fn visible(&self) -> &[Aggregate] {
        &self.spec.aggregates[..self.visible]
    }

    /// The types of the keys.
    pub(super) fn key_types(&self) -> impl Iterator<Item = DataType> {
        let keys = self.hash_columns().into_iter();
        keys.map(|column| self.partial.field(column).data_type().clone())
    }

    /// The place of the source offset in a straggler row.
    pub(super) fn straggler_offset(&self) -> Option<usize> {
        let last = self.straggler.fields().len() - 1;
        (self.straggler.field(last).name() == OFFSET_COLUMN).then_some(last)
    }

    /// What straggler rows are grouped by, and what is aggregated of them.
    pub(super) fn straggler(&self, rows: &RecordBatch) -> Result<(Vec<ArrayRef>, Inputs)> {
        let groups = self.group_width();
        let input: Vec<usize> = (groups..rows.num_columns()).collect();
        let inputs = Inputs::of(self, &rows.project(&input)?)?;
        Ok((rows.columns()[..groups].to_vec(), inputs))
    }

    /// How many columns group a row: the pane's start and the keys.
    pub(super) fn group_width(&self) -> usize {
        LEAD + self.spec.keys.len()
    }
}
