//! The operator: takes each user's events in their order, and time as it passes.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray},
    compute::not,
    datatypes::{DataType, Int64Type},
};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    operator::{Operator, Output},
    state::{DiskStore, KeyHash, KeyHasher, LaneState, Lanes, Snapshot},
    time::micros,
};

use super::{
    changes::Changes,
    layout::Layout,
    plan::Plan,
    profile::Profiles,
    segments::{Checks, Moves},
    set::Tags,
    user::{Change, Event, Observer, Until, User},
    users::{self, Users, Warmth},
    value::Value,
};
use crate::{
    ordered::{Held, Keyed, Turn, late_rows, number},
    window::StoredWatermark,
};

/// So many users are in hand at a time: few enough to stay in the processor's cache,
/// enough for rules to be evaluated in bulk.
const USERS_AT_ONCE: usize = 256;

/// So many users, to whom something happens with no event, are looked at in one
/// call: after a downtime many are due at once, and rows must go on.
const MAX_DUE: usize = 50_000;

/// So many profiles go on together.
const BATCH_ROWS: usize = 8192;

/// Events from the watermark on are held until it has passed them; then each user
/// gets them in the order of event time and id. Events behind the watermark correct
/// what they touch; those too far behind are late.
pub(super) struct Tagger {
    tags: Arc<Tags>,
    pub(super) hasher: KeyHasher,
    held: Held,
    /// Everything from before this is done, save for users that are due.
    watermark: StoredWatermark,
    pub(super) users: Users,
    pub(super) layout: Layout,
    is_layout_stored: bool,
    /// Whether the store has a layout.
    has_stored_layout: bool,
    rows: Rows,
}

/// Rows that are on their way out.
#[derive(Default)]
struct Rows {
    changes: Changes,
    checks: Checks,
    moves: Moves,
    /// Which of the users in hand it is about.
    place: usize,
}

/// How events come.
#[derive(Debug, Clone, Copy)]
enum Turns {
    /// All before them have been taken.
    InTime,
    /// The watermark has passed them.
    Late,
}

/// A user with events to take.
struct Work<'a> {
    key: KeyHash,
    events: &'a [(KeyHash, Turn)],
}

impl Tagger {
    /// Of one of so many lanes.
    pub(super) fn new(tags: Arc<Tags>, lanes: usize) -> Result<Self> {
        let mut users = Users::default();
        if let Some(spill) = &tags.spec.spill {
            let cold = DiskStore::open(&spill.folder)?;
            users.keep_warm(Warmth::new(spill.memory_bytes / lanes, Box::new(cold)));
        }
        Ok(Self {
            hasher: tags.timeline.hasher()?,
            held: Held::default(),
            watermark: StoredWatermark::default(),
            users,
            layout: Layout::new(&tags.plan),
            is_layout_stored: false,
            has_stored_layout: false,
            rows: Rows::default(),
            tags,
        })
    }

    /// Does all from before `watermark`.
    fn advance(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        for as_of in self.boundaries(watermark) {
            self.take_before(as_of + 1, out)?;
            self.profile(as_of, out)?;
        }
        self.take_before(watermark, out)?;
        self.take_due(out)
    }

    /// Takes the held events from before `watermark`.
    fn take_before(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let ready = self.release_before(watermark, out)?;
        self.watermark.advance(EventTime::from_micros(watermark));
        self.take(&ready, Turns::InTime, out)
    }

    /// Releases the held events from before `time`.
    fn release_before(&mut self, time: i64, out: &mut Output) -> Result<Vec<Keyed>> {
        let ready = self.held.take_before(&self.tags.timeline, time)?;
        for rows in &ready {
            out.released(&rows.batch.origin, rows.keys.len());
        }
        Ok(ready)
    }

    /// The times before `watermark`, and not before the one up to now, as of which
    /// profiles come out.
    fn boundaries(&self, watermark: i64) -> Vec<i64> {
        let Some(profile) = &self.tags.spec.profile else {
            return Vec::new();
        };
        let every = micros(profile.every);
        let begun = if self.users.is_empty() {
            // Before anybody is known there is nothing to say.
            self.held.first().unwrap_or(i64::MAX)
        } else {
            self.watermark.get().as_micros()
        };
        if begun >= watermark {
            return Vec::new();
        }
        let last = (watermark - 1).div_euclid(every);
        let first = (begun - 1).div_euclid(every) + 1;
        let first = if profile.only_last {
            first.max(last)
        } else {
            first
        };
        (first..=last).map(|place| place * every).collect()
    }

