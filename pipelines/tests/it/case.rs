//! Random pipelines over random rows.

use std::fmt::Write;

use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};

/// A pipeline file, the rows for it, and the same query for a batch engine.
pub(crate) struct Case {
    /// The pipeline file. Its one sink is `out`.
    pub(crate) file: String,
    /// JSON rows by partition, in disorder within the file's `delay`.
    pub(crate) partitions: Vec<Vec<String>>,
    /// The query over `events`, with `date_bin` in place of `tumble`.
    pub(crate) batch: String,
}

/// The columns, as the file declares them.
pub(crate) const COLUMNS: &str = "
      id: int64
      k: string?
      n: int64?
      d: decimal(10,2)?
      f: float64?
      b: bool?
      ts: timestamp(ms)";

const AGGREGATES: [&str; 20] = [
    "count(*)",
    "count(n)",
    "count(DISTINCT k)",
    "count(DISTINCT n)",
    "sum(n)",
    "sum(d)",
    "sum(f)",
    "sum(n) FILTER (WHERE b)",
    "count(*) FILTER (WHERE n > 3 AND k <> 'a')",
    "min(n)",
    "max(d)",
    "min(k)",
    "max(k) FILTER (WHERE f < 2)",
    "avg(n)",
    "avg(d)",
    "max(upper(k) || '-' || CAST(n AS VARCHAR))",
    "bool_or(b)",
    "approx_distinct(k)",
    "first_value(id ORDER BY id)",
    "sum(CASE WHEN b THEN 1 ELSE 0 END)",
];

const KEYS: [&str; 5] = ["k", "n", "coalesce(k, 'none')", "b", "n % 3"];

const PREDICATES: [&str; 6] = [
    "n IS NOT NULL",
    "k IN ('a', 'b', 'c')",
    "d > 1.5 OR b",
    "NOT b",
    "f BETWEEN -2 AND 3",
    "length(k) >= 1",
];

