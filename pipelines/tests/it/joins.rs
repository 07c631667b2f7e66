//! Random joins equal DataFusion's batch result over the same rows.

use std::{collections::BTreeSet, fs, sync::Arc};

use datafusion::dataframe::DataFrameWriteOptions;
use rand::{
    Rng, SeedableRng,
    rngs::SmallRng,
    seq::{IndexedRandom, SliceRandom},
};
use tagflow_engine::{ErrorKind, runtime::Until, testing::Script};

use crate::{
    case::{Arrival, COLUMNS, rows_of},
    duckdb,
    late::{self, Feed, Late},
    oracle::{answer, context, register, with_crashes},
    rig::Rig,
    seeds::{self, CASES},
};

/// The counts of one case.
struct Checked {
    restarts: u64,
    rows: usize,
    late: u64,
}

/// Runs `check` with many seeds.
fn cases<F: Future<Output = Checked>>(kind: &str, check: impl Fn(u64) -> F) {
    let (mut restarts, mut rows, mut late) = (0, 0, 0);
    let checked = seeds::check_all(CASES, async |seed| {
        let checked = check(seed).await;
        restarts += checked.restarts;
        rows += checked.rows;
        late += checked.late;
    });
    let Some(cases) = checked else { return };
    println!("{cases} {kind}, {restarts} crashes, {rows} result rows, {late} late rows");
    assert!(restarts > cases / 4, "too few crashes to show anything");
    assert!(rows as u64 > cases * 5, "too few rows to show anything");
}

fn pick<'a>(random: &mut SmallRng, of: &[&'a str]) -> &'a str {
    of.choose(random).unwrap()
}

