//! Aggregates without a window equal DataFusion's batch result for each key at each tick,
//! and forget the key in time. This holds for any order of arrival, any number of lanes
//! and any crash.

use std::{collections::BTreeMap, fmt::Write};

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use crate::{
    case::{AGGREGATES, Arrival, COLUMNS, Case, PREDICATES, rows_of},
    oracle::{batch, run},
    seeds::{self, CASES},
};

const KEYS: [&str; 4] = ["coalesce(k, 'none')", "n", "b", "n % 3"];

#[test]
fn changes_equal_datafusion() {
    let mut sum = Sum::default();
    let Some(cases) = seeds::check_all(CASES, async |seed| check(seed, &mut sum).await) else {
        return;
    };
    println!("{cases} cases: {sum:?}");
    let least = [sum.inserts, sum.updates, sum.deletes, sum.again];
    assert!(least.iter().all(|many| *many > cases), "too few changes");
    assert!(sum.restarts > cases / 4, "too few crashes to show anything");
}

#[derive(Debug, Default)]
struct Sum {
    restarts: u64,
    inserts: u64,
    updates: u64,
    deletes: u64,
    /// Keys that reappeared after they had been forgotten.
    again: u64,
}

/// The state of a key: its time, its expiry if no further row arrives, and the values.
type State = (String, String, String);
/// A change: its time, the key, the operation, and the values.
type Change = (String, String, String, String);

async fn check(seed: u64, sum: &mut Sum) {
    let mut random = SmallRng::seed_from_u64(seed);
    let (case, keys) = case(&mut random);
    let ran = run(&case, &mut random, seed).await;
    let mut ours: Vec<Change> = ran.lines.iter().map(|line| change(line, keys)).collect();
    ours.sort();

    // The state of each key at the ticks after its rows, with the tick at which it was
    // forgotten, and the number of its life.
    let mut lives: BTreeMap<(String, String), Vec<State>> = BTreeMap::new();
    for line in batch(&case).await {
        let mut values = line.splitn(4, ',');
        let mut next = || values.next().unwrap().to_owned();
        let (life, tick, over) = (next(), next(), next());
        let (key, values) = parted(&next(), keys);
        let life = format!("{life:0>6}");
        lives
            .entry((key, life))
            .or_default()
            .push((tick, over, values));
    }
    let mut expected: Vec<Change> = Vec::new();
    let mut may_be: Vec<Change> = Vec::new();
    let all: Vec<_> = lives.into_iter().collect();
    for (index, ((key, _), mut states)) in all.iter().cloned().enumerate() {
        states.sort();
        let mut last = None;
        let mut forgotten = String::new();
        for (tick, over, values) in states {
            let op = match &last {
                None => "insert",
                Some(last) if *last == values => "",
                Some(_) => "update",
            };
            if !op.is_empty() {
                expected.push((tick, key.clone(), op.to_owned(), values.clone()));
            }
            (last, forgotten) = (Some(values), over);
        }
        let delete = (forgotten, key.clone(), "delete".to_owned(), last.unwrap());
        if all
            .get(index + 1)
            .is_some_and(|((next, _), _)| *next == key)
        {
            expected.push(delete);
            sum.again += 1;
        } else {
            // The query does not determine the final watermark.
            may_be.push(delete);
        }
    }
    expected.extend(may_be.into_iter().filter(|delete| ours.contains(delete)));
    expected.sort();
    assert_eq!(ours, expected, "seed {seed}\n{}\n{}", case.file, case.batch);

    sum.restarts += ran.restarts;
    let count = |op: &str| ours.iter().filter(|change| change.2 == op).count() as u64;
    sum.inserts += count("insert");
    sum.updates += count("update");
    sum.deletes += count("delete");
}

/// A line of the sink: the keys, the values, `op`, `changed_at`.
fn change(line: &str, keys: usize) -> Change {
    let mut from_end = line.rsplitn(3, ',');
    let mut next = || from_end.next().unwrap().to_owned();
    let (changed_at, op) = (next(), next());
    let (key, values) = parted(&next(), keys);
    (changed_at, key, op, values)
}

/// The first `keys` values of a line, and the others.
fn parted(line: &str, keys: usize) -> (String, String) {
    let values: Vec<&str> = line.split(',').collect();
    let (key, values) = values.split_at(keys);
    (key.join(","), values.join(","))
}

