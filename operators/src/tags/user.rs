//! All that is known of a key, and how it changes.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};
use tagflow_engine::{Error, Result};

use super::{
    absence::{self, AbsencePlan},
    changes::{Cause, Op},
    coding::{Coded, put_length, put_times, take_length, take_times},
    event::{Event, EventPart},
    part,
    partial::Observation,
    piece::{Piece, PieceKind, State},
    plan::{self, Plan, Source, TagPlan, Tick},
    segments::Member,
    value::Value,
};

/// A key's state: what its tags are made of, as of its clock.
///
/// Everything at a time T goes in the order: what leaves at T, the events at T, what
/// did not happen until T.
#[derive(Debug, Clone)]
pub(super) struct User {
    head: Head,
    /// As in the plan.
    pieces: SmallVec<[Piece; 12]>,
    /// The encoded user: pieces that nothing has looked into lie here.
    rest: Arc<[u8]>,
}

/// What is decoded whenever a user is. Nearly always it fits where it lies, so to take
/// a user in hand is one allocation.
#[derive(Debug, Clone, Default)]
struct Head {
    key: Value,
    /// Up to when everything is done.
    clock: i64,
    /// The time of the newest event; none before the first, and after all was
    /// forgotten.
    newest: Option<i64>,
    /// Since when each tag has its value.
    since: SmallVec<[Option<i64>; 16]>,
    /// When time alone may change rules, by tick.
    ticks: SmallVec<[i64; 4]>,
    /// When rules that are new are looked at.
    review: Option<i64>,
    /// What it is to each segment.
    members: Vec<Member>,
}

/// Which of the things at a time are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Those before its events.
    Events,
    /// All.
    End,
}

/// What becomes known.
pub(super) trait Observer {
    /// A tag has changed.
    fn change(&mut self, user: &User, change: Change<'_>);
    /// Rules may have changed as of the user's clock.
    fn check(&mut self, plan: &Plan, user: &User);
}

/// Events of a span of time, its end outside, that a value is made of.
#[derive(Debug)]
pub(super) struct Tile {
    pub(super) start: i64,
    pub(super) end: i64,
    /// The value over them alone.
    pub(super) value: Value,
}

/// A change of a tag.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) tag: &'a TagPlan,
    pub(super) op: Op,
    pub(super) cause: Cause,
    pub(super) old: &'a Value,
    pub(super) new: &'a Value,
    /// The time of the event that did it.
    pub(super) event_time: Option<i64>,
    pub(super) effective_at: i64,
}

impl User {
    /// Of whom nothing is known.
    pub(super) fn new(plan: &Plan, key: Value, clock: i64) -> Self {
        let pieces = plan.pieces.iter();
        Self {
            head: Head {
                key,
                clock,
                newest: None,
                since: smallvec![None; plan.tags.len()],
                ticks: smallvec![i64::MAX; plan.ticks.len()],
                review: None,
                members: vec![Member::default(); plan.holds_us.len()],
            },
            pieces: pieces.map(|plan| Piece::new(State::new(plan))).collect(),
            rest: Arc::default(),
        }
    }

    /// From what [`encode`](Self::encode) made.
    pub(super) fn decode(bytes: Arc<[u8]>) -> Result<Box<Self>> {
        // It is read where it will lie, because it is large.
        let mut user = Box::new(Self {
            head: Head::default(),
            pieces: SmallVec::new(),
            rest: Arc::default(),
        });
        let read = user.read(&bytes);
        read.ok_or_else(|| Error::data("a stored user cannot be read"))?;
        user.rest = bytes;
        Ok(user)
    }

