//! The best rows of each window.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, UInt32Array, UInt64Array},
    compute::{SortOptions, take_record_batch},
    datatypes::{SchemaRef, TimestampMicrosecondType},
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};
use datafusion::physical_plan::PhysicalExpr;
use tagflow_engine::{
    Batch, Error, EventTime, Origin, Port, Result,
    operator::{Operator, OperatorFactory, Output},
    state::{LaneState, Snapshot},
};

use crate::{
    expr::evaluate,
    held::{Held, Slot, by_window_end},
    late::LateRows,
    size::{Load, StateSize},
    window::StoredWatermark,
};

/// A slot with fewer rows than this is not cut before its window closes.
const MIN_CUT: usize = 4096;

/// What is ranked, and how.
#[derive(Debug, Clone)]
pub struct TopSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The query's name, for late rows and errors.
    pub query: Arc<str>,
    /// The rows that come in.
    pub input: SchemaRef,
    /// The columns of `input` whose values late rows do not show.
    pub personal: BTreeSet<String>,
    /// Their window: a column without nulls.
    pub window: usize,
    /// The columns within whose equal values rows are ranked, the window among
    /// them.
    pub partition: Vec<usize>,
    /// What they are ranked by. Rows that are equal in it are told apart by all
    /// their columns, in the columns' order.
    pub order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    /// How many rows of each partition come out.
    pub limit: u64,
    /// The output: the input's columns, then the rank, from 1.
    pub output: SchemaRef,
}

impl TopSpec {
    /// What it will hold: a row a key, until their window has closed.
    pub fn size(&self, load: &Load) -> StateSize {
        StateSize {
            entries: load.keys,
            unit: "rows",
            bytes: load.keys * load.row_bytes(&self.input),
        }
    }
}

/// Operators that hold the rows of a window until it has closed, then emit the
/// best of each partition with their ranks. Their input must be exchanged by
/// [`TopSpec::partition`].
///
/// While they wait, only rows that may come out are kept.
pub fn factory(spec: TopSpec) -> OperatorFactory {
    let spec = Arc::new(spec);
    Arc::new(move |lane| Ok(Box::new(Top::new(Arc::clone(&spec), lane.lane)?)))
}

struct Top {
    spec: Arc<TopSpec>,
    order: RowConverter,
    partition: RowConverter,
    /// By the end of their window.
    held: Held,
    /// How many rows each slot had when it was last cut.
    cut: BTreeMap<i64, usize>,
    closed_through: StoredWatermark,
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
            held: Held::new("rows", &spec.input, spec.partition.clone(), lane)?,
            cut: BTreeMap::new(),
            closed_through: StoredWatermark::default(),
            spec,
        })
    }

    /// The rows that come out, in the order of their ranks by partition, and the
    /// ranks.
    fn best(&self, rows: &RecordBatch) -> Result<(UInt32Array, UInt64Array)> {
        let partition = rows.project(&self.spec.partition)?;
        let mut columns: Vec<ArrayRef> = partition.columns().to_vec();
        for (expr, _) in &self.spec.order {
            columns.push(evaluate(&self.spec.query, expr, rows)?);
        }
        columns.extend_from_slice(rows.columns());
        let order: Rows = self.order.convert_columns(&columns)?;
        let partition: Rows = self.partition.convert_columns(partition.columns())?;
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
        out.emit_to(Port::ASIDE, Batch::derived(late.into_batch()?));
        Ok(())
    }
}

impl Operator for Top {
    fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let closed = self.closed_through.get().as_micros();
        for (end, rows) in by_window_end(&batch.records, self.spec.window)? {
            if end <= closed {
                self.late(rows, out)?;
            } else {
                self.hold(end, rows)?;
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.closed_through.advance(watermark);
        let closed = self.closed_through.get().as_micros();
        while let Some((end, slot)) = self.held.take_first(closed) {
            self.cut.remove(&end);
            let rows = self.held.concat(&slot)?;
            let (best, ranks) = self.best(&rows)?;
            let mut columns = take_record_batch(&rows, &best)?.columns().to_vec();
            columns.push(Arc::new(ranks));
            let schema = Arc::clone(&self.spec.output);
            out.emit(Batch::derived(RecordBatch::try_new(schema, columns)?));
        }
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
}
