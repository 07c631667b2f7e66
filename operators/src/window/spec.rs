//! The plan of a windowed aggregation, and the columns between its stages.

use std::{collections::BTreeSet, fmt::Write, ops::Range, sync::Arc};

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{DataFusionError, ScalarValue},
    physical_expr::expressions::{Column, Literal},
    physical_plan::PhysicalExpr,
};
use tagflow_engine::{
    Error, EventTime, Origin, Result, graph::OFFSET_COLUMN, operator::Output, time,
};
use twox_hash::XxHash3_64;

use super::{
    Aggregate, Emission, Windows,
    assigner::pane_of,
    columns::{utc, window_type},
    span::Span,
};
use crate::{
    aggregate::exact,
    expr::{argument, can_fail, filter, sql},
    portions::PORTION_BYTES,
    row_errors::{FailedRow, RowErrors, UnfitResults},
};

/// A windowed aggregation, as planned.
#[derive(Debug, Clone)]
pub struct AggregationSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The query's name, for late rows and errors.
    pub query: Arc<str>,
    /// The input rows: the columns that the query reads, with [`OFFSET_COLUMN`] last if the source
    /// adds it.
    pub input: SchemaRef,
    /// The column of `input` with the event time: a `Timestamp(µs, "UTC")`
    /// without nulls.
    pub time: usize,
    /// The columns of `input` whose values late rows must mask.
    pub personal: BTreeSet<String>,
    /// The division of event time into windows.
    pub windows: Windows,
    /// The time of emission.
    pub emission: Emission,
    /// Further grouping expressions.
    pub keys: Vec<Key>,
    /// The aggregates of each group.
    pub aggregates: Vec<Aggregate>,
    /// The treatment of rows on which a key or an argument fails, and of results that do not fit
    /// their types.
    pub errors: RowErrors,
    /// The names of `keys` and `aggregates` whose values messages must mask.
    pub personal_results: BTreeSet<String>,
}

/// A grouping expression in addition to the window.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its expression over a row of the input.
    pub expr: Arc<dyn PhysicalExpr>,
    /// The name of its output column.
    pub name: String,
}

/// A checked [`AggregationSpec`], from which both stages are created.
///
/// Two kinds of rows pass between the stages. Both are hashed by [`Aggregation::hash_columns`]:
///
/// - *states*, from the partial stage's `Port::MAIN` to the final stage's input 0: `_pane_start`,
///   the keys, and the accumulators' states. The columns of the states are named by the aggregates'
///   definitions ([`Aggregation::partial_schema`]);
/// - *stragglers*, from its `Port::SIDE` to input 1: `_pane_start`, the keys, and the input's
///   columns ([`Aggregation::straggler_schema`]).
///
/// The final stage emits the results to `Port::MAIN` ([`Aggregation::output_schema`]) and late rows
/// to `Port::SIDE` ([`tagflow_schemas::late::schema`]).
#[derive(Debug, Clone)]
pub struct Aggregation {
    pub(super) spec: AggregationSpec,
    /// Whether a constant replaces the keys because there are none.
    pub(super) keyless: bool,
    /// The number of visible aggregates. The others bound sessions, or store the last time of keys.
    visible: usize,
    /// The time after its end in which a window accepts rows.
    pub(super) lateness_us: i64,
    /// The number of bytes of groups that the final stage turns into output at a time.
    pub(super) portion_bytes: usize,
    pub(super) partial: SchemaRef,
    pub(super) straggler: SchemaRef,
    pub(super) output: SchemaRef,
    /// The input expressions of the aggregates, each once.
    pub(super) inputs: Vec<Arc<dyn PhysicalExpr>>,
    /// The indexes in `inputs` that each aggregate reads.
    pub(super) reads: Vec<Reads>,
    /// The number of state columns of each aggregate.
    pub(super) state_widths: Vec<usize>,
}

/// The indexes in [`Aggregation::inputs`] that an aggregate reads.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    pub(super) arguments: Vec<usize>,
    pub(super) filter: Option<usize>,
}

/// The number of columns before the keys in a state or straggler row: the pane's start.
pub(super) const LEAD: usize = 1;

impl Aggregation {
    /// Checks `spec` and derives the columns between the stages.
    ///
    /// # Errors
    /// `Config` if the event time is not a UTC timestamp in microseconds, if the windows are
    /// invalid, or if an aggregate cannot be created.
    pub(super) fn checked(mut spec: AggregationSpec) -> Result<Self> {
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
        let mut place = |expr: Arc<dyn PhysicalExpr>| {
            let known = inputs.iter().position(|known| known == &expr);
            known.unwrap_or_else(|| {
                inputs.push(expr);
                inputs.len() - 1
            })
        };
        for (i, aggregate) in spec.aggregates.iter().enumerate() {
            let types = aggregate.state_types().map_err(unplannable)?;
            state_widths.push(types.len());
            let id = XxHash3_64::oneshot(aggregate.definition.as_bytes());
            let types = types.into_iter().enumerate();
            states.extend(types.map(|(j, kind)| Field::new(format!("{id:016x}_{j}"), kind, true)));
            if i < visible {
                let field = aggregate.function.field();
                output.push(Field::new(&aggregate.name, field.data_type().clone(), true));
            }
            let mut arguments = Vec::new();
            for expr in aggregate.arguments() {
                arguments.push(place(argument(&expr, &spec.input)?));
            }
            let condition = aggregate.filter.as_ref();
            let condition = condition.map(|expr| filter(expr, &spec.input));
            reads.push(Reads {
                arguments,
                filter: condition.transpose()?.map(&mut place),
            });
        }

        let more = spec.emission.columns(&spec.windows);
        output.extend(more.iter().map(|field| field.as_ref().clone()));

        let mut straggler: Vec<_> = lead.into_iter().map(Arc::new).collect();
        straggler.extend(spec.input.fields().iter().cloned());

        let aggregation = Self {
            keyless,
            visible,
            lateness_us: time::micros(spec.emission.lateness),
            portion_bytes: PORTION_BYTES,
            partial: Arc::new(Schema::new(states)),
            straggler: Arc::new(Schema::new(straggler)),
            output: Arc::new(Schema::new(output)),
            inputs,
            reads,
            state_widths,
            spec,
        };
        Ok(aggregation)
    }

