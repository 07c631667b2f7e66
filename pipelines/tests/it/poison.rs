//! Expressions that fail on a row, at each place of SQL in a pipeline file. That row
//! becomes a dead letter, and all other rows give the same results as without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    sync::{Arc, LazyLock},
};

use tagflow_engine::{ledger::Counts, testing::Script};
use tempfile::NamedTempFile;

use crate::{
    oracle::{answer, context, register},
    rig::Rig,
};

pub(crate) const COLUMNS: &str = "k: string
n: int64?
s: string?
x: timestamp(ms)?
big: int64?
m: int64?
d: decimal(38,0)?
t: string?
p: string?
f: float64?
g: float64?
h: string?
ts: timestamp(ms)";

/// Each row by its key, with its bad value, on which some expressions fail. All others
/// accept the value.
const ROWS: &[(&str, &str)] = &[
    ("good", ""),
    ("zn", "\"n\": 0"),
    ("zs", "\"s\": \"x5\""),
    ("zx", "\"x\": 253402300799000"),
    ("zb", "\"big\": 9223372036854775807"),
    ("more", "\"n\": 5, \"s\": \"7\""),
    ("zm", "\"m\": -9223372036854775808"),
    ("zd", "\"d\": 90000000000000000000000000000000000000"),
    ("zt", "\"t\": \"soon\""),
    ("zp", "\"p\": \"(\""),
    ("zf", "\"f\": -1.5"),
    ("zg", "\"g\": 1e300"),
    ("zh", "\"h\": \"zz\""),
    (
        "null",
        "\"n\": null, \"s\": null, \"big\": null, \"d\": null",
    ),
    ("last", "\"n\": 7"),
];

/// Expressions, each with the key of the row on which it fails.
pub(crate) const EXPRESSIONS: &[(&str, &str)] = &[
    ("10 / n", "zn"),
    ("10 % n", "zn"),
    ("10 / (n * 3)", "zn"),
    ("CAST(10 / n AS DOUBLE) + 0.5", "zn"),
    ("concat(k, CAST(10 / n AS VARCHAR))", "zn"),
    ("CASE WHEN n >= 0 THEN 10 / n END", "zn"),
    ("coalesce(10 / n, 1)", "zn"),
    ("nullif(10 / n, 3)", "zn"),
    ("10 / n > 1 AND s <> 'q'", "zn"),
    ("s <> 'q' AND 10 / n > 1", "zn"),
    ("s = 'q' OR CAST(s AS BIGINT) > 1", "zs"),
    ("NOT (10 / n > 1)", "zn"),
    ("10 / n BETWEEN 1 AND 4", "zn"),
    ("10 / n IN (1, 2, 3)", "zn"),
    ("CAST(s AS BIGINT)", "zs"),
    ("CAST(s AS INT)", "zs"),
    ("CAST(s AS SMALLINT)", "zs"),
    ("CAST(s AS DOUBLE)", "zs"),
    ("CAST(s AS DECIMAL(10, 2))", "zs"),
    ("substr(s, CAST(s AS INT))", "zs"),
    ("CAST(t AS DATE)", "zt"),
    ("CAST(t AS TIMESTAMP)", "zt"),
    ("to_timestamp(t)", "zt"),
    ("to_date(t)", "zt"),
    ("extract(year FROM CAST(t AS DATE))", "zt"),
    ("date_trunc('month', x)", "zx"),
    ("date_bin(INTERVAL '1 hour', x)", "zx"),
    ("to_char(x, '%Y-%m')", "zx"),
    ("extract(year FROM date_trunc('year', x))", "zx"),
    ("big + 1", "zb"),
    ("big * 2", "zb"),
    ("big + big", "zb"),
    ("CAST(big AS INT)", "zb"),
    ("CAST(big AS SMALLINT)", "zb"),
    ("CAST(n AS INT) + CAST(big AS INT)", "zb"),
    ("factorial(big)", "zb"),
    ("m - 1", "zm"),
    ("-m", "zm"),
    ("abs(m)", "zm"),
    ("d + d", "zd"),
    ("d * 10", "zd"),
    ("CAST(d AS DECIMAL(5, 0))", "zd"),
    ("CAST(g AS BIGINT)", "zg"),
    ("sqrt(f)", "zf"),
    ("chr(big)", "zb"),
    ("split_part(s, ',', n)", "zn"),
    ("regexp_like(s, p)", "zp"),
    ("regexp_replace(s, p, 'z')", "zp"),
    ("CAST(decode(h, 'hex') AS VARCHAR)", "zh"),
    ("make_date(2026, n, 1)", "zn"),
];

