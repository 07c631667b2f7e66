//! Operators transform rows between a source and a sink.

use std::sync::Arc;

use crate::{
    Batch, EventTime, Origin, Port, Result,
    ledger::{Counts, Ledger},
    state::{LaneState, Restore, Snapshot, StatePart, part_number},
};

/// A synchronous transformation with state of its own.
///
/// Most operators implement these eight methods at most. An operator with more to do implements an
/// optional trait, and returns itself from the method of that trait:
///
/// | trait | for operators that |
/// | --- | --- |
/// | [`PagedOutput`] | can emit more than a few MiB at once |
/// | [`EarlyOutput`] | emit rows before a barrier, and while their inputs are idle |
/// | [`PartwiseRestore`] | restore part by part, because all parts together are too large |
/// | [`QueryableState`] | answer questions about their state |
///
/// **Calls.** `restore` first, at most once. Then `on_batch`, `on_watermark`, and the calls of
/// [`EarlyOutput`] in the order of the stream. `snapshot` after each barrier. `on_end` at most once;
/// only a last barrier follows it. After each call except `on_batch` the runtime calls
/// [`PagedOutput::poll_output`] until it returns [`Progress::Done`].
///
/// **Purity.** An operator reads no clock, awaits nothing, does no I/O (except in a cache of its
/// state, [`crate::state::SpillStore`]) and logs nothing per row. The same calls give the same
/// output.
///
/// **Failure.** An error stops the job. A new operator continues from the last commit.
///
/// # Examples
/// An operator that drops every second row:
/// ```
/// use arrow::{array::BooleanArray, compute::filter_record_batch};
/// use tagflow_engine::{
///     Batch, Port, Result,
///     operator::{Operator, Output},
/// };
///
/// struct EverySecond {
///     is_next_kept: bool,
/// }
///
/// impl Operator for EverySecond {
///     fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
///         let mut keep = Vec::with_capacity(batch.num_rows());
///         for _ in 0..batch.num_rows() {
///             keep.push(self.is_next_kept);
///             self.is_next_kept = !self.is_next_kept;
///         }
///         let keep = BooleanArray::from(keep);
///         out.filtered(&batch.origin, keep.false_count());
///         out.emit(batch.with_records(filter_record_batch(&batch.records, &keep)?));
///         Ok(())
///     }
/// }
/// ```
pub trait Operator: Send {
    /// Processes rows of an input. A batch is never empty.
    fn on_batch(&mut self, input: Port, batch: Batch, out: &mut Output) -> Result<()>;

    /// The watermark has advanced to `watermark`; it never decreases. The runtime forwards it
    /// downstream after this call, so the rows emitted here precede it.
    fn on_watermark(&mut self, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// No row follows: emits the buffered rows. Windows close as if the watermark had passed them,
    /// and their operator stores that.
    fn on_end(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Whether this operator buffers rows until the watermark. Meanwhile downstream does not
    /// continue without this lane, even if its inputs are idle. The rows would be late there.
    fn holds_rows(&self) -> bool {
        false
    }

    /// The watermark up to which this operator has closed windows, as restored.
    fn closed_through(&self) -> EventTime {
        EventTime::MIN
    }

    /// The changes of the state since the last snapshot.
    fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(Snapshot::default())
    }

    /// Restores the state from snapshots, without the parts of [`PartwiseRestore`].
    fn restore(&mut self, _state: LaneState) -> Result<()> {
        Ok(())
    }

    /// Bytes of state in memory, for metrics; an estimate.
    fn state_bytes(&self) -> usize {
        0
    }

    /// This operator, if it emits its output in parts.
    fn paged_output(&mut self) -> Option<&mut dyn PagedOutput> {
        None
    }

    /// This operator, if it emits rows early.
    fn early_output(&mut self) -> Option<&mut dyn EarlyOutput> {
        None
    }

    /// This operator, if it restores part by part.
    fn partwise_restore(&mut self) -> Option<&mut dyn PartwiseRestore> {
        None
    }

    /// This operator, if it answers questions.
    fn queryable_state(&mut self) -> Option<&mut dyn QueryableState> {
        None
    }
}

/// Emits large output in parts, so that one part is in memory at a time.
pub trait PagedOutput {
    /// Emits the next part of the output of the last watermark, flush, barrier or end. The runtime
    /// forwards each part before it asks for the next one. It calls nothing else until the operator
    /// is done.
    fn poll_output(&mut self, out: &mut Output) -> Result<Progress>;

