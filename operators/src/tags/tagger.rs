//! The operator: processes each key's events in order, and the passage of time.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration, vec};

use arrow::{
    array::{Array, AsArray, BooleanArray},
    compute::not,
    datatypes::{DataType, Int64Type},
};
use tagflow_engine::{
    Batch, EventTime, Origin, Port, Result,
    operator::{
        EarlyOutput, LaneContext, Operator, OperatorFactory, Output, PagedOutput, PartwiseRestore,
        Progress, QueryableState,
    },
    state::{
        DiskStore, KeyHash, KeyHasher, LaneState, Restore, Snapshot, StatePart, StoredWatermark,
        WholePart, lane_of, part_number,
    },
    time::micros,
};

use super::{
    change::Change,
    changes::Changes,
    event::{Event, Timing},
    key_distribution::{Counts, KeyDistribution},
    key_state::{KeyState, Observer, Until},
    key_store::{self, KeyStore, SpillPolicy},
    plan::Plan,
    profile::Profiles,
    segments::{Checks, Moves},
    set::Tags,
    state_schema::StateSchema,
    value::Value,
};
use crate::{
    keyed::{Keyed, RowRef, SortedBuffer, late_rows},
    row_errors::FailedRow,
};

/// The key of the part with the watermark that all lanes had reached at a barrier.
const CUT_PART: &str = "cut";

/// The number of keys to process at a time: few enough for the processor's cache, and enough to
/// evaluate rules in bulk.
const USERS_AT_ONCE: usize = 256;

/// The number of keys with due timers to process in one call. After a downtime many are due at
/// once, and rows must continue.
const MAX_DUE: usize = 50_000;

/// The number of keys in a batch of a sweep over all keys, and of emitted profiles.
const BATCH_ROWS: usize = 8192;

/// Events after the watermark are held until it has passed them. Then each key receives them in the
/// order of event time and id. Events behind the watermark correct the state; those too far behind
/// are late.
pub(super) struct Tagger {
    pub(super) tags: Arc<Tags>,
    /// The compiled tags with the current quantile thresholds.
    pub(super) plan: Arc<Plan>,
    lane: usize,
    lanes: usize,
    pub(super) hasher: KeyHasher,
    pub(super) held: SortedBuffer,
    /// All events before this are processed, except for keys with due timers.
    watermark: StoredWatermark,
    /// The watermark that all lanes had reached at the last barrier.
    cut: StoredWatermark,
    has_ended: bool,
    pub(super) users: KeyStore,
    pub(super) layout: StateSchema,
    layout_part: WholePart,
    /// The layout of the restored keys.
    stored: Option<StateSchema>,
    population: KeyDistribution,
    sweep: Option<Sweep>,
    rows: Rows,
}

/// Rows to emit.
#[derive(Default)]
pub(super) struct Rows {
    changes: Changes,
    pub(super) checks: Checks,
    pub(super) moves: Moves,
    /// States of keys on which a rule failed.
    pub(super) failed: Vec<FailedRow>,
    /// The index of the current key in the batch.
    place: usize,
    /// Whether changes are discarded.
    is_silent: bool,
}

/// The remaining work for a watermark or a barrier.
struct Sweep {
    watermark: i64,
    /// The instants before it with a sweep over all keys, and its purpose.
    points: VecDeque<(i64, SweepPoint)>,
    /// The outputs of profiles.
    ports: Vec<Port>,
    /// The current sweep.
    action: SweepAction,
    /// Keys that the sweep has not visited yet.
    keys: vec::IntoIter<KeyHash>,
}

/// The purpose of a sweep over all keys, in the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SweepPoint {
    /// Scores get new thresholds.
    Rescore,
    /// All tags are emitted.
    Profile,
}

/// The current sweep.
enum SweepAction {
    None,
    /// With the previous plan.
    Rescore(Arc<Plan>),
    /// With the outputs.
    Profile(i64, Vec<Port>),
    /// With the counts by tag.
    Count(i64, Vec<Counts>),
}

/// A key with its next events.
struct Work<'a> {
    key: KeyHash,
    events: &'a [(KeyHash, RowRef)],
}

