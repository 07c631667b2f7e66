//! Every effect of the commit path, with every fault.
//!
//! A history of processes, which die, stop or are stopped at different places, contains every
//! [`Effect`]. It is played once without other faults. It is then played for each effect and fault,
//! with the fault at the first and at the last occurrence of the effect. Processes are restarted
//! until they end. Finally the oracle must find that every row counted once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    broker::OnDataLoss,
    effect::{Effect, Observer},
    oracle::{self, Lateness, Readers},
    pipeline::Pipeline,
    table::{Files, Upload},
    tally::Previews,
    world::{Process, Run, World},
};
use crate::{
    ErrorKind,
    graph::Partitioning,
    runtime::{End, Until},
    testing::store::{Copies, Fault},
};

/// The faults of each effect.
const FAULTS: [(&str, Fault); 6] = [
    ("crash before", Fault::DiesBefore),
    ("crash after", Fault::DiesAfter),
    ("error", Fault::ErrorBefore),
    ("delay", Fault::Slow(Duration::from_secs(20))),
    ("duplicate answer", Fault::Twice),
    ("landed but reported as an error", Fault::ErrorAfter),
];

/// The number of restarts of a process in an act.
const TRIES: usize = 6;

/// A fault at the nth occurrence of an effect, from 1.
type Point = (Effect, usize, Fault);

/// A process, and its restarts.
#[derive(Clone)]
struct Act {
    /// Faults in addition to the tested one.
    besides: &'static [Point],
    /// The effect at which the process is stopped until all other acts are over.
    freezes: Option<(Effect, usize)>,
    /// Whether it is stopped only when it has had nothing to commit.
    idles: bool,
    end: End,
}

/// The history: see [`Effect`] for the effects of each process.
const ACTS: [Act; 12] = [
    // Leaves staged files and state that no commit names.
    dies(&[(Effect::StatePut, 4, Fault::DiesAfter)]),
    // Leaves a commit that is not published.
    dies(&[(Effect::CommitPut, 3, Fault::DiesAfter)]),
    // Leaves it half published.
    dies(&[(Effect::RecoverCopy, 1, Fault::DiesAfter)]),
    // Leaves a replaced file, and commits to collect.
    dies(&[(Effect::Remove, 2, Fault::DiesBefore)]),
    dies(&[(Effect::CollectState, 2, Fault::DiesBefore)]),
    dies(&[]),
    // Must read back its writes, and leaves a stop without its mark.
    dies(&[
        (Effect::ClaimPut, 1, Fault::ErrorAfter),
        (Effect::CommitPut, 1, Fault::ErrorBefore),
        (Effect::PublishCopy, 1, Fault::ErrorAfter),
        (Effect::StopMarkPut, 1, Fault::DiesBefore),
    ]),
    dies(&[]),
    Act {
        idles: true,
        ..dies(&[])
    },
    // Wakes up after others have committed.
    Act {
        besides: &[],
        freezes: Some((Effect::PublishCopy, 2)),
        idles: false,
        end: End::Keep,
    },
    dies(&[]),
    // Ends the history, and removes late writes.
    Act {
        besides: &[],
        freezes: None,
        idles: false,
        end: End::Drain,
    },
];

const fn dies(besides: &'static [Point]) -> Act {
    Act {
        besides,
        freezes: None,
        idles: false,
        end: End::Keep,
    }
}

/// The observed effects.
#[derive(Default)]
struct Seen {
    hits: BTreeMap<Effect, usize>,
    unnamed: Vec<String>,
    /// The tested fault has happened.
    struck: bool,
}

/// A run of a history.
struct Play {
    world: World,
    seen: Arc<Mutex<Seen>>,
    tested: Option<Point>,
    rows: usize,
}

