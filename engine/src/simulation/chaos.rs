//! Random faults of a process's store.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use object_store::path::Path;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

use super::{
    effect::{Effect, Observer},
    trace::Trace,
};
use crate::testing::store::{Fault, Operation};

/// The fault rates, which all processes share.
#[derive(Clone)]
pub(super) struct Weather {
    /// The probability of a fault.
    pub(super) faults: f64,
    calm: Arc<AtomicBool>,
    /// The end of the store's outage, in milliseconds from the beginning.
    away_until: Arc<AtomicU64>,
    begun: Instant,
    seen: Arc<Mutex<BTreeSet<Effect>>>,
}

impl Weather {
    pub(super) fn new(faults: f64) -> Self {
        Self {
            faults,
            calm: Arc::default(),
            away_until: Arc::default(),
            begun: Instant::now(),
            seen: Arc::default(),
        }
    }

    /// Ends all faults.
    pub(super) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Starts an outage of the store: every answer is an error.
    pub(super) fn leave(&self, while_: Duration) {
        let until = self.begun.elapsed() + while_;
        self.away_until
            .fetch_max(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// The effects of all processes.
    pub(super) fn effects(&self) -> BTreeSet<Effect> {
        self.seen().clone()
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<Effect>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn is_away(&self) -> bool {
        let now = self.begun.elapsed().as_millis() as u64;
        now < self.away_until.load(Ordering::Relaxed)
    }

    /// Attaches the random faults to the store of process `pid`.
    pub(super) fn of_process(
        &self,
        pid: u32,
        seed: u64,
        trace: Trace,
    ) -> impl FnMut(Operation, &Path) -> Option<Fault> + Send + use<> {
        let mut random = SmallRng::seed_from_u64(seed);
        let weather = self.clone();
        let mut observer = Observer::default();
        move |operation, path| {
            weather.seen().extend(observer.name(operation, path));
            let fault = weather.draw(&mut random, operation, path);
            trace.note(format_args!("{pid} {operation:?} {path}: {fault:?}"));
            Some(fault)
        }
    }

    fn draw(&self, random: &mut SmallRng, operation: Operation, path: &Path) -> Fault {
        let slow = |random: &mut SmallRng, most| {
            Fault::Slow(Duration::from_millis(random.random_range(0..most)))
        };
        if self.is_calm() || !random.random_bool(self.faults) {
            // Many stores answer at once, and then many events happen at the same time.
            return slow(random, if self.is_away() { 1 } else { 6 }).or_away(self);
        }
        if random.random_bool(0.02) {
            self.leave(Duration::from_millis(random.random_range(1..9000)));
        }
        let later = Fault::LandsAfter(Duration::from_millis(random.random_range(1..5000)));
        let kinds: &[Fault] = match operation {
            Operation::Put => &[
                Fault::ErrorBefore,
                Fault::ErrorAfter,
                Fault::Twice,
                Fault::ConflictNothingLanded,
                later,
                Fault::Full,
            ],
            Operation::UploadBegin | Operation::UploadPart => {
                &[Fault::ErrorBefore, Fault::ErrorAfter, Fault::Full]
            }
            Operation::UploadEnd => &[Fault::ErrorBefore, Fault::ErrorAfter],
            Operation::Get => &[Fault::ErrorBefore, Fault::Truncated],
            // The probe is there to refuse a store that loses objects.
            Operation::List if path.as_ref().ends_with("probe") => &[Fault::ErrorBefore],
            Operation::List => &[
                Fault::ErrorBefore,
                Fault::Stale,
                Fault::Reversed,
                Fault::Twice,
            ],
            Operation::Copy => &[
                Fault::ErrorBefore,
                Fault::ErrorAfter,
                Fault::Twice,
                Fault::ConflictNothingLanded,
                later,
            ],
            Operation::Delete => &[Fault::ErrorBefore, Fault::ErrorAfter, Fault::Twice, later],
        };
        match random.random_range(0..=kinds.len()) {
            kind if kind < kinds.len() => kinds[kind],
            _ => slow(random, 3000),
        }
    }
}

impl Fault {
    /// The error of an outage, if there is one.
    fn or_away(self, weather: &Weather) -> Self {
        if weather.is_away() && !weather.is_calm() {
            Self::ErrorBefore
        } else {
            self
        }
    }
}