impl Tagger {
    /// The operator of one lane.
    pub(super) fn new(tags: Arc<Tags>, context: &LaneContext) -> Result<Self> {
        let LaneContext { lane, lanes, .. } = *context;
        let mut users = KeyStore::new(context);
        if let Some(spill) = &tags.spec.spill {
            let limit_bytes = tags.own_bytes(spill.memory_bytes) / lanes;
            let cold = DiskStore::open(&spill.folder, limit_bytes)?;
            users.enable_spill(SpillPolicy::new(limit_bytes, Box::new(cold)));
        }
        let mut layout_part = WholePart::default();
        layout_part.change();
        Ok(Self {
            hasher: tags.timeline.hasher()?,
            held: SortedBuffer::default(),
            watermark: StoredWatermark::default(),
            cut: StoredWatermark::in_part(CUT_PART),
            has_ended: false,
            users,
            layout: StateSchema::new(&tags.plan),
            layout_part,
            stored: None,
            population: KeyDistribution::default(),
            sweep: None,
            rows: Rows {
                is_silent: !tags.spec.counted.is_empty(),
                ..Rows::default()
            },
            plan: Arc::new(tags.plan.clone()),
            lane,
            lanes,
            tags,
        })
    }

    /// The sweeps on the way to `watermark`, in order.
    fn points(&self, watermark: i64) -> VecDeque<(i64, SweepPoint)> {
        let recuts = self
            .population
            .due(watermark)
            .map(|at| (at, SweepPoint::Rescore));
        let profiles = self.boundaries(watermark);
        let profiles = profiles.into_iter().map(|at| (at, SweepPoint::Profile));
        let mut points: Vec<_> = recuts.chain(profiles).collect();
        points.sort_unstable();
        points.into()
    }

    /// Processes everything up to the sweep at `at`, and begins it.
    fn begin(
        &mut self,
        (at, point): (i64, SweepPoint),
        sweep: &mut Sweep,
        out: &mut Output,
    ) -> Result<()> {
        self.take_before(at + 1, out)?;
        while self.users.is_due(at) {
            self.take_due(out)?;
        }
        let counted = &self.tags.spec.counted;
        sweep.action = match point {
            SweepPoint::Rescore => {
                self.population.cut(at, &self.plan);
                let plan = Arc::new(self.population.scored(&self.plan));
                SweepAction::Rescore(mem::replace(&mut self.plan, plan))
            }
            SweepPoint::Profile if counted.is_empty() => {
                SweepAction::Profile(at, sweep.ports.clone())
            }
            SweepPoint::Profile => {
                SweepAction::Count(at, counted.iter().map(|_| Counts::default()).collect())
            }
        };
        sweep.keys = self.users.keys().into_iter();
        Ok(())
    }

    /// Visits some keys.
    fn apply(
        &mut self,
        action: &mut SweepAction,
        keys: &[KeyHash],
        out: &mut Output,
    ) -> Result<()> {
        match action {
            SweepAction::None => Ok(()),
            SweepAction::Rescore(before) => self.rescore(before, keys, out),
            SweepAction::Profile(as_of, ports) => self.profile(*as_of, keys, ports, out),
            SweepAction::Count(as_of, counts) => self.count(*as_of, counts, keys),
        }
    }

    /// Finishes a sweep.
    fn finish(&mut self, action: SweepAction, out: &mut Output) -> Result<()> {
        if let SweepAction::Count(as_of, counts) = action {
            for (tag, counts) in self.tags.spec.counted.iter().zip(counts) {
                let fingerprint = &self.plan.tags[*tag].fingerprint;
                let rows = counts.rows(as_of, self.lane, fingerprint)?;
                out.emit_to(Tags::PROFILE, Batch::derived(rows));
            }
        }
        Ok(())
    }

    /// Processes the held events from before `watermark`.
    fn take_before(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let ready = self.release_before(watermark, out)?;
        self.watermark.advance(EventTime::from_micros(watermark));
        self.take(&ready, Timing::InOrder, out)
    }

    /// Releases the held events from before `time`.
    fn release_before(&mut self, time: i64, out: &mut Output) -> Result<Vec<Keyed>> {
        let ready = self.held.take_before(&self.tags.timeline, time)?;
        for rows in &ready {
            out.released(&rows.batch.origin, rows.keys.len());
        }
        Ok(ready)
    }

