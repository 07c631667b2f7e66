//! Folders of files: no row that is in order within its own file is late. This holds for
//! any order of the files, any overlap in time and any latency of the store.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};
use tagflow_engine::{
    EventTime,
    source::{Positions, Source, SourceEvent, SourceReader},
    status::JobStatus,
    testing::VirtualClock,
};
use tokio::time::Instant;

use crate::{
    duckdb,
    oracle::{answer, context, register},
    rig::Rig,
};

/// The number of random folders; `TAGFLOW_FILES_CASES` sets another number, and
/// `TAGFLOW_FILES_SEED` selects a single one.
const CASES: u64 = 60;

const COLUMNS: &str = "
      k: string
      ts: timestamp(ms)";

const DELAY_MS: i64 = 5_000;

/// 2026-03-02 10:00.
const START_MS: i64 = 1_772_445_600_000;

const WINDOWS: &str = "SELECT date_bin(INTERVAL '1 minute', ts), \
     date_bin(INTERVAL '1 minute', ts) + INTERVAL '1 minute', src, count(*) FROM \
     (SELECT 'a' AS src, ts FROM a UNION ALL SELECT 'b' AS src, ts FROM b) AS united \
     GROUP BY 1, 2, 3";

const PAIRS: &str = "SELECT a.ts, b.ts, a.k FROM a JOIN b ON a.k = b.k \
     AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '2 seconds'";

/// A source whose every answer is delayed.
pub(crate) struct Slow {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) random: Arc<AtomicU64>,
}

struct SlowReader {
    reader: Box<dyn SourceReader>,
    random: Arc<AtomicU64>,
    until: Option<Instant>,
}

#[async_trait]
impl Source for Slow {
    async fn open(&self, positions: &Positions) -> tagflow_engine::Result<Box<dyn SourceReader>> {
        Ok(Box::new(SlowReader {
            reader: self.source.open(positions).await?,
            random: Arc::clone(&self.random),
            until: None,
        }))
    }
}

#[async_trait]
impl SourceReader for SlowReader {
    async fn next(&mut self) -> tagflow_engine::Result<SourceEvent> {
        // The deadline outlives a dropped call.
        let until = *self.until.get_or_insert_with(|| {
            let seed = self.random.fetch_add(1, Ordering::Relaxed);
            let pause = SmallRng::seed_from_u64(seed).random_range(0..500);
            Instant::now() + Duration::from_millis(pause)
        });
        tokio::time::sleep_until(until).await;
        let event = self.reader.next().await?;
        self.until = None;
        Ok(event)
    }

    fn pause(&mut self, partition: &str) {
        self.reader.pause(partition);
    }

    fn resume(&mut self, partition: &str) {
        self.reader.resume(partition);
    }

    fn committed(&mut self, positions: &Positions) {
        self.reader.committed(positions);
    }
}

/// Rows of `seconds` from `from` on, out of order by less than the delay.
fn rows(random: &mut SmallRng, from: i64, seconds: i64) -> Vec<String> {
    (0..seconds)
        .map(|second| {
            let back = random.random_range(0..DELAY_MS);
            let ts = START_MS + (from + second) * 1_000 - back.min(second * 1_000);
            let key = random.random_range(0..3);
            format!("{{\"k\":\"k{key}\",\"ts\":{ts}}}")
        })
        .collect()
}

/// Files of random spans, overlapping or not, under names in any order.
fn files(random: &mut SmallRng) -> Vec<Vec<String>> {
    let count = random.random_range(1..7);
    let apart = random.random_range(0..200);
    let mut files: Vec<_> = (0..count)
        .map(|file| {
            let seconds = random.random_range(0..120);
            rows(random, file * apart, seconds)
        })
        .collect();
    files.shuffle(random);
    files
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Csv,
}

fn write(folder: &std::path::Path, format: Format, files: &[Vec<String>]) {
    for (index, rows) in files.iter().enumerate() {
        let text = match format {
            Format::Json => rows.join("\n"),
            Format::Csv => {
                let values = rows.iter().map(|row| {
                    row.replace("{\"k\":", "")
                        .replace("\"ts\":", "")
                        .replace('}', "")
                });
                ["k,ts".to_owned()]
                    .into_iter()
                    .chain(values)
                    .collect::<Vec<_>>()
                    .join("\r\n")
            }
        };
        fs::write(folder.join(format!("a-{index}")), text).unwrap();
    }
}

