//! Runs seeds: each is a random pipeline over random rows, with random faults.

use std::{collections::BTreeSet, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::{sleep, timeout};

use super::{
    broker::OnDataLoss,
    chaos::Weather,
    effect::Effect,
    lie::Lie,
    oracle::{self, Lateness, Readers},
    pipeline::{DELAY, Pipeline},
    world::{Process, Run, World},
};
use crate::{
    Error, ErrorKind,
    runtime::{End, Until},
    testing::store::Copies,
};

/// The longest time of a run after the last fault, in virtual time.
const PATIENCE: Duration = Duration::from_hours(1);

/// The time after which every late write has finished.
const LATEST: Duration = Duration::from_secs(6);

/// The result of a seed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done {
    /// A hash of all events in order.
    pub(super) trace: u64,
    /// The effects of the processes.
    pub(super) effects: BTreeSet<Effect>,
}

/// Runs a seed on this thread.
///
/// # Errors
/// The violation.
pub(super) fn run(seed: u64, lie: Option<Lie>) -> Result<Done, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread needs nothing");
    runtime.block_on(async {
        let mut campaign = Campaign::draw(seed, lie);
        campaign.trouble().await?;
        campaign.peace().await?;
        Ok(Done {
            trace: campaign.world.trace.hash(),
            effects: campaign.weather.effects(),
        })
    })
}

struct Campaign {
    random: SmallRng,
    world: World,
    weather: Weather,
    readers: Readers,
    processes: Vec<Process>,
    seed: u64,
    lie: Option<Lie>,
    /// Whether rows may be later than [`DELAY`].
    disorder: i64,
    trouble: f64,
    most_lanes: usize,
    keep_commits: usize,
    expires: bool,
    /// The number of rows appended to each partition.
    appended: Vec<Vec<usize>>,
    new_partitions: bool,
}