    /// The times of profiles between the last watermark and `watermark`, exclusive.
    fn boundaries(&self, watermark: i64) -> Vec<i64> {
        let Some(every) = self.tags.spec.profile.every.map(micros) else {
            return Vec::new();
        };
        let begun = if self.users.is_empty() {
            // Without keys there are no profiles.
            self.held.first().unwrap_or(i64::MAX)
        } else {
            self.watermark.get().as_micros()
        };
        if begun >= watermark {
            return Vec::new();
        }
        let last = (watermark - 1).div_euclid(every);
        let first = (begun - 1).div_euclid(every) + 1;
        (first..=last).map(|place| place * every).collect()
    }

    /// Gives keys their events, in order.
    fn take(&mut self, ready: &[Keyed], timing: Timing, out: &mut Output) -> Result<()> {
        for rows in ready {
            out.contributed(&rows.batch.origin, rows.keys.len());
        }
        let turn = |turn: RowRef| {
            let key = ready[turn.batch].keys[turn.row];
            let key = key.expect("rows without a key go no further");
            (key, turn)
        };
        let events = self.tags.timeline.turns(ready).into_iter();
        let mut events: Vec<(KeyHash, RowRef)> = events.map(turn).collect();
        // Each key's events stay in order.
        events.sort_by_key(|(key, _)| *key);
        let users = events.chunk_by(|(one, _), (other, _)| one == other);
        let work: Vec<Work> = users
            .map(|events| Work {
                key: events[0].0,
                events,
            })
            .collect();
        self.work(&work, ready, timing, out)
    }

    /// Advances keys with due timers.
    fn take_due(&mut self, out: &mut Output) -> Result<()> {
        let due = self.users.take_due(self.done(), MAX_DUE);
        let work: Vec<Work> = due
            .into_iter()
            .map(|key| Work { key, events: &[] })
            .collect();
        self.work(&work, &[], Timing::InOrder, out)
    }

    /// As [`Self::take_due`], for all keys that are due.
    fn take_all_due(&mut self, out: &mut Output) -> Result<()> {
        while self.users.is_due(self.done()) {
            self.take_due(out)?;
        }
        Ok(())
    }

