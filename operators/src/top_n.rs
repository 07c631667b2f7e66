//! The best rows of each window.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, UInt32Array, UInt64Array},
    compute::{SortOptions, concat_batches, take_record_batch},
    datatypes::{SchemaRef, TimestampMicrosecondType},
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};
use datafusion::physical_plan::PhysicalExpr;
use tagflow_engine::{
    Batch, Error, EventTime, Origin, Port, Result,
    operator::{Operator, OperatorFactory, Output, PagedOutput, Progress},
    state::{LaneState, Snapshot, StoredWatermark, key_column},
};

use crate::{
    expr::{can_fail, evaluate},
    late::LateRows,
    portions::Portions,
    row_buffer::{RowBuffer, Slot, by_window_end},
    row_errors::{RowErrors, attempt},
    size::{Load, StateSize},
};

/// A slot with fewer rows than this is not trimmed before its window closes.
const MIN_CUT: usize = 4096;

/// Which rows are ranked, and how.
#[derive(Debug, Clone)]
pub struct TopSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The query's name, for late rows and errors.
    pub query: Arc<str>,
    /// The input rows.
    pub input: SchemaRef,
    /// The columns of `input` whose values late rows withhold.
    pub personal: BTreeSet<String>,
    /// Their window: a column without nulls.
    pub window: usize,
    /// The columns that partition the ranking, including the window.
    pub partition: Vec<usize>,
    /// The ranking order. Ties are broken by all columns of the rows, in the columns'
    /// order.
    pub order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    /// The number of rows to emit from each partition.
    pub limit: u64,
    /// The output: the input's columns, then the rank, from 1.
    pub output: SchemaRef,
    /// How to handle rows on which the order fails.
    pub errors: RowErrors,
}

impl TopSpec {
    /// Whether evaluating the order can fail.
    pub fn can_fail(&self) -> bool {
        let mut order = self.order.iter();
        order.any(|(expr, _)| can_fail(expr, &self.input))
    }

    /// The estimated state: a row per key, until the window has closed.
    pub fn size(&self, load: &Load) -> StateSize {
        StateSize {
            entries: load.keys,
            unit: "rows",
            bytes: load.keys * load.row_bytes(&self.input),
        }
    }
}

/// Operators that buffer the rows of a window until it has closed, then emit the best of
/// each partition with their ranks. Their input must be exchanged by
/// [`TopSpec::partition`].
///
/// Before the window closes, only rows that may still be emitted are kept.
pub fn factory(spec: TopSpec) -> OperatorFactory {
    let spec = Arc::new(spec);
    Arc::new(move |lane| Ok(Box::new(Top::new(Arc::clone(&spec), lane.lane)?)))
}

struct Top {
    spec: Arc<TopSpec>,
    can_fail: bool,
    order: RowConverter,
    partition: RowConverter,
    /// By the end of their window.
    held: RowBuffer,
    /// The number of rows in each slot after its last trim.
    cut: BTreeMap<i64, usize>,
    closed_through: StoredWatermark,
    /// The rows of the window that is closing.
    closing: Option<Portions>,
}

impl Top {
    fn new(spec: Arc<TopSpec>, lane: usize) -> Result<Self> {
        let column = |index: usize| SortField::new(spec.input.field(index).data_type().clone());
        let partition: Vec<_> = spec.partition.iter().map(|it| column(*it)).collect();
        let mut order = partition.clone();
        for (expr, options) in &spec.order {
            let kind = expr.data_type(&spec.input).map_err(|error| {
                Error::config(format!("cannot rank in `{}`", spec.query)).with_source(error)
            })?;
            order.push(SortField::new_with_options(kind, *options));
        }
        order.extend((0..spec.input.fields().len()).map(column));
        Ok(Self {
            order: RowConverter::new(order)?,
            partition: RowConverter::new(partition)?,
            held: RowBuffer::new("rows", &spec.input, spec.partition.clone(), lane)?,
            cut: BTreeMap::new(),
            can_fail: spec.can_fail(),
            closed_through: StoredWatermark::default(),
            closing: None,
            spec,
        })
    }

    /// The rows to emit, in the order of their ranks by partition, and the ranks.
    fn best(&self, rows: &RecordBatch) -> Result<(UInt32Array, UInt64Array)> {
        let partition = rows.project(&self.spec.partition)?;
        let partition: Vec<ArrayRef> = partition.columns().iter().map(key_column).collect();
        let mut columns = partition.clone();
        for (expr, _) in &self.spec.order {
            let values = evaluate(expr, rows);
            let values = values.map_err(|failure| failure.into_error(&self.spec.query))?;
            columns.push(key_column(&values));
        }
        columns.extend_from_slice(rows.columns());
        let order: Rows = self.order.convert_columns(&columns)?;
        let partition: Rows = self.partition.convert_columns(&partition)?;
        let mut places: Vec<usize> = (0..rows.num_rows()).collect();
        places.sort_unstable_by(|one, other| order.row(*one).cmp(&order.row(*other)));
        let (mut best, mut ranks) = (Vec::new(), Vec::new());
        let (mut before, mut rank) = (None, 0);
        for place in places {
            if before.is_none_or(|before| partition.row(before) != partition.row(place)) {
                rank = 0;
            }
            rank += 1;
            before = Some(place);
            if rank <= self.spec.limit {
                best.push(place as u32);
                ranks.push(rank);
            }
        }
        Ok((best.into(), ranks.into()))
    }

