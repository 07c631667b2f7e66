//! What a windowed aggregation computes, and the shapes of its stages' rows.

use std::{collections::BTreeSet, fmt::Write, sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::{common::DataFusionError, physical_plan::PhysicalExpr};
use tagflow_engine::{
    Error, Result, graph::OFFSET_COLUMN, operator::OperatorFactory, state::KEY_GROUP_COLUMN, time,
};

use super::{Aggregate, finalize::Finalize, partial::Partial, table::Table};
use crate::expr::sql;

/// A tumbling windowed aggregation, as planned.
#[derive(Debug, Clone)]
pub struct TumbleSpec {
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
    /// The windows' size.
    pub size: Duration,
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

/// A checked [`TumbleSpec`], from which both stages are made.
///
/// Between the stages go two kinds of rows, both hashed by
/// [`Tumble::hash_columns`]:
///
/// - *states*, from the partial stage's `Port::MAIN` to the final stage's input
///   0: `_window_start`, the keys, the accumulators' states
///   ([`Tumble::partial_schema`]);
/// - *stragglers*, from its `Port::ASIDE` to input 1: `_window_start`, the
///   keys, the input's own columns ([`Tumble::straggler_schema`]).
///
/// The final stage emits the results by `Port::MAIN` ([`Tumble::output_schema`])
/// and late rows by `Port::ASIDE` ([`tagflow_schemas::late::schema`]).
#[derive(Debug, Clone)]
pub struct Tumble {
    pub(super) spec: TumbleSpec,
    pub(super) size_us: i64,
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

/// The places in [`Tumble::inputs`] of what one aggregate reads.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    pub(super) arguments: Vec<usize>,
    pub(super) filter: Option<usize>,
}

/// How many columns of a state or straggler row come before the keys: the
/// window's start.
pub(super) const LEAD: usize = 1;

impl Tumble {
    /// Checks `spec` and works out the shapes of the rows between the stages.
    ///
    /// # Errors
    /// `Config` where the event time is not a UTC timestamp in microseconds,
    /// the window's size is zero or too long, or an aggregate cannot be made.
    pub fn new(spec: TumbleSpec) -> Result<Arc<Self>> {
        let size_us = time::micros(spec.size);
        if size_us <= 0 || size_us == i64::MAX {
            return Err(Error::config(format!(
                "the windows of `{}` need a size of at least a microsecond and less than \
                 292,000 years",
                spec.query
            )));
        }
        match spec.input.fields().get(spec.time) {
            Some(field) if *field.data_type() == utc() => {}
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
        }

        let unplannable = |error: DataFusionError| {
            Error::config(format!("cannot aggregate in `{}`", spec.query)).with_source(error)
        };
        let mut lead = vec![Field::new("_window_start", utc(), false)];
        let mut output = vec![Field::new("window", window_type(), false)];
        for key in &spec.keys {
            let field = key.expr.return_field(&spec.input).map_err(unplannable)?;
            let field = field.as_ref().clone().with_name(&key.name);
            lead.push(field.clone());
            output.push(field);
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
            states.extend(fields.iter().enumerate().map(|(j, field)| {
                Field::new(format!("_state_{i}_{j}"), field.data_type().clone(), true)
            }));
            let field = aggregate.function.field();
            output.push(Field::new(&aggregate.name, field.data_type().clone(), true));
            reads.push(Reads {
                arguments: aggregate.arguments().iter().map(&mut place).collect(),
                filter: aggregate.filter.as_ref().map(&mut place),
            });
        }

        let mut stored = states.clone();
        stored.push(Field::new(KEY_GROUP_COLUMN, DataType::UInt8, true));
        let mut straggler: Vec<_> = lead.into_iter().map(Arc::new).collect();
        straggler.extend(spec.input.fields().iter().cloned());

        let tumble = Self {
            size_us,
            partial: Arc::new(Schema::new(states)),
            straggler: Arc::new(Schema::new(straggler)),
            stored: Arc::new(Schema::new(stored)),
            output: Arc::new(Schema::new(output)),
            inputs,
            reads,
            state_widths,
            spec,
        };
        Table::new(&tumble)?;
        Ok(Arc::new(tumble))
    }

    /// The stage before the exchange.
    pub fn partial(self: &Arc<Self>) -> OperatorFactory {
        let tumble = Arc::clone(self);
        Arc::new(move |_| Ok(Box::new(Partial::new(Arc::clone(&tumble))?)))
    }

    /// The stage after the exchange.
    pub fn finalize(self: &Arc<Self>) -> OperatorFactory {
        let tumble = Arc::clone(self);
        Arc::new(move |_| Ok(Box::new(Finalize::new(Arc::clone(&tumble))?)))
    }

    /// The columns of state and straggler rows by which they are exchanged:
    /// the keys, or the window where there are none.
    pub fn hash_columns(&self) -> Vec<usize> {
        match self.spec.keys.len() {
            0 => vec![0],
            _ => (LEAD..self.group_width()).collect(),
        }
    }

    /// The rows with accumulator states.
    pub fn partial_schema(&self) -> SchemaRef {
        Arc::clone(&self.partial)
    }

    /// The rows that may be late.
    pub fn straggler_schema(&self) -> SchemaRef {
        Arc::clone(&self.straggler)
    }

    /// The results: `window` (of [`window_type`]), the keys, the aggregates.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// What determines the meaning of the state: the window, the keys, the
    /// aggregates and their types; not the names of the outputs. Columns of the
    /// input go by their names.
    pub fn fingerprint(&self) -> String {
        let spec = &self.spec;
        let time = spec.input.field(spec.time).name();
        let mut text = format!("tumble({time}, {}us)", self.size_us);
        for (key, field) in spec.keys.iter().zip(&self.partial.fields()[LEAD..]) {
            let key = sql(&key.expr);
            let _ = write!(text, "; key {key}: {}", field.data_type());
        }
        let mut states = self.partial.fields()[LEAD + spec.keys.len()..].iter();
        for (aggregate, width) in spec.aggregates.iter().zip(&self.state_widths) {
            let _ = write!(text, "; {aggregate}:");
            for state in states.by_ref().take(*width) {
                let _ = write!(text, " {}", state.data_type());
            }
        }
        text
    }

    /// The place of the source offset in a straggler row.
    pub(super) fn straggler_offset(&self) -> Option<usize> {
        let last = self.straggler.fields().len() - 1;
        (self.straggler.field(last).name() == OFFSET_COLUMN).then_some(last)
    }

    /// How many columns group a row: the window's start and the keys.
    pub(super) fn group_width(&self) -> usize {
        LEAD + self.spec.keys.len()
    }
}
