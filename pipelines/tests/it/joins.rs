//! Random joins give what DataFusion gives in batch over the same rows.

use std::{fs, sync::Arc};

use datafusion::dataframe::DataFrameWriteOptions;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tagflow_engine::{ErrorKind, testing::Script};

use crate::{
    case::{COLUMNS, rows_of},
    oracle::{answer, context, register, with_crashes},
    rig::Rig,
};

/// How many cases of each kind CI runs; `TAGFLOW_ORACLE_CASES` runs more,
/// `TAGFLOW_ORACLE_SEED` one alone.
const CASES: u64 = 300;

/// What was seen in one case.
struct Checked {
    restarts: u64,
    rows: usize,
}

/// Runs `check` with many seeds.
fn cases<F: Future<Output = Checked>>(kind: &str, check: impl Fn(u64) -> F) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Some(seed) = number("TAGFLOW_ORACLE_SEED") {
        runtime.block_on(check(seed));
        return;
    }
    let cases = number("TAGFLOW_ORACLE_CASES").unwrap_or(CASES);
    let (mut restarts, mut rows) = (0, 0);
    for seed in 0..cases {
        let checked = runtime.block_on(check(seed));
        restarts += checked.restarts;
        rows += checked.rows;
    }
    println!("{cases} {kind}, {restarts} crashes, {rows} result rows");
    assert!(restarts > cases / 4, "too few crashes to show anything");
    assert!(rows as u64 > cases * 5, "too few rows to show anything");
}

fn pick<'a>(random: &mut SmallRng, of: &[&'a str]) -> &'a str {
    of.choose(random).unwrap()
}

/// One to three partitions of up to `most` rows, some of them empty.
fn partitions(random: &mut SmallRng, most: usize, delay_ms: i64) -> Vec<Vec<String>> {
    let partitions = 1..random.random_range(2..5);
    let partition = |partition| {
        let rows = match random.random_range(0..10) {
            0 => 0,
            _ => random.random_range(1..most),
        };
        rows_of(random, partition, rows, delay_ms)
    };
    partitions.map(partition).collect()
}

fn script(partitions: &[Vec<String>]) -> Arc<Script> {
    let script = Arc::<Script>::default();
    for (partition, rows) in partitions.iter().enumerate() {
        script.push(&format!("p{partition}"), rows.iter().cloned());
    }
    script
}