    /// Processes some keys, and advances their clocks.
    fn work(
        &mut self,
        work: &[Work<'_>],
        ready: &[Keyed],
        timing: Timing,
        out: &mut Output,
    ) -> Result<()> {
        let tags = Arc::clone(&self.tags);
        let plan = &*Arc::clone(&self.plan);
        let done = self.done();
        for work in work.chunks(USERS_AT_ONCE) {
            let mut users = Vec::with_capacity(work.len());
            for it in work {
                self.rows.place = users.len();
                let known = self.users.take(it.key)?;
                let mut user = known.unwrap_or_else(|| {
                    let (_, first) = it.events[0];
                    tags.user_of(plan, ready, first)
                });
                for (_, turn) in it.events {
                    let event = tags.event(ready, *turn);
                    match timing {
                        Timing::InOrder => user.take(plan, event, &mut self.rows),
                        Timing::Late => user.correct(plan, event, done, &mut self.rows),
                    }
                }
                user.advance(plan, done.max(user.clock()), Until::End, &mut self.rows);
                users.push(user);
            }
            let Rows {
                checks,
                moves,
                failed,
                ..
            } = &mut self.rows;
            checks.settle(plan, &tags.spec, &mut users, moves, failed)?;
            for (it, user) in work.iter().zip(users) {
                self.users.put(plan, it.key, user)?;
            }
            self.users.evict()?;
            self.emit(out)?;
        }
        Ok(())
    }

    /// Emits all tags of some keys, at `as_of` or, if a key is ahead, at its own last instant.
    fn profile(
        &mut self,
        as_of: i64,
        keys: &[KeyHash],
        ports: &[Port],
        out: &mut Output,
    ) -> Result<()> {
        let mut profiles = Profiles::default();
        for key in keys {
            if let Some(mut user) = self.users.get(*key)? {
                let as_of = as_of.max(user.clock());
                user.pass(as_of);
                profiles.push(&self.plan, &user, as_of);
            }
        }
        let incomplete = self.layout.incomplete(&self.plan, as_of);
        let rows = profiles.take(&self.tags.profile, &incomplete)?;
        for port in ports {
            out.emit_to(*port, Batch::derived(rows.clone()));
        }
        Ok(())
    }

    /// The outputs of profiles when all lanes have reached `agreed`.
    fn newest(&self, agreed: EventTime) -> Vec<Port> {
        let (before, agreed) = (self.cut.get().as_micros(), agreed.as_micros());
        let is_due = |every: &Duration| {
            let place = |instant: i64| (instant - 1).div_euclid(micros(*every));
            let has_passed = before == i64::MIN || place(agreed) > place(before);
            self.has_ended || agreed > before && has_passed
        };
        let periods = self.tags.spec.profile.newest.iter().enumerate();
        let due = periods.filter(|(_, every)| is_due(every));
        due.map(|(place, _)| Tags::newest(place)).collect()
    }

    /// Counts the values of some keys.
    fn count(&mut self, as_of: i64, counts: &mut [Counts], keys: &[KeyHash]) -> Result<()> {
        for key in keys {
            let Some(mut user) = self.users.get(*key)? else {
                continue;
            };
            user.pass(as_of);
            for (tag, counts) in self.tags.spec.counted.iter().zip(&mut *counts) {
                let number = user.value(&self.plan, *tag);
                if let Some(number) = number.number(&self.plan.tags[*tag].data_type) {
                    counts.add(number);
                }
            }
        }
        Ok(())
    }

    /// Replaces the thresholds of `before` by the current ones for some keys.
    fn rescore(&mut self, before: &Plan, keys: &[KeyHash], out: &mut Output) -> Result<()> {
        let tags = Arc::clone(&self.tags);
        let plan = Arc::clone(&self.plan);
        let done = self.done();
        for keys in keys.chunks(USERS_AT_ONCE) {
            let (mut changed, mut users) = (Vec::new(), Vec::new());
            for key in keys {
                self.rows.place = users.len();
                if let Some(mut user) = self.users.get(*key)?
                    && user.rescore(before, &plan, done, &mut self.rows)
                {
                    changed.push(*key);
                    users.push(user);
                }
            }
            let Rows {
                checks,
                moves,
                failed,
                ..
            } = &mut self.rows;
            checks.settle(&plan, &tags.spec, &mut users, moves, failed)?;
            for (key, user) in changed.into_iter().zip(users) {
                self.users.put(&plan, key, user)?;
            }
            self.users.evict()?;
            self.emit(out)?;
        }
        Ok(())
    }

    /// Emits changes of tags and segments.
    fn emit(&mut self, out: &mut Output) -> Result<()> {
        let changes = self.rows.changes.take(&self.tags.changes)?;
        out.emit(Batch::derived(changes));
        let moves = self.rows.moves.take(&self.tags.segments)?;
        out.emit_to(Tags::SEGMENTS, Batch::derived(moves));
        let failed = std::mem::take(&mut self.rows.failed);
        let spec = &self.tags.spec;
        let errors = &spec.segments.errors;
        errors.set_aside(&spec.node, &Origin::Derived, &failed, out)
    }

    /// Whether this lane owns the key.
    pub(super) fn owns(&self, key: KeyHash) -> bool {
        lane_of(key.key_group(), self.lanes) == self.lane
    }

    /// The last instant that is processed.
    pub(super) fn done(&self) -> i64 {
        self.watermark.get().as_micros().saturating_sub(1)
    }
}

impl Operator for Tagger {
    fn on_batch(&mut self, input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        if input == Tags::POPULATION {
            self.population.take(&batch.records);
            return Ok(());
        }
        let tags = Arc::clone(&self.tags);
        let timeline = &tags.timeline;
        let mut rows = Keyed::new(&timeline.key, &self.hasher, batch)?;
        if rows.keys.contains(&None) {
            let has_key: BooleanArray = rows.keys.iter().map(|key| Some(key.is_some())).collect();
            out.filtered(&rows.batch.origin, rows.keys.len() - has_key.true_count());
            rows = rows.filter(&has_key)?;
            if rows.keys.is_empty() {
                return Ok(());
            }
        }
        let watermark = self.watermark.get().as_micros();
        let waits = BooleanArray::from_unary(timeline.times(&rows.batch.records), |time| {
            time >= watermark
        });
        if waits.has_false() {
            let behind = rows.filter(&not(&waits)?)?;
            let from = watermark.saturating_sub(micros(tags.spec.lateness));
            let corrects =
                BooleanArray::from_unary(timeline.times(&behind.batch.records), |time| {
                    time >= from
                });
            if corrects.has_false() {
                let late = behind.filter(&not(&corrects)?)?;
                if tags.spec.counted.is_empty() {
                    out.late(&late.batch.origin, late.keys.len());
                    let lateness = micros(tags.spec.lateness);
                    let late = late_rows(timeline, &late.batch, watermark, lateness)?;
                    out.emit_to(Port::SIDE, Batch::derived(late));
                } else {
                    // The operator of the tags, which also gets this row, emits it.
                    out.filtered(&late.batch.origin, late.keys.len());
                }
            }
            if corrects.has_true() {
                let behind = behind.filter(&corrects)?;
                self.take(&[behind], Timing::Late, out)?;
            }
        }
        if waits.has_true() {
            let rows = if waits.has_false() {
                rows.filter(&waits)?
            } else {
                rows
            };
            out.held(&rows.batch.origin, rows.keys.len());
            self.held.push(timeline, rows);
        }
        if self.users.is_due(self.done()) {
            self.take_due(out)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        let watermark = watermark.as_micros();
        let points = self.points(watermark);
        if points.is_empty() {
            self.take_before(watermark, out)?;
            return self.take_due(out);
        }
        self.sweep = Some(Sweep {
            watermark,
            points,
            ports: vec![Tags::PROFILE],
            action: SweepAction::None,
            keys: Vec::new().into_iter(),
        });
        Ok(())
    }

    fn holds_rows(&self) -> bool {
        self.held.last().is_some()
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        self.has_ended = true;
        self.take_all_due(out)?;
        let Some(last) = self.held.last() else {
            return Ok(());
        };
        // The clock of each key advances to its own last event. All clocks advance to the last
        // event of the input before the last barrier, when all lanes know that event.
        let end = last.saturating_add(1);
        let ready = self.release_before(end, out)?;
        self.take(&ready, Timing::InOrder, out)?;
        self.watermark.advance(EventTime::from_micros(end));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let watermark = self.watermark.get().as_micros();
        self.held
            .snapshot(&self.tags.timeline, watermark, &mut snapshot)?;
        self.users.snapshot(&mut snapshot)?;
        self.population.snapshot(&mut snapshot)?;
        self.watermark.snapshot(&mut snapshot)?;
        self.cut.snapshot(&mut snapshot)?;
        self.layout.snapshot(&mut self.layout_part, &mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        let lanes = state.lanes;
        let mut stored = None;
        let mut parts = Vec::with_capacity(state.parts.len());
        for part in state.parts {
            if let Some(layout) = StateSchema::read(&part, &self.tags.spec.node)? {
                self.layout_part.restore(&part.key, lanes);
                stored = Some(layout);
            } else if !self.watermark.restore(&part, lanes)?
                && !self.cut.restore(&part, lanes)?
                && !self.population.restore(&part, lanes)?
            {
                parts.push(part);
            }
        }
        self.plan = Arc::new(self.population.scored(&self.plan));
        let watermark = self.watermark.get().as_micros();
        let timeline = &self.tags.timeline;
        parts.sort_by_key(|part| part_number(&part.key));
        for part in &parts {
            self.held
                .restore(timeline, &self.hasher, watermark, part, lanes)?;
        }
        let Some(stored) = stored else { return Ok(()) };
        let layout = StateSchema::new(&self.plan).after(&stored, watermark);
        if layout != stored {
            self.layout_part.change();
        }
        self.layout = layout;
        self.stored = Some(stored);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.held.bytes() + self.users.bytes()
    }

    fn paged_output(&mut self) -> Option<&mut dyn PagedOutput> {
        Some(self)
    }

    fn early_output(&mut self) -> Option<&mut dyn EarlyOutput> {
        Some(self)
    }

    fn partwise_restore(&mut self) -> Option<&mut dyn PartwiseRestore> {
        Some(self)
    }

    fn queryable_state(&mut self) -> Option<&mut dyn QueryableState> {
        Some(self)
    }
}

impl PagedOutput for Tagger {
    fn poll_output(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut sweep) = self.sweep.take() else {
            return Ok(Progress::Done);
        };
        let keys: Vec<KeyHash> = sweep.keys.by_ref().take(BATCH_ROWS).collect();
        if keys.is_empty() {
            self.finish(mem::replace(&mut sweep.action, SweepAction::None), out)?;
            let Some(point) = sweep.points.pop_front() else {
                self.take_before(sweep.watermark, out)?;
                if self.has_ended {
                    self.take_all_due(out)?;
                } else {
                    self.flush(out)?;
                }
                return Ok(Progress::Done);
            };
            self.begin(point, &mut sweep, out)?;
        } else {
            self.apply(&mut sweep.action, &keys, out)?;
        }
        self.sweep = Some(sweep);
        Ok(Progress::More)
    }
}

impl EarlyOutput for Tagger {
    fn flush(&mut self, out: &mut Output) -> Result<()> {
        if self.has_ended {
            // No time passes before the last barrier.
            return Ok(());
        }
        self.take_due(out)
    }

