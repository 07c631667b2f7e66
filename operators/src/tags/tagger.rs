//! The operator: takes each user's events in their order, and time as it passes.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration, vec};

use arrow::{
    array::{Array, AsArray, BooleanArray},
    compute::not,
    datatypes::{DataType, Int64Type},
};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    operator::{Operator, Output, Progress},
    state::{
        DiskStore, KeyHash, KeyHasher, LaneState, Lanes, Snapshot, StatePart, lane_of, part_number,
    },
    time::micros,
};

use super::{
    changes::Changes,
    event::Event,
    known::Profiled,
    layout::Layout,
    plan::Plan,
    population::{Counts, Population},
    profile::Profiles,
    segments::{Checks, Moves},
    set::Tags,
    user::{Change, Observer, Until, User},
    users::{self, Users, Warmth},
    value::Value,
};
use crate::{
    ordered::{Held, Keyed, Turn, late_rows},
    window::StoredWatermark,
};

/// The key of the part that holds how far all lanes had come at a barrier.
const CUT_PART: &str = "cut";

/// So many users are in hand at a time: few enough to stay in the processor's cache,
/// enough for rules to be evaluated in bulk.
const USERS_AT_ONCE: usize = 256;

/// So many users, to whom something happens with no event, are looked at in one
/// call: after a downtime many are due at once, and rows must go on.
const MAX_DUE: usize = 50_000;

/// So many users are looked at together where all are, and so many profiles go on.
const BATCH_ROWS: usize = 8192;

/// Events from the watermark on are held until it has passed them; then each user
/// gets them in the order of event time and id. Events behind the watermark correct
/// what they touch; those too far behind are late.
pub(super) struct Tagger {
    pub(super) tags: Arc<Tags>,
    /// That of the tags, with the cuts that are in force.
    pub(super) plan: Arc<Plan>,
    lane: usize,
    lanes: usize,
    pub(super) hasher: KeyHasher,
    held: Held,
    /// Everything from before this is done, save for users that are due.
    watermark: StoredWatermark,
    /// How far all lanes had come at the last barrier.
    cut: StoredWatermark,
    has_ended: bool,
    pub(super) users: Users,
    pub(super) layout: Layout,
    is_layout_stored: bool,
    /// Whether the store has a layout.
    has_stored_layout: bool,
    /// The layout of the users that are restored.
    stored: Option<Layout>,
    population: Population,
    round: Option<Round>,
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
    /// Whether nobody wants to know what changes.
    is_silent: bool,
}

/// What is left to do of a watermark or a barrier.
struct Round {
    watermark: i64,
    /// The instants before it at which all users are looked at, and what for.
    stops: VecDeque<(i64, Stop)>,
    /// Where profiles come out.
    ports: Vec<Port>,
    /// The stop that has been reached.
    visit: Visit,
    /// Users that have yet to be looked at there.
    keys: vec::IntoIter<KeyHash>,
}

/// What all users are looked at for, in the order in which that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// Scores go by other cuts.
    Recut,
    /// All tags come out.
    Profile,
}

