//! All that is known of a key, and how it changes.

use std::cmp::Ordering;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float64Type,
};
use serde::{Deserialize, Serialize};

use super::{
    absence::{self, Absence},
    changes::{Cause, Op},
    funnel::Funnel,
    part,
    partial::Observation,
    plan::{Plan, Source, TagPlan, Tick},
    ranking::Ranking,
    series::Series,
    value::Value,
};

/// A key's state: what its tags are made of, as of [`User::clock`].
///
/// Everything at a time T goes in the order: what leaves at T, the events at T, what
/// did not happen until T.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) key: Value,
    /// Up to when everything is done.
    pub(super) clock: i64,
    /// The time of the newest event; none before the first, and after all was
    /// forgotten.
    pub(super) newest: Option<i64>,
    pub(super) series: Vec<Series>,
    pub(super) rankings: Vec<Ranking>,
    pub(super) funnels: Vec<Funnel>,
    pub(super) absences: Vec<Absence>,
    /// Since when each tag has its value.
    pub(super) since: Vec<Option<i64>>,
    /// What it is to each segment.
    pub(super) members: Vec<Member>,
    /// Nothing happens by itself before this.
    pub(super) next: i64,
}

/// What a key is to a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// When it entered, if it is in.
    pub(super) since: Option<i64>,
    /// Whether it will leave as soon as it may.
    pub(super) is_leaving: bool,
}

impl Member {
    /// When it leaves, if it is to.
    pub(super) fn may_leave(&self, hold_us: i64) -> Option<i64> {
        let since = self.since.filter(|_| self.is_leaving)?;
        Some(since.saturating_add(hold_us))
    }
}

