//! Steps that need rows in order (`dedupe`, `flag_bots` with a rate, `sessions`) equal
//! DataFusion's batch result, for any order of arrival, any number of lanes and any
//! crash.

use std::{collections::BTreeMap, fmt::Write};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{
    case::{Arrival, COLUMNS, Case, rows_of},
    duckdb,
    late::{self, Feed, Late},
    oracle::batch,
    rig::Rig,
    seeds::{self, CASES},
};

#[test]
fn copies_equal_datafusion() {
    check_all(Stages {
        dedupe: true,
        ..Stages::default()
    });
}

#[test]
fn rates_equal_datafusion() {
    check_all(Stages {
        rate: true,
        ..Stages::default()
    });
}

#[test]
fn sessions_equal_datafusion() {
    check_all(Stages {
        sessions: true,
        ..Stages::default()
    });
}

/// The parts of the step.
#[derive(Clone, Copy, Default)]
struct Stages {
    dedupe: bool,
    rate: bool,
    sessions: bool,
}

/// Checks cases with the parts `with`, and some of the others.
fn check_all(with: Stages) {
    let mut sum = Sum::default();
    let Some(cases) = seeds::check_all(CASES, async |seed| check(seed, with, &mut sum).await)
    else {
        return;
    };
    println!("{cases} cases: {sum:?}");
    assert!(sum.restarts > cases / 4, "too few crashes to show anything");
    assert!(sum.rows > cases * 10, "too few rows to show anything");
    if with.dedupe {
        assert!(sum.duplicates > cases * 10, "too few duplicates");
    }
}

#[derive(Debug, Default)]
struct Sum {
    restarts: u64,
    rows: u64,
    duplicates: u64,
    late: u64,
}

async fn check(seed: u64, with: Stages, sum: &mut Sum) {
    let mut random = SmallRng::seed_from_u64(seed);
    let stages = Stages {
        dedupe: with.dedupe || random.random_bool(0.3),
        rate: with.rate || random.random_bool(0.3),
        sessions: with.sessions || random.random_bool(0.3),
    };
    let Stepped {
        mut case,
        remaining,
        delay_ms,
        late,
    } = case(&mut random, stages);
    let rows = std::mem::take(&mut case.partitions);
    let feeds = match late {
        Late::Never => vec![Feed::whole("events", rows)],
        _ => Feed::stopped(&mut random, late, vec![("events", delay_ms, rows)]),
    };
    let mut rig = Rig::new(case.file.clone());
    let (status, restarts) = late::run(&mut rig, &feeds, &mut random, seed).await;
    let on_time = feeds.iter().flat_map(Feed::on_time).cloned();
    case.partitions = vec![on_time.collect()];
    let told = || format!("seed {seed}\n{}\n{}", case.file, case.batch);
    let answered = batch(&case).await;
    let events = case.partitions.iter().flatten().collect();
    // DuckDB formats the time in the name of a session differently.
    if !stages.sessions {
        duckdb::check(seed, &[("events", COLUMNS, events)], &case.batch, &answered);
    }
    let expected = renamed(answered);
    assert_eq!(renamed(rig.lines("out").await), expected, "{}", told());

    let totals = status.totals;
    let set_aside: u64 = feeds.iter().map(Feed::late).sum();
    assert_eq!(
        (totals.late, totals.dead_letter),
        (set_aside, 0),
        "{}",
        told()
    );
    let count = Case {
        batch: remaining,
        ..case
    };
    let remaining: u64 = batch(&count).await[0].parse().unwrap();
    let copies = totals.rows_in - totals.late - remaining;
    assert_eq!(totals.duplicate, copies, "seed {seed}");
    assert_eq!(totals.held, totals.released, "seed {seed}");
    sum.restarts += restarts;
    sum.late += totals.late;
    sum.rows += expected.len() as u64;
    sum.duplicates += totals.duplicate;
}