/// One to three partitions of up to `most` rows, some of them empty.
fn partitions(random: &mut SmallRng, most: usize, delay_ms: i64) -> Vec<Vec<String>> {
    let arrival = Arrival {
        from_ms: [0, 1_767_571_200_000][random.random_range(0..2)],
        step_ms: 2_000,
        delay_ms,
        one_key: false,
    };
    let partitions = 1..random.random_range(2..5);
    let partition = |partition| {
        let rows = match random.random_range(0..10) {
            0 => 0,
            _ => random.random_range(1..most),
        };
        rows_of(random, partition, rows, &arrival)
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
    let feeds = if random.random_bool(0.5) {
        let late = Late::Windows { width: 10_000 };
        Feed::stopped(random, late, vec![("events", delay_ms, events)])
    } else {
        vec![Feed::whole("events", events)]
    };

    // The table has some of the keys; the longer key also distinguishes rows by `g`.
    let key: &[&str] = [&["k"][..], &["k", "g"]][random.random_range(0..2)];
    let mut rows = Vec::new();
    for k in ["a", "b", "d\u{fc}r", "", "nobody"] {
        for g in -1..2 {
            if (key.len() == 1 && g != 0) || random.random_bool(0.3) {
                continue;
            }
            let label = if random.random_bool(0.3) {
                "null".to_owned()
            } else {
                format!("\"{k}{g}\"")
            };
            let weight = f64::from(random.random_range(-4..9)) / 4.0;
            rows.push(format!(
                "{{\"k\":\"{k}\",\"g\":{g},\"label\":{label},\"weight\":{weight}}}"
            ));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let context = context();
    register(&context, "dim", TABLE, rows.iter());
    let parquet = random.random_bool(0.5);
    let name = if parquet { "dim.parquet" } else { "dim.ndjson" };
    let url = folder.path().join(name);
    if parquet {
        let table = context.table("dim").await.unwrap();
        let options = DataFrameWriteOptions::new();
        let written = table.write_parquet(url.to_str().unwrap(), options, None);
        written.await.unwrap();
    } else {
        fs::write(&url, rows.join("\n")).unwrap();
    }
    let format = if parquet {
        "{parquet: {}}"
    } else {
        "{json: {}}"
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
    let shape = random.random_range(0..3);
    // Without a window no row is late.
    let is_windowed = shape == 2;
    let counted: Vec<&String> = if is_windowed {
        feeds.iter().flat_map(Feed::on_time).collect()
    } else {
        feeds.iter().flat_map(Feed::all).collect()
    };
    register(&context, "events", COLUMNS, counted.iter().copied());
    let (query, batch) = match shape {
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
    let (status, restarts) = late::run(&mut rig, &feeds, random, seed).await;
    let most: u64 = feeds.iter().map(Feed::late).sum();
    let most = if is_windowed { most } else { 0 };
    // Rows without a row in the table must not reach the window.
    assert!(status.totals.late <= most, "seed {seed}");
    assert_eq!(status.totals.dead_letter, 0);
    let expected = answer(&context, &batch).await;
    assert_eq!(
        rig.lines("out").await,
        expected,
        "seed {seed}\n{}",
        rig.file
    );
    let tables = [
        ("events", COLUMNS, counted),
        ("dim", TABLE, rows.iter().collect()),
    ];
    duckdb::check(seed, &tables, &batch, &expected);
    Checked {
        restarts,
        rows: expected.len(),
        late: status.totals.late,
    }
}

/// Compares a pipeline with `batch` over the same rows. The pipeline has the sources
/// `events` and `others`, and the queries `views` and `result`. Late rows are emitted to
/// the late output once per name in `reads`.
async fn check_streams(
    random: &mut SmallRng,
    seed: u64,
    most: usize,
    (late, reads): (Late, &[&str]),
    views: &[(&str, String)],
    result: &str,
    batch: &str,
) -> Checked {
    let mut rig = Rig::new(String::new());
    let context = context();
    let mut sources = String::new();
    let (mut feeds, mut sharing) = (Vec::new(), Vec::new());
    let stops = !matches!(late, Late::Never) && random.random_bool(0.5);
    for name in ["events", "others"] {
        let delay_ms = random.random_range(0..20_000);
        let rows = partitions(random, most, delay_ms);
        sources.push_str(&source(name, delay_ms));
        match late {
            _ if !stops || !reads.contains(&name) => feeds.push(Feed::whole(name, rows)),
            // A join of events has one watermark, and each window its own.
            Late::Events { .. } => sharing.push((name, delay_ms, rows)),
            _ => feeds.extend(Feed::stopped(random, late, vec![(name, delay_ms, rows)])),
        }
    }
    if !sharing.is_empty() {
        feeds.extend(Feed::stopped(random, late, sharing));
    }
    for feed in &feeds {
        register(&context, feed.name, COLUMNS, feed.on_time());
    }
    let queries = views
        .iter()
        .map(|(name, text)| format!("  {name}: |\n    {text}\n"));
    let queries: String = queries.collect();
    rig.file = format!(
        "name: random
sources:
{sources}queries:
{queries}  result: |
    {result}
sinks:
  out: {{from: result, console: {{}}}}
"
    );
    let with: Vec<String> = views
        .iter()
        .map(|(name, text)| format!("{name} AS ({text})"))
        .collect();
    let with = match with.as_slice() {
        [] => String::new(),
        with => format!("WITH {} ", with.join(", ")),
    };
    let (status, restarts) = late::run(&mut rig, &feeds, random, seed).await;
    let told = format!("seed {seed}\n{}", rig.file);
    let reading = |feed: &Feed| reads.iter().filter(|it| **it == feed.name).count() as u64;
    let set_aside: u64 = feeds.iter().map(|feed| reading(feed) * feed.late()).sum();
    match late {
        // WHERE may drop some of them.
        Late::Events { .. } => assert!(status.totals.late <= set_aside, "{told}"),
        _ => assert_eq!(status.totals.late, set_aside, "{told}"),
    }
    assert_eq!(status.totals.dead_letter, 0, "{told}");
    assert_eq!(
        rig.lines("errors.late").await.len() as u64,
        status.totals.late,
        "{told}"
    );
    let batch = format!("{with}{batch}");
    let expected = answer(&context, &batch).await;
    let ours = rig.lines("out").await;
    assert_eq!(ours, expected, "{told}\n{batch}");
    let tables = feeds
        .iter()
        .map(|feed| (feed.name, COLUMNS, feed.on_time().collect()));
    duckdb::check(seed, &tables.collect::<Vec<_>>(), &batch, &expected);
    Checked {
        restarts,
        rows: expected.len(),
        late: status.totals.late,
    }
}

#[test]
fn random_rankings_equal_datafusion() {
    cases("rankings", check_top);
}

async fn check_top(seed: u64) -> Checked {
    let random = &mut SmallRng::seed_from_u64(seed);
    let seconds = [1, 7, 10, 60, 3600][random.random_range(0..5)];
    let view = format!(
        "SELECT tumble(ts, INTERVAL '{seconds} seconds') AS w, k, n % 3 AS g, count(*) AS c, \
         sum(f) AS s FROM events GROUP BY 1, 2, 3"
    );
    let partition = pick(random, &["w", "w, k", "g, w"]);
    let order = pick(
        random,
        &[
            "c DESC",
            "s",
            "s DESC NULLS LAST, c",
            "c % 2, k DESC NULLS FIRST",
            "k IS NULL, abs(s) DESC",
        ],
    );
    let most = random.random_range(1..4);
    let filter = pick(
        random,
        &[
            "r <= #",
            "r < #",
            "# >= r",
            "r = 1",
            "r BETWEEN 1 AND #",
            "r <= # AND c > 1",
        ],
    );
    let filter = filter.replace('#', &most.to_string());
    // Ties are broken by all columns, in their order.
    let ranked = |order: &str| {
        format!(
            "(SELECT *, ROW_NUMBER() OVER (PARTITION BY {partition} ORDER BY {order}) AS r FROM v)"
        )
    };
    let total = format!(
        "{order}, w NULLS FIRST, k NULLS FIRST, g NULLS FIRST, c NULLS FIRST, s NULLS FIRST"
    );
    let (mut ours, mut theirs) = (ranked(order), ranked(&total));
    if random.random_bool(0.5) {
        for ranked in [&mut ours, &mut theirs] {
            *ranked = format!("(SELECT upper(k) AS k, w, r, c, g, s FROM {ranked} AS x)");
        }
    }
    let columns = "k, r, c, g, s";
    let late = Late::Windows {
        width: 1_000 * seconds,
    };
    check_streams(
        random,
        seed,
        300,
        (late, &["events"]),
        &[("v", view)],
        &format!("SELECT w AS \"window\", {columns} FROM {ours} WHERE {filter}"),
        &format!("SELECT w['start'] AS a, w['end'] AS b, {columns} FROM {theirs} WHERE {filter}"),
    )
    .await
}

#[test]
fn random_joins_of_windows_equal_datafusion() {
    cases("joins of windows", check_window_join);
}

async fn check_window_join(seed: u64) -> Checked {
    let random = &mut SmallRng::seed_from_u64(seed);
    let seconds = [1, 7, 10, 60, 3600][random.random_range(0..5)];
    let view = |from: &str, keys: &str, groups: &str| {
        format!(
            "SELECT tumble(ts, INTERVAL '{seconds} seconds') AS w, {keys}, count(*) AS c, \
             sum(n) AS s FROM {from} GROUP BY {groups}"
        )
    };
    let two = random.random_bool(0.5);
    let (keys, groups) = if two {
        ("k, n % 2 AS g", "1, 2, 3")
    } else {
        ("k", "1, 2")
    };
    let left = view("events", keys, groups);
    let other = pick(random, &["events", "others"]);
    let right = view(other, keys, groups);
    let late = Late::Windows {
        width: 1_000 * seconds,
    };
    let join = pick(random, &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
    let on = pick(
        random,
        &[
            "l.w = r.w AND l.k = r.k",
            "r.k = l.k AND r.w = l.w AND l.c >= r.c",
            "l.w = r.w AND upper(l.k) = coalesce(r.k, 'A') AND l.s + r.s > 0",
            "l.w = r.w",
        ],
    );
    let condition = pick(
        random,
        &["", " WHERE l.c > 1", " WHERE l.s IS NULL OR r.s > 0"],
    );
    let tail = format!(
        "l.k AS lk, r.k AS rk, l.c, r.c AS rc, l.s + r.s AS s, r.s AS rs FROM l {join} r ON {on}{condition}"
    );
    check_streams(
        random,
        seed,
        200,
        (late, &["events", other]),
        &[("l", left), ("r", right)],
        &format!("SELECT l.w, r.w AS v, {tail}"),
        &format!(
            "SELECT l.w['start'] AS a, l.w['end'] AS b, r.w['start'] AS d, r.w['end'] AS e, {tail}"
        ),
    )
    .await
}

#[test]
fn random_joins_of_events_equal_datafusion() {
    cases("joins of events", check_interval_join);
}

async fn check_interval_join(seed: u64) -> Checked {
    let random = &mut SmallRng::seed_from_u64(seed);
    let other = pick(random, &["events", "others", "others"]);
    let join = pick(random, &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
    let key = pick(
        random,
        &[
            "l.k = r.k",
            "l.k = r.k AND r.n = l.n",
            "r.n = l.n",
            "lower(l.k) = r.k AND l.b",
        ],
    );
    let bound = pick(
        random,
        &[
            "r.ts BETWEEN l.ts AND l.ts + INTERVAL '30 seconds'",
            "r.ts >= l.ts - INTERVAL '5 seconds' AND r.ts < l.ts + INTERVAL '5 seconds'",
            "l.ts BETWEEN r.ts + INTERVAL '1 second' AND r.ts + INTERVAL '10 minutes'",
            "r.ts > l.ts AND l.ts + INTERVAL '70 seconds' > r.ts",
            "l.ts = r.ts",
            "r.ts + INTERVAL '3 seconds' <= l.ts AND r.ts >= l.ts - INTERVAL '1 minute'",
        ],
    );
    let residual = pick(
        random,
        &["", "", " AND l.f < r.f", " AND (l.n > 2 OR r.d IS NULL)"],
    );
    let condition = pick(
        random,
        &["", "", " WHERE l.n > 0", " WHERE r.k IS NOT NULL"],
    );
    let text = format!(
        "SELECT l.id, r.id AS rid, l.k, r.k AS rk, l.ts, r.ts AS rts, l.f + r.f AS f \
         FROM events l {join} {other} r ON {key} AND {bound}{residual}{condition}"
    );
    let late = Late::Events { within: 0 };
    check_streams(
        random,
        seed,
        150,
        (late, &["events", other]),
        &[],
        &text,
        &text,
    )
    .await
}

#[test]
fn a_window_over_joined_events_equals_datafusion() {
    cases("windows over joined events", check_window_over_join);
}

async fn check_window_over_join(seed: u64) -> Checked {
    let random = &mut SmallRng::seed_from_u64(seed);
    let seconds = [1, 7, 10, 60][random.random_range(0..4)];
    let (time, bound) = [
        ("r.ts", "r.ts BETWEEN l.ts AND l.ts + INTERVAL '1 minute'"),
        ("l.ts", "r.ts BETWEEN l.ts - INTERVAL '20 seconds' AND l.ts"),
    ][random.random_range(0..2)];
    let width = format!("INTERVAL '{seconds} seconds'");
    let alone = ["", " UNION ALL SELECT ts AS t, k, n FROM events"][random.random_range(0..2)];
    let joined = format!(
        "SELECT {time} AS t, l.k, r.n FROM events l JOIN others r ON l.k = r.k AND {bound}{alone}"
    );
    let tail = "k, count(*) AS c, sum(n) AS s FROM j GROUP BY 1, 2";
    check_streams(
        random,
        seed,
        100,
        (Late::Never, &["events", "others"]),
        &[("j", joined)],
        &format!("SELECT tumble(t, {width}) AS w, {tail}"),
        &format!("SELECT w['start'] AS a, w['end'] AS b, k, c, s FROM (SELECT tumble(t, {width}) AS w, {tail})"),
    )
    .await
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

#[test]
fn late_events_of_a_join_are_set_aside() {
    let row = |id: i64, ts: i64| format!("{{\"id\":{id},\"k\":\"a\",\"ts\":{ts}}}");
    let file = format!(
        "name: random
sources:
{}{}queries:
  result: SELECT l.id, r.id AS rid FROM events l LEFT JOIN others r
    ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '10 seconds'
sinks:
  out: {{from: result, console: {{}}}}
",
        source("events", 0),
        source("others", 0),
    );
    let mut rig = Rig::new(file);
    // Both watermarks are at 100 s when the rows at 5 s arrive.
    let events = vec![vec![row(1, 1_000), row(2, 100_000), row(3, 5_000)]];
    let others = vec![vec![row(10, 2_000), row(20, 100_000), row(30, 5_000)]];
    rig.scripts.insert("events", script(&events));
    rig.scripts.insert("others", script(&others));
    rig.chunk = 1;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let status = runtime.block_on(rig.start()).unwrap();
    // The source that is read last may or may not see the other's watermark at its end.
    let lines = runtime.block_on(rig.lines("out"));
    assert!(lines.contains(&"1,10".to_owned()), "{lines:?}");
    assert!(lines.contains(&"2,20".to_owned()), "{lines:?}");
    let late = runtime.block_on(rig.lines("errors.late"));
    assert_eq!(late.len() as u64, status.totals.late);
    assert!(!late.is_empty());
    for line in late {
        assert!(line.contains("behind_watermark"), "{line}");
        assert!(
            line.contains("\"\"ts\"\"") || line.contains("\"ts\""),
            "{line}"
        );
    }
}

/// The number of changed queries in CI.
const CHANGES: u64 = 60;

/// Aggregates over pairs: their SQL, and the one column that they read.
const OF_PAIRS: [(&str, &str); 7] = [
    ("count(l.n)", "l.n"),
    ("sum(l.n)", "l.n"),
    ("min(l.f)", "l.f"),
    ("sum(r.id)", "r.id"),
    ("max(r.d)", "r.d"),
    ("count(DISTINCT r.n)", "r.n"),
    ("bool_or(r.b)", "r.b"),
];

#[test]
fn aggregates_over_a_join_come_and_go() {
    let (mut restarts, mut open) = (0, 0);
    let checked = seeds::check_all(CHANGES, async |seed| {
        let checked = check_change(seed).await;
        restarts += checked.restarts;
        open += checked.rows;
    });
    let Some(cases) = checked else { return };
    println!("{cases} changed queries, {restarts} crashes, {open} rows of open windows");
    assert!(restarts > cases / 4, "too few crashes to show anything");
    assert!(open as u64 > cases * 5, "too few windows were open");
}

/// Stops an aggregate over a join in the middle of its rows, and continues with other
/// aggregates. Aggregates that remain cover all pairs. New ones cover the pairs after the
/// change; in these, a column that was unread before is null in earlier rows.
async fn check_change(seed: u64) -> Checked {
    let random = &mut SmallRng::seed_from_u64(seed);
    let mut pool = OF_PAIRS.to_vec();
    pool.shuffle(random);
    let before = pool[..random.random_range(0..3)].to_vec();
    let keeps = random.random_range(0..=before.len());
    let mut after = before[..keeps].to_vec();
    after.extend_from_slice(&pool[before.len()..before.len() + random.random_range(1..4)]);
    after.shuffle(random);
    let known: Vec<&str> = before.iter().map(|(_, column)| *column).collect();

    let within = random.random_range(1..60);
    let pairs = |of: &str| {
        format!(
            "FROM events{of} l JOIN others{of} r ON l.k = r.k \
             AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '{within} seconds' GROUP BY 1, 2"
        )
    };
    let delays = [0, 1].map(|_| random.random_range(0..20_000));
    let file = |aggregates: &[(&str, &str)]| {
        let values: Vec<&str> = aggregates.iter().map(|(sql, _)| *sql).collect();
        let values: Vec<String> = std::iter::once("count(*)")
            .chain(values)
            .enumerate()
            .map(|(index, sql)| format!("{sql} AS a{index}"))
            .collect();
        format!(
            "name: random
sources:
{}{}queries:
  result: |
    SELECT tumble(r.ts, INTERVAL '10 seconds') AS \"window\", l.k AS k, {} {}
sinks:
  out: {{from: result, console: {{}}}}
",
            source("events", delays[0]),
            source("others", delays[1]),
            values.join(", "),
            pairs("")
        )
    };
    let context = context();
    let columns = format!("{COLUMNS}\n      later: bool?");
    let mut rig = Rig::new(file(&before));
    let mut later = Vec::new();
    for (name, delay_ms) in ["events", "others"].into_iter().zip(delays) {
        let script = rig.scripts.entry(name).or_default();
        let (mut earlier, mut all) = (Vec::new(), Vec::new());
        for (partition, rows) in partitions(random, 150, delay_ms).into_iter().enumerate() {
            let (first, rest) = rows.split_at(random.random_range(0..=rows.len()));
            script.push(&format!("p{partition}"), first.iter().cloned());
            earlier.extend_from_slice(first);
            all.extend_from_slice(first);
            all.extend(
                rest.iter()
                    .map(|row| row.replacen('{', "{\"later\":true,", 1)),
            );
            later.push((name, partition, rest.to_vec()));
        }
        register(
            &context,
            &format!("{name}_earlier"),
            &columns,
            earlier.iter(),
        );
        register(&context, name, &columns, all.iter());
    }
    rig.until = Until::CaughtUp;
    let (_, crashes) = with_crashes(&mut rig, random, seed).await;
    let closed = rig.lines("out").await;

    rig.file = file(&after);
    for (name, partition, rows) in later {
        rig.scripts[name].push(&format!("p{partition}"), rows);
    }
    rig.until = Until::Stopped;
    let (status, restarts) = with_crashes(&mut rig, random, seed).await;
    assert_eq!((status.totals.late, status.totals.dead_letter), (0, 0));
    let mut open = rig.lines("out").await;
    for line in &closed {
        let place = open.iter().position(|it| it == line).unwrap();
        open.remove(place);
    }

    let window = |line: &String| line.split(',').next().unwrap().to_owned();
    let is_closed: BTreeSet<String> = closed.iter().map(window).collect();
    let sql = |of: &str, values: &[String]| {
        let size = "INTERVAL '10 seconds'";
        let values = [&["count(*)".to_owned()], values].concat().join(", ");
        format!(
            "SELECT date_bin({size}, r.ts) AS s, l.k AS k, {values} {}",
            pairs(of)
        )
    };
    let ours = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter().map(|line| {
            let mut values: Vec<&str> = line.split(',').collect();
            // The window's end.
            values.remove(1);
            values.join(",")
        });
        lines.collect()
    };
    let told = format!("seed {seed}\n{}\n{}", file(&before), rig.file);
    let values: Vec<String> = before.iter().map(|(sql, _)| (*sql).to_owned()).collect();
    let mut expected = answer(&context, &sql("_earlier", &values)).await;
    expected.retain(|line| is_closed.contains(&window(line)));
    assert_eq!(ours(&closed), expected, "closed before the change, {told}");

    let value = |(sql, column): &(&str, &str)| {
        let side = &column[..1];
        if before.iter().any(|(it, _)| it == sql) {
            (*sql).to_owned()
        } else if known.contains(column) {
            format!("{sql} FILTER (WHERE l.later OR r.later)")
        } else {
            format!("{sql} FILTER (WHERE {side}.later)")
        }
    };
    let values: Vec<String> = after.iter().map(value).collect();
    let mut expected = answer(&context, &sql("", &values)).await;
    expected.retain(|line| !is_closed.contains(&window(line)));
    assert_eq!(ours(&open), expected, "open at the change, {told}");
    Checked {
        restarts: restarts + crashes,
        rows: open.len(),
        late: 0,
    }
}
