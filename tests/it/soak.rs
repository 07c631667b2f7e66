//! A long run: a steady rate, bursts of ten times that rate, and in turn a blocked store and a
//! blocked broker. Memory stays within its limit and does not grow, and in the end every row is
//! there once.

use std::{
    env,
    time::{Duration, Instant},
};

use crate::{
    broker::Broker,
    lake::{assert_same, read},
    process::{Folder, Running},
    rows::{Row, on_s3, patient, pipeline, rows_from},
    s3::S3,
};

const LIMIT_MIB: u64 = 128;
/// The mock keeps 5 MiB of each: enough for the unread rows of a burst and a stall.
const PARTITIONS: i32 = 64;
/// The rate of a burst, as a multiple of the steady rate.
const BURST: i64 = 10;
/// A shorter run shows nothing about growth.
const LONG: Duration = Duration::from_mins(10);

/// The duration: some seconds, or the value in the environment.
fn duration() -> Duration {
    let minutes = env::var("TAGFLOW_SOAK_MINUTES").ok();
    minutes.map_or(Duration::from_secs(24), |minutes| {
        Duration::from_mins(minutes.parse().unwrap())
    })
}

/// Rows per second: as many as a debug build on two busy cores can read, or the value in the
/// environment. Rows that are not read before the mock deletes them are lost.
fn rate() -> i64 {
    let rows = env::var("TAGFLOW_SOAK_RATE").ok();
    rows.map_or(1_000, |rows| rows.parse().unwrap())
}

/// The condition during a part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Steady,
    Burst,
    StalledStore,
    StalledKafka,
}

/// A round; a long run has many.
const ROUND: [Phase; 8] = [
    Phase::Steady,
    Phase::Steady,
    Phase::Burst,
    Phase::Steady,
    Phase::StalledStore,
    Phase::Steady,
    Phase::StalledKafka,
    Phase::Steady,
];

/// The memory of the process at one moment.
struct Sample {
    phase: Phase,
    mib: u64,
}

/// Sends rows and counts the expected rows of the tables.
struct Load {
    broker: Broker,
    sent: i64,
    amount: i64,
}

impl Load {
    fn send(&mut self, count: i64) {
        let rows: Vec<Row> = rows_from(self.sent, count, self.sent as u64);
        self.sent += count;
        self.amount += rows.iter().map(|row| row.amount).sum::<i64>();
        self.broker.send_rows("sales", PARTITIONS, &rows);
    }
}

#[test]
fn memory_stays_within_its_limit_and_no_row_is_lost() {
    let mut folder = Folder::new();
    let store = S3::serving(&mut folder);
    let broker = Broker::new("sales", PARTITIONS);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    let text = on_s3(&patient(&pipeline(&source)))
        .replace("every: 100ms", "every: 1s")
        .replace("max_open: 200ms", "max_open: 10s");
    folder.write(
        "p.yaml",
        format!("{text}memory: {{limit: {LIMIT_MIB}MiB}}\n"),
    );
    let mut run = folder.start(&["run", "p.yaml", "--admin", "off"]);
    let mut load = Load {
        broker,
        sent: 0,
        amount: 0,
    };

    let length = duration();
    let rounds = (length.as_secs() / 300).max(1) as u32;
    let phase_length = length / rounds / ROUND.len() as u32;
    let mut samples = Vec::new();
    for _ in 0..rounds {
        for phase in ROUND {
            match phase {
                Phase::StalledStore => store.signal("STOP"),
                Phase::StalledKafka => load.broker.down(),
                Phase::Steady | Phase::Burst => {}
            }
            last(phase, phase_length, &mut run, &mut load, &mut samples);
            match phase {
                Phase::StalledStore => store.signal("CONT"),
                Phase::StalledKafka => load.broker.up(),
                Phase::Steady | Phase::Burst => {}
            }
        }
    }
    assert_memory(&samples, length);
    run.signal("TERM");
    run.wait().expect(0);
    folder
        .tagflow(&["run", "p.yaml", "--once", "--drain", "--admin", "off"])
        .expect(0);
    assert_all_is_there(&folder, &load);
}

/// Sends and samples until the phase is over.
fn last(
    phase: Phase,
    length: Duration,
    run: &mut Running,
    load: &mut Load,
    samples: &mut Vec<Sample>,
) {
    let begun = Instant::now();
    while begun.elapsed() < length {
        let second = Instant::now();
        match phase {
            Phase::Steady | Phase::StalledStore => load.send(rate()),
            Phase::Burst => load.send(BURST * rate()),
            Phase::StalledKafka => {}
        }
        let left = Duration::from_secs(1).saturating_sub(second.elapsed());
        assert!(run.outlives(left), "it ended by itself");
        let mib = run.memory_mib().expect("it runs");
        samples.push(Sample { phase, mib });
    }
}

fn assert_all_is_there(folder: &Folder, load: &Load) {
    let sql = "SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(amount) AS amount FROM written";
    let written = read(folder, "lake/every_row", sql);
    let sql = "SELECT sum(n) AS n, sum(ids) AS ids, sum(amount) AS amount FROM written";
    let windows = read(folder, "lake/per_minute", sql);
    let Load { sent, amount, .. } = load;
    let sql = format!(
        "SELECT CAST({sent} AS BIGINT) AS n, CAST({sent} AS BIGINT) AS ids, {amount} AS amount"
    );
    let expected = read(folder, "lake/every_row", &sql);
    assert_same("rows", &expected, &written);
    assert_same("windows", &expected, &windows);
}

fn assert_memory(samples: &[Sample], length: Duration) {
    let mut peak = 0;
    for phase in [
        Phase::Steady,
        Phase::Burst,
        Phase::StalledStore,
        Phase::StalledKafka,
    ] {
        let mib = samples
            .iter()
            .filter(|it| it.phase == phase)
            .map(|it| it.mib);
        let highest = mib.max().unwrap_or_default();
        println!("{phase:?}: at most {highest} MiB");
        peak = peak.max(highest);
    }
    assert!(peak <= LIMIT_MIB * 110 / 100, "{peak} MiB of {LIMIT_MIB}");
    // The memory in idle phases, late in the run and in its first half.
    let steady: Vec<u64> = samples
        .iter()
        .filter(|it| it.phase == Phase::Steady)
        .map(|it| it.mib)
        .collect();
    let median = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let quarter = steady.len() / 4;
    let (early, late) = (
        median(&steady[quarter..2 * quarter]),
        median(&steady[3 * quarter..]),
    );
    println!("steady: {early} MiB in the second quarter, {late} MiB in the last");
    if length >= LONG {
        assert!(
            late <= early + early / 10,
            "it grows: {early} to {late} MiB"
        );
    }
}