/// A row for each key and one window, with all columns.
const BY_KEY: &str = "SELECT tumble(ts, INTERVAL '1 minute') AS w, k, max(n) AS n, max(s) AS s, \
     max(x) AS x, max(big) AS big, max(m) AS m, max(d) AS d, max(t) AS t, max(p) AS p, max(f) AS \
     f, max(g) AS g, max(h) AS h";

/// A place for SQL: returns the name of a block of the file, and the definition of
/// `q<number>` in it over the rows of `e<number>`.
type Place = fn(&str, &str) -> (&'static str, String);

const PLACES: &[(&str, Place)] = &[
    ("the `where` of a step", |from, expr| {
        let text = quoted(&condition(expr));
        (
            "steps",
            format!("{{from: {from}, where: {text}, select: [k, ts]}}"),
        )
    }),
    ("the `select` of a step", |from, expr| {
        let text = quoted(expr);
        (
            "steps",
            format!("{{from: {from}, select: {{k: k, v: {text}, ts: ts}}}}"),
        )
    }),
    ("SELECT", |from, expr| {
        query(&format!("SELECT k, {expr} AS v, ts FROM {from}"))
    }),
    ("WHERE", |from, expr| {
        query(&format!(
            "SELECT k, ts FROM {from} WHERE {}",
            condition(expr)
        ))
    }),
    ("GROUP BY", |from, expr| {
        query(&format!(
            "{WINDOW}, {expr} AS g, count(*) AS c FROM {from} GROUP BY 1, 2"
        ))
    }),
    ("the argument of an aggregate", |from, expr| {
        query(&format!(
            "{WINDOW}, count({expr}) AS c, count(*) AS n FROM {from} GROUP BY 1"
        ))
    }),
    ("the order of an aggregate", |from, expr| {
        query(&format!(
            "{WINDOW}, array_agg(k ORDER BY {expr}) AS a FROM {from} GROUP BY 1"
        ))
    }),
    ("FILTER", |from, expr| {
        let filter = format!("count(*) FILTER (WHERE {})", condition(expr));
        query(&format!(
            "{WINDOW}, {filter} AS c, count(*) AS n FROM {from} GROUP BY 1"
        ))
    }),
    ("the argument of a measure", |from, expr| {
        let measures = format!("{{c: {{from: {from}, agg: min, arg: {}}}}}", quoted(expr));
        (
            "metrics",
            format!("{{key: [k], window: {{tumble: 1m}}, measures: {measures}}}"),
        )
    }),
    ("the `where` of a measure", |from, expr| {
        let text = quoted(&condition(expr));
        let measures = format!("{{c: {{from: {from}, agg: count, where: {text}}}}}");
        (
            "metrics",
            format!("{{key: [k], window: {{tumble: 1m}}, measures: {measures}}}"),
        )
    }),
];

/// Places with tables and sinks.
const EDGES: &[(&str, Place)] = &[
    ("the key of a table", |from, expr| {
        let key = format!("concat(k, substr(CAST({expr} AS VARCHAR), 1, 0))");
        query(&format!(
            "SELECT k, label FROM {from} LEFT JOIN labels ON {key} = key"
        ))
    }),
    ("the condition of a table", |from, expr| {
        let condition = condition(expr);
        query(&format!(
            "SELECT k, label FROM {from} LEFT JOIN labels ON k = key AND {condition}"
        ))
    }),
    ("the key of a pair", |from, expr| {
        let key = format!("concat(k, substr(coalesce(CAST({expr} AS VARCHAR), ''), 1, 0))");
        query(&format!(
            "SELECT k, other FROM {from} JOIN (SELECT k AS other, ts AS at FROM {from}) ON {key} = \
             other AND at BETWEEN ts AND ts + INTERVAL '1 second'"
        ))
    }),
    ("the folder of a table", |from, expr| {
        let folder = quoted(&format!("CAST({expr} AS VARCHAR)"));
        (
            "sinks",
            format!(
                "{{from: {from}, parquet: {{url: /nowhere/{from}, partition_by: {{folder: {folder}}}}}}}"
            ),
        )
    }),
];

/// Places whose rows are derived from many rows, and have no offset.
const DERIVED: &[(&str, Place)] = &[
    ("HAVING", |from, expr| {
        let condition = condition(expr);
        query(&format!(
            "SELECT w, k FROM ({BY_KEY} FROM {from} GROUP BY 1, 2) WHERE {condition}"
        ))
    }),
    ("SELECT over windows", |from, expr| {
        query(&format!(
            "SELECT w, k, {expr} AS v FROM ({BY_KEY} FROM {from} GROUP BY 1, 2)"
        ))
    }),
    ("a derived measure", |from, expr| {
        let measures = ["n", "s", "x", "big", "m", "d", "t", "p", "f", "g", "h"];
        let measures = measures.map(|it| format!("{it}: {{from: {from}, agg: max, arg: {it}}}"));
        let measures = measures.join(", ");
        // A division by zero is null there.
        let text = quoted(&expr.replace("10 / ", "10 % "));
        (
            "metrics",
            format!(
                "{{key: [k], window: {{tumble: 1m}}, measures: {{{measures}}}, derived: {{v: \
                 {text}}}}}"
            ),
        )
    }),
    ("ORDER BY of the best", |from, expr| {
        query(&format!(
            "SELECT w, k, r FROM (SELECT *, row_number() OVER (PARTITION BY w ORDER BY {expr}, k) \
             AS r FROM ({BY_KEY} FROM {from} GROUP BY 1, 2)) WHERE r <= 5"
        ))
    }),
];

const WINDOW: &str = "SELECT tumble(ts, INTERVAL '1 minute') AS w";

fn query(sql: &str) -> (&'static str, String) {
    ("queries", quoted(sql))
}

/// A condition that is true where `expr` has a value or is null.
pub(crate) fn condition(expr: &str) -> String {
    format!("coalesce(CAST({expr} AS VARCHAR), '') <> 'never'")
}

/// A text as YAML.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The rows of a minute, without one of them.
pub(crate) fn rows(without: Option<&str>) -> Vec<String> {
    let rows = ROWS.iter().enumerate();
    let rows = rows.filter(|(_, (key, _))| Some(*key) != without);
    rows.map(|(second, (key, wrong))| {
        let mut row = serde_json::json!({
            "k": key, "n": 2, "s": "5", "x": 1_777_593_600_000_i64, "big": 1, "m": 1, "d": 1,
            "t": "2026-05-01", "p": "a", "f": 4.0, "g": 1.5, "h": "41",
            "ts": 1_767_600_000_000_i64 + 1_000 * second as i64,
        })
        .to_string();
        if !wrong.is_empty() {
            // A duplicate name would be an error, so each value is replaced.
            for part in wrong.split(", ") {
                let name = part.split(':').next().unwrap();
                let begin = row.find(&format!("{name}:")).unwrap();
                let end = begin + row[begin..].find([',', '}']).unwrap();
                row.replace_range(begin..end, part);
            }
        }
        row
    })
    .collect()
}

/// The columns, in the syntax of a pipeline file.
pub(crate) fn columns() -> String {
    let columns = COLUMNS.lines().filter_map(|it| it.split_once(": "));
    let columns: Vec<String> = columns
        .map(|(name, kind)| format!("{name}: \"{kind}\""))
        .collect();
    columns.join(", ")
}

/// A table with a label for each key.
fn labels() -> String {
    static TABLE: LazyLock<NamedTempFile> = LazyLock::new(|| {
        let mut table = NamedTempFile::with_suffix(".ndjson").unwrap();
        for (key, _) in ROWS {
            writeln!(table, "{{\"key\": \"{key}\", \"label\": \"of {key}\"}}").unwrap();
        }
        table
    });
    format!(
        "tables: {{labels: {{url: {}, format: {{json: {{}}}}, columns: {{key: string, label: \
         string}}, key: [key]}}}}\n",
        TABLE.path().display()
    )
}

/// A file with all expressions in one place, each over its own source.
fn file(place: Place) -> String {
    let columns = columns();
    let mut sources = String::new();
    let mut blocks: BTreeMap<&str, String> = BTreeMap::new();
    let mut sinks = String::new();
    for (number, (expr, _)) in EXPRESSIONS.iter().enumerate() {
        let source = format!(
            "{{files: {{url: /nowhere/{number}.ndjson}}, format: {{json: {{}}}}, columns: \
             {{{columns}}}, time: {{event_time: ts, delay: 0s}}}}"
        );
        let _ = writeln!(sources, "  e{number}: {source}");
        let (block, text) = place(&format!("e{number}"), expr);
        let _ = writeln!(blocks.entry(block).or_default(), "  q{number}: {text}");
        if block != "sinks" {
            let _ = writeln!(sinks, "  o{number}: {{from: q{number}, console: {{}}}}");
        }
    }
    let sinks_too = blocks.remove("sinks").unwrap_or_default();
    let _ = write!(sinks, "{sinks_too}");
    let mut file = format!("name: poison\nsources:\n{sources}{}", labels());
    for (block, text) in blocks {
        let _ = write!(file, "{block}:\n{text}");
    }
    let _ = write!(file, "sinks:\n{sinks}");
    file
}

/// The result of a run: the lines of each sink, the dead letters, and the counts.
struct Ran {
    lines: Vec<Vec<String>>,
    dead: Vec<String>,
    totals: Counts,
}

/// Runs `file`, whose sources have all rows or only the good ones.
async fn run(file: String, only_good: bool) -> Result<Ran, String> {
    let mut rig = Rig::new(file);
    for (number, (_, bad)) in EXPRESSIONS.iter().enumerate() {
        let script = Arc::new(Script::default());
        script.push("p0", rows(only_good.then_some(*bad)));
        rig.scripts.insert(format!("e{number}").leak(), script);
    }
    let status = rig.start().await.map_err(|error| error.chain())?;
    let mut lines = Vec::new();
    for number in 0..EXPRESSIONS.len() {
        let mut of_sink = rig.lines(&format!("o{number}")).await;
        of_sink.extend(rig.lines(&format!("q{number}")).await);
        lines.push(of_sink);
    }
    Ok(Ran {
        lines,
        dead: rig.lines("errors.dead_letters").await,
        totals: status.totals,
    })
}

fn place_of(key: &str) -> usize {
    ROWS.iter().position(|(it, _)| *it == key).unwrap()
}

/// Runs all expressions in each of `places`, and compares the sinks with those of the
/// good rows alone. `check` verifies the dead letters of each expression.
fn check_all(places: &[(&str, Place)], check: impl Fn(usize, &Ran) -> Option<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut problems = Vec::new();
    for (name, place) in places {
        let with_bad = runtime.block_on(run(file(*place), false));
        let only_good = runtime.block_on(run(file(*place), true));
        let (all, good) = match (with_bad, only_good) {
            (Ok(all), Ok(good)) => (all, good),
            (all, good) => {
                let errors = [all.err(), good.err()];
                problems.push(format!("{name}: {errors:?}"));
                continue;
            }
        };
        let totals = all.totals;
        let counted = totals.dead_letter + totals.derived_dead_letter;
        if (counted, counted) != (EXPRESSIONS.len() as u64, all.dead.len() as u64) {
            let dead = all.dead.len();
            problems.push(format!(
                "{name}: {counted} rows are counted, {dead} written"
            ));
        }
        if !good.dead.is_empty() {
            problems.push(format!("{name}: good rows are set aside: {:#?}", good.dead));
        }
        for (number, (expr, bad)) in EXPRESSIONS.iter().enumerate() {
            if all.lines[number] != good.lines[number] || good.lines[number].is_empty() {
                problems.push(format!(
                    "{name}: `{expr}` gives {:#?}, and without {bad} {:#?}",
                    all.lines[number], good.lines[number]
                ));
            }
            if let Some(problem) = check(number, &all) {
                problems.push(format!("{name}: `{expr}`: {problem}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn regression_a_failing_expression_costs_its_row() {
    check_rows(PLACES);
}

#[test]
fn regression_a_failing_expression_of_a_table_costs_its_row() {
    check_rows(EDGES);
}

/// Checks places whose dead letters name the row's source and offset.
fn check_rows(places: &[(&str, Place)]) {
    check_all(places, |number, ran| {
        let source = format!("poison,e{number},p0,");
        let of_source = ran
            .dead
            .iter()
            .filter_map(|line| line.strip_prefix(&source));
        let offsets: BTreeSet<String> = of_source
            .clone()
            .map(|line| line.split(',').next().unwrap().to_owned())
            .collect();
        let expected = BTreeSet::from([place_of(EXPRESSIONS[number].1).to_string()]);
        let is_named = of_source.clone().all(|line| {
            line.contains(&format!(",q{number},")) || line.contains(&format!(",q{number}."))
        });
        let letters = of_source.collect::<Vec<_>>();
        (offsets != expected || !is_named).then(|| format!("the dead letters are {letters:#?}"))
    });
}

#[test]
fn regression_a_failing_expression_costs_its_window() {
    check_all(DERIVED, |number, ran| {
        let node = format!(",q{number}");
        let of_node = |line: &&String| {
            line.starts_with("poison,,,,")
                && (line.contains(&format!("{node}.")) || line.contains(&format!("{node},")))
        };
        let letters: Vec<&String> = ran.dead.iter().filter(of_node).collect();
        (letters.len() != 1).then(|| format!("the dead letters are {letters:#?}"))
    });
}

/// The good rows alone equal DataFusion's result.
#[test]
fn good_rows_equal_datafusion() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sql =
            |from: &str, expr: &str| format!("SELECT k, CAST({expr} AS VARCHAR) AS v FROM {from}");
        let place: Place = |from, expr| {
            query(&format!(
                "SELECT k, CAST({expr} AS VARCHAR) AS v FROM {from}"
            ))
        };
        let ran = Box::pin(run(file(place), false)).await.unwrap();
        for (number, (expr, bad)) in EXPRESSIONS.iter().enumerate() {
            let context = context();
            register(&context, "e", COLUMNS, rows(Some(bad)).iter());
            let expected = answer(&context, &sql("e", expr)).await;
            assert_eq!(ran.lines[number], expected, "`{expr}`");
        }
    });
}