    /// The watermark for downstream when the watermark of this operator is `watermark`. Rows that
    /// it emits later may be behind `watermark`, but not behind this one.
    fn output_watermark(&self, watermark: EventTime) -> EventTime {
        watermark
    }
}

/// Emits rows before the watermark asks for them.
pub trait EarlyOutput {
    /// Emits the rows that downstream must have now: before a barrier, and before the other lanes
    /// continue without this one because its inputs are idle.
    fn flush(&mut self, out: &mut Output) -> Result<()>;

    /// A barrier follows. Emits the rows that downstream must have, either in this call or in parts
    /// by [`PagedOutput::poll_output`]. A snapshot follows. `agreed` is the watermark that all lanes
    /// of this operator have reached, and each lane gets the same one. At the end of the input it is
    /// the time after the last row. It is `None` while inputs are idle, and at a barrier without
    /// [full profiles](crate::element::Barrier::emit_profiles).
    fn on_barrier(&mut self, _agreed: Option<EventTime>, out: &mut Output) -> Result<()> {
        self.flush(out)
    }

    /// Rows of windows that end at or before `until` may be late, although the watermark of this
    /// operator is lower: the stage after the exchange may be ahead. Replaces the bound of an
    /// earlier call. Only operators before an exchange need it.
    fn set_lateness_bound(&mut self, _until: EventTime) {}
}

/// Restores large state part by part, so that few parts are in memory at a time.
pub trait PartwiseRestore: Operator {
    /// Whether a part of this name is restored on its own, after the others. The runtime loads such
    /// parts in the order of their [numbers](crate::state::part_number).
    fn restores_alone(&self, part: &str) -> bool;

    /// Restores such a part.
    fn restore_part(&mut self, part: StatePart, lanes: Restore) -> Result<()> {
        let parts = vec![part];
        self.restore(LaneState { parts, lanes })
    }
}

/// Answers questions about the state, between two calls of the stream.
pub trait QueryableState {
    /// Answers a [question](crate::state_query), and changes no state. Returns `None` if another
    /// lane has the answer.
    fn query_state(&mut self, question: &str) -> Result<Option<String>>;
}

/// The calls of the optional traits, with their defaults.
impl dyn Operator + '_ {
    /// As [`PagedOutput::poll_output`].
    ///
    /// # Errors
    /// Those of the operator.
    pub fn poll_output(&mut self, out: &mut Output) -> Result<Progress> {
        let paged = self.paged_output();
        paged.map_or(Ok(Progress::Done), |it| it.poll_output(out))
    }

    /// As [`PagedOutput::output_watermark`].
    pub fn output_watermark(&mut self, watermark: EventTime) -> EventTime {
        let paged = self.paged_output();
        paged.map_or(watermark, |it| it.output_watermark(watermark))
    }

    /// As [`EarlyOutput::flush`].
    ///
    /// # Errors
    /// Those of the operator.
    pub fn flush(&mut self, out: &mut Output) -> Result<()> {
        let early = self.early_output();
        early.map_or(Ok(()), |it| it.flush(out))
    }

    /// As [`EarlyOutput::on_barrier`].
    ///
    /// # Errors
    /// Those of the operator.
    pub fn on_barrier(&mut self, agreed: Option<EventTime>, out: &mut Output) -> Result<()> {
        let early = self.early_output();
        early.map_or(Ok(()), |it| it.on_barrier(agreed, out))
    }

    /// As [`EarlyOutput::set_lateness_bound`].
    pub fn set_lateness_bound(&mut self, until: EventTime) {
        if let Some(early) = self.early_output() {
            early.set_lateness_bound(until);
        }
    }

    /// As [`PartwiseRestore::restores_alone`].
    pub fn restores_alone(&mut self, part: &str) -> bool {
        let partwise = self.partwise_restore();
        partwise.is_some_and(|it| it.restores_alone(part))
    }

    /// As [`PartwiseRestore::restore_part`].
    ///
    /// # Errors
    /// Those of the operator.
    pub fn restore_part(&mut self, part: StatePart, lanes: Restore) -> Result<()> {
        let partwise = self.partwise_restore();
        partwise.map_or(Ok(()), |it| it.restore_part(part, lanes))
    }

    /// As [`QueryableState::query_state`].
    ///
    /// # Errors
    /// Those of the operator.
    pub fn query_state(&mut self, question: &str) -> Result<Option<String>> {
        let queryable = self.queryable_state();
        queryable.map_or(Ok(None), |it| it.query_state(question))
    }
}

/// Whether an operator has emitted all parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All parts are emitted.
    Done,
    /// Another part follows.
    More,
}