    /// The rows that can be ranked. The others become dead letters.
    fn rankable(&self, batch: Batch, out: &mut Output) -> Result<RecordBatch> {
        if !self.can_fail {
            return Ok(batch.records);
        }
        let attempt = attempt(&batch.records, |rows| {
            for (expr, _) in &self.spec.order {
                evaluate(expr, rows)?;
            }
            Ok(rows.clone())
        })?;
        self.spec
            .errors
            .set_aside(&self.spec.query, &batch.origin, &attempt.failed, out)?;
        Ok(concat_batches(&self.spec.input, &attempt.parts)?)
    }

    fn hold(&mut self, end: i64, rows: RecordBatch) -> Result<()> {
        self.held.push(end, rows);
        let rows = self.held.get(end).map_or(0, Slot::len);
        let cut = self.cut.get(&end).copied().unwrap_or(0);
        if rows < MIN_CUT.max(2 * cut) {
            return Ok(());
        }
        if let Some(slot) = self.held.take(end) {
            let rows = self.held.concat(&slot)?;
            let (best, _) = self.best(&rows)?;
            self.cut.insert(end, best.len());
            self.held.push(end, take_record_batch(&rows, &best)?);
        }
        Ok(())
    }

    fn late(&self, rows: RecordBatch, out: &mut Output) -> Result<()> {
        let window = rows.column(self.spec.window).as_struct();
        let bound = |index: usize| {
            window
                .column(index)
                .as_primitive::<TimestampMicrosecondType>()
        };
        let late = LateRows {
            pipeline: &self.spec.pipeline,
            query: &self.spec.query,
            origin: &Origin::Derived,
            event_times: bound(0).clone(),
            ends: bound(1).clone(),
            offsets: None,
            watermark: self.closed_through.get(),
            reason: "window_closed",
            personal: &self.spec.personal,
            rows: rows.clone(),
        };
        out.emit_to(Port::SIDE, Batch::derived(late.into_batch()?));
        Ok(())
    }
}

impl Operator for Top {
    fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let closed = self.closed_through.get().as_micros();
        let rows = self.rankable(batch, out)?;
        for (end, rows) in by_window_end(&rows, self.spec.window)? {
            if end <= closed {
                self.late(rows, out)?;
            } else {
                self.hold(end, rows)?;
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, _out: &mut Output) -> Result<()> {
        self.closed_through.advance(watermark);
        Ok(())
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        match self.held.slots().last() {
            Some((end, _)) => self.on_watermark(EventTime::from_micros(end), out),
            None => Ok(()),
        }
    }

    fn holds_rows(&self) -> bool {
        self.held.slots().next().is_some()
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.held.snapshot(&mut snapshot)?;
        self.closed_through.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in &state.parts {
            self.closed_through.restore(part, state.lanes)?;
        }
        self.held.restore(&state)
    }

    fn closed_through(&self) -> EventTime {
        self.closed_through.get()
    }

    fn state_bytes(&self) -> usize {
        self.held.bytes()
    }

    fn paged_output(&mut self) -> Option<&mut dyn PagedOutput> {
        Some(self)
    }
}

impl PagedOutput for Top {
    fn poll_output(&mut self, out: &mut Output) -> Result<Progress> {
        let mut portions = if let Some(portions) = self.closing.take() {
            portions
        } else {
            let closed = self.closed_through.get().as_micros();
            let Some((end, slot)) = self.held.take_first(closed) else {
                return Ok(Progress::Done);
            };
            self.cut.remove(&end);
            let count = RowBuffer::portions_of(&slot);
            self.held.portions(slot, count)?
        };
        if let Some(rows) = portions.next_filled()? {
            let rows = self.held.one_batch(&rows)?;
            let (best, ranks) = self.best(&rows)?;
            let mut columns = take_record_batch(&rows, &best)?.columns().to_vec();
            columns.push(Arc::new(ranks));
            let schema = Arc::clone(&self.spec.output);
            out.emit(Batch::derived(RecordBatch::try_new(schema, columns)?));
            self.closing = Some(portions);
        }
        Ok(Progress::More)
    }
}