    /// Gives users their events, in order.
    fn take(&mut self, ready: &[Keyed], turns: Turns, out: &mut Output) -> Result<()> {
        for rows in ready {
            out.contributed(&rows.batch.origin, rows.keys.len());
        }
        let turn = |turn: Turn| {
            let key = ready[turn.batch].keys[turn.row];
            let key = key.expect("rows without a key go no further");
            (key, turn)
        };
        let events = self.tags.timeline.turns(ready).into_iter();
        let mut events: Vec<(KeyHash, Turn)> = events.map(turn).collect();
        // Each user's events stay in their order.
        events.sort_by_key(|(key, _)| *key);
        let users = events.chunk_by(|(one, _), (other, _)| one == other);
        let work: Vec<Work> = users
            .map(|events| Work {
                key: events[0].0,
                events,
            })
            .collect();
        self.work(&work, ready, turns, out)
    }

    /// Lets time pass for users to whom something happens by itself.
    fn take_due(&mut self, out: &mut Output) -> Result<()> {
        let due = self.users.take_due(self.done(), MAX_DUE);
        let work: Vec<Work> = due
            .into_iter()
            .map(|key| Work { key, events: &[] })
            .collect();
        self.work(&work, &[], Turns::InTime, out)
    }

    /// Does what there is to do for some users, and lets time pass for them.
    fn work(
        &mut self,
        work: &[Work<'_>],
        ready: &[Keyed],
        turns: Turns,
        out: &mut Output,
    ) -> Result<()> {
        let tags = Arc::clone(&self.tags);
        let plan = &tags.plan;
        let done = self.done();
        for work in work.chunks(USERS_AT_ONCE) {
            let mut users = Vec::with_capacity(work.len());
            for it in work {
                self.rows.place = users.len();
                let known = self.users.take(it.key)?;
                let mut user = known.unwrap_or_else(|| {
                    let (_, first) = it.events[0];
                    let records = &ready[first.batch].batch.records;
                    let key = Value::at(records.column(tags.spec.key), first.row);
                    Box::new(User::new(plan, key, i64::MIN))
                });
                for (_, turn) in it.events {
                    let records = &ready[turn.batch].batch.records;
                    let id = tags.spec.id.map(|id| records.column(id));
                    let event = Event {
                        time: turn.time,
                        tie: id.map_or(0, |ids| tie(ids, turn.row)),
                        rows: records,
                        row: turn.row,
                    };
                    match turns {
                        Turns::InTime => user.take(plan, event, &mut self.rows),
                        Turns::Late => user.correct(plan, event, done, &mut self.rows),
                    }
                }
                user.advance(plan, done.max(user.clock()), Until::End, &mut self.rows);
                users.push(user);
            }
            let Rows { checks, moves, .. } = &mut self.rows;
            checks.settle(plan, &tags.spec.segments, &mut users, moves)?;
            for (it, user) in work.iter().zip(users) {
                self.users.put(plan, it.key, user);
            }
            self.users.cool()?;
            self.emit(out)?;
        }
        Ok(())
    }

    /// Emits all tags of all users.
    fn profile(&mut self, as_of: i64, out: &mut Output) -> Result<()> {
        while self.users.is_due(as_of) {
            self.take_due(out)?;
        }
        let tags = Arc::clone(&self.tags);
        let mut profiles = Profiles::default();
        for keys in self.users.keys().chunks(BATCH_ROWS) {
            for key in keys {
                if let Some(mut user) = self.users.get(*key)? {
                    user.pass(as_of);
                    profiles.push(&tags.plan, &user);
                }
            }
            let rows = profiles.take(&tags.profile, as_of)?;
            out.emit_to(Tags::PROFILE, Batch::derived(rows));
        }
        Ok(())
    }

    /// Emits changes of tags and segments.
    fn emit(&mut self, out: &mut Output) -> Result<()> {
        let changes = self.rows.changes.take(&self.tags.changes)?;
        out.emit(Batch::derived(changes));
        let moves = self.rows.moves.take(&self.tags.segments)?;
        out.emit_to(Tags::SEGMENTS, Batch::derived(moves));
        Ok(())
    }

    /// Lets time pass for a user alone, to `to`.
    pub(super) fn pass(&mut self, key: KeyHash, to: i64, out: &mut Output) -> Result<()> {
        if self.users.get(key)?.is_none() {
            return Ok(());
        }
        let done = self.watermark.get();
        self.watermark
            .advance(EventTime::from_micros(to.saturating_add(1)));
        let work = Work { key, events: &[] };
        self.work(&[work], &[], Turns::InTime, out)?;
        self.watermark = StoredWatermark::default();
        self.watermark.advance(done);
        Ok(())
    }

    /// The last instant that is done.
    pub(super) fn done(&self) -> i64 {
        self.watermark.get().as_micros().saturating_sub(1)
    }
}

impl Operator for Tagger {
    fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let tags = Arc::clone(&self.tags);
        let timeline = &tags.timeline;
        let mut rows = Keyed::new(timeline, &self.hasher, batch)?;
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
                out.late(&late.batch.origin, late.keys.len());
                let lateness = micros(tags.spec.lateness);
                let late = late_rows(timeline, &late.batch, watermark, lateness)?;
                out.emit_to(Port::ASIDE, Batch::derived(late));
            }
            if corrects.has_true() {
                let behind = behind.filter(&corrects)?;
                self.take(&[behind], Turns::Late, out)?;
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
        self.advance(watermark.as_micros(), out)
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.take_due(out)
    }