    fn on_barrier(&mut self, agreed: Option<EventTime>, out: &mut Output) -> Result<()> {
        self.flush(out)?;
        if self.tags.spec.profile.newest.is_empty() && !self.has_ended {
            return Ok(());
        }
        let agreed = agreed.unwrap_or(EventTime::MIN).max(self.cut.get());
        let ports = self.newest(agreed);
        self.cut.advance(agreed);
        let as_of = agreed.as_micros().saturating_sub(1);
        let profile = (!ports.is_empty()).then_some((as_of, SweepPoint::Profile));
        let watermark = self.watermark.get();
        let watermark = if self.has_ended {
            // The clocks of all keys advance to the last event of the input.
            watermark.max(agreed)
        } else {
            watermark
        };
        if profile.is_some() || self.has_ended {
            self.sweep = Some(Sweep {
                watermark: watermark.as_micros(),
                points: profile.into_iter().collect(),
                ports,
                action: SweepAction::None,
                keys: Vec::new().into_iter(),
            });
        }
        Ok(())
    }
}

impl PartwiseRestore for Tagger {
    fn restores_alone(&self, part: &str) -> bool {
        key_store::is_part(part)
    }

    fn restore_part(&mut self, part: StatePart, lanes: Restore) -> Result<()> {
        // Without a layout no key was stored.
        let Some(stored) = &self.stored else {
            return Ok(());
        };
        let plan = &self.plan;
        let watermark = self.watermark.get().as_micros();
        let adapt = |user: KeyState| stored.adapt(plan, user, watermark);
        let adapt = (!self.layout.is_same(stored)).then_some(adapt);
        self.users.restore(&part, lanes, plan, adapt)
    }
}

impl Observer for Rows {
    fn change(&mut self, user: &KeyState, change: Change<'_>) {
        if !self.is_silent {
            self.changes.push(user, &change);
        }
    }

