//! The stage before the exchange: groups the rows of one lane.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray},
    compute::{filter_record_batch, not},
    datatypes::TimestampMicrosecondType,
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    operator::{Operator, Output},
    time::micros,
};

use super::{
    assigner::{Assigned, assign},
    spec::Aggregation,
    table::{Inputs, Table},
};
use crate::expr::evaluate;

/// At this many groups the table is sent on.
const MAX_GROUPS: usize = 64 * 1024;
/// At this many bytes the table is sent on.
const MAX_BYTES: usize = 32 << 20;
/// After this many rows the table's bytes are measured.
const ROWS_BETWEEN_MEASURES: usize = 64 * 1024;

/// Aggregates what is surely on time, and sends it on as states: at a barrier,
/// before the watermark passes the end of a window in the table or the time of a
/// preview, when the table
/// is large, and at the end. Rows whose windows are all behind the watermark go
/// on as they are, because only the final stage knows which have closed.
///
/// Hence no window in the table is one that the final stage may have closed: its
/// watermark is the minimum over the lanes, so never ahead of this lane's, but
/// for what the runtime says otherwise ([`Operator::expect_stragglers`]).
pub(super) struct Partial {
    aggregation: Arc<Aggregation>,
    table: Table,
    /// The earliest end of a window in the table.
    earliest_end: EventTime,
    rows_since_measure: usize,
    watermark: EventTime,
    /// The final stage may be as far as this.
    stragglers_until: EventTime,
}

impl Partial {
    pub(super) fn new(aggregation: Arc<Aggregation>) -> Result<Self> {
        Ok(Self {
            table: Table::new(&aggregation)?,
            earliest_end: EventTime::MAX,
            rows_since_measure: 0,
            watermark: EventTime::MIN,
            stragglers_until: EventTime::MIN,
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

    /// What `rows` are grouped by: the pane's start, then the keys.
    fn groups(
        &self,
        starts: TimestampMicrosecondArray,
        rows: &RecordBatch,
    ) -> Result<Vec<ArrayRef>> {
        let mut groups: Vec<ArrayRef> = Vec::with_capacity(self.aggregation.group_width());
        groups.push(Arc::new(starts));
        for key in &self.aggregation.spec.keys {
            groups.push(evaluate(&self.aggregation.spec.query, &key.expr, rows)?);
        }
        Ok(groups)
    }

    fn aggregate(&mut self, assigned: Assigned, batch: &Batch, out: &mut Output) -> Result<()> {
        let rows = &batch.records;
        if let Some(first) = assigned.first {
            let end = self.aggregation.spec.windows.first_end(first);
            self.earliest_end = self.earliest_end.min(EventTime::from_micros(end));
        }
        let groups = self.groups(assigned.starts, rows)?;
        let inputs = Inputs::of(&self.aggregation, rows)?;
        self.table.update(&self.aggregation, &groups, &inputs)?;
        out.contributed(&batch.origin, batch.num_rows());

        self.rows_since_measure += batch.num_rows();
        let measure = self.rows_since_measure >= ROWS_BETWEEN_MEASURES;
        if measure {
            self.rows_since_measure = 0;
        }
        if self.table.len() >= MAX_GROUPS || (measure && self.table.bytes() >= MAX_BYTES) {
            self.send(out)?;
        }
        Ok(())
    }

    fn pass_on(&self, assigned: Assigned, batch: &Batch, out: &mut Output) -> Result<()> {
        let mut columns = self.groups(assigned.starts, &batch.records)?;
        columns.extend_from_slice(batch.records.columns());
        let rows = RecordBatch::try_new(Arc::clone(&self.aggregation.straggler), columns)?;
        out.emit_to(Port::ASIDE, batch.with_records(rows));
        Ok(())
    }

    /// Sends the table on and starts another.
    fn send(&mut self, out: &mut Output) -> Result<()> {
        if self.table.len() == 0 {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.table, Table::new(&self.aggregation)?);
        self.earliest_end = EventTime::MAX;
        self.rows_since_measure = 0;
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
        let watermark = self.watermark.max(self.stragglers_until);
        let aggregation = Arc::clone(&self.aggregation);
        if aggregation.closes(first) > watermark {
            return self.aggregate(assigned, &batch, out);
        }
        if aggregation.closes(last) <= watermark {
            return self.pass_on(assigned, &batch, out);
        }
        // The earliest pane that is still open parts them.
        let mut open = last.start;
        for start in assigned.starts.values() {
            if *start < open && aggregation.closes(aggregation.pane(*start)?) > watermark {
                open = *start;
            }
        }
        let maybe_late = BooleanArray::from_unary(&assigned.starts, |start| start < open);
        let stragglers = filter_record_batch(&batch.records, &maybe_late)?;
        let on_time = filter_record_batch(&batch.records, &not(&maybe_late)?)?;
        self.pass_on(
            self.assign(&stragglers)?,
            &batch.with_records(stragglers),
            out,
        )?;
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

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.send(out)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        self.send(out)
    }

    fn expect_stragglers(&mut self, until: EventTime) {
        self.stragglers_until = until;
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes()
    }
}
