//! Sums of integers at the bounds of their type equal those of `DuckDB`, which widens
//! them; sums that do not fit are null.

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use crate::{case::Case, duckdb, oracle::run, seeds};

/// The number of cases in CI.
const CASES: u64 = 30;

const COLUMNS: &str = "
      id: int64
      k: string?
      n: int64?
      ts: timestamp(ms)";

/// A window, and its end for a row in `DuckDB`.
const WINDOWS: [(&str, &str); 2] = [
    (
        "tumble(ts, INTERVAL '10 seconds')",
        "(SELECT *, date_bin(INTERVAL '10 seconds', ts) AS w FROM events)",
    ),
    (
        "hop(ts, INTERVAL '10 seconds', INTERVAL '30 seconds')",
        "(SELECT *, date_bin(INTERVAL '10 seconds', ts) + INTERVAL '10 seconds' * i AS w \
         FROM events CROSS JOIN range(3) AS t(i))",
    ),
];

#[test]
fn sums_equal_duckdb() {
    let mut nulls = 0;
    let checked = seeds::check_all(CASES, async |seed| nulls += check(seed).await);
    let Some(cases) = checked else { return };
    assert!(nulls > cases as usize, "too few sums that do not fit");
}

/// Returns how many sums do not fit.
async fn check(seed: u64) -> usize {
    let random = &mut SmallRng::seed_from_u64(seed);
    let (window, cut) = WINDOWS.choose(random).unwrap();
    let rows: Vec<String> = (0..random.random_range(1..150))
        .map(|id| {
            let key = ["\"a\"", "\"b\"", "null"].choose(random).unwrap();
            let extreme = [i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1, 1, -1];
            let number = match random.random_range(0..4) {
                0 => "null".to_owned(),
                1 => random.random::<i64>().to_string(),
                _ => extreme.choose(random).unwrap().to_string(),
            };
            let ts = 1_767_571_200_000_i64 + random.random_range(0..60_000);
            format!("{{\"id\":{id},\"k\":{key},\"n\":{number},\"ts\":{ts}}}")
        })
        .collect();
    // As text, because the comparison treats numbers as floats.
    let text = "concat('s', CAST(s AS VARCHAR)) AS s, concat('d', CAST(d AS VARCHAR)) AS d, c";
    let file = format!(
        "name: random
sources:
  events:
    kafka: {{brokers: \"localhost:9092\", topics: [t]}}
    format: {{json: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: 1m, max_future: 36500d}}
queries:
  v: SELECT {window} AS w, k, sum(n) AS s, sum(DISTINCT n) AS d, count(*) AS c FROM events GROUP BY 1, 2
  q: \"SELECT k, {text} FROM v\"
sinks:
  out: {{from: q, parquet: {{url: ./out}}}}
"
    );
    let fits = |sum: &str| {
        let (least, most) = (i64::MIN, i64::MAX);
        format!("CASE WHEN sum({sum}) BETWEEN {least} AND {most} THEN sum({sum}) END")
    };
    let sql = format!(
        "SELECT k, {text} FROM (SELECT w, k, {} AS s, {} AS d, count(*) AS c FROM {cut} AS e \
         GROUP BY w, k)",
        fits("n"),
        fits("DISTINCT n")
    );
    let case = Case {
        file,
        partitions: vec![rows],
        batch: sql,
        cut: None,
    };
    let ran = run(&case, random, seed).await;
    let rows = case.partitions.iter().flatten().collect();
    // The check only runs for each fifth seed.
    duckdb::check(
        5 * seed,
        &[("events", COLUMNS, rows)],
        &case.batch,
        &ran.lines,
    );
    ran.lines.iter().filter(|line| line.contains(",s,")).count()
}