    fn check(&mut self, plan: &Plan, user: &KeyState) {
        if !plan.segments.is_empty() {
            self.checks.push(plan, self.place, user);
        }
    }
}

impl Tags {
    /// The operator of a lane.
    pub fn factory(self: &Arc<Self>) -> OperatorFactory {
        let tags = Arc::clone(self);
        Arc::new(move |context| Ok(Box::new(Tagger::new(Arc::clone(&tags), context)?)))
    }

    /// A new key, with its value from the first event.
    pub(super) fn user_of(&self, plan: &Plan, rows: &[Keyed], first: RowRef) -> Box<KeyState> {
        let records = &rows[first.batch].batch.records;
        let key = Value::at(records.column(self.spec.key), first.row);
        Box::new(KeyState::new(plan, key, i64::MIN))
    }

    pub(super) fn event<'a>(&self, rows: &'a [Keyed], turn: RowRef) -> Event<'a> {
        let records = &rows[turn.batch].batch.records;
        let id = self.spec.id.map(|id| records.column(id));
        Event {
            time: turn.time,
            tiebreak: id.map_or(0, |ids| tiebreak(ids, turn.row)),
            rows: records,
            row: turn.row,
        }
    }
}

/// A number that orders events with the same time when their batches are gone: the id if it is a
/// number, or the first eight bytes of a text.
fn tiebreak(ids: &dyn Array, row: usize) -> u64 {
    if ids.is_null(row) {
        return 0;
    }
    match ids.data_type() {
        DataType::Int64 => ids.as_primitive::<Int64Type>().value(row) as u64 ^ (1 << 63),
        DataType::Utf8 => {
            let id = ids.as_string::<i32>().value(row).as_bytes();
            let mut first = [0; 8];
            let length = id.len().min(8);
            first[..length].copy_from_slice(&id[..length]);
            u64::from_be_bytes(first)
        }
        _ => 0,
    }
}