/// A stop that has been reached.
enum Visit {
    None,
    /// With the plan of before.
    Recut(Arc<Plan>),
    /// With where they come out.
    Profile(i64, Vec<Port>),
    /// With what has been counted, by tag.
    Count(i64, Vec<Counts>),
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
    /// Of lane `lane` of so many.
    pub(super) fn new(tags: Arc<Tags>, lane: usize, lanes: usize) -> Result<Self> {
        let mut users = Users::default();
        if let Some(spill) = &tags.spec.spill {
            let cold = DiskStore::open(&spill.folder)?;
            let limit_bytes = tags.own_bytes(spill.memory_bytes) / lanes;
            users.keep_warm(Warmth::new(limit_bytes, Box::new(cold)));
        }
        Ok(Self {
            hasher: tags.timeline.hasher()?,
            held: Held::default(),
            watermark: StoredWatermark::default(),
            cut: StoredWatermark::in_part(CUT_PART),
            has_ended: false,
            users,
            layout: Layout::new(&tags.plan),
            is_layout_stored: false,
            has_stored_layout: false,
            stored: None,
            population: Population::default(),
            round: None,
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

    /// Where all users are looked at on the way to `watermark`, in order.
    fn stops(&self, watermark: i64) -> VecDeque<(i64, Stop)> {
        let recuts = self.population.due(watermark).map(|at| (at, Stop::Recut));
        let profiles = self.boundaries(watermark);
        let profiles = profiles.into_iter().map(|at| (at, Stop::Profile));
        let mut stops: Vec<_> = recuts.chain(profiles).collect();
        stops.sort_unstable();
        stops.into()
    }

    /// Does all up to a stop, `at`, and begins to look at all users.
    fn reach(
        &mut self,
        (at, stop): (i64, Stop),
        round: &mut Round,
        out: &mut Output,
    ) -> Result<()> {
        self.take_before(at + 1, out)?;
        while self.users.is_due(at) {
            self.take_due(out)?;
        }
        let counted = &self.tags.spec.counted;
        round.visit = match stop {
            Stop::Recut => {
                self.population.cut(at, &self.plan);
                let plan = Arc::new(self.plan.cut(&self.population));
                Visit::Recut(mem::replace(&mut self.plan, plan))
            }
            Stop::Profile if counted.is_empty() => Visit::Profile(at, round.ports.clone()),
            Stop::Profile => Visit::Count(at, counted.iter().map(|_| Counts::default()).collect()),
        };
        round.keys = self.users.keys().into_iter();
        Ok(())
    }

    /// Looks at some users.
    fn visit(&mut self, visit: &mut Visit, keys: &[KeyHash], out: &mut Output) -> Result<()> {
        match visit {
            Visit::None => Ok(()),
            Visit::Recut(before) => self.recut(before, keys, out),
            Visit::Profile(as_of, ports) => self.profile(*as_of, keys, ports, out),
            Visit::Count(as_of, counts) => self.count(*as_of, counts, keys),
        }
    }

    /// All users have been looked at.
    fn leave(&mut self, visit: Visit, out: &mut Output) -> Result<()> {
        if let Visit::Count(as_of, counts) = visit {
            for (tag, counts) in self.tags.spec.counted.iter().zip(counts) {
                let fingerprint = &self.plan.tags[*tag].fingerprint;
                let rows = counts.rows(as_of, self.lane, fingerprint)?;
                out.emit_to(Tags::PROFILE, Batch::derived(rows));
            }
        }
        Ok(())
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
        let Some(every) = self.tags.spec.profile.every.map(micros) else {
            return Vec::new();
        };
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
        let plan = &*Arc::clone(&self.plan);
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
                self.users.put(plan, it.key, user)?;
            }
            self.users.cool()?;
            self.emit(out)?;
        }
        Ok(())
    }

    /// Emits all tags of some users, as of `as_of` or, where one has come further, as
    /// of its own last instant.
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

    /// Where profiles come out now that all lanes have come as far as `agreed`.
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

    /// Counts which values some users have.
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

    /// Lets the cuts in force take the place of those of `before` for some users.
    fn recut(&mut self, before: &Plan, keys: &[KeyHash], out: &mut Output) -> Result<()> {
        let tags = Arc::clone(&self.tags);
        let plan = Arc::clone(&self.plan);
        let done = self.done();
        for keys in keys.chunks(USERS_AT_ONCE) {
            let (mut changed, mut users) = (Vec::new(), Vec::new());
            for key in keys {
                self.rows.place = users.len();
                if let Some(mut user) = self.users.get(*key)?
                    && user.recut(before, &plan, done, &mut self.rows)
                {
                    changed.push(*key);
                    users.push(user);
                }
            }
            let Rows { checks, moves, .. } = &mut self.rows;
            checks.settle(&plan, &tags.spec.segments, &mut users, moves)?;
            for (key, user) in changed.into_iter().zip(users) {
                self.users.put(&plan, key, user)?;
            }
            self.users.cool()?;
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
        Ok(())
    }

    /// What is known of a user as of `as_of`, which is not before what is done, if
    /// nothing else happens until then. All stays as it is.
    pub(super) fn look(&mut self, key: KeyHash, as_of: i64) -> Result<Option<Profiled>> {
        let Some(user) = self.users.get(key)? else {
            return Ok(None);
        };
        let mut users = [user];
        let mut rows = Rows::default();
        let to = as_of.max(users[0].clock());
        users[0].advance(&self.plan, to, Until::End, &mut rows);
        let Rows { checks, moves, .. } = &mut rows;
        let segments = &self.tags.spec.segments;
        checks.settle(&self.plan, segments, &mut users, moves)?;
        let [user] = &users;
        Ok(user.is_known().then(|| self.profiled(user)))
    }

    /// Whether this lane has the user.
    pub(super) fn owns(&self, key: KeyHash) -> bool {
        lane_of(key.key_group(), self.lanes) == self.lane
    }

    /// The last instant that is done.
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
                if tags.spec.counted.is_empty() {
                    out.late(&late.batch.origin, late.keys.len());
                    let lateness = micros(tags.spec.lateness);
                    let late = late_rows(timeline, &late.batch, watermark, lateness)?;
                    out.emit_to(Port::ASIDE, Batch::derived(late));
                } else {
                    // The tags, which get it too, tell of it.
                    out.filtered(&late.batch.origin, late.keys.len());
                }
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
        let watermark = watermark.as_micros();
        let stops = self.stops(watermark);
        if stops.is_empty() {
            self.take_before(watermark, out)?;
            return self.take_due(out);
        }
        self.round = Some(Round {
            watermark,
            stops,
            ports: vec![Tags::PROFILE],
            visit: Visit::None,
            keys: Vec::new().into_iter(),
        });
        Ok(())
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut round) = self.round.take() else {
            return Ok(Progress::Done);
        };
        let keys: Vec<KeyHash> = round.keys.by_ref().take(BATCH_ROWS).collect();
        if keys.is_empty() {
            self.leave(mem::replace(&mut round.visit, Visit::None), out)?;
            let Some(stop) = round.stops.pop_front() else {
                self.take_before(round.watermark, out)?;
                self.flush(out)?;
                return Ok(Progress::Done);
            };
            self.reach(stop, &mut round, out)?;
        } else {
            self.visit(&mut round.visit, &keys, out)?;
        }
        self.round = Some(round);
        Ok(Progress::More)
    }