/// A pipeline with one step.
struct Stepped {
    /// Only the sessions' names differ from DataFusion's, which consist of a key and a
    /// start.
    case: Case,
    /// A query that counts the rows that the step passes.
    remaining: String,
    delay_ms: i64,
    late: Late,
}

fn case(random: &mut SmallRng, stages: Stages) -> Stepped {
    let delay_ms = random.random_range(0..20_000);
    let arrival = Arrival {
        from_ms: [0, 1_767_571_200_000][random.random_range(0..2)],
        step_ms: 2_000,
        delay_ms,
        one_key: false,
    };
    let partitions = (0..random.random_range(1..4)).map(|partition| {
        let rows = random.random_range(0..300);
        rows_of(random, partition, rows, &arrival)
    });
    let partitions = partitions.collect();

    let mut late = match stages {
        Stages {
            dedupe: false,
            rate: false,
            sessions: true,
        } if random.random_bool(0.5) => Late::Events { within: 0 },
        _ => Late::Never,
    };
    let mut step = String::new();
    let mut views = Vec::new();
    let mut from = "events";
    let columns = "id, k, n, ts";
    let mut more = String::new();
    if stages.dedupe {
        let key = key(random);
        let seconds = random.random_range(1..60);
        let names = key.join(", ");
        write!(step, ", dedupe: {{key: [{names}], within: {seconds}s}}").unwrap();
        if !stages.rate && !stages.sessions && random.random_bool(0.5) {
            let within = 1_000 * seconds;
            late = Late::Events { within };
        }
        let on = |a: &str, b: &str| {
            let columns = key.iter().map(|it| format!("{a}.{it} = {b}.{it}"));
            columns.collect::<Vec<_>>().join(" AND ")
        };
        let some: Vec<String> = key.iter().map(|it| format!("{it} IS NOT NULL")).collect();
        let some = some.join(" AND ");
        let of_event: Vec<String> = key.iter().map(|it| format!("e.{it}")).collect();
        let of_event = of_event.join(", ");
        views.push(format!(
            "passed AS (
                SELECT {names}, min(ts) AS ts FROM events WHERE {some} GROUP BY {names}
                UNION ALL
                SELECT {of_event}, min(e.ts) AS ts FROM passed p JOIN events e
                ON {} AND e.ts > p.ts + INTERVAL '{seconds} seconds' GROUP BY {of_event})",
            on("e", "p")
        ));
        views.push(format!(
            "deduped AS (
                SELECT {columns} FROM (
                    SELECT e.*, row_number() OVER (PARTITION BY {of_event}, e.ts ORDER BY e.id) AS r
                    FROM events e JOIN passed p ON {} AND e.ts = p.ts)
                WHERE r = 1
                UNION ALL SELECT {columns} FROM events WHERE NOT ({some}))",
            on("e", "p")
        ));
        from = "deduped";
    }
    let remaining = with(&views, &format!("SELECT count(*) FROM {from}"));
    if stages.rate {
        let key = key(random);
        let names = key.join(", ");
        let seconds = random.random_range(1..60);
        let most = random.random_range(1..6);
        write!(
            step,
            ", flag_bots: {{rate: {{key: [{names}], over: {seconds}s, more_than: {most}}}}}"
        )
        .unwrap();
        views.push(format!(
            "flagged AS (SELECT {columns}, {} AND coalesce(
                lag(ts, {most}) OVER (PARTITION BY {names} ORDER BY ts, id)
                    > ts - INTERVAL '{seconds} seconds', false) AS is_bot FROM {from})",
            all_there(&key)
        ));
        from = "flagged";
        more.push_str(", is_bot");
    }
    if stages.sessions {
        let key = key(random);
        let names = key.join(", ");
        let seconds = random.random_range(1..20);
        write!(step, ", sessions: {{key: [{names}], gap: {seconds}s}}").unwrap();
        let session = key.iter().map(|it| format!("CAST({it} AS VARCHAR)"));
        let session: Vec<String> = session.collect();
        views.push(format!(
            "sessions AS (SELECT {columns}{more}, {} || ' ' || CAST(max(began)
                OVER (PARTITION BY {names} ORDER BY ts, id ROWS UNBOUNDED PRECEDING)
                AS VARCHAR) AS session_id
            FROM (SELECT *, CASE WHEN before IS NULL OR ts - before > INTERVAL '{seconds} seconds'
                    THEN ts END AS began
                FROM (SELECT *, lag(ts) OVER (PARTITION BY {names} ORDER BY ts, id) AS before
                    FROM {from})))",
            session.join(" || ' ' || ")
        ));
        from = "sessions";
        more.push_str(", session_id");
    }
    if random.random_bool(0.3) {
        let filter = if stages.rate { "NOT is_bot" } else { "n > 1" };
        write!(step, ", where: \"{filter}\"").unwrap();
        views.push(format!("kept AS (SELECT * FROM {from} WHERE {filter})"));
        from = "kept";
    }
    // Rows of two branches that are merged again.
    let mut read = "step";
    let mut queries = String::new();
    let is_parted = !stages.rate && !stages.sessions && matches!(late, Late::Never);
    if is_parted && random.random_bool(0.5) {
        let both =
            |from| format!("SELECT {columns} FROM {from} UNION ALL SELECT {columns} FROM events");
        writeln!(queries, "  merged: {}", both("step")).unwrap();
        views.push(format!("merged AS ({})", both(from)));
        (read, from) = ("merged", "merged");
    }
    let (query, text) = if random.random_bool(0.6) {
        let select = format!("SELECT id, k, n, ts{more} FROM");
        (format!("{select} {read}"), format!("{select} {from}"))
    } else {
        let sessions = if stages.sessions {
            ", count(DISTINCT session_id) AS visits"
        } else {
            ""
        };
        let tail = format!("k, count(*) AS rows, sum(n) AS n{sessions}");
        (
            format!(
                "SELECT tumble(ts, INTERVAL '10 seconds') AS \"window\", {tail} FROM {read} \
                 GROUP BY 1, 2"
            ),
            format!(
                "SELECT start, start + INTERVAL '10 seconds' AS \"end\", * EXCEPT (start) FROM \
                 (SELECT date_bin(INTERVAL '10 seconds', ts) AS start, {tail} FROM {from} \
                 GROUP BY 1, 2)"
            ),
        )
    };
    let file = format!(
        "name: random
sources:
  events:
    files: {{url: /nowhere/*.ndjson}}
    format: {{json: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: {delay_ms}ms}}
steps:
  step: {{from: events{step}}}
queries:
{queries}  result: |
    {query}
sinks:
  out: {{from: result, console: {{}}}}
"
    );
    let case = Case {
        file,
        partitions,
        batch: with(&views, &text),
        cut: None,
    };
    Stepped {
        case,
        remaining,
        delay_ms,
        late,
    }
}

fn key(random: &mut SmallRng) -> Vec<&'static str> {
    [vec!["k"], vec!["n"], vec!["k", "n"]][random.random_range(0..3)].clone()
}

fn all_there(key: &[&str]) -> String {
    let columns = key.iter().map(|it| format!("{it} IS NOT NULL"));
    columns.collect::<Vec<_>>().join(" AND ")
}

fn with(views: &[String], query: &str) -> String {
    if views.is_empty() {
        return query.to_owned();
    }
    format!("WITH RECURSIVE {} {query}", views.join(", "))
}

/// The lines, with each session's name (the last column of rows) replaced by the position
/// of the first line that has it. So names can be compared that differ only in format.
fn renamed(lines: Vec<String>) -> Vec<String> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let lines = lines.into_iter().enumerate().map(|(place, line)| {
        let Some((row, name)) = line.rsplit_once(',') else {
            return line;
        };
        // A key with a start, or 32 hex digits; never a number or a flag.
        if name.len() < 20 {
            return line;
        }
        let first = *names.entry(name.to_owned()).or_insert(place);
        format!("{row},{first}")
    });
    lines.collect()
}