fn pipeline(folder: &std::path::Path, format: Format) -> String {
    let format = match format {
        Format::Json => "json",
        Format::Csv => "csv",
    };
    format!(
        "name: random
sources:
  a:
    files: {{url: '{}/a-*'}}
    format: {{{format}: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: {DELAY_MS}ms}}
  b:
    files: {{url: '/nowhere/*'}}
    format: {{json: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: {DELAY_MS}ms}}
queries:
  both: SELECT 'a' AS src, ts FROM a UNION ALL SELECT 'b' AS src, ts FROM b
  windows: |
    SELECT tumble(ts, INTERVAL '1 minute') AS w, src, count(*) AS n FROM both GROUP BY 1, 2
  pairs: |
    SELECT a.ts, b.ts AS bts, a.k FROM a JOIN b ON a.k = b.k
      AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '2 seconds'
sinks:
  windows_out: {{from: windows, parquet: {{url: /nowhere/windows}}}}
  pairs_out: {{from: pairs, parquet: {{url: /nowhere/pairs}}}}
",
        folder.display()
    )
}

/// A source of several files beside a second source, behind a store that takes up to half
/// a second per answer. In the bug, the source of files became idle between two files,
/// and rows of the next file were late. Files that overlap in time were read one after
/// another, and most rows of all but the first were late.
#[test]
fn regression_no_row_is_late_between_files_or_where_they_overlap() {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    let seeds = match number("TAGFLOW_FILES_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TAGFLOW_FILES_CASES").unwrap_or(CASES),
    };
    let (mut crashes, mut read) = (0, 0);
    let cases = seeds.end - seeds.start;
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (more, rows) = runtime.block_on(check(seed));
        crashes += more;
        read += rows;
    }
    assert!(cases == 1 || read as u64 > cases * 100, "too few rows");
    assert!(cases == 1 || crashes > cases / 6, "too few crashes");
}

/// Runs to the end, with up to three crashes.
async fn run(rig: &mut Rig, random: &mut SmallRng) -> (JobStatus, u64) {
    let mut crashes = 0;
    loop {
        rig.lanes = [1, 3][random.random_range(0..2)];
        let job = tokio::spawn(rig.start());
        if crashes < 3 && random.random_bool(0.5) {
            let crash = Duration::from_millis(random.random_range(0..10_000));
            tokio::time::sleep(crash).await;
            if !job.is_finished() {
                job.abort();
                let _ = job.await;
                crashes += 1;
                continue;
            }
        }
        let status = job.await.unwrap();
        let status = status.unwrap_or_else(|error| panic!("{}", error.chain()));
        return (status, crashes);
    }
}

async fn check(seed: u64) -> (u64, usize) {
    let random = &mut SmallRng::seed_from_u64(seed);
    let a = files(random);
    let (from, seconds) = (random.random_range(0..300), random.random_range(1..300));
    let b = rows(random, from, seconds);
    let folder = tempfile::tempdir().unwrap();
    let format = [Format::Json, Format::Csv][random.random_range(0..2)];
    write(folder.path(), format, &a);

    let mut rig = Rig::new(pipeline(folder.path(), format));
    rig.slow_files = Some(Arc::new(AtomicU64::new(seed << 32)));
    rig.clock = Arc::new(VirtualClock::starting_at(EventTime::from_micros(
        1_800_000_000_000_000,
    )));
    rig.checkpoint_every = Duration::from_millis(random.random_range(50..3_000));
    rig.scripts
        .entry("b")
        .or_default()
        .push("p0", b.iter().cloned());
    rig.chunk = [1, 7, 100][random.random_range(0..3)];
    let (status, crashes) = run(&mut rig, random).await;

    let read = a.iter().map(Vec::len).sum::<usize>() + b.len();
    let told = format!("seed {seed}, {crashes} crashes\n{}", rig.file);
    let totals = status.totals;
    assert_eq!((totals.late, totals.dead_letter), (0, 0), "{told}");

    let context = context();
    let of_a = || a.iter().flatten();
    register(&context, "a", COLUMNS, of_a());
    register(&context, "b", COLUMNS, b.iter());
    for (sink, sql) in [("windows_out", WINDOWS), ("pairs_out", PAIRS)] {
        let expected = answer(&context, sql).await;
        assert_eq!(rig.lines(sink).await, expected, "{sink}: {told}");
        let tables = [
            ("a", COLUMNS, of_a().collect()),
            ("b", COLUMNS, b.iter().collect()),
        ];
        duckdb::check(seed, &tables, sql, &expected);
    }
    (crashes, read)
}