impl Play {
    fn new(tested: Option<Point>) -> Self {
        let pipeline = Pipeline {
            sources: 1,
            sieve: true,
            hold: true,
            previews: Previews::Shown,
            raw: Files::Rolling(15),
            raw_edge: Partitioning::Gather,
            counts: Files::Replacing,
            upload: Upload::InParts,
            idle_after: Duration::from_hours(1000),
            max_drift: None,
        };
        Self {
            world: World::new(1, pipeline, OnDataLoss::Fail, Copies::IfAbsent),
            seen: Arc::default(),
            tested,
            rows: 0,
        }
    }

    /// Plays all acts, and runs the oracle.
    async fn play(&mut self) -> Result<(), String> {
        let mut readers = Readers::default();
        let mut zombies = Vec::new();
        for (index, act) in ACTS.iter().enumerate() {
            self.append();
            zombies.extend(self.act(index, act).await?);
            readers.look(&self.world).await?;
        }
        for zombie in zombies {
            zombie.store.thaw();
            let ended = timeout(Duration::from_hours(1), zombie.job).await;
            let ended = ended.map_err(|_| "the zombie does not end")?;
            match ended.map_err(|error| error.to_string())? {
                Err(error) if error.kind() == ErrorKind::Fenced => {}
                // The fault affected the zombie.
                Err(error) if error.kind() == ErrorKind::External => {}
                Err(error) => return Err(format!("the zombie: {}", error.chain())),
                Ok(_) => return Err("the zombie took part".to_owned()),
            }
        }
        let last = Act {
            end: End::Drain,
            ..dies(&[])
        };
        self.act(0, &last).await?;
        readers.look(&self.world).await?;
        oracle::check(&self.world, Lateness::None).await
    }

    fn append(&mut self) {
        for partition in 0..2 {
            let row = |index: usize| {
                let time = index * 9 + index * 7 % 30;
                let value = partition * 1_000_000 + index;
                let rubbish = index % 19 == 5;
                Some(if rubbish {
                    "rubbish".to_owned()
                } else {
                    format!("{time},k{},{value}", index % 5)
                })
            };
            let rows = (self.rows..self.rows + 24).map(row).collect();
            self.world.brokers[0].append(&format!("p{partition}"), rows);
        }
        self.rows += 24;
    }

