//! The stage before the exchange: groups the rows of a lane.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray},
    compute::{filter_record_batch, not},
    datatypes::TimestampMicrosecondType,
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    operator::{EarlyOutput, LaneContext, Operator, Output},
    state::key_column,
    time::micros,
};

use super::{
    assigner::{Assigned, assign},
    spec::Aggregation,
    table::{Inputs, Table},
};
use crate::{
    expr::{Failure, evaluate},
    row_errors::attempt,
};

/// The number of groups at which the table is sent.
const MAX_GROUPS: usize = 64 * 1024;
/// The number of bytes at which the table is sent.
const MAX_BYTES: usize = 32 << 20;
/// The table takes at most one part in this many of the lane's memory.
const PART_OF_MEMORY: usize = 16;
/// The number of rows between measurements of the table's bytes.
const ROWS_BETWEEN_MEASURES: usize = 64 * 1024;
/// They are measured no more often than this, however large the rows are.
const ROWS_BEFORE_MEASURE: usize = 1024;

/// Aggregates rows that cannot be late, and sends them as states. It sends the table at a barrier,
/// at the end, and when the table is large. It also does so before the watermark passes the end of
/// a window in the table, or the time of a preview. Rows whose windows are all behind the watermark
/// are sent unaggregated, because only the final stage knows which windows have closed.
///
/// The final stage may therefore not have closed any window in the table: its watermark is the
/// minimum over the lanes, so it is never ahead of this lane's, except for a bound from the runtime
/// ([`Operator::set_lateness_bound`]).
pub(super) struct Partial {
    aggregation: Arc<Aggregation>,
    table: Table,
    /// The earliest end of a window in the table.
    earliest_end: EventTime,
    rows_since_measure: usize,
    /// The size of these rows.
    bytes_since_measure: usize,
    max_bytes: usize,
    watermark: EventTime,
    /// The watermark that the final stage may have reached.
    lateness_bound: EventTime,
}

impl Partial {
    pub(super) fn new(aggregation: Arc<Aggregation>, context: &LaneContext) -> Result<Self> {
        Ok(Self {
            table: Table::new(&aggregation)?,
            earliest_end: EventTime::MAX,
            rows_since_measure: 0,
            bytes_since_measure: 0,
            max_bytes: context.part_of_memory(PART_OF_MEMORY, MAX_BYTES),
            watermark: EventTime::MIN,
            lateness_bound: EventTime::MIN,
            aggregation,
        })
    }

    fn assign(&self, rows: &RecordBatch) -> Result<Assigned> {
        assign(
            rows.column(self.aggregation.spec.time)
                .as_primitive::<TimestampMicrosecondType>(),
            &self.aggregation.spec.windows,
        )
    }

    /// The group columns of `rows`: the pane's start, then the keys.
    fn groups(
        &self,
        starts: TimestampMicrosecondArray,
        rows: &RecordBatch,
    ) -> Result<Vec<ArrayRef>, Failure> {
        let mut groups: Vec<ArrayRef> = Vec::with_capacity(self.aggregation.group_width());
        groups.push(Arc::new(starts));
        for key in &self.aggregation.spec.keys {
            groups.push(key_column(&evaluate(&key.expr, rows)?));
        }
        Ok(groups)
    }