    /// The columns by which state and straggler rows are exchanged: the keys, or a constant if
    /// there are none.
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

    /// The fingerprint of the groups: the window, the keys, and how long windows are corrected.
    /// With more time, windows whose panes were dropped would be corrected from nothing. It does
    /// not contain the aggregates, which may change ([`Aggregation::definitions`]), nor the
    /// previews. Columns of the input have their names.
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

    /// The fingerprint of each visible aggregate's state, by its name: its definition and the types
    /// of its state.
    pub fn definitions(&self) -> impl Iterator<Item = (&str, String)> {
        self.visible().iter().map(|aggregate| {
            let types = aggregate.declared_types().unwrap_or_default();
            let types: Vec<String> = types.iter().map(DataType::to_string).collect();
            let definition = format!("{}; kept as {}", aggregate.definition, types.join(", "));
            (aggregate.name.as_str(), definition)
        })
    }

    /// The indexes of an aggregate's state among the columns of state rows.
    pub(super) fn states(&self, aggregate: usize) -> Range<usize> {
        let before: usize = self.state_widths[..aggregate].iter().sum();
        let first = self.group_width() + before;
        first..first + self.state_widths[aggregate]
    }

    /// The pane that starts at `start`.
    pub(super) fn pane(&self, start: i64) -> Result<Span> {
        pane_of(start, &self.spec.windows)
    }

    /// The pane that starts at `start`, for states that were sent before it closed.
    ///
    /// # Errors
    /// `Internal` if it has closed at `closed_through`.
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

    /// The watermark from which no row of `pane` counts.
    pub(super) fn closes(&self, pane: Span) -> EventTime {
        let end = self.spec.windows.last_end(pane);
        EventTime::from_micros(end.saturating_add(self.lateness_us))
    }

    /// The visible aggregates.
    pub(super) fn visible(&self) -> &[Aggregate] {
        &self.spec.aggregates[..self.visible]
    }

    /// The types of the keys.
    pub(super) fn key_types(&self) -> impl Iterator<Item = DataType> {
        let keys = self.hash_columns().into_iter();
        keys.map(|column| self.partial.field(column).data_type().clone())
    }

    /// The index of the source offset in a straggler row.
    pub(super) fn straggler_offset(&self) -> Option<usize> {
        let last = self.straggler.fields().len() - 1;
        (self.straggler.field(last).name() == OFFSET_COLUMN).then_some(last)
    }

    /// Sends rows of `origin` on which an expression fails to the dead letters.
    pub(super) fn set_aside(
        &self,
        origin: &Origin,
        failed: &[FailedRow],
        out: &mut Output,
    ) -> Result<()> {
        let query = &self.spec.query;
        self.spec.errors.set_aside(query, origin, failed, out)
    }

    /// Reports the results in `rows`, of [`Aggregation::output_schema`], that are null
    /// because their types cannot hold them.
    ///
    /// # Errors
    /// `Data` where such a result stops the job.
    pub(super) fn report(
        &self,
        unfit: &[(usize, BooleanArray)],
        rows: &RecordBatch,
        out: &mut Output,
    ) -> Result<()> {
        for (place, which) in unfit {
            let Some(aggregate) = self.visible().get(*place) else {
                continue;
            };
            let field = aggregate.function.field();
            let unfit = UnfitResults {
                expression: aggregate.name.clone(),
                data_type: field.data_type(),
                rows: filter_record_batch(rows, which)?,
                personal: &self.spec.personal_results,
            };
            self.spec.errors.report(&self.spec.query, &unfit, out)?;
        }
        Ok(())
    }

    /// Whether a result may not fit its type.
    pub fn may_not_fit(&self) -> bool {
        let mut visible = self.visible().iter();
        visible.any(|aggregate| exact::is_exact(&aggregate.function))
    }

    /// The treatment of rows on which an expression fails.
    pub fn errors(&self) -> &RowErrors {
        &self.spec.errors
    }

    /// Whether an expression over a row of the input can fail.
    pub fn can_fail(&self) -> bool {
        let keys = self.spec.keys.iter().map(|key| &key.expr);
        let mut all = keys.chain(&self.inputs);
        all.any(|expr| can_fail(expr, &self.spec.input))
    }

    /// The number of group columns: the pane's start and the keys.
    pub(super) fn group_width(&self) -> usize {
        LEAD + self.spec.keys.len()
    }
}
