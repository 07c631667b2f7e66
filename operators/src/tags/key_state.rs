//! The state of a key, and its changes.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};
use tagflow_engine::{Error, Result};

use super::{
    aggregator::Aggregator,
    change::{Cause, Change, Op},
    codec::{Codec, put_length, put_times, take_length, take_times},
    event::{Event, Timing},
    kinds::{Outcome, State, Tile},
    member::Member,
    plan::{Plan, Source},
    value::Value,
};

/// A key's state: the pieces of its tags, at its clock.
///
/// At a time T the order is: expired events leave, the events at T are added, then waits that end
/// at T fire.
#[derive(Debug, Clone)]
pub(super) struct KeyState {
    head: Head,
    /// In the order of the plan.
    pieces: SmallVec<[Aggregator; 12]>,
    /// The encoded key. Pieces without an access stay encoded here.
    rest: Arc<[u8]>,
}

/// The part that is always decoded with a key. Nearly always it needs no allocation of its own, so
/// the decoding of a key is a single allocation.
#[derive(Debug, Clone, Default)]
struct Head {
    key: Value,
    /// The time up to which everything is processed.
    clock: i64,
    /// The time of the newest event; `None` before the first one, and after the key was forgotten.
    newest: Option<i64>,
    /// The time of the first event; none for a key that was stored in an older format.
    first: Option<i64>,
    /// How many changes have been emitted since the state of the key began.
    told: i64,
    /// The time at which the state expired, until the next event. It is not stored.
    forgotten_at: Option<i64>,
    /// Since when each tag has its value.
    since: SmallVec<[Option<i64>; 16]>,
    /// When time alone may change rules, by tick.
    time_triggers: SmallVec<[i64; 4]>,
    /// When new rules are evaluated.
    review: Option<i64>,
    /// Its membership in each segment.
    members: Vec<Member>,
}

/// The progress within an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Everything before its events.
    Events,
    /// Everything.
    End,
}

/// Receives the changes of a key.
pub(super) trait Observer {
    /// A tag has changed.
    fn change(&mut self, user: &KeyState, change: Change<'_>);
    /// Rules may have changed at the key's clock.
    fn check(&mut self, plan: &Plan, user: &KeyState);
}

impl KeyState {
    /// A key without events.
    pub(super) fn new(plan: &Plan, key: Value, clock: i64) -> Self {
        let pieces = plan.pieces.iter();
        Self {
            head: Head {
                key,
                clock,
                newest: None,
                first: None,
                told: 0,
                forgotten_at: None,
                since: smallvec![None; plan.tags.len()],
                time_triggers: smallvec![i64::MAX; plan.time_triggers.len()],
                review: None,
                members: vec![Member::default(); plan.holds_us.len()],
            },
            pieces: pieces
                .map(|plan| Aggregator::new(plan.kind.new_state()))
                .collect(),
            rest: Arc::default(),
        }
    }

    /// Decodes the result of [`encode`](Self::encode).
    pub(super) fn decode(bytes: Arc<[u8]>) -> Result<Box<Self>> {
        // It is decoded in place, because it is large.
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

    /// Decodes the head of an encoded key, and the positions of its pieces.
    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        let (rest, place) = bytes.split_last_chunk()?;
        let mut rest = rest.get(u32::from_le_bytes(*place) as usize..)?;
        let [tags, time_triggers, pieces] = [(); 3].map(|()| take_length(&mut rest));
        let (tags, time_triggers, pieces) = (tags?, time_triggers?, pieces?);
        // A byte encodes at most eight items.
        if tags.max(time_triggers).max(pieces) > 8 * rest.len() {
            return None;
        }
        let mut begin = 0_usize;
        for _ in 0..pieces {
            let end = begin.checked_add(take_length(&mut rest)?)?;
            self.pieces.push(Aggregator::at_rest(begin..end));
            begin = end;
        }
        if begin > bytes.len() {
            return None;
        }
        // Formats 2 and 3 have three times. Their bits are in the same single byte.
        let mut times = [None; 5];
        take_times(&mut rest, times.len(), |place, time| {
            times[place] = Some(time);
        })?;
        let head = &mut self.head;
        (head.clock, head.newest, head.review) = (times[0]?, times[1], times[2]);
        (head.first, head.told) = (times[3], times[4].unwrap_or(0));
        head.since.resize(tags, None);
        head.time_triggers.resize(time_triggers, i64::MAX);
        take_times(&mut rest, tags, |tag, at| head.since[tag] = Some(at))?;
        take_times(&mut rest, time_triggers, |tick, at| {
            head.time_triggers[tick] = at;
        })?;
        take_times(&mut rest, pieces, |piece, at| self.pieces[piece].next = at)?;
        (head.key, head.members) = Codec::take(&mut rest)?;
        Some(())
    }