    fn aggregate(&mut self, assigned: Assigned, batch: &Batch, out: &mut Output) -> Result<()> {
        if let Some(first) = assigned.first {
            let end = self.aggregation.spec.windows.first_end(first);
            self.earliest_end = self.earliest_end.min(EventTime::from_micros(end));
        }
        let mut assigned = Some(assigned);
        let attempt = attempt(&batch.records, |rows| {
            // The first attempt covers all rows, whose panes are known.
            let starts = match assigned.take() {
                Some(assigned) => assigned.starts,
                None => self.assign(rows)?.starts,
            };
            let groups = self.groups(starts, rows)?;
            Ok((groups, Inputs::of(&self.aggregation, rows)?))
        })?;
        for (groups, inputs) in &attempt.parts {
            self.table.update(&self.aggregation, groups, inputs)?;
        }
        self.aggregation
            .set_aside(&batch.origin, &attempt.failed, out)?;
        out.contributed(&batch.origin, batch.num_rows() - attempt.failed.len());

        self.rows_since_measure += batch.num_rows();
        self.bytes_since_measure += batch.records.get_array_memory_size();
        let measure = self.rows_since_measure >= ROWS_BETWEEN_MEASURES
            || self.rows_since_measure >= ROWS_BEFORE_MEASURE
                && self.bytes_since_measure >= self.max_bytes;
        if measure {
            (self.rows_since_measure, self.bytes_since_measure) = (0, 0);
        }
        if self.table.len() >= MAX_GROUPS || (measure && self.table.bytes() >= self.max_bytes) {
            self.send(out)?;
        }
        Ok(())
    }

    fn pass_on(&self, batch: &Batch, out: &mut Output) -> Result<()> {
        let attempt = attempt(&batch.records, |rows| {
            if self.aggregation.can_fail() {
                // Rows on which an argument fails stay here.
                Inputs::of(&self.aggregation, rows)?;
            }
            let mut columns = self.groups(self.assign(rows)?.starts, rows)?;
            columns.extend_from_slice(rows.columns());
            let schema = Arc::clone(&self.aggregation.straggler);
            Ok(RecordBatch::try_new(schema, columns)?)
        })?;
        self.aggregation
            .set_aside(&batch.origin, &attempt.failed, out)?;
        for rows in attempt.parts {
            out.emit_to(Port::SIDE, batch.with_records(rows));
        }
        Ok(())
    }

    /// Sends the table and starts another one.
    fn send(&mut self, out: &mut Output) -> Result<()> {
        if self.table.len() == 0 {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.table, Table::new(&self.aggregation)?);
        self.earliest_end = EventTime::MAX;
        (self.rows_since_measure, self.bytes_since_measure) = (0, 0);
        out.emit(Batch::derived(full.into_states(&self.aggregation)?));
        Ok(())
    }
}

impl Operator for Partial {
    fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let assigned = self.assign(&batch.records)?;
        let (Some(first), Some(last)) = (assigned.first, assigned.last) else {
            return Ok(());
        };
        let watermark = self.watermark.max(self.lateness_bound);
        let aggregation = Arc::clone(&self.aggregation);
        if aggregation.closes(first) > watermark {
            return self.aggregate(assigned, &batch, out);
        }
        if aggregation.closes(last) <= watermark {
            return self.pass_on(&batch, out);
        }
        // The start of the earliest open pane divides the rows.
        let mut open = last.start;
        for start in assigned.starts.values() {
            if *start < open && aggregation.closes(aggregation.pane(*start)?) > watermark {
                open = *start;
            }
        }
        let is_late = BooleanArray::from_unary(&assigned.starts, |start| start < open);
        let maybe_late = filter_record_batch(&batch.records, &is_late)?;
        let on_time = filter_record_batch(&batch.records, &not(&is_late)?)?;
        self.pass_on(&batch.with_records(maybe_late), out)?;
        self.aggregate(self.assign(&on_time)?, &batch.with_records(on_time), out)
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        let tick = |time: EventTime| {
            let previews = self.aggregation.spec.emission.previews;
            previews.map(|every| time.as_micros().div_euclid(micros(every)))
        };
        if self.earliest_end <= watermark || tick(watermark) != tick(self.watermark) {
            self.send(out)?;
        }
        self.watermark = watermark;
        Ok(())
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        self.send(out)
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes()
    }

    fn early_output(&mut self) -> Option<&mut dyn EarlyOutput> {
        Some(self)
    }
}

impl EarlyOutput for Partial {
    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.send(out)
    }

    fn set_lateness_bound(&mut self, until: EventTime) {
        self.lateness_bound = until;
    }
}