fn source(name: &str, delay_ms: i64) -> String {
    format!(
        "  {name}:
    files: {{url: /nowhere/*.ndjson}}
    format: {{json: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: {delay_ms}ms}}
"
    )
}

#[test]
fn random_joins_with_tables_equal_datafusion() {
    cases("joins with a table", check_table);
}

const TABLE: &str = "
      k: string
      g: int64
      label: string?
      weight: float64?";

async fn check_table(seed: u64) -> Checked {
    let random = &mut SmallRng::seed_from_u64(seed);
    let delay_ms = random.random_range(0..20_000);
    let events = partitions(random, 300, delay_ms);

    // The table has some of the keys; the longer key tells rows apart by `g` too.
    let key: &[&str] = [&["k"][..], &["k", "g"]][random.random_range(0..2)];
    let mut rows = Vec::new();
    for k in ["a", "b", "d\u{fc}r", "", "nobody"] {
        for g in -1..2 {
            if (key.len() == 1 && g != 0) || random.random_bool(0.3) {
                continue;
            }
            let label = match random.random_bool(0.3) {
                true => "null".to_owned(),
                false => format!("\"{k}{g}\""),
            };
            let weight = f64::from(random.random_range(-4..9)) / 4.0;
            rows.push(format!(
                "{{\"k\":\"{k}\",\"g\":{g},\"label\":{label},\"weight\":{weight}}}"
            ));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let context = context();
    register(&context, "events", COLUMNS, events.iter().flatten());
    register(&context, "dim", TABLE, rows.iter());
    let (url, format) = match random.random_range(0..2) {
        0 => {
            let path = folder.path().join("dim.ndjson");
            fs::write(&path, rows.join("\n")).unwrap();
            (path, "{json: {}}")
        }
        _ => {
            let path = folder.path().join("dim.parquet");
            let table = context.table("dim").await.unwrap();
            let path_text = path.to_str().unwrap();
            table
                .write_parquet(path_text, DataFrameWriteOptions::new(), None)
                .await
                .unwrap();
            (path, "{parquet: {}}")
        }
    };

    let join = pick(random, &["JOIN", "LEFT JOIN"]);
    let on = match key.len() {
        1 => pick(
            random,
            &["e.k = d.k", "d.k = lower(e.k)", "d.k = e.k AND e.n > d.g"],
        ),
        _ => pick(
            random,
            &[
                "e.k = d.k AND d.g = e.n",
                "d.g = e.n % 2 AND d.k = e.k AND d.weight > e.f",
            ],
        ),
    };
    let condition = pick(
        random,
        &[
            "",
            " WHERE d.label IS NOT NULL",
            " WHERE d.weight > 0.5 AND e.n > 0",
            " WHERE d.label IS NULL OR e.b",
        ],
    );
    let text = format!("FROM events e {join} dim d ON {on}{condition}");
    let (query, batch) = match random.random_range(0..3) {
        0 => {
            let text =
                format!("SELECT id, e.k, d.k AS dk, e.n + d.g AS n, label, weight, ts {text}");
            (text.clone(), text)
        }
        1 => {
            let text = format!(
                "SELECT * EXCEPT (g) FROM (SELECT e.*, d.label, d.g {text}) WHERE g IS NULL OR g >= 0"
            );
            (text.clone(), text)
        }
        _ => {
            let tail = format!("label, count(*) AS n, sum(weight) AS weight {text} GROUP BY 1, 2");
            let width = "INTERVAL '10 seconds'";
            (
                format!("SELECT tumble(ts, {width}) AS \"window\", {tail}"),
                format!(
                    "SELECT w['start'] AS s, w['end'] AS e, label, n, weight FROM (SELECT tumble(ts, {width}) AS w, {tail})"
                ),
            )
        }
    };
    let file = format!(
        "name: random
sources:
{}tables:
  dim:
    url: {}
    format: {format}
    columns:{TABLE}
    key: [{}]
queries:
  result: |
    {query}
sinks:
  out: {{from: result, console: {{}}}}
",
        source("events", delay_ms),
        url.display(),
        key.join(", "),
    );
    let mut rig = Rig::new(file);
    rig.script = script(&events);
    let (status, restarts) = with_crashes(&mut rig, random, seed).await;
    assert_eq!((status.totals.late, status.totals.dead_letter), (0, 0));
    let expected = answer(&context, &batch).await;
    assert_eq!(
        rig.lines("out").await,
        expected,
        "seed {seed}\n{}",
        rig.file
    );
    Checked {
        restarts,
        rows: expected.len(),
    }
}

#[test]
fn a_table_that_cannot_be_read_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dim.ndjson");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (content, expected) in [
        (None, "the table `dim` cannot be read: there is no file"),
        (
            Some("{\"k\":\"a\",\"g\":1}\n{\"k\":\"a\",\"g\":2}"),
            "two rows of the table `dim` have the key `k = a`",
        ),
        (Some("{\"k\":\"a\",\"g\":\"x\"}"), "the row at 0 of"),
    ] {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let file = format!(
            "name: random
sources:
{}tables:
  dim: {{url: {}, format: {{json: {{}}}}, columns: {{k: string, g: int64}}, key: [k]}}
queries:
  result: SELECT id, g FROM events JOIN dim ON events.k = dim.k
sinks:
  out: {{from: result, console: {{}}}}
",
            source("events", 0),
            path.display(),
        );
        let error = runtime.block_on(Rig::new(file).start()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.chain().contains(expected), "{}", error.chain());
    }
}