    /// Reads the head of an encoded user, and where its pieces lie.
    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        let (rest, place) = bytes.split_last_chunk()?;
        let mut rest = rest.get(u32::from_le_bytes(*place) as usize..)?;
        let [tags, ticks, pieces] = [(); 3].map(|()| take_length(&mut rest));
        let (tags, ticks, pieces) = (tags?, ticks?, pieces?);
        // No byte can stand for more than eight of them.
        if tags.max(ticks).max(pieces) > 8 * rest.len() {
            return None;
        }
        let mut begin = 0_usize;
        for _ in 0..pieces {
            let end = begin.checked_add(take_length(&mut rest)?)?;
            self.pieces.push(Piece::at_rest(begin..end));
            begin = end;
        }
        if begin > bytes.len() {
            return None;
        }
        let mut times = [None; 3];
        take_times(&mut rest, times.len(), |place, time| {
            times[place] = Some(time);
        })?;
        let head = &mut self.head;
        (head.clock, head.newest, head.review) = (times[0]?, times[1], times[2]);
        head.since.resize(tags, None);
        head.ticks.resize(ticks, i64::MAX);
        take_times(&mut rest, tags, |tag, at| head.since[tag] = Some(at))?;
        take_times(&mut rest, ticks, |tick, at| head.ticks[tick] = at)?;
        take_times(&mut rest, pieces, |piece, at| self.pieces[piece].next = at)?;
        (head.key, head.members) = Coded::take(&mut rest)?;
        Some(())
    }

    /// Adds the user as bytes: the pieces, the head, and where that begins.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let begin = bytes.len();
        let mut ends: SmallVec<[usize; 16]> = SmallVec::new();
        for piece in &self.pieces {
            piece.encode(&self.rest, bytes);
            ends.push(bytes.len());
        }
        let head = &self.head;
        let place = u32::try_from(bytes.len() - begin)
            .map_err(|_| Error::data("a user takes more than 4 GiB"))?;
        for length in [head.since.len(), head.ticks.len(), self.pieces.len()] {
            put_length(bytes, length);
        }
        let mut piece = begin;
        for end in ends {
            put_length(bytes, end - piece);
            piece = end;
        }
        let never = |at: &i64| (*at < i64::MAX).then_some(*at);
        put_times(
            bytes,
            [Some(head.clock), head.newest, head.review].into_iter(),
        );
        put_times(bytes, head.since.iter().copied());
        put_times(bytes, head.ticks.iter().map(never));
        put_times(bytes, self.pieces.iter().map(|piece| never(&piece.next)));
        head.key.put(bytes);
        head.members.put(bytes);
        bytes.extend_from_slice(&place.to_le_bytes());
        Ok(())
    }

    /// Takes out what the pieces are.
    pub(super) fn take_states(&mut self) -> Vec<State> {
        let pieces = std::mem::take(&mut self.pieces).into_iter();
        pieces.map(|piece| piece.into_state(&self.rest)).collect()
    }

    /// This user with other pieces, tags and segments: `since` and `members` are
    /// those of the new plan, whose rules are looked at as of `now`.
    pub(super) fn adapted(
        self,
        plan: &Plan,
        pieces: Vec<Piece>,
        since: impl Fn(&[Option<i64>]) -> SmallVec<[Option<i64>; 16]>,
        members: impl Fn(&[Member]) -> Vec<Member>,
        now: i64,
    ) -> Self {
        let mut user = Self {
            head: Head {
                since: since(&self.head.since),
                members: members(&self.head.members),
                ticks: smallvec![i64::MAX; plan.ticks.len()],
                review: Some(now),
                ..self.head
            },
            pieces: pieces.into(),
            rest: Arc::default(),
        };
        for piece in 0..user.pieces.len() {
            user.find_next(plan, piece);
        }
        user.find_ticks(plan, |_| true);
        user
    }

    pub(super) fn key(&self) -> &Value {
        &self.head.key
    }

    pub(super) fn clock(&self) -> i64 {
        self.head.clock
    }

    /// Whether there has been an event that is not forgotten.
    pub(super) fn is_known(&self) -> bool {
        self.head.newest.is_some()
    }

    /// What it is to each segment.
    pub(super) fn members(&self) -> &[Member] {
        &self.head.members
    }

    /// The same, to change it.
    pub(super) fn members_mut(&mut self) -> &mut [Member] {
        &mut self.head.members
    }

    /// The names of the segments that it is in: a list.
    pub(super) fn segments(&self, plan: &Plan) -> Value {
        let members = self.head.members.iter().zip(&plan.segments);
        let is_in = members.filter(|(member, _)| member.since.is_some());
        Value::List(
            is_in
                .map(|(_, name)| Value::Text(name.as_str().into()))
                .collect(),
        )
    }

    fn state(&self, piece: usize) -> &State {
        self.pieces[piece].state(&self.rest)
    }

    fn change(&mut self, piece: usize) -> &mut State {
        self.pieces[piece].change(&self.rest)
    }

    /// When something happens next by itself; not before the clock.
    pub(super) fn next(&self, plan: &Plan) -> i64 {
        let pieces = self.pieces.iter().map(|piece| piece.next);
        let ticks = self.head.ticks.iter().copied();
        let all = pieces.chain(ticks).chain(self.may_leave(plan));
        let all = all.chain(self.head.review).chain(self.forgotten_at(plan));
        all.min().unwrap_or(i64::MAX)
    }

    /// Takes an event that comes in its turn.
    pub(super) fn take(&mut self, plan: &Plan, event: Event<'_>, observer: &mut impl Observer) {
        self.advance(plan, event.time, Until::Events, observer);
        self.apply(plan, event, Cause::Event, observer);
    }

    /// Takes an event from before `done`, up to which all others have been taken.
    pub(super) fn correct(
        &mut self,
        plan: &Plan,
        event: Event<'_>,
        done: i64,
        observer: &mut impl Observer,
    ) {
        self.advance(plan, done, Until::End, observer);
        self.apply(plan, event, Cause::LateEvent, observer);
    }

    /// Lets time go by to `to`.
    pub(super) fn advance(
        &mut self,
        plan: &Plan,
        to: i64,
        until: Until,
        observer: &mut impl Observer,
    ) {
        loop {
            let now = self.next(plan);
            if now > to {
                break;
            }
            self.leave(plan, now, observer);
            if now == to && until == Until::Events {
                break;
            }
            self.end_waits(plan, now, observer);
        }
        self.head.clock = self.head.clock.max(to);
    }

    /// Lets time go by to `to`, when nothing happens until then.
    pub(super) fn pass(&mut self, to: i64) {
        self.head.clock = self.head.clock.max(to);
    }

    /// Goes by the cuts of `plan` in place of those of `before` from `now` on, up to
    /// which all is done. Says whether what rests has to change.
    pub(super) fn recut(
        &mut self,
        before: &Plan,
        plan: &Plan,
        now: i64,
        observer: &mut impl Observer,
    ) -> bool {
        let rested = self.head.clock;
        self.pass(now);
        let moment = Moment {
            cause: Cause::Quantiles,
            event_time: None,
            effective_at: self.head.clock,
        };
        let ticks = self.head.ticks.clone();
        self.find_ticks(plan, |_| true);
        let (mut is_told, mut is_changed, mut is_stale) = (false, false, false);
        for (place, tag) in plan.tags.iter().enumerate() {
            if matches!(tag.source, Source::Score { .. }) {
                let since = self.head.since[place];
                let old = self.value(before, place);
                is_changed |= self.report(plan, place, &old, moment, observer);
                is_told |= self.head.since[place] != since;
                // What comes next goes on from the value as of the clock at rest.
                let new = self.value(plan, place);
                let clock = std::mem::replace(&mut self.head.clock, rested);
                is_stale |= self.value(plan, place) != new;
                self.head.clock = clock;
            }
        }
        if is_changed {
            observer.check(plan, self);
        }
        is_told || is_changed || is_stale || self.head.ticks != ticks
    }

    /// The value of a tag as of the clock.
    pub(super) fn value(&self, plan: &Plan, tag: usize) -> Value {
        if let Some(expiry) = self.expiry(plan, tag)
            && expiry <= self.head.clock
        {
            return plan.tags[tag].default.clone();
        }
        let tag = &plan.tags[tag];
        if tag.goes_by_quantiles && !self.is_known() {
            return Value::Null;
        }
        match &tag.source {
            Source::Piece { read } => {
                let state = self.state(tag.piece);
                match (state, &plan.pieces[tag.piece].kind) {
                    (State::Series(series), PieceKind::Series(of)) => {
                        let Some(read) = read else { return Value::Null };
                        part::value(
                            read.function,
                            of.argument_type.as_ref(),
                            &series.parts,
                            read.window,
                        )
                    }
                    (State::Ranking(ranking), PieceKind::Ranking(of)) => ranking.top(of.k),
                    (State::Funnel(funnel), PieceKind::Funnel(of)) => {
                        funnel.stage(of, self.head.clock)
                    }
                    (State::Absence(absence), PieceKind::Absence(of)) => {
                        absence.value(of, self.head.clock)
                    }
                    _ => unreachable!("a piece is what its plan says"),
                }
            }
            Source::TimeSince { tag, unit_us } => match self.value(plan, *tag) {
                Value::Int(since) => {
                    Value::Int(self.head.clock.saturating_sub(since).div_euclid(*unit_us))
                }
                _ => Value::Null,
            },
            Source::Score {
                tag,
                cuts,
                is_reversed,
                ..
            } => {
                let number = self.value(plan, *tag).number(&plan.tags[*tag].data_type);
                plan::score(cuts.as_deref(), *is_reversed, number)
            }
        }
    }

    /// Since when a tag has its value; none if since before any event.
    pub(super) fn since(&self, tag: usize) -> Option<i64> {
        self.head.since[tag]
    }

    /// When a tag changes, or may change, if no event comes.
    pub(super) fn falls_at(&self, plan: &Plan, tag: usize) -> Option<i64> {
        let clock = self.head.clock;
        let piece = plan.tags[tag].piece;
        let leaves = match &plan.tags[tag].source {
            Source::Piece { read } => match (self.state(piece), &plan.pieces[piece].kind, read) {
                (State::Series(series), PieceKind::Series(of), Some(read)) => {
                    series.next_of(of, read.window, clock)
                }
                (State::Funnel(funnel), PieceKind::Funnel(of), _) => funnel.next(of, clock),
                (State::Absence(absence), PieceKind::Absence(of), _) => {
                    absence.next_expiry(of, clock)
                }
                _ => None,
            },
            Source::Score { tag: of, .. } => {
                let ticks = plan.ticks.iter().zip(&self.head.ticks);
                let ticks = ticks.filter(|(tick, at)| tick.score == Some(tag) && **at < i64::MAX);
                let passes_cut = ticks.map(|(_, at)| *at).min();
                self.falls_at(plan, *of).into_iter().chain(passes_cut).min()
            }
            Source::TimeSince { tag, .. } => self.falls_at(plan, *tag),
        };
        let expiry = self.expiry(plan, tag).filter(|expiry| *expiry > clock);
        expiry.into_iter().chain(leaves).min()
    }

    /// The tiles that a tag is made of.
    pub(super) fn tiles(&self, plan: &Plan, tag: usize) -> Vec<Tile> {
        let Source::Piece { read: Some(read) } = &plan.tags[tag].source else {
            return Vec::new();
        };
        let piece = plan.tags[tag].piece;
        let (State::Series(series), PieceKind::Series(of)) =
            (self.state(piece), &plan.pieces[piece].kind)
        else {
            return Vec::new();
        };
        let tiles = series.tiles_of(of, read.window, self.head.clock);
        let tiles = tiles.map(|(start, end, parts)| Tile {
            start,
            end,
            value: part::value(read.function, of.argument_type.as_ref(), &parts, 0),
        });
        tiles.collect()
    }

    /// Takes out what leaves at `now`, and moves the clock there.
    fn leave(&mut self, plan: &Plan, now: i64, observer: &mut impl Observer) {
        if self.forgotten_at(plan).is_some_and(|at| at <= now) {
            self.forget(plan, now.max(self.head.clock), observer);
            return;
        }
        if now <= self.head.clock {
            return;
        }
        let is_tick = self.head.ticks.contains(&now);
        let is_review = self.head.review.take_if(|at| *at <= now).is_some();
        let may_leave = self.may_leave(plan).any(|at| at == now);
        let clock = self.head.clock;
        // What a time since was just before: the score that was told goes by that, for
        // cuts may have changed since the clock.
        self.head.clock = now - 1;
        let due: SmallVec<[usize; 8]> = (0..self.pieces.len())
            .filter(|piece| self.pieces[*piece].next == now)
            .collect();
        let mut before: SmallVec<[(usize, Cause, Value); 4]> = SmallVec::new();
        for piece in &due {
            let of = &plan.pieces[*piece];
            let is_leaving = match (self.state(*piece), &of.kind) {
                (State::Series(series), PieceKind::Series(of)) => {
                    series.next(of, clock) == Some(now)
                }
                (State::Funnel(funnel), PieceKind::Funnel(of)) => {
                    funnel.next(of, clock) == Some(now)
                }
                _ => false,
            };
            for &tag in &of.tags {
                let is_old = self.is_old(plan, tag, now);
                let is_absence = matches!(of.kind, PieceKind::Absence(_));
                if is_leaving || is_old || is_absence {
                    let cause = if is_leaving && !is_old {
                        Cause::Expiry
                    } else {
                        Cause::Ttl
                    };
                    before.push((tag, cause, self.value(plan, tag)));
                }
            }
        }
        for (tick, at) in plan.ticks.iter().zip(&self.head.ticks) {
            if let Some(score) = tick.score.filter(|_| *at == now)
                && before.iter().all(|(tag, ..)| *tag != score)
            {
                before.push((score, Cause::Expiry, self.value(plan, score)));
            }
        }
        self.head.clock = now;
        for &piece in &due {
            match (self.change(piece), &plan.pieces[piece].kind) {
                (State::Series(series), PieceKind::Series(of)) => series.advance(of, clock, now),
                (State::Funnel(funnel), PieceKind::Funnel(of)) => funnel.advance(of, now),
                (State::Absence(absence), PieceKind::Absence(of)) => absence.forget(of, now),
                _ => {}
            }
            self.find_next(plan, piece);
        }
        self.find_ticks(plan, |piece| due.contains(&piece));
        let mut is_changed = is_tick || is_review || may_leave;
        for (tag, cause, old) in before {
            let moment = Moment {
                cause,
                event_time: None,
                effective_at: now,
            };
            is_changed |= self.report(plan, tag, &old, moment, observer);
        }
        if is_changed {
            observer.check(plan, self);
        }
    }

    /// Ends waits that end at `now`.
    fn end_waits(&mut self, plan: &Plan, now: i64, observer: &mut impl Observer) {
        let mut is_changed = false;
        for (piece, of) in plan.pieces.iter().enumerate() {
            let (PieceKind::Absence(_), [tag]) = (&of.kind, of.tags.as_slice()) else {
                continue;
            };
            if self.pieces[piece].next > now {
                continue;
            }
            let mut old = self.value(plan, *tag);
            let State::Absence(absence) = self.change(piece) else {
                continue;
            };
            for at in absence.end(now) {
                let new = Value::Bool(true);
                self.head.since[*tag] = Some(at);
                let change = Change {
                    tag: &plan.tags[*tag],
                    op: Op::Set,
                    cause: Cause::Absence,
                    old: &old,
                    new: &new,
                    event_time: None,
                    effective_at: at,
                };
                observer.change(self, change);
                is_changed |= plan.is_in_rules[*tag];
                old = new;
            }
            self.find_next(plan, piece);
        }
        if is_changed {
            observer.check(plan, self);
        }
    }

    /// Adds an event to all that it belongs to.
    fn apply(&mut self, plan: &Plan, event: Event<'_>, cause: Cause, observer: &mut impl Observer) {
        let is_first = !self.is_known();
        let mut is_changed = is_first;
        let mut changed: SmallVec<[usize; 8]> = SmallVec::new();
        self.head.newest = self.head.newest.max(Some(event.time));
        let moment = Moment {
            cause,
            event_time: Some(event.time),
            effective_at: event.time,
        };
        for (piece, of) in plan.pieces.iter().enumerate() {
            if let PieceKind::Absence(of) = &of.kind {
                is_changed |= self.wait(plan, (piece, of), event, cause, observer);
                continue;
            }
            let Some(part) = event.part(&of.kind) else {
                continue;
            };
            let told = |tag: &usize| !is_first || !plan.tags[*tag].goes_by_quantiles;
            let tags: SmallVec<[usize; 4]> = of.tags.iter().copied().filter(told).collect();
            let old: SmallVec<[Value; 4]> = tags.iter().map(|tag| self.value(plan, *tag)).collect();
            let clock = self.head.clock;
            let place = (event.time, event.tie);
            match (self.change(piece), &of.kind, part) {
                (State::Series(series), PieceKind::Series(of), EventPart::Value(value)) => {
                    let (time, tie) = place;
                    series.add(of, &Observation { time, tie, value }, clock);
                }
                (State::Ranking(it), PieceKind::Ranking(of), EventPart::Weighted(item, weight)) => {
                    it.add(of, &item, weight, event.time);
                }
                (State::Funnel(funnel), PieceKind::Funnel(of), EventPart::Steps(steps)) => {
                    funnel.add(of, place, steps, clock);
                }
                _ => unreachable!("a piece is what its plan says"),
            }
            self.find_next(plan, piece);
            changed.push(piece);
            for (tag, old) in tags.iter().zip(&old) {
                is_changed |= self.report(plan, *tag, old, moment, observer);
            }
        }
        if is_first {
            for tag in 0..plan.tags.len() {
                if plan.tags[tag].goes_by_quantiles {
                    is_changed |= self.report(plan, tag, &Value::Null, moment, observer);
                }
            }
        }
        self.find_ticks(plan, |piece| changed.contains(&piece));
        if is_changed {
            observer.check(plan, self);
        }
    }

    /// Adds an event to an absence. Says whether rules may have changed.
    fn wait(
        &mut self,
        plan: &Plan,
        (piece, of): (usize, &AbsencePlan),
        event: Event<'_>,
        cause: Cause,
        observer: &mut impl Observer,
    ) -> bool {
        let (is_after, is_expected) = (event.passes(Some(of.after)), event.passes(Some(of.expect)));
        let [tag] = plan.pieces[piece].tags[..] else {
            return false;
        };
        if !is_after && !is_expected {
            return false;
        }
        let same = of.same.iter().map(|column| event.value(*column));
        let part = absence::Event {
            time: event.time,
            tie: event.tie,
            same: Value::List(same.collect()).hash(),
            is_after,
            is_expected,
        };
        let clock = self.head.clock;
        let mut old = self.value(plan, tag);
        let State::Absence(absence) = self.change(piece) else {
            unreachable!("a piece is what its plan says");
        };
        if cause == Cause::Event {
            absence.add(of, part);
            absence.forget(of, clock);
            self.find_next(plan, piece);
            return false;
        }
        let revised = absence.add_late(of, part, clock);
        self.find_next(plan, piece);
        let new = self.value(plan, tag);
        let since = self.head.since[tag].unwrap_or(clock);
        let fired = revised.fired.iter().map(|at| (Op::Set, *at));
        let retracted = (0..revised.retracted).map(|_| (Op::Retract, since));
        let changes: Vec<(Op, i64)> = fired.chain(retracted).collect();
        for (op, effective_at) in &changes {
            self.head.since[tag] = self.head.since[tag].max(Some(*effective_at));
            let change = Change {
                tag: &plan.tags[tag],
                op: *op,
                cause,
                old: &old,
                new: &new,
                event_time: Some(event.time),
                effective_at: *effective_at,
            };
            observer.change(self, change);
            old.clone_from(&new);
        }
        !changes.is_empty() && plan.is_in_rules[tag]
    }

    /// Forgets all, with the tags falling to what they were before any event.
    fn forget(&mut self, plan: &Plan, now: i64, observer: &mut impl Observer) {
        let values: Vec<Value> = (0..plan.tags.len())
            .map(|tag| self.value(plan, tag))
            .collect();
        let members = std::mem::take(&mut self.head.members);
        *self = Self::new(plan, std::mem::take(&mut self.head.key), now);
        self.head.members = members;
        for (tag, old) in plan.tags.iter().zip(&values) {
            if *old != tag.default && tag.has_changes() {
                let change = Change {
                    tag,
                    op: Op::Forget,
                    cause: Cause::StateTtl,
                    old,
                    new: &Value::Null,
                    event_time: None,
                    effective_at: now,
                };
                observer.change(self, change);
            }
        }
        observer.check(plan, self);
    }

    /// Tells of a tag if it is not what is `old` any more. Says whether rules read
    /// it.
    fn report(
        &mut self,
        plan: &Plan,
        tag: usize,
        old: &Value,
        moment: Moment,
        observer: &mut impl Observer,
    ) -> bool {
        let new = self.value(plan, tag);
        if *old == new {
            return false;
        }
        if !plan.tags[tag].has_changes() {
            return plan.is_in_rules[tag];
        }
        // What a late event corrects has been so since the last change at least.
        let since = self.head.since[tag].unwrap_or(i64::MIN);
        let effective_at = since.max(moment.effective_at);
        self.head.since[tag] = Some(effective_at);
        let change = Change {
            tag: &plan.tags[tag],
            op: Op::Set,
            cause: moment.cause,
            old,
            new: &new,
            event_time: moment.event_time,
            effective_at,
        };
        observer.change(self, change);
        plan.is_in_rules[tag]
    }

    /// Finds out when something happens to a piece by itself.
    fn find_next(&mut self, plan: &Plan, piece: usize) {
        let of = &plan.pieces[piece];
        let clock = self.head.clock;
        let by_state = match (self.state(piece), &of.kind) {
            (State::Series(series), PieceKind::Series(of)) => series.next(of, clock),
            (State::Funnel(funnel), PieceKind::Funnel(of)) => funnel.next(of, clock),
            (State::Absence(absence), PieceKind::Absence(of)) => {
                let times = [absence.next_end(), absence.next_expiry(of, clock)];
                times.into_iter().flatten().min()
            }
            _ => None,
        };
        let expiries = of.tags.iter().filter_map(|tag| self.expiry(plan, *tag));
        let expiry = expiries.filter(|expiry| *expiry > clock).min();
        let next = by_state.into_iter().chain(expiry).min();
        self.pieces[piece].next = next.unwrap_or(i64::MAX);
    }

    /// Finds out when time alone may change rules: anew where that time has come, or the
    /// piece by which it goes `is_changed`.
    fn find_ticks(&mut self, plan: &Plan, is_changed: impl Fn(usize) -> bool) {
        for (place, tick) in plan.ticks.iter().enumerate() {
            let is_over = self.head.ticks[place] <= self.head.clock;
            if !is_over && !is_changed(plan.tags[tick.since].piece) {
                continue;
            }
            self.head.ticks[place] = self.next_tick(plan, tick).unwrap_or(i64::MAX);
        }
    }

    /// When a time since comes to a number of units at which rules look.
    fn next_tick(&self, plan: &Plan, tick: &Tick) -> Option<i64> {
        let Value::Int(since) = self.value(plan, tick.since) else {
            return None;
        };
        let passed = self
            .head
            .clock
            .saturating_sub(since)
            .div_euclid(tick.unit_us);
        let units = match &tick.after {
            None => passed + 1,
            Some(after) => *after.get(after.partition_point(|units| *units <= passed))?,
        };
        Some(since.saturating_add(units.saturating_mul(tick.unit_us)))
    }

    /// When a tag's value falls, or fell, because it is old.
    fn expiry(&self, plan: &Plan, tag: usize) -> Option<i64> {
        let tag = &plan.tags[tag];
        let ttl = tag.ttl_us?;
        let newest = self.state(tag.piece).newest()?;
        Some(newest.saturating_add(ttl))
    }

    /// Whether a tag's value, or what it is made of, falls at `now` because it is old.
    fn is_old(&self, plan: &Plan, tag: usize, now: i64) -> bool {
        let is_made_of_old = match plan.tags[tag].source {
            Source::TimeSince { tag, .. } | Source::Score { tag, .. } => {
                self.is_old(plan, tag, now)
            }
            Source::Piece { .. } => false,
        };
        is_made_of_old || self.expiry(plan, tag) == Some(now)
    }

    /// When it may leave the segments that it is to leave, after the clock.
    fn may_leave<'b>(&'b self, plan: &'b Plan) -> impl Iterator<Item = i64> + 'b {
        let members = self.head.members.iter().zip(&plan.holds_us);
        let at = members.filter_map(|(member, hold)| member.may_leave(*hold));
        at.filter(|at| *at > self.head.clock)
    }

    /// When all will be forgotten.
    fn forgotten_at(&self, plan: &Plan) -> Option<i64> {
        Some(self.head.newest?.saturating_add(plan.state_ttl_us?))
    }
}

/// When and why tags change.
#[derive(Debug, Clone, Copy)]
struct Moment {
    cause: Cause,
    event_time: Option<i64>,
    effective_at: i64,
}
