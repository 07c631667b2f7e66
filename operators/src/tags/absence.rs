//! Events that did not happen in time.

use super::{codec::codec, definition::Again, value::Value};

/// The compiled definition of an absence kind.
#[derive(Debug, Clone)]
pub(super) struct AbsencePlan {
    pub(super) after: usize,
    pub(super) expect: usize,
    pub(super) same: Vec<usize>,
    pub(super) within_us: i64,
    pub(super) again: Again,
    /// How long a firing is active.
    pub(super) ttl_us: Option<i64>,
    /// How late an event may be.
    pub(super) lateness_us: i64,
}

/// Open waits, and active firings.
///
/// Late events may change how waits ended. So the events since the oldest time that a
/// late event may have are kept, with the waits as of that time. A late event is inserted
/// in order, and all events from that time on are replayed.
/// its place, and all is done once more from there.
#[derive(Debug, Clone, Default)]
pub(super) struct Absence {
    waits: Waits,
    /// In the order of their waits' ends.
    firings: Vec<Firing>,
    /// No late event is from before this time, so earlier ends are final.
    horizon: i64,
    /// The waits as of the horizon.
    before: Waits,
    /// The events from the horizon on, in the order of time and tie.
    events: Vec<Event>,
}

/// A wait that ended without the expected event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Firing {
    /// When the wait ended.
    pub(super) at: i64,
    same: u64,
}

/// The changes that a late event makes to firings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Revised {
    /// The ends of firings that are new, in ascending order.
    pub(super) fired: Vec<i64>,
}

/// An event of a wait.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) time: i64,
    pub(super) tiebreak: u64,
    /// A hash of the values that both events must share.
    pub(super) same: u64,
    pub(super) is_after: bool,
    pub(super) is_expected: bool,
}

/// The open waits.
#[derive(Debug, Clone, Default)]
struct Waits {
    /// In the order of their ends.
    open: Vec<Firing>,
    /// The expected events of the latest instant with one. They end waits that begin
    /// later within the same instant.
    expected: Vec<u64>,
    expected_at: i64,
}

codec! {
    Absence { waits, firings, horizon, before, events }
    Firing { at, same }
    Event { time, tiebreak, same, is_after, is_expected }
    Waits { open, expected, expected_at }
}

impl Absence {
    /// An absence without events.
    pub(super) fn new() -> Self {
        Self {
            horizon: i64::MIN,
            ..Self::default()
        }
    }

    /// Adds an event in order.
    pub(super) fn add(&mut self, plan: &AbsencePlan, event: Event) {
        self.waits.add(plan, &event);
        self.events.push(event);
    }

    /// Adds an event from before `clock`; waits have ended up to `clock`.
    pub(super) fn add_late(&mut self, plan: &AbsencePlan, event: Event, clock: i64) -> Revised {
        let place = (event.time, event.tiebreak);
        let before = |event: &Event| (event.time, event.tiebreak) <= place;
        let place = self.events.partition_point(before);
        self.events.insert(place, event);

        let mut waits = self.before.clone();
        let mut fired = Vec::new();
        for event in &self.events {
            fired.extend(waits.end_before(event.time));
            waits.add(plan, event);
        }
        fired.extend(waits.end_before(clock.saturating_add(1)));
        self.waits = waits;
        let is_settled = |it: &Firing| it.at < self.horizon;
        let (mut settled, known): (Vec<_>, Vec<_>) = self.firings.drain(..).partition(is_settled);
        let in_force = |it: &Firing| plan.ttl_us.is_none_or(|ttl| it.at + ttl > clock);
        let revised = Revised {
            fired: missing(&fired, &known)
                .filter(|it| in_force(it))
                .map(|it| it.at)
                .collect(),
        };
        settled.extend(fired);
        self.firings = settled;
        revised
    }

    /// When the next wait ends.
    pub(super) fn next_end(&self) -> Option<i64> {
        self.waits.open.first().map(|wait| wait.at)
    }

    /// When the last active firing expires.
    pub(super) fn next_expiry(&self, plan: &AbsencePlan, clock: i64) -> Option<i64> {
        let ttl = plan.ttl_us?;
        let last = self.firings.last()?;
        let falls = last.at.saturating_add(ttl);
        (falls > clock).then_some(falls)
    }

    /// Ends the waits that end at or before `to`, and returns their ends.
    pub(super) fn end(&mut self, to: i64) -> Vec<i64> {
        let fired = self.waits.end_before(to.saturating_add(1));
        let ends = fired.iter().map(|it| it.at).collect();
        self.firings.extend(fired);
        ends
    }

    /// Drops everything that neither the value as of `clock` nor a late event needs.
    pub(super) fn forget(&mut self, plan: &AbsencePlan, clock: i64) {
        // The horizon never decreases, even if the lateness has been raised.
        let horizon = clock.saturating_sub(plan.lateness_us).max(self.horizon);
        self.horizon = horizon;
        let old = self.events.partition_point(|event| event.time < horizon);
        for event in self.events.drain(..old) {
            self.before.end_before(event.time);
            self.before.add(plan, &event);
        }
        self.before.end_before(horizon);
        let settled = self.firings.partition_point(|it| it.at < horizon);
        let last_settled = settled.checked_sub(1).map(|last| self.firings[last].at);
        self.firings.retain(|it| match plan.ttl_us {
            _ if it.at >= horizon => true,
            Some(ttl) => it.at.saturating_add(ttl) > clock,
            None => Some(it.at) == last_settled,
        });
    }

    /// Whether a firing is active as of `clock`.
    pub(super) fn value(&self, plan: &AbsencePlan, clock: i64) -> Value {
        let in_force = |it: &Firing| plan.ttl_us.is_none_or(|ttl| it.at + ttl > clock);
        Value::Bool(self.firings.iter().any(in_force))
    }
}

impl Waits {
    fn add(&mut self, plan: &AbsencePlan, event: &Event) {
        let Event { time, same, .. } = *event;
        if event.is_expected {
            if self.expected_at != time {
                self.expected.clear();
                self.expected_at = time;
            }
            self.expected.push(same);
            self.open.retain(|wait| wait.same != same || wait.at < time);
        }
        let ends_at_once = self.expected_at == time && self.expected.contains(&same);
        if event.is_after && !ends_at_once {
            let goes_on = self.open.iter().position(|wait| wait.same == same);
            match (plan.again, goes_on) {
                (Again::First, Some(_)) => return,
                (Again::Restart, Some(wait)) => drop(self.open.remove(wait)),
                _ => {}
            }
            let at = time.saturating_add(plan.within_us);
            let place = self.open.partition_point(|wait| wait.at <= at);
            self.open.insert(place, Firing { at, same });
        }
    }

    /// Removes and returns the waits that end before `time`.
    fn end_before(&mut self, time: i64) -> Vec<Firing> {
        let ended = self.open.partition_point(|wait| wait.at < time);
        self.open.drain(..ended).collect()
    }
}

/// The firings that are missing from `others`, each as often as it is missing.
fn missing<'a>(firings: &'a [Firing], others: &[Firing]) -> impl Iterator<Item = &'a Firing> {
    let mut others = others.to_vec();
    firings.iter().filter(move |firing| {
        let found = others.iter().position(|other| other == *firing);
        found.map(|place| others.swap_remove(place)).is_none()
    })
}