impl Campaign {
    fn draw(seed: u64, lie: Option<Lie>) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let pipeline = Pipeline::draw(&mut random);
        let on_data_loss = if random.random_bool(0.5) {
            OnDataLoss::Fail
        } else {
            OnDataLoss::Record
        };
        let weather = Weather::new([0.0, 0.02, 0.08, 0.2][random.random_range(0..4)]);
        let copies = if random.random_bool(0.3) {
            Copies::Overwrite
        } else {
            Copies::IfAbsent
        };
        let sources = pipeline.sources;
        let mut campaign = Self {
            world: World::new(seed, pipeline, on_data_loss, copies),
            weather,
            readers: Readers::default(),
            processes: Vec::new(),
            seed,
            lie,
            disorder: [0, 600][usize::from(random.random_bool(0.3))],
            trouble: [0.0, 0.05, 0.2][random.random_range(0..3)],
            most_lanes: [1, 4, 4][random.random_range(0..3)],
            keep_commits: random.random_range(1..4),
            expires: random.random_bool(0.15),
            appended: vec![Vec::new(); sources],
            new_partitions: false,
            random,
        };
        for source in 0..sources {
            for _ in 0..campaign.random.random_range(1..=3) {
                campaign.appended[source].push(0);
            }
        }
        campaign.append();
        campaign
    }

    /// Every partition gets some rows.
    fn append(&mut self) {
        let random = &mut self.random;
        for (source, partitions) in self.appended.iter_mut().enumerate() {
            for (partition, appended) in partitions.iter_mut().enumerate() {
                let row = |index: usize, random: &mut SmallRng| {
                    let kind = random.random_range(0..100);
                    if kind < 3 {
                        return (kind > 0).then(|| "rubbish".to_owned());
                    }
                    let mut time = index as i64 * 9 + random.random_range(0..DELAY);
                    if self.disorder > 0 && random.random_bool(0.1) {
                        time = (time - random.random_range(0..self.disorder)).max(0);
                    }
                    let key = random.random_range(0..6);
                    let value = (source * 10 + partition) * 1_000_000 + index;
                    Some(format!("{time},k{key},{value}"))
                };
                let rows = random.random_range(0..60);
                let rows = (*appended..*appended + rows).map(|index| row(index, random));
                let rows: Vec<_> = rows.collect();
                *appended += rows.len();
                self.world.brokers[source].append(&format!("p{partition}"), rows);
            }
        }
    }

    /// All events of the simulation, in random order.
    async fn trouble(&mut self) -> Result<(), String> {
        for _ in 0..self.random.random_range(1..14) {
            if self.processes.is_empty() {
                self.start();
            }
            let pause = match self.random.random_range(0..10) {
                0 => 30_000,
                1..5 => 1000,
                _ => 200,
            };
            let pause = self.random.random_range(0..pause);
            sleep(Duration::from_millis(pause)).await;
            self.bury().await?;
            self.readers.look(&self.world).await?;
            let what = self.random.random_range(0..12);
            self.world.trace.note(format_args!("event {what}"));
            let any = (!self.processes.is_empty())
                .then(|| self.random.random_range(0..self.processes.len()));
            match (what, any) {
                (0..3, _) => self.append(),
                (3..6, Some(any)) => self.processes.swap_remove(any).kill(),
                (6, _) if self.processes.len() < 3 => self.start(),
                (7, Some(any)) => self.processes[any].store.freeze(),
                (8, Some(any)) => self.processes[any].store.thaw(),
                (9, Some(any)) => self.processes[any].stop.cancel(),
                (10, _) if self.weather.faults > 0.0 => {
                    let while_ = self.random.random_range(1..9000);
                    self.weather.leave(Duration::from_millis(while_));
                }
                (11, _) if self.expires => {
                    let share = self.random.random_range(0.0..1.0);
                    self.world.brokers[0].expire(0, share);
                }
                (11, _) if self.random.random_bool(0.3) => {
                    self.new_partitions = true;
                    self.appended[0].push(0);
                    self.append();
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Without further faults, a process finishes the work. Earlier processes may still be active.
    async fn peace(&mut self) -> Result<(), String> {
        self.weather.calm_down();
        if self.world.on_data_loss == OnDataLoss::Fail {
            // A mirror had the rows.
            self.world
                .brokers
                .iter()
                .for_each(|broker| broker.restore());
        }
        for process in &self.processes {
            // Stopped processes wake while their successor works.
            process.stop.cancel();
            if self.random.random_bool(0.5) {
                process.kill();
            }
        }
        let zombies: Vec<_> = self.processes.iter().map(|it| it.store.clone()).collect();
        let delay = Duration::from_millis(self.random.random_range(0..400));
        let waking = tokio::spawn(async move {
            sleep(delay).await;
            for zombie in zombies {
                zombie.thaw();
            }
        });
        self.finish(End::Drain).await?;
        // A zombie that had an error may have claimed the log once more.
        waking.await.map_err(|error| error.to_string())?;
        for process in std::mem::take(&mut self.processes) {
            match timeout(PATIENCE, process.job).await {
                Err(_) => return Err(format!("process {} does not end", process.pid)),
                Ok(ended) => judge(ended, Company::Others, self.expires)?,
            }
        }
        sleep(LATEST).await;
        // The next owner removes files that were written late.
        self.finish(End::Drain).await?;
        self.readers.look(&self.world).await?;
        oracle::check(&self.world, self.lateness()).await
    }

    /// Runs a process to the end of the input.
    async fn finish(&mut self, end: End) -> Result<(), String> {
        for _ in 0..4 {
            let run = Run {
                until: Until::CaughtUp,
                end,
                restarts: 3,
                ..self.run()
            };
            let process = self.spawn(&run);
            let pid = process.pid;
            match timeout(PATIENCE, process.job).await {
                Err(_) => return Err(format!("process {pid} does not end, and nothing fails")),
                Ok(Ok(Ok(_))) => return Ok(()),
                Ok(Ok(Err(error))) if error.kind() == ErrorKind::Fenced => {
                    if self.processes.is_empty() {
                        return Err(format!("process {pid} is fenced, and nobody is there"));
                    }
                }
                Ok(Ok(Err(error))) => {
                    return Err(format!("process {pid} fails in peace: {}", error.chain()));
                }
                Ok(Err(error)) => return Err(format!("process {pid}: {error}")),
            }
        }
        Err("zombies fence every process".to_owned())
    }

    fn lateness(&self) -> Lateness {
        let partitions: usize = self.appended.iter().map(Vec::len).sum();
        let idle = self.world.pipeline.idle_after < Duration::from_hours(1);
        if partitions == 1 && self.most_lanes == 1 {
            Lateness::ByOrder
        } else if partitions == 1 {
            Lateness::AtMostByOrder
        } else if self.disorder == 0 && !idle && !self.new_partitions && !self.expires {
            Lateness::None
        } else {
            Lateness::Depends
        }
    }

    /// The random parameters of a process.
    fn run(&mut self) -> Run {
        let random = &mut self.random;
        Run {
            lanes: random.random_range(1..=self.most_lanes),
            chunk: random.random_range(1..40),
            checkpoint_every: Duration::from_millis(random.random_range(1..120)),
            queue_bytes: [300, 4096, 1 << 20][random.random_range(0..3)],
            until: Until::Stopped,
            end: End::Keep,
            restarts: random.random_range(0..3),
            trouble: self.trouble,
            keep_commits: self.keep_commits,
            lie: self.lie,
        }
    }

    fn start(&mut self) {
        let run = self.run();
        let process = self.spawn(&run);
        self.processes.push(process);
    }

    fn spawn(&mut self, run: &Run) -> Process {
        let (weather, trace, seed) = (&self.weather, self.world.trace.clone(), self.seed);
        self.world.start(run, |pid, store| {
            store.direct(weather.of_process(pid, seed ^ (u64::from(pid) << 20), trace));
        })
    }

    /// Checks how processes ended.
    async fn bury(&mut self) -> Result<(), String> {
        let company = match self.world.started {
            1 => Company::Alone,
            _ => Company::Others,
        };
        for process in std::mem::take(&mut self.processes) {
            if process.job.is_finished() {
                judge(process.job.await, company, self.expires)?;
            } else {
                self.processes.push(process);
            }
        }
        Ok(())
    }
}

type Ended = Result<crate::Result<crate::runtime::Outcome>, tokio::task::JoinError>;

/// Whether there were ever other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    Alone,
    Others,
}

/// Checks that a process may have ended with this result.
fn judge(ended: Ended, company: Company, expires: bool) -> Result<(), String> {
    let error: Error = match ended {
        Err(error) if error.is_panic() => return Err(format!("a process panicked: {error}")),
        Err(_) | Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error,
    };
    let may = match error.kind() {
        ErrorKind::External => true,
        ErrorKind::Fenced => company == Company::Others,
        ErrorKind::Data => expires && error.chain().contains("are gone"),
        ErrorKind::Config | ErrorKind::Internal => false,
    };
    if may {
        Ok(())
    } else {
        Err(format!(
            "a process ended with {:?}: {}",
            error.kind(),
            error.chain()
        ))
    }
}