/// A pipeline, and its equivalent for a batch engine. The batch result has: the life of a
/// key, which begins with a row that arrives when the key is unknown; a tick; the tick at
/// which the key would then be forgotten; and the keys and values of the rows of that
/// life before the tick. Also returns the number of keys.
fn case(random: &mut SmallRng) -> (Case, usize) {
    let delay_ms = random.random_range(0..20_000);
    let arrival = Arrival {
        from_ms: [0, 1_767_571_200_000][random.random_range(0..2)],
        step_ms: [2_000, 10_000][random.random_range(0..2)],
        delay_ms,
        one_key: false,
    };
    let partitions = (0..random.random_range(1..4)).map(|partition| {
        let rows = random.random_range(0..300);
        rows_of(random, partition, rows, &arrival)
    });
    let partitions = partitions.collect();

    let every = random.random_range(1..30);
    let ttl = every + [0, random.random_range(0..60), 100_000][random.random_range(0..3)];
    let mut keys: Vec<&str> = KEYS.to_vec();
    let keys: Vec<String> = (0..random.random_range(0..3))
        .map(|_| keys.swap_remove(random.random_range(0..keys.len())))
        .enumerate()
        .map(|(index, key)| format!("{key} AS key{index}"))
        .collect();
    let names: Vec<String> = (0..keys.len()).map(|index| format!("key{index}")).collect();
    // In a line, an empty string and a null look the same.
    let texts = |text: &&str| text.starts_with("min(k)") || text.starts_with("max(k)");
    let aggregates: Vec<&str> = AGGREGATES.into_iter().filter(|it| !texts(it)).collect();
    let aggregates: Vec<String> = aggregates
        .choose_multiple(random, 3)
        .enumerate()
        .map(|(index, text)| format!("{text} AS a{index}"))
        .collect();
    let filter = if random.random_bool(0.5) {
        format!(" WHERE {}", PREDICATES.choose(random).unwrap())
    } else {
        String::new()
    };
    let columns: Vec<&str> = keys.iter().chain(&aggregates).map(String::as_str).collect();
    let columns = columns.join(", ");
    let by = if names.is_empty() {
        String::new()
    } else {
        let groups: Vec<String> = (1..=names.len()).map(|place| place.to_string()).collect();
        format!(" GROUP BY {}", groups.join(", "))
    };

    let with_keys: Vec<&str> = std::iter::once("*")
        .chain(keys.iter().map(String::as_str))
        .collect();
    let (every_sql, ttl_sql) = (
        format!("INTERVAL '{every} seconds'"),
        format!("INTERVAL '{ttl} seconds'"),
    );
    let partition_by = if names.is_empty() {
        String::new()
    } else {
        format!("PARTITION BY {}", names.join(", "))
    };
    let mut groups = vec!["life".to_owned()];
    groups.extend(names.iter().cloned());
    let list = groups.join(", ");
    let same: Vec<String> = groups
        .iter()
        .map(|name| format!("(t.{name} IS NOT DISTINCT FROM r.{name})"))
        .collect();
    let mut values = String::new();
    for text in &aggregates {
        write!(values, ", {text}").unwrap();
    }
    let keys_out: Vec<String> = names.iter().map(|name| format!(", {name}")).collect();
    let batch = format!(
        "WITH keyed AS (SELECT {} FROM events{filter}),
         lagged AS (SELECT *, lag(ts) OVER ({partition_by} ORDER BY ts) AS before FROM keyed),
         opened AS (SELECT *, CASE WHEN date_bin({every_sql}, ts)
             <= date_bin({every_sql}, before + {ttl_sql}) THEN 0 ELSE 1 END AS opens FROM lagged),
         r AS (SELECT *, sum(opens) OVER ({partition_by} ORDER BY ts
             RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS life FROM opened),
         t AS (SELECT DISTINCT {list}, date_bin({every_sql}, ts) + {every_sql} AS tick FROM r),
         both AS (SELECT r.*, t.tick FROM t JOIN r ON {} AND r.ts < t.tick)
         SELECT life, tick, date_bin({every_sql}, max(ts) + {ttl_sql}) + {every_sql} AS over{}{values}
         FROM both GROUP BY tick, {list}",
        with_keys.join(", "),
        same.join(" AND "),
        keys_out.concat(),
    );
    let file = format!(
        "name: random
sources:
  events:
    files: {{url: /nowhere/*.ndjson}}
    format: {{json: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: {delay_ms}ms}}
queries:
  result:
    sql: |
      SELECT {columns} FROM events{filter}{by}
    emit: {{every: {every}s}}
    ttl: {ttl}s
sinks:
  out: {{from: result, console: {{}}}}
"
    );
    let case = Case {
        file,
        partitions,
        batch,
        cut: None,
    };
    (case, names.len())
}