impl Case {
    /// A random one. Rows repeat and have nulls; partitions may be empty.
    pub(crate) fn random(random: &mut SmallRng) -> Self {
        let delay_ms = random.random_range(0..20_000);
        let partitions = (0..random.random_range(1..4)).map(|partition| {
            let rows = if random.random_bool(0.1) {
                0
            } else {
                random.random_range(1..400)
            };
            rows_of(random, partition, rows, delay_ms)
        });
        let partitions = partitions.collect();

        // What the query reads: the source, a step, or views on them.
        let mut steps = String::new();
        let mut views = Vec::new();
        let mut from = "events";
        if random.random_bool(0.3) {
            let predicate = PREDICATES.choose(random).unwrap();
            writeln!(
                steps,
                "steps:\n  clean: {{from: events, where: \"{predicate}\"}}"
            )
            .unwrap();
            views.push((
                "clean",
                format!("SELECT * FROM events WHERE {predicate}"),
                false,
            ));
            from = "clean";
        }
        if random.random_bool(0.3) {
            let text = format!("SELECT id, k, n + 1 AS n, d, f, b, ts FROM {from} WHERE id >= 0");
            views.push(("viewed", text, true));
            from = "viewed";
        }
        if random.random_bool(0.25) {
            let other = PREDICATES.choose(random).unwrap();
            let text = format!(
                "SELECT id, k, n, d, f, b, ts FROM {from} UNION ALL \
                 SELECT id, 'x' AS k, n, d, f, NOT b AS b, ts FROM events WHERE {other}"
            );
            views.push(("both", text, true));
            from = "both";
        }

        let predicate = if random.random_bool(0.5) {
            format!(" WHERE {}", PREDICATES.choose(random).unwrap())
        } else {
            String::new()
        };
        let (query, batch) = if random.random_bool(0.15) {
            let text = format!(
                "SELECT id, upper(k) AS k, n * 2 AS n, d, f IS NULL AS f, ts FROM {from}{predicate}"
            );
            (text.clone(), text)
        } else {
            windowed(random, from, &predicate)
        };

        let mut queries = String::new();
        for (name, text, _) in views.iter().filter(|(_, _, in_file)| *in_file) {
            writeln!(queries, "  {name}: |\n    {text}").unwrap();
        }
        let with: Vec<String> = views
            .iter()
            .map(|(name, text, _)| format!("{name} AS ({text})"))
            .collect();
        let with = if with.is_empty() {
            String::new()
        } else {
            format!("WITH {} ", with.join(", "))
        };
        let file = format!(
            "name: random
sources:
  events:
    files: {{url: /nowhere/*.ndjson}}
    format: {{json: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: {delay_ms}ms}}
{steps}queries:
{queries}  result: |
    {query}
sinks:
  out: {{from: result, console: {{}}}}
"
        );
        Self {
            file,
            partitions,
            batch: format!("{with}{batch}"),
        }
    }
}

/// A windowed query, and the same for a batch engine.
fn windowed(random: &mut SmallRng, from: &str, predicate: &str) -> (String, String) {
    let seconds = [1, 7, 10, 60, 3600][random.random_range(0..5)];
    let mut keys: Vec<&str> = KEYS.to_vec();
    let keys: Vec<&str> = (0..random.random_range(0..3))
        .map(|_| keys.swap_remove(random.random_range(0..keys.len())))
        .collect();
    let aggregates = AGGREGATES.choose_multiple(random, 4);
    let columns = keys
        .iter()
        .enumerate()
        .map(|(index, key)| format!("{key} AS key{index}"))
        .chain(
            aggregates
                .enumerate()
                .map(|(index, text)| format!("{text} AS a{index}")),
        );
    let columns: Vec<String> = columns.collect();
    let columns = columns.join(", ");
    let groups: Vec<String> = (1..=keys.len() + 1)
        .map(|group| group.to_string())
        .collect();
    let groups = groups.join(", ");
    let having = if random.random_bool(0.2) {
        " HAVING count(*) > 2"
    } else {
        ""
    };
    let tail = format!("{columns} FROM {from}{predicate} GROUP BY {groups}{having}");
    let window = format!("tumble(ts, INTERVAL '{seconds} seconds') AS \"window\"");
    let start = format!("date_bin(INTERVAL '{seconds} seconds', ts) AS window_start");
    let end = format!("window_start + INTERVAL '{seconds} seconds' AS window_end");
    (
        format!("SELECT {window}, {tail}"),
        format!(
            "SELECT window_start, {end}, * EXCEPT (window_start) FROM (SELECT {start}, {tail})"
        ),
    )
}

/// Rows whose time goes up by up to two seconds each, and back by at most the
/// delay.
pub(crate) fn rows_of(
    random: &mut SmallRng,
    partition: usize,
    rows: usize,
    delay_ms: i64,
) -> Vec<String> {
    // Around the epoch too: windows must floor, not truncate.
    let mut latest = [0, 1_767_571_200_000][random.random_range(0..2)];
    let mut made: Vec<String> = Vec::with_capacity(rows);
    for row in 0..rows {
        latest += random.random_range(0..2000);
        // A repeated row is as old as it was, so repeat only the last one.
        if let (true, Some(last)) = (random.random_bool(0.05) && delay_ms > 2000, made.last()) {
            made.push(last.clone());
            continue;
        }
        let time = (latest - random.random_range(0..=delay_ms.saturating_sub(2000).max(0))).max(1);
        let mut fields = vec![format!("\"id\":{}", partition * 1_000_000 + row)];
        let mut field = |text: String, random: &mut SmallRng| match random.random_range(0..10) {
            0 => {}
            1 => fields.push(format!("{}:null", text.split(':').next().unwrap())),
            _ => fields.push(text),
        };
        let key = ["a", "b", "c", "d\u{fc}r", ""][random.random_range(0..5)];
        field(format!("\"k\":\"{key}\""), random);
        field(format!("\"n\":{}", random.random_range(-3..9)), random);
        field(
            format!(
                "\"d\":{}.{:02}",
                random.random_range(0..5),
                random.random_range(0..100)
            ),
            random,
        );
        // Quarters: their sums are exact in any order.
        field(
            format!("\"f\":{}", f64::from(random.random_range(-20..20)) / 4.0),
            random,
        );
        field(format!("\"b\":{}", random.random_bool(0.5)), random);
        fields.push(format!("\"ts\":{time}"));
        made.push(format!("{{{}}}", fields.join(",")));
    }
    made
}