/// An event of a key: a row of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'a> {
    pub(super) time: i64,
    pub(super) tie: u64,
    pub(super) rows: &'a RecordBatch,
    pub(super) row: usize,
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
        Self {
            key,
            clock,
            newest: None,
            series: plan.series.iter().map(Series::new).collect(),
            rankings: vec![Ranking::default(); plan.rankings.len()],
            funnels: vec![Funnel::default(); plan.funnels.len()],
            absences: vec![Absence::new(); plan.absences.len()],
            since: vec![None; plan.tags.len()],
            members: vec![Member::default(); plan.holds_us.len()],
            next: i64::MAX,
        }
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
        while self.next <= to {
            self.next = self.exact_next(plan);
            if self.next > to {
                break;
            }
            let now = self.next;
            self.leave(plan, now, observer);
            if now == to && until == Until::Events {
                break;
            }
            self.end_waits(plan, now, observer);
        }
        self.clock = self.clock.max(to);
    }

    /// Forgets what is of no use any more, and finds out when something happens by
    /// itself.
    pub(super) fn settle(&mut self, plan: &Plan) {
        for (absence, plan) in self.absences.iter_mut().zip(&plan.absences) {
            absence.forget(plan, self.clock);
        }
        self.next = self.exact_next(plan);
    }

    /// The names of the segments that it is in: a list.
    pub(super) fn segments(&self, plan: &Plan) -> Value {
        let members = self.members.iter().zip(&plan.segments);
        let is_in = members.filter(|(member, _)| member.since.is_some());
        Value::List(
            is_in
                .map(|(_, name)| Value::Text(name.as_str().into()))
                .collect(),
        )
    }

    /// The value of a tag as of the clock.
    pub(super) fn value(&self, plan: &Plan, tag: usize) -> Value {
        let tag = &plan.tags[tag];
        if let Some(ttl) = tag.ttl_us
            && self
                .newest_of(tag)
                .is_some_and(|newest| newest.saturating_add(ttl) <= self.clock)
        {
            return tag.default.clone();
        }
        match &tag.source {
            Source::Series {
                series,
                function,
                window,
                argument,
            } => part::value(
                *function,
                argument.as_ref(),
                &self.series[*series].parts,
                *window,
            ),
            Source::Ranking { ranking, k } => self.rankings[*ranking].top(*k),
            Source::Funnel(funnel) => self.funnels[*funnel].stage(&plan.funnels[*funnel]),
            Source::Absence(absence) => {
                self.absences[*absence].value(&plan.absences[*absence], self.clock)
            }
            Source::TimeSince { tag, unit_us } => match self.value(plan, *tag) {
                Value::Int(since) => {
                    Value::Int(self.clock.saturating_sub(since).div_euclid(*unit_us))
                }
                _ => Value::Null,
            },
            Source::Score {
                tag,
                cuts,
                is_reversed,
            } => {
                let of = &plan.tags[*tag];
                let Some(number) = self.value(plan, *tag).number(&of.data_type) else {
                    return Value::Null;
                };
                let passed = cuts.partition_point(|cut| *cut <= number);
                let score = if *is_reversed {
                    cuts.len() - passed
                } else {
                    passed
                };
                Value::Int(score as i64 + 1)
            }
        }
    }

    /// When something happens next by itself; not before the clock.
    fn exact_next(&self, plan: &Plan) -> i64 {
        let clock = self.clock;
        let mut next = i64::MAX;
        let mut at = |time: Option<i64>| next = time.map_or(next, |time| next.min(time));
        for (series, plan) in self.series.iter().zip(&plan.series) {
            at(series.next(plan, clock));
        }
        for (funnel, plan) in self.funnels.iter().zip(&plan.funnels) {
            at(funnel.next(plan));
        }
        for (absence, plan) in self.absences.iter().zip(&plan.absences) {
            at(absence.next_end());
            at(absence.next_expiry(plan, clock));
        }
        for tag in &plan.tags {
            at(self.expiry(tag));
        }
        for tick in &plan.ticks {
            at(self.next_tick(plan, tick));
        }
        self.may_leave(plan).for_each(|time| at(Some(time)));
        at(self.forgotten_at(plan));
        next
    }

    /// Takes out what leaves at `now`, and moves the clock there.
    fn leave(&mut self, plan: &Plan, now: i64, observer: &mut impl Observer) {
        if now <= self.clock {
            return;
        }
        if self.forgotten_at(plan) == Some(now) {
            self.forget(plan, now, observer);
            return;
        }
        let clock = self.clock;
        let mut expired = Vec::new();
        let mut left = Vec::new();
        for (place, tag) in plan.tags.iter().enumerate() {
            if self.expiry(tag) == Some(now) {
                expired.push(place);
            }
        }
        for (absence, plan) in self.absences.iter().zip(&plan.absences) {
            if absence.next_expiry(plan, clock) == Some(now) {
                expired.push(plan.tag);
            }
        }
        for (series, plan) in self.series.iter().zip(&plan.series) {
            if series.next(plan, clock) == Some(now) {
                left.extend_from_slice(&plan.tags);
            }
        }
        for (funnel, plan) in self.funnels.iter().zip(&plan.funnels) {
            if funnel.next(plan) == Some(now) {
                left.push(plan.tag);
            }
        }
        let mut ticks = plan.ticks.iter();
        let is_tick = ticks.any(|tick| self.next_tick(plan, tick) == Some(now));
        let may_leave = self.may_leave(plan).any(|at| at == now);
        let (old_expired, old_left) = (self.values(plan, &expired), self.values(plan, &left));

        for (series, plan) in self.series.iter_mut().zip(&plan.series) {
            series.advance(plan, clock, now);
        }
        for (funnel, plan) in self.funnels.iter_mut().zip(&plan.funnels) {
            funnel.advance(plan, now);
        }
        self.clock = now;
        let moment = |cause| Moment {
            cause,
            event_time: None,
            effective_at: now,
        };
        let ttl = self.report_all(plan, &expired, &old_expired, moment(Cause::Ttl), observer);
        let expiry = self.report_all(plan, &left, &old_left, moment(Cause::Expiry), observer);
        if ttl || expiry || is_tick || may_leave {
            observer.check(plan, self);
        }
    }

    /// When it may leave the segments that it is to leave, after the clock.
    fn may_leave<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = i64> + 'a {
        let members = self.members.iter().zip(&plan.holds_us);
        let at = members.filter_map(|(member, hold)| member.may_leave(*hold));
        at.filter(|at| *at > self.clock)
    }

    /// Ends waits that end at `now`.
    fn end_waits(&mut self, plan: &Plan, now: i64, observer: &mut impl Observer) {
        let mut is_changed = false;
        for (place, plan_of) in plan.absences.iter().enumerate() {
            let mut old = self.value(plan, plan_of.tag);
            for at in self.absences[place].end(now) {
                let new = Value::Bool(true);
                self.since[plan_of.tag] = Some(at);
                let change = Change {
                    tag: &plan.tags[plan_of.tag],
                    op: Op::Set,
                    cause: Cause::Absence,
                    old: &old,
                    new: &new,
                    event_time: None,
                    effective_at: at,
                };
                observer.change(self, change);
                is_changed |= plan.is_in_rules[plan_of.tag];
                old = new;
            }
        }
        if is_changed {
            observer.check(plan, self);
        }
    }

    /// Adds an event to all that it belongs to.
    fn apply(&mut self, plan: &Plan, event: Event<'_>, cause: Cause, observer: &mut impl Observer) {
        let mut is_changed = self.newest.is_none();
        self.newest = self.newest.max(Some(event.time));
        let moment = Moment {
            cause,
            event_time: Some(event.time),
            effective_at: event.time,
        };
        for (place, of) in plan.series.iter().enumerate() {
            if !event.passes(of.filter) {
                continue;
            }
            let value = of.argument.map(|column| event.value(column));
            if value.as_ref().is_some_and(Value::is_null) {
                continue;
            }
            let observation = Observation {
                time: event.time,
                tie: event.tie,
                value: value.unwrap_or_default(),
            };
            let old = self.values(plan, &of.tags);
            let leaves = self.series[place].add(of, &observation, self.clock);
            self.wake(leaves);
            is_changed |= self.report_all(plan, &of.tags, &old, moment, observer);
        }
        for (place, of) in plan.rankings.iter().enumerate() {
            let weight = event.weight(of.weight);
            if !event.passes(of.filter) || weight.partial_cmp(&0.0) != Some(Ordering::Greater) {
                continue;
            }
            let item = event.value(of.argument);
            if item.is_null() {
                continue;
            }
            let old = self.values(plan, &[of.tag]);
            self.rankings[place].add(of, &item, weight, event.time);
            is_changed |= self.report_all(plan, &[of.tag], &old, moment, observer);
        }
        for (place, of) in plan.funnels.iter().enumerate() {
            let steps = of.steps.iter().enumerate();
            let steps = steps.filter(|(_, (_, column))| event.passes(Some(*column)));
            let steps = steps.fold(0, |steps, (step, _)| steps | (1 << step));
            let old = self.values(plan, &[of.tag]);
            let leaves = self.funnels[place].add(of, (event.time, event.tie), steps, self.clock);
            if leaves.is_some() {
                self.wake(leaves);
                is_changed |= self.report_all(plan, &[of.tag], &old, moment, observer);
            }
        }
        for (place, of) in plan.absences.iter().enumerate() {
            let (is_after, is_expected) =
                (event.passes(Some(of.after)), event.passes(Some(of.expect)));
            if is_after || is_expected {
                let same = of.same.iter().map(|column| event.value(*column));
                let part = absence::Event {
                    time: event.time,
                    tie: event.tie,
                    same: Value::List(same.collect()).hash(),
                    is_after,
                    is_expected,
                };
                is_changed |= self.wait(plan, place, part, cause, observer);
            }
        }
        for tag in &plan.tags {
            self.wake(self.expiry(tag));
        }
        for tick in &plan.ticks {
            self.wake(self.next_tick(plan, tick));
        }
        self.wake(self.forgotten_at(plan));
        if is_changed {
            observer.check(plan, self);
        }
    }

    /// Adds an event to an absence. Says whether rules may have changed.
    fn wait(
        &mut self,
        plan: &Plan,
        place: usize,
        event: absence::Event,
        cause: Cause,
        observer: &mut impl Observer,
    ) -> bool {
        let of = &plan.absences[place];
        if cause == Cause::Event {
            self.absences[place].add(of, event);
            self.wake(self.absences[place].next_end());
            return false;
        }
        let mut old = self.value(plan, of.tag);
        let event_time = Some(event.time);
        let revised = self.absences[place].add_late(of, event, self.clock);
        self.wake(self.absences[place].next_end());
        self.wake(self.absences[place].next_expiry(of, self.clock));
        let new = self.value(plan, of.tag);
        let fired = revised.fired.iter().map(|at| (Op::Set, *at));
        let since = self.since[of.tag];
        let retracted = (0..revised.retracted).map(|_| (Op::Retract, since.unwrap_or(self.clock)));
        let changes: Vec<(Op, i64)> = fired.chain(retracted).collect();
        for (op, effective_at) in &changes {
            self.since[of.tag] = self.since[of.tag].max(Some(*effective_at));
            let change = Change {
                tag: &plan.tags[of.tag],
                op: *op,
                cause,
                old: &old,
                new: &new,
                event_time,
                effective_at: *effective_at,
            };
            observer.change(self, change);
            old.clone_from(&new);
        }
        !changes.is_empty() && plan.is_in_rules[of.tag]
    }

    /// Forgets all, with the tags falling to what they were before any event.
    fn forget(&mut self, plan: &Plan, now: i64, observer: &mut impl Observer) {
        let values: Vec<Value> = (0..plan.tags.len())
            .map(|tag| self.value(plan, tag))
            .collect();
        let members = std::mem::take(&mut self.members);
        *self = Self::new(plan, std::mem::take(&mut self.key), now);
        self.members = members;
        for (tag, old) in plan.tags.iter().zip(&values) {
            if *old != tag.default && !matches!(tag.source, Source::TimeSince { .. }) {
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

    fn values(&self, plan: &Plan, tags: &[usize]) -> Vec<Value> {
        tags.iter().map(|tag| self.value(plan, *tag)).collect()
    }

    /// Tells of those of `tags` that have changed from what is `old`. Says whether
    /// rules read one of them.
    fn report_all(
        &mut self,
        plan: &Plan,
        tags: &[usize],
        old: &[Value],
        moment: Moment,
        observer: &mut impl Observer,
    ) -> bool {
        let mut is_in_rules = false;
        for (&tag, old) in tags.iter().zip(old) {
            let new = self.value(plan, tag);
            if *old == new {
                continue;
            }
            // What a late event corrects has been so since the last change at least.
            let effective_at =
                self.since[tag].map_or(moment.effective_at, |since| since.max(moment.effective_at));
            self.since[tag] = Some(effective_at);
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
            is_in_rules |= plan.is_in_rules[tag];
        }
        is_in_rules
    }

    /// Wakes when it may leave the segments that it is to leave.
    pub(super) fn wake_to_leave(&mut self, plan: &Plan) {
        let next = self.may_leave(plan).min();
        self.wake(next);
    }

    /// Nothing happened by itself before `at`; now something may.
    fn wake(&mut self, at: Option<i64>) {
        self.next = at.map_or(self.next, |at| self.next.min(at));
    }

    /// The time of the newest event that a tag is made of.
    fn newest_of(&self, tag: &TagPlan) -> Option<i64> {
        match tag.source {
            Source::Series { series, .. } => self.series[series].newest,
            Source::Ranking { ranking, .. } => self.rankings[ranking].newest,
            _ => None,
        }
    }

    /// When a tag's value falls because it is old.
    fn expiry(&self, tag: &TagPlan) -> Option<i64> {
        let expiry = self.newest_of(tag)?.saturating_add(tag.ttl_us?);
        (expiry > self.clock).then_some(expiry)
    }

    /// When a time since comes to a number of units at which rules look.
    fn next_tick(&self, plan: &Plan, tick: &Tick) -> Option<i64> {
        let Value::Int(since) = self.value(plan, tick.since) else {
            return None;
        };
        let passed = self.clock.saturating_sub(since).div_euclid(tick.unit_us);
        let units = match tick.after.as_slice() {
            [] => passed + 1,
            after => *after.get(after.partition_point(|units| *units <= passed))?,
        };
        Some(since.saturating_add(units.saturating_mul(tick.unit_us)))
    }

    /// When all will be forgotten.
    fn forgotten_at(&self, plan: &Plan) -> Option<i64> {
        Some(self.newest?.saturating_add(plan.state_ttl_us?))
    }
}

/// When and why tags change.
#[derive(Debug, Clone, Copy)]
struct Moment {
    cause: Cause,
    event_time: Option<i64>,
    effective_at: i64,
}

impl Event<'_> {
    fn value(&self, column: usize) -> Value {
        Value::at(self.rows.column(column), self.row)
    }

    fn passes(&self, column: Option<usize>) -> bool {
        column.is_none_or(|column| {
            let column = self.rows.column(column).as_boolean();
            column.is_valid(self.row) && column.value(self.row)
        })
    }

    fn weight(&self, column: Option<usize>) -> f64 {
        column.map_or(1.0, |column| {
            let column = self.rows.column(column).as_primitive::<Float64Type>();
            if column.is_valid(self.row) {
                column.value(self.row)
            } else {
                0.0
            }
        })
    }
}