    /// Starts processes until one ends normally. Returns the process that was stopped, if there is
    /// one.
    async fn act(&mut self, index: usize, act: &Act) -> Result<Option<Process>, String> {
        let over = Arc::new(AtomicBool::new(false));
        let besides: Arc<Mutex<Vec<Point>>> = Arc::new(Mutex::new(act.besides.to_vec()));
        for _ in 0..TRIES {
            let run = Run {
                lanes: 2 + index % 2,
                chunk: 4,
                checkpoint_every: Duration::from_millis(7),
                queue_bytes: 4096,
                until: if act.idles {
                    Until::Stopped
                } else {
                    Until::CaughtUp
                },
                end: act.end,
                restarts: 3,
                trouble: 0.0,
                keep_commits: 1,
                lie: None,
            };
            let mut process = self.start(&run, act, &besides, &over);
            let store = process.store.clone();
            if act.idles {
                tokio::spawn(stop_idle(Arc::clone(&self.seen), process.stop.clone()));
            }
            let ended = tokio::select! {
                biased;
                ended = &mut process.job => Some(ended),
                () = store.died() => None,
                () = frozen(&over), if act.freezes.is_some() => return Ok(Some(process)),
                () = tokio::time::sleep(Duration::from_hours(1)) => {
                    return Err(format!("act {index} does not end"));
                }
            };
            match ended {
                None => process.kill(),
                Some(Ok(Ok(_))) => return Ok(None),
                Some(Ok(Err(error))) if error.kind() == ErrorKind::External => {}
                Some(Ok(Err(error))) => return Err(format!("act {index}: {}", error.chain())),
                Some(Err(error)) => return Err(format!("act {index}: {error}")),
            }
            if over.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
        Err(format!("act {index} does not come to an end"))
    }

    fn start(
        &mut self,
        run: &Run,
        act: &Act,
        besides: &Arc<Mutex<Vec<Point>>>,
        over: &Arc<AtomicBool>,
    ) -> Process {
        let (seen, tested) = (Arc::clone(&self.seen), self.tested);
        let (besides, over, freezes) = (Arc::clone(besides), Arc::clone(over), act.freezes);
        let mut observer = Observer::default();
        let mut own: BTreeMap<Effect, usize> = BTreeMap::new();
        let trace = self.world.trace.clone();
        self.world.start(run, |pid, store| {
            let frozen = store.clone();
            store.direct(move |operation, path| {
                let mut seen = lock(&seen);
                let Some(effect) = observer.name(operation, path) else {
                    seen.unnamed.push(format!("{operation:?} {path}"));
                    return None;
                };
                let nth = seen.hits.entry(effect).or_default();
                *nth += 1;
                let nth = *nth;
                let own_nth = own.entry(effect).or_default();
                *own_nth += 1;
                let mut fault = Fault::Slow(Duration::from_millis(1));
                let mut besides = lock(&besides);
                let due = |point: &Point| point.0 == effect && point.1 == *own_nth;
                if let Some(index) = besides.iter().position(due) {
                    fault = besides.remove(index).2;
                    if matches!(fault, Fault::DiesBefore | Fault::DiesAfter) {
                        over.store(true, Ordering::Relaxed);
                    }
                } else if freezes == Some((effect, *own_nth)) && !over.load(Ordering::Relaxed) {
                    over.store(true, Ordering::Relaxed);
                    frozen.freeze();
                }
                if let Some((at, tested_nth, tested)) = tested
                    && !seen.struck
                    && (at, tested_nth) == (effect, nth)
                {
                    seen.struck = true;
                    fault = tested;
                }
                trace.note(format_args!("{pid} {effect:?} {path}: {fault:?}"));
                Some(fault)
            });
        })
    }
}

/// Stops a process after it has read the owner of the log.
async fn stop_idle(seen: Arc<Mutex<Seen>>, stop: CancellationToken) {
    let looks = || lock(&seen).hits.get(&Effect::OwnerLook).copied();
    let before = looks();
    while looks() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
}

/// Waits for the director's signal.
async fn frozen(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays the history, and returns the observed effects.
fn play(tested: Option<Point>) -> (Seen, Result<(), String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut play = Play::new(tested);
        let ended = play.play().await;
        (std::mem::take(&mut *lock(&play.seen)), ended)
    })
}

#[test]
fn every_effect_comes_about_and_has_a_name() {
    let (seen, ended) = play(None);
    ended.unwrap();
    assert_eq!(seen.unnamed, [""; 0]);
    let missing: Vec<_> = Effect::ALL
        .iter()
        .filter(|effect| !seen.hits.contains_key(effect))
        .collect();
    assert!(missing.is_empty(), "{missing:?} does not come about");
}

#[test]
fn every_effect_survives_every_fault() {
    let (seen, _) = play(None);
    let mut cells = Vec::new();
    for (&effect, &hits) in &seen.hits {
        for (name, fault) in FAULTS {
            cells.push((name, (effect, 1, fault)));
            if hits > 1 {
                cells.push((name, (effect, hits, fault)));
            }
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some((name, point)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (effect, nth, _) = point;
            let (seen, ended) = play(Some(*point));
            if let Err(what) = ended {
                wrong.push(format!("{effect:?} {nth}, {name}: {what}"));
            } else if !seen.struck {
                wrong.push(format!("{effect:?} {nth}, {name}: never reached"));
            }
        }
        wrong
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let wrong: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let ended = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap());
        ended.collect()
    });
    assert!(
        wrong.is_empty(),
        "of {} cells:\n{}",
        cells.len(),
        wrong.join("\n")
    );
    eprintln!("{} cells", cells.len());
}