/// Lets `operator` emit all remaining parts at once, for callers that have the memory.
///
/// # Errors
/// Those of the operator.
pub fn emit_all(operator: &mut dyn Operator, out: &mut Output) -> Result<()> {
    while operator.poll_output(out)? == Progress::More {}
    Ok(())
}

/// Creates the operator of a lane.
pub type OperatorFactory = Arc<dyn Fn(&LaneContext) -> Result<Box<dyn Operator>> + Send + Sync>;

/// The place of an operator in the job.
#[derive(Debug, Clone)]
pub struct LaneContext {
    /// The node's name.
    pub node: Arc<str>,
    /// The number of this lane, from 0.
    pub lane: usize,
    /// The number of lanes.
    pub lanes: usize,
    /// The lane's share of the memory limit, in bytes; `None` without a limit.
    pub memory_bytes: Option<usize>,
}

impl LaneContext {
    /// The size of a buffer in bytes: `most`, or this part of the lane's memory where that
    /// is less.
    pub fn part_of_memory(&self, part: usize, most: usize) -> usize {
        self.memory_bytes
            .map_or(most, |memory| most.min(memory / part))
    }
}

/// Receives the rows of an operator, and their accounting.
///
/// Accounting: an input row of a partition that is emitted with the same origin needs no
/// declaration. Every other row must be declared here: contributed (it is in the state), filtered,
/// late, a dead letter or duplicate. Rows that are buffered and later emitted with their origin are
/// declared as held, and as released when they are emitted. Derived rows do not count.
#[derive(Debug, Default)]
pub struct Output {
    emitted: Vec<(Port, Batch)>,
    ledger: Ledger,
    missed: usize,
}

impl Output {
    /// Emits to the main output. Empty batches are dropped.
    pub fn emit(&mut self, batch: Batch) {
        self.emit_to(Port::MAIN, batch);
    }

    /// Emits to `output`. Empty batches are dropped.
    pub fn emit_to(&mut self, output: Port, batch: Batch) {
        if batch.num_rows() > 0 {
            self.emitted.push((output, batch));
        }
    }

    /// Declares rows of `origin` as kept in this operator's state.
    pub fn contributed(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.contributed += rows as u64);
    }

    /// Declares rows of `origin` as dropped by a filter.
    pub fn filtered(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.filtered += rows as u64);
    }

    /// Declares rows of `origin` as late. They are in the late output.
    pub fn late(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.late += rows as u64);
    }

    /// Declares rows of `origin` as dead letters, because an expression fails on them. They are in
    /// the output [`Port::DEAD_LETTERS`].
    pub fn dead_letters(&mut self, origin: &Origin, rows: usize) {
        match origin {
            Origin::Partition(_) => {
                self.count(origin, |counts| counts.dead_letter += rows as u64);
            }
            Origin::Derived => self.ledger.add_derived_dead_letters(rows as u64),
        }
    }

    /// Declares rows of `origin` as duplicates.
    pub fn duplicate(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.duplicate += rows as u64);
    }

    /// Declares rows of `origin` as held: they are buffered in this operator's state, and will be
    /// [released](Self::released).
    pub fn held(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.held += rows as u64);
    }

    /// Declares held rows of `origin` as released. Each row must now be emitted, or declared with
    /// another outcome.
    pub fn released(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.released += rows as u64);
    }

    /// Adds to the number of rows that had no match in a lookup table. This metric is no part of
    /// the accounting.
    pub fn missed(&mut self, rows: usize) {
        self.missed += rows;
    }

    /// Returns the number of missed rows and resets it.
    pub fn take_missed(&mut self) -> usize {
        std::mem::take(&mut self.missed)
    }

    /// Returns the emitted batches, in order.
    pub fn take(&mut self) -> Vec<(Port, Batch)> {
        std::mem::take(&mut self.emitted)
    }

    /// The counts since the last barrier.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    fn count(&mut self, origin: &Origin, add: impl FnOnce(&mut Counts)) {
        if let Origin::Partition(partition) = origin {
            add(self.ledger.of(partition));
        }
    }
}

impl LaneState {
    /// Restores an operator, with its parts in the expected order.
    ///
    /// # Errors
    /// Those of the operator.
    pub fn restore(mut self, operator: &mut dyn Operator) -> Result<()> {
        let is_alone = |part: &mut StatePart| operator.restores_alone(&part.key);
        let mut alone: Vec<StatePart> = self.parts.extract_if(.., is_alone).collect();
        alone.sort_by_key(|part| part_number(&part.key));
        let lanes = self.lanes;
        operator.restore(self)?;
        let mut parts = alone.into_iter();
        parts.try_for_each(|part| operator.restore_part(part, lanes))
    }
}