    /// Appends the encoded key: the pieces, the head, and the position of the head.
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
        for length in [
            head.since.len(),
            head.time_triggers.len(),
            self.pieces.len(),
        ] {
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
            [
                Some(head.clock),
                head.newest,
                head.review,
                head.first,
                (head.told > 0).then_some(head.told),
            ]
            .into_iter(),
        );
        put_times(bytes, head.since.iter().copied());
        put_times(bytes, head.time_triggers.iter().map(never));
        put_times(bytes, self.pieces.iter().map(|piece| never(&piece.next)));
        head.key.put(bytes);
        head.members.put(bytes);
        bytes.extend_from_slice(&place.to_le_bytes());
        Ok(())
    }

    /// Extracts the states of the pieces.
    pub(super) fn take_states(&mut self) -> Vec<State> {
        let pieces = std::mem::take(&mut self.pieces).into_iter();
        pieces.map(|piece| piece.into_state(&self.rest)).collect()
    }

    /// This key with other pieces, tags and segments. `since` and `members` are those of the new
    /// plan, whose rules are evaluated at `now`.
    pub(super) fn adapted(
        self,
        plan: &Plan,
        pieces: Vec<Aggregator>,
        since: impl Fn(&[Option<i64>]) -> SmallVec<[Option<i64>; 16]>,
        members: impl Fn(&[Member]) -> Vec<Member>,
        now: i64,
    ) -> Self {
        let mut user = Self {
            head: Head {
                since: since(&self.head.since),
                members: members(&self.head.members),
                time_triggers: smallvec![i64::MAX; plan.time_triggers.len()],
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

    /// Its membership in each segment.
    pub(super) fn members(&self) -> &[Member] {
        &self.head.members
    }

    /// The same, mutable.
    pub(super) fn members_mut(&mut self) -> &mut [Member] {
        &mut self.head.members
    }

    /// The names of its segments: a list.
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

    /// The time of its next change without an event; not before the clock.
    pub(super) fn next(&self, plan: &Plan) -> i64 {
        let pieces = self.pieces.iter().map(|piece| piece.next);
        let time_triggers = self.head.time_triggers.iter().copied();
        let all = pieces.chain(time_triggers).chain(self.may_leave(plan));
        let all = all.chain(self.head.review).chain(self.forgotten_at(plan));
        all.min().unwrap_or(i64::MAX)
    }

    /// Processes an event in order.
    pub(super) fn take(&mut self, plan: &Plan, event: Event<'_>, observer: &mut impl Observer) {
        self.advance(plan, event.time, Until::Events, observer);
        self.apply(plan, event, Timing::InOrder, observer);
    }

    /// Processes an event from before `done`. All events up to `done` have been processed.
    pub(super) fn correct(
        &mut self,
        plan: &Plan,
        event: Event<'_>,
        done: i64,
        observer: &mut impl Observer,
    ) {
        self.advance(plan, done, Until::End, observer);
        self.apply(plan, event, Timing::Late, observer);
    }

    /// Advances the clock to `to`.
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

    /// How many changes of the key have been emitted.
    pub(super) fn told(&self) -> i64 {
        self.head.told
    }

    /// The time of the first event, or of the newest if the first is unknown.
    pub(super) fn first(&self) -> Option<i64> {
        self.head.first.or(self.head.newest)
    }

    /// Advances the clock to `to`, if nothing changes until then.
    pub(super) fn pass(&mut self, to: i64) {
        self.head.clock = self.head.clock.max(to);
    }

    /// Replaces the thresholds of `before` by those of `plan` from `now` on. Everything up to `now`
    /// is processed. Returns whether the encoded state must change.
    pub(super) fn rescore(
        &mut self,
        before: &Plan,
        plan: &Plan,
        now: i64,
        observer: &mut impl Observer,
    ) -> bool {
        let rested = self.head.clock;
        self.pass(now);
        let moment = ChangeContext::new(Cause::Quantiles, self.head.clock);
        let time_triggers = self.head.time_triggers.clone();
        self.find_ticks(plan, |_| true);
        let (mut is_told, mut is_changed, mut is_stale) = (false, false, false);
        for (place, tag) in plan.tags.iter().enumerate() {
            let derived = tag.source.derived();
            if derived.is_some_and(|it| it.thresholds().is_some()) {
                let since = self.head.since[place];
                let old = self.value(before, place);
                is_changed |= self.report(plan, place, &old, moment, observer);
                is_told |= self.head.since[place] != since;
                // Further changes continue from the value at the encoded clock.
                let new = self.value(plan, place);
                let clock = std::mem::replace(&mut self.head.clock, rested);
                is_stale |= self.value(plan, place) != new;
                self.head.clock = clock;
            }
        }
        if is_changed {
            observer.check(plan, self);
        }
        is_told || is_changed || is_stale || self.head.time_triggers != time_triggers
    }

    /// The value of a tag at the clock.
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
        let clock = self.head.clock;
        match &tag.source {
            Source::Piece(read) => {
                let kind = &plan.pieces[tag.piece].kind;
                kind.value(self.state(tag.piece), read.as_ref(), clock)
            }
            Source::Tag(derived) => {
                let of = derived.tag();
                let value = self.value(plan, of);
                derived.value(&value, &plan.tags[of].data_type, clock)
            }
        }
    }

    /// Since when a tag has its value; `None` if since before any event.
    pub(super) fn since(&self, tag: usize) -> Option<i64> {
        self.head.since[tag]
    }

    /// When a tag changes, or may change, without an event.
    pub(super) fn expires_at(&self, plan: &Plan, tag: usize) -> Option<i64> {
        let clock = self.head.clock;
        let piece = plan.tags[tag].piece;
        let leaves = match &plan.tags[tag].source {
            Source::Piece(read) => {
                let kind = &plan.pieces[piece].kind;
                kind.expires_at(self.state(piece), read.as_ref(), clock)
            }
            Source::Tag(derived) => {
                let triggers = plan.time_triggers.iter().zip(&self.head.time_triggers);
                let triggers = triggers.filter(|(trigger, _)| trigger.score == Some(tag));
                let passes = triggers.map(|(_, at)| *at).filter(|at| *at < i64::MAX);
                let of = self.expires_at(plan, derived.tag());
                of.into_iter().chain(passes).min()
            }
        };
        let expiry = self.expiry(plan, tag).filter(|expiry| *expiry > clock);
        expiry.into_iter().chain(leaves).min()
    }

    /// The tiles of a tag.
    pub(super) fn tiles(&self, plan: &Plan, tag: usize) -> Vec<Tile> {
        let tag = &plan.tags[tag];
        let kind = &plan.pieces[tag.piece].kind;
        match &tag.source {
            Source::Piece(read) => {
                kind.tiles(self.state(tag.piece), read.as_ref(), self.head.clock)
            }
            Source::Tag(_) => Vec::new(),
        }
    }

    /// Removes expired events at `now`, and advances the clock.
    fn leave(&mut self, plan: &Plan, now: i64, observer: &mut impl Observer) {
        if self.forgotten_at(plan).is_some_and(|at| at <= now) {
            self.forget(plan, now.max(self.head.clock), observer);
            return;
        }
        if now <= self.head.clock {
            return;
        }
        let is_tick = self.head.time_triggers.contains(&now);
        let is_review = self.head.review.take_if(|at| *at <= now).is_some();
        let may_leave = self.may_leave(plan).any(|at| at == now);
        let clock = self.head.clock;
        // The value of a time since just before: the emitted score depends on it, because
        // thresholds may have changed since the clock.
        self.head.clock = now - 1;
        let due: SmallVec<[usize; 8]> = (0..self.pieces.len())
            .filter(|piece| self.pieces[*piece].next == now)
            .collect();
        let mut before: SmallVec<[(usize, Cause, Value); 4]> = SmallVec::new();
        for piece in &due {
            let of = &plan.pieces[*piece];
            let expiry = of.kind.expiry(self.state(*piece), clock, now);
            for &tag in &of.tags {
                let is_old = self.is_old(plan, tag, now);
                if let Some(cause) = is_old.then_some(Cause::Ttl).or(expiry) {
                    before.push((tag, cause, self.value(plan, tag)));
                }
            }
        }
        for (tick, at) in plan.time_triggers.iter().zip(&self.head.time_triggers) {
            if let Some(score) = tick.score.filter(|_| *at == now)
                && before.iter().all(|(tag, ..)| *tag != score)
            {
                before.push((score, Cause::Expiry, self.value(plan, score)));
            }
        }
        self.head.clock = now;
        for &piece in &due {
            let kind = &plan.pieces[piece].kind;
            kind.advance(self.change(piece), clock, now);
            self.find_next(plan, piece);
        }
        self.find_ticks(plan, |piece| due.contains(&piece));
        let mut is_changed = is_tick || is_review || may_leave;
        for (tag, cause, old) in before {
            let moment = ChangeContext::new(cause, now);
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
            if !of.kind.fires() || self.pieces[piece].next > now {
                continue;
            }
            let old: SmallVec<[Value; 1]> = self.values(plan, &of.tags);
            if let Some(at) = of.kind.end_waits(self.change(piece), now) {
                let moment = ChangeContext::new(Cause::Absence, at);
                for (tag, old) in of.tags.iter().zip(&old) {
                    is_changed |= self.report(plan, *tag, old, moment, observer);
                }
            }
            self.find_next(plan, piece);
        }
        if is_changed {
            observer.check(plan, self);
        }
    }

    /// Adds an event to all its pieces.
    fn apply(
        &mut self,
        plan: &Plan,
        event: Event<'_>,
        timing: Timing,
        observer: &mut impl Observer,
    ) {
        let is_first = !self.is_known();
        let mut is_changed = is_first;
        let mut changed: SmallVec<[usize; 8]> = SmallVec::new();
        if is_first && self.head.forgotten_at.take() != Some(event.time) {
            // The result is the same if the expired key has left the memory.
            self.head.told = 0;
        }
        self.head.newest = self.head.newest.max(Some(event.time));
        self.head.first = match self.head.first {
            None if !is_first => None,
            first => Some(first.unwrap_or(event.time).min(event.time)),
        };
        let clock = self.head.clock;
        let moment = ChangeContext {
            op: Op::Set,
            cause: match timing {
                Timing::InOrder => Cause::Event,
                Timing::Late => Cause::LateEvent,
            },
            event_time: Some(event.time),
            effective_at: event.time,
        };
        for (piece, of) in plan.pieces.iter().enumerate() {
            let Some(input) = of.kind.input(&event) else {
                continue;
            };
            let told = |tag: &usize| !is_first || !plan.tags[*tag].goes_by_quantiles;
            let tags: SmallVec<[usize; 4]> = of.tags.iter().copied().filter(told).collect();
            let old: SmallVec<[Value; 4]> = self.values(plan, &tags);
            let outcome = of.kind.add(self.change(piece), input, timing, clock);
            self.find_next(plan, piece);
            changed.push(piece);
            let moment = match outcome {
                Outcome::Same => continue,
                Outcome::New => moment,
                Outcome::Revised(fired) => ChangeContext {
                    op: fired.map_or(Op::Retract, |_| Op::Set),
                    effective_at: fired.unwrap_or(clock),
                    ..moment
                },
            };
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

    /// The values of some tags.
    fn values<C: FromIterator<Value>>(&self, plan: &Plan, tags: &[usize]) -> C {
        tags.iter().map(|tag| self.value(plan, *tag)).collect()
    }

    /// Forgets the key: its tags get their initial values.
    fn forget(&mut self, plan: &Plan, now: i64, observer: &mut impl Observer) {
        let values: Vec<Value> = (0..plan.tags.len())
            .map(|tag| self.value(plan, tag))
            .collect();
        let moment = ChangeContext {
            op: Op::Forget,
            ..ChangeContext::new(Cause::StateTtl, now)
        };
        let members = std::mem::take(&mut self.head.members);
        let told = self.head.told;
        *self = Self::new(plan, std::mem::take(&mut self.head.key), now);
        (self.head.members, self.head.told) = (members, told);
        self.head.forgotten_at = Some(now);
        for (tag, old) in values.iter().enumerate() {
            let of = &plan.tags[tag];
            if *old != of.default && of.has_changes() {
                self.emit(plan, tag, [old, &Value::Null], moment, observer);
            }
        }
        observer.check(plan, self);
    }

    /// Reports a tag if its value is no longer `old`. Returns whether rules read the tag.
    fn report(
        &mut self,
        plan: &Plan,
        tag: usize,
        old: &Value,
        moment: ChangeContext,
        observer: &mut impl Observer,
    ) -> bool {
        let new = self.value(plan, tag);
        if *old == new {
            return false;
        }
        if !plan.tags[tag].has_changes() {
            return plan.is_in_rules[tag];
        }
        // A value that a late event corrects is valid since the last change at least. A value that
        // is retracted was never valid.
        let since = self.head.since[tag];
        let effective_at = match moment.op {
            Op::Retract => since.unwrap_or(moment.effective_at),
            Op::Set | Op::Forget => since.unwrap_or(i64::MIN).max(moment.effective_at),
        };
        self.head.since[tag] = Some(effective_at);
        let moment = ChangeContext {
            effective_at,
            ..moment
        };
        self.emit(plan, tag, [old, &new], moment, observer);
        plan.is_in_rules[tag]
    }

    /// Emits a change of a tag.
    fn emit(
        &mut self,
        plan: &Plan,
        tag: usize,
        [old, new]: [&Value; 2],
        moment: ChangeContext,
        observer: &mut impl Observer,
    ) {
        let tag = &plan.tags[tag];
        let change = Change {
            tag: &tag.name,
            data_type: &tag.data_type,
            op: moment.op,
            cause: moment.cause,
            old,
            new,
            event_time: moment.event_time,
            effective_at: moment.effective_at,
        };
        self.head.told += 1;
        observer.change(self, change);
    }

    /// Computes the next change of a piece without an event.
    fn find_next(&mut self, plan: &Plan, piece: usize) {
        let of = &plan.pieces[piece];
        let clock = self.head.clock;
        let by_state = of.kind.next(self.state(piece), clock);
        let expiries = of.tags.iter().filter_map(|tag| self.expiry(plan, *tag));
        let expiry = expiries.filter(|expiry| *expiry > clock).min();
        let next = by_state.into_iter().chain(expiry).min();
        self.pieces[piece].next = next.unwrap_or(i64::MAX);
    }

    /// Computes when time alone may change rules, for ticks that have passed and for those whose
    /// piece `is_changed`.
    fn find_ticks(&mut self, plan: &Plan, is_changed: impl Fn(usize) -> bool) {
        for (place, tick) in plan.time_triggers.iter().enumerate() {
            let is_over = self.head.time_triggers[place] <= self.head.clock;
            if !is_over && !is_changed(plan.tags[tick.since].piece) {
                continue;
            }
            let next = tick.next(&self.value(plan, tick.since), self.head.clock);
            self.head.time_triggers[place] = next.unwrap_or(i64::MAX);
        }
    }

    /// When a tag's value expires, or expired.
    fn expiry(&self, plan: &Plan, tag: usize) -> Option<i64> {
        let tag = &plan.tags[tag];
        let ttl = tag.ttl_us?;
        let newest = plan.pieces[tag.piece].kind.newest(self.state(tag.piece))?;
        Some(newest.saturating_add(ttl))
    }

    /// Whether the value of a tag, or of its input, expires at `now`.
    fn is_old(&self, plan: &Plan, tag: usize, now: i64) -> bool {
        let of = plan.tags[tag].source.derived();
        let is_made_of_old = of.is_some_and(|of| self.is_old(plan, of.tag(), now));
        is_made_of_old || self.expiry(plan, tag) == Some(now)
    }

    /// When it may leave the segments that it will leave, after the clock.
    fn may_leave<'b>(&'b self, plan: &'b Plan) -> impl Iterator<Item = i64> + 'b {
        let members = self.head.members.iter().zip(&plan.holds_us);
        let at = members.filter_map(|(member, hold)| member.may_leave(*hold));
        at.filter(|at| *at > self.head.clock)
    }

    /// When the key will be forgotten.
    fn forgotten_at(&self, plan: &Plan) -> Option<i64> {
        Some(self.head.newest?.saturating_add(plan.state_ttl_us?))
    }
}

/// The operation, cause and time of changes.
#[derive(Debug, Clone, Copy)]
struct ChangeContext {
    op: Op,
    cause: Cause,
    event_time: Option<i64>,
    effective_at: i64,
}

impl ChangeContext {
    /// New values without an event.
    fn new(cause: Cause, effective_at: i64) -> Self {
        Self {
            op: Op::Set,
            cause,
            event_time: None,
            effective_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Format 3 has no first event and no number of changes.
    #[test]
    fn keys_of_format_3_are_read() {
        let mut bytes = Vec::new();
        for length in [2, 0, 0] {
            put_length(&mut bytes, length);
        }
        put_times(&mut bytes, [Some(40), Some(30), None].into_iter());
        put_times(&mut bytes, [None, Some(20)].into_iter());
        Value::Text("u1".into()).put(&mut bytes);
        Vec::<Member>::new().put(&mut bytes);
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        let user = KeyState::decode(bytes.as_slice().into()).unwrap();
        assert_eq!((user.clock(), user.head.newest), (40, Some(30)));
        assert_eq!((user.since(0), user.since(1)), (None, Some(20)));
        assert_eq!(*user.key(), Value::Text("u1".into()));
        assert_eq!((user.first(), user.told()), (Some(30), 0));
    }
}