    fn answer(&mut self, question: &str) -> Result<Option<String>> {
        self.look_up(question)
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        if self.has_ended {
            // No time passes any more.
            return Ok(());
        }
        self.take_due(out)
    }

    fn on_barrier(&mut self, agreed: Option<EventTime>, out: &mut Output) -> Result<()> {
        self.flush(out)?;
        if self.tags.spec.profile.newest.is_empty() {
            return Ok(());
        }
        let agreed = agreed.unwrap_or(EventTime::MIN).max(self.cut.get());
        let ports = self.newest(agreed);
        self.cut.advance(agreed);
        if !ports.is_empty() {
            let as_of = agreed.as_micros().saturating_sub(1);
            self.round = Some(Round {
                watermark: self.watermark.get().as_micros(),
                stops: [(as_of, Stop::Profile)].into(),
                ports,
                visit: Visit::None,
                keys: Vec::new().into_iter(),
            });
        }
        Ok(())
    }

    fn holds_rows(&self) -> bool {
        self.held.last().is_some()
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        self.has_ended = true;
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
        self.users.snapshot(&mut snapshot);
        self.population.snapshot(&mut snapshot)?;
        self.watermark.snapshot(&mut snapshot)?;
        self.cut.snapshot(&mut snapshot)?;
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
            if let Some(layout) = Layout::read(&part, &self.tags.spec.node)? {
                stored = Some(layout);
            } else if !self.watermark.restore(&part, lanes)?
                && !self.cut.restore(&part, lanes)?
                && !self.population.restore(&part, lanes == Lanes::Same)?
            {
                parts.push(part);
            }
        }
        self.plan = Arc::new(self.plan.cut(&self.population));
        let watermark = self.watermark.get().as_micros();
        let timeline = &self.tags.timeline;
        parts.sort_by_key(|part| part_number(&part.key));
        for part in &parts {
            self.held
                .restore(timeline, &self.hasher, watermark, part, lanes)?;
        }
        self.has_stored_layout = stored.is_some() && lanes == Lanes::Same;
        let Some(stored) = stored else { return Ok(()) };
        let layout = Layout::new(&self.plan).after(&stored, watermark);
        self.is_layout_stored = self.has_stored_layout && layout == stored;
        self.layout = layout;
        self.stored = Some(stored);
        Ok(())
    }

    fn restores_alone(&self, part: &str) -> bool {
        users::is_part(part)
    }

    fn restore_part(&mut self, part: StatePart, lanes: Lanes) -> Result<()> {
        // Without it no user was stored.
        let Some(stored) = &self.stored else {
            return Ok(());
        };
        let plan = &self.plan;
        let watermark = self.watermark.get().as_micros();
        let adapt = |user: User| stored.adapt(plan, user, watermark);
        let adapt = (!self.layout.is_same(stored)).then_some(adapt);
        self.users.restore(&part, lanes, plan, adapt)
    }

    fn state_bytes(&self) -> usize {
        self.held.bytes() + self.users.bytes()
    }
}

impl Observer for Rows {
    fn change(&mut self, user: &User, change: Change<'_>) {
        if !self.is_silent {
            self.changes.push(user, &change);
        }
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