    fn holds_rows(&self) -> bool {
        self.held.last().is_some()
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        while self.users.is_due(self.done()) {
            self.take_due(out)?;
        }
        let Some(last) = self.held.last() else {
            return Ok(());
        };
        // Time passes for each user to its own last event, because how far the others
        // of this lane came must not matter.
        let end = last.saturating_add(1);
        let ready = self.release_before(end, out)?;
        self.take(&ready, Turns::InTime, out)?;
        self.watermark.advance(EventTime::from_micros(end));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let watermark = self.watermark.get().as_micros();
        self.held
            .snapshot(&self.tags.timeline, watermark, &mut snapshot)?;
        self.users.snapshot(&mut snapshot)?;
        self.watermark.snapshot(&mut snapshot)?;
        if !self.is_layout_stored {
            self.layout.put(self.has_stored_layout, &mut snapshot)?;
            self.is_layout_stored = true;
            self.has_stored_layout = true;
        }
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        let lanes = state.lanes;
        let mut stored = None;
        let mut parts = Vec::with_capacity(state.parts.len());
        for part in state.parts {
            if let Some(layout) = Layout::read(&part)? {
                stored = Some(layout);
            } else if !self.watermark.restore(&part, lanes)? {
                parts.push(part);
            }
        }
        parts.sort_by_key(|part| number(&part.key));
        let watermark = self.watermark.get().as_micros();
        let timeline = &self.tags.timeline;
        let (users, held): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .partition(|part| users::is_part(&part.key));
        for part in &held {
            self.held
                .restore(timeline, &self.hasher, watermark, part, lanes)?;
        }
        self.has_stored_layout = stored.is_some() && lanes == Lanes::Same;
        let Some(stored) = stored else { return Ok(()) };
        let layout = Layout::new(&self.tags.plan).after(&stored, watermark);
        self.is_layout_stored = self.has_stored_layout && layout == stored;
        self.layout = layout;
        let plan = &self.tags.plan;
        let adapt = |user: User| stored.adapt(plan, user, watermark);
        let adapt = (!self.layout.is_same(&stored)).then_some(adapt);
        self.users.restore(users, lanes, plan, adapt)
    }

    fn state_bytes(&self) -> usize {
        self.held.bytes() + self.users.bytes()
    }
}

impl Observer for Rows {
    fn change(&mut self, user: &User, change: Change<'_>) {
        self.changes.push(user, &change);
    }

    fn check(&mut self, plan: &Plan, user: &User) {
        if !plan.segments.is_empty() {
            self.checks.push(plan, self.place, user);
        }
    }
}

/// What orders events of one time when their batches are gone: a number itself, of
/// a text the first eight bytes.
fn tie(ids: &dyn Array, row: usize) -> u64 {
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
