//! Random pipelines over random rows.

use std::fmt::Write;

use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};

use crate::cut::{Cut, Kind};

/// A pipeline file, its rows, and the same query for a batch engine.
pub(crate) struct Case {
    /// The pipeline file. Its one sink is `out`.
    pub(crate) file: String,
    /// JSON rows by partition, out of order by at most the file's `delay`.
    pub(crate) partitions: Vec<Vec<String>>,
    /// The query over `events`, in plain SQL.
    pub(crate) batch: String,
    /// The query's windows; none if it has none.
    pub(crate) cut: Option<Cut>,
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

/// Aggregates over the columns.
pub(crate) const AGGREGATES: [&str; 20] = [
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

/// Conditions over the columns.
pub(crate) const PREDICATES: [&str; 6] = [
    "n IS NOT NULL",
    "k IN ('a', 'b', 'c')",
    "d > 1.5 OR b",
    "NOT b",
    "f BETWEEN -2 AND 3",
    "length(k) >= 1",
];

impl Case {
    /// A random case with windows of `kind`. Rows repeat and have nulls; partitions may
    /// be empty, or have a single key.
    pub(crate) fn random(kind: Kind, random: &mut SmallRng) -> Self {
        let cut = Cut::random(kind, random);
        let delay_ms = random.random_range(0..10 * cut.step_ms);
        let arrival = Arrival {
            from_ms: cut.from_ms,
            step_ms: cut.step_ms,
            delay_ms,
            one_key: random.random_bool(0.1),
        };
        let partitions = (0..random.random_range(1..4)).map(|partition| {
            let rows = if random.random_bool(0.1) {
                0
            } else {
                random.random_range(1..400)
            };
            rows_of(random, partition, rows, &arrival)
        });
        let partitions = partitions.collect();

        // The relation that the query reads: the source, a step, or views on them.
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
            views.push(("merged", text, true));
            from = "merged";
        }

        let predicate = if random.random_bool(0.5) {
            format!(" WHERE {}", PREDICATES.choose(random).unwrap())
        } else {
            String::new()
        };
        let plain = random.random_bool(0.1);
        let (query, batch) = if plain {
            let text = format!(
                "SELECT id, upper(k) AS k, n * 2 AS n, d, f IS NULL AS f, ts FROM {from}{predicate}"
            );
            (text.clone(), text)
        } else {
            windowed(random, &cut, from, &predicate)
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
            cut: (!plain).then_some(cut),
        }
    }
}

/// A windowed query, and the same for a batch engine.
fn windowed(random: &mut SmallRng, cut: &Cut, from: &str, predicate: &str) -> (String, String) {
    let mut keys: Vec<&str> = KEYS.to_vec();
    let keys: Vec<String> = (0..random.random_range(0..3))
        .map(|_| keys.swap_remove(random.random_range(0..keys.len())))
        .enumerate()
        .map(|(index, key)| format!("{key} AS key{index}"))
        .collect();
    let names: Vec<String> = (0..keys.len()).map(|index| format!("key{index}")).collect();
    let aggregates: Vec<String> = AGGREGATES
        .choose_multiple(random, 4)
        .enumerate()
        .map(|(index, text)| format!("{text} AS a{index}"))
        .collect();
    let having = if random.random_bool(0.2) {
        " HAVING count(*) > 2"
    } else {
        ""
    };
    let groups: Vec<String> = (1..=keys.len() + 1)
        .map(|group| group.to_string())
        .collect();
    let columns: Vec<&str> = keys.iter().chain(&aggregates).map(String::as_str).collect();
    let ours = format!(
        "SELECT {} AS \"window\", {} FROM {from}{predicate} GROUP BY {}{having}",
        cut.call,
        columns.join(", "),
        groups.join(", ")
    );

    // First each row with its keys and its windows, then the groups.
    let all: Vec<&str> = std::iter::once("*")
        .chain(keys.iter().map(String::as_str))
        .collect();
    let keyed = format!("SELECT {} FROM {from}{predicate}", all.join(", "));
    let placed = (cut.place)(&keyed, &names);
    let mut groups = vec!["window_start".to_owned(), "window_end".to_owned()];
    groups.extend(names);
    let columns: Vec<&String> = groups.iter().chain(&aggregates).collect();
    let columns: Vec<&str> = columns.into_iter().map(String::as_str).collect();
    let batch = format!(
        "SELECT {} FROM ({placed}) GROUP BY {}{having}",
        columns.join(", "),
        groups.join(", ")
    );
    let Some(outer) = &cut.outer else {
        return (ours, batch);
    };
    let sums = "count(*) AS windows, max(a0) AS most, min(a1) AS least";
    let last = format!("SELECT *, window_end - INTERVAL '1 microsecond' AS ts FROM ({batch})");
    let last = format!("SELECT * EXCEPT (window_start, window_end) FROM ({last})");
    let placed = (outer.place)(&last, &[]);
    (
        format!(
            "SELECT {} AS \"window\", {sums} FROM ({ours}) GROUP BY 1",
            outer.call
        ),
        format!("SELECT window_start, window_end, {sums} FROM ({placed}) GROUP BY 1, 2"),
    )
}

/// The arrival of rows.
pub(crate) struct Arrival {
    /// The time of the first row, in milliseconds.
    pub(crate) from_ms: i64,
    /// The maximum gap between consecutive rows.
    pub(crate) step_ms: i64,
    /// The maximum disorder of rows.
    pub(crate) delay_ms: i64,
    /// Whether all rows have the same `k`.
    pub(crate) one_key: bool,
}

/// Rows whose time increases by up to a step each, and decreases by at most the delay.
pub(crate) fn rows_of(
    random: &mut SmallRng,
    partition: usize,
    rows: usize,
    arrival: &Arrival,
) -> Vec<String> {
    let (step, delay_ms) = (arrival.step_ms, arrival.delay_ms);
    let mut latest = arrival.from_ms;
    // Some rows are at whole half seconds: at the ends of windows and gaps.
    let grid = if random.random_bool(0.3) { 500 } else { 1 };
    let mut made: Vec<String> = Vec::with_capacity(rows);
    for row in 0..rows {
        latest += random.random_range(0..step);
        // A repeated row keeps its time, so only the last row is repeated.
        if let (true, Some(last)) = (random.random_bool(0.05) && delay_ms > step, made.last()) {
            made.push(last.clone());
            continue;
        }
        let time = latest - random.random_range(0..=delay_ms.saturating_sub(step).max(0));
        let time = (time - time.rem_euclid(grid)).max(1);
        let mut fields = vec![format!("\"id\":{}", partition * 1_000_000 + row)];
        let mut field = |text: String, random: &mut SmallRng| match random.random_range(0..10) {
            0 => {}
            1 => fields.push(format!("{}:null", text.split(':').next().unwrap())),
            _ => fields.push(text),
        };
        let key = ["a", "b", "c", "d\u{fc}r", ""]
            [random.random_range(0..if arrival.one_key { 1 } else { 5 })];
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
