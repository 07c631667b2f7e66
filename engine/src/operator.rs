//! Operators: what happens to rows between a source and a sink.

use std::sync::Arc;

use crate::{
    Batch, EventTime, Origin, Port, Result,
    ledger::{Counts, Ledger},
    state::{LaneState, Lanes, Snapshot, StatePart},
};

/// A synchronous transformation with state of its own.
///
/// **Calls.** `restore` at most once and first; then `on_batch`, `on_watermark` and
/// `on_barrier`, after these two `go_on`, in the order of the stream; after a barrier
/// `snapshot`; `on_end` at most once, of which only a last barrier follows.
/// **Purity.** An operator reads no clock, awaits nothing, does no I/O (but for a
/// cache of its state, [`crate::state::ColdStore`]) and logs nothing per row: the
/// same calls give the same output. **Failure.** An error
/// stops the job, which goes on from the last commit in a new operator.
pub trait Operator: Send {
    /// Takes rows from an input. A batch is never empty.
    fn on_batch(&mut self, input: Port, batch: Batch, out: &mut Output) -> Result<()>;

    /// The watermark has advanced to `watermark`; it never goes back. The
    /// runtime passes it on downstream after this call, so what is emitted
    /// here comes before it.
    fn on_watermark(&mut self, _watermark: EventTime, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// The watermark that those downstream hear when this operator has heard
    /// `watermark`: what it emits later may lie behind `watermark`, and not behind this.
    fn passes_on(&self, watermark: EventTime) -> EventTime {
        watermark
    }

    /// Emits a part of what is still to come of the last watermark or barrier, where all
    /// at once would be too much for memory. It is called until it says that all is
    /// done, and only then anything else.
    fn go_on(&mut self, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// Emit what must be downstream of this operator now: before a cut, and before
    /// the others go on without this lane because its inputs are idle.
    fn flush(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// A cut is next: emit what must be downstream of this operator, in all rows that
    /// come out or in parts by `go_on`; a `snapshot` follows. `agreed` is how far all
    /// lanes of this operator have come, the same on each; none while inputs are
    /// idle or it is too early to say [all](crate::element::Barrier::says_all).
    fn on_barrier(&mut self, _agreed: Option<EventTime>, out: &mut Output) -> Result<()> {
        self.flush(out)
    }

    /// Whether rows wait here for the watermark. While some do, those downstream
    /// do not go on without this lane though its inputs are idle, or the rows would
    /// be late there.
    fn holds_rows(&self) -> bool {
        false
    }

    /// No row will come any more: emit what is held back. Windows close as if
    /// the watermark had passed them, and their operator remembers that.
    fn on_end(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Rows of windows that end at `until` or before may be late, though this
    /// operator's watermark has not reached that: the stage after the exchange
    /// may be further. Replaces what was said before. Only operators in front of
    /// an exchange need to know.
    fn expect_stragglers(&mut self, _until: EventTime) {}

    /// The watermark up to which this operator has closed windows, as restored.
    fn closed_through(&self) -> EventTime {
        EventTime::MIN
    }

    /// What changed in the state since the last snapshot.
    fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(Snapshot::default())
    }

    /// Takes back what snapshots held, but for what it [`restores_alone`](Self::restores_alone).
    fn restore(&mut self, _state: LaneState) -> Result<()> {
        Ok(())
    }

    /// Whether a part of this name is restored by itself, after the others: such parts
    /// come one after another, in the order of their [numbers](crate::state::part_number),
    /// so that few of them are in memory at a time.
    fn restores_alone(&self, _part: &str) -> bool {
        false
    }

    /// Takes back such a part.
    fn restore_part(&mut self, part: StatePart, lanes: Lanes) -> Result<()> {
        let parts = vec![part];
        self.restore(LaneState { parts, lanes })
    }

    /// Answers a [question](crate::inquiry) about its state, which stays as it is;
    /// none where another lane is to answer it.
    fn answer(&mut self, _question: &str) -> Result<Option<String>> {
        Ok(None)
    }

    /// Bytes of state in memory, for metrics; an estimate.
    fn state_bytes(&self) -> usize {
        0
    }
}

/// Whether an operator is done with a watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is.
    Done,
    /// There is more to do.
    More,
}

/// Makes the operator of one lane.
pub type OperatorFactory = Arc<dyn Fn(&LaneContext) -> Result<Box<dyn Operator>> + Send + Sync>;

/// What an operator may know of its place.
#[derive(Debug, Clone)]
pub struct LaneContext {
    /// The node's name.
    pub node: Arc<str>,
    /// Which lane this is, from 0.
    pub lane: usize,
    /// How many lanes there are.
    pub lanes: usize,
}

/// Where an operator puts rows, and accounts for them.
///
/// Accounting: of the input rows of a partition, those emitted with the same
/// origin go on; every other one must be declared here as contributed (it is
/// in the state now), filtered, late or duplicate. Rows that are held back to be
/// emitted later, with their origin, are declared as held, and as released when
/// their turn comes. Derived rows do not count.
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

    /// Declares rows of `origin` as late (they are in the late output).
    pub fn late(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.late += rows as u64);
    }

    /// Declares rows of `origin` as seen before.
    pub fn duplicate(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.duplicate += rows as u64);
    }

    /// Declares rows of `origin` as held back: they are in this operator's state,
    /// and will be [released](Self::released).
    pub fn held(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.held += rows as u64);
    }

    /// Declares rows of `origin` that were held back as on their way again: each
    /// is emitted now, or declared.
    pub fn released(&mut self, origin: &Origin, rows: usize) {
        self.count(origin, |counts| counts.released += rows as u64);
    }

    /// Notes that so many rows found nothing in a table that they looked up: a
    /// figure beside the accounting, whatever becomes of the rows.
    pub fn missed(&mut self, rows: usize) {
        self.missed += rows;
    }

    /// Takes the rows noted as missed.
    pub fn take_missed(&mut self) -> usize {
        std::mem::take(&mut self.missed)
    }

    /// Takes what was emitted, in order.
    pub fn take(&mut self) -> Vec<(Port, Batch)> {
        std::mem::take(&mut self.emitted)
    }

    /// The counts since the last cut.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    fn count(&mut self, origin: &Origin, add: impl FnOnce(&mut Counts)) {
        if let Origin::Partition(partition) = origin {
            add(self.ledger.of(partition));
        }
    }
}
