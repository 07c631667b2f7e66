//! Random `metrics` blocks equal DataFusion's result for plain SQL: one query per
//! measure, joined by window and key.

use std::{collections::BTreeSet, fmt::Write};

use rand::{
    Rng, SeedableRng,
    rngs::SmallRng,
    seq::{IndexedRandom, SliceRandom},
};
use tagflow_engine::runtime::Until;

use crate::{
    case::{Arrival, COLUMNS, Case, rows_of},
    cut::{Cut, Kind},
    oracle::{answer, batch, context, register, run, with_crashes},
    rig::Rig,
    seeds,
};

/// The number of cases of each kind in CI.
const CASES: u64 = 100;

/// The number of changed blocks in CI.
const CHANGES: u64 = 50;

#[test]
fn metrics_of_tumbling_windows_equal_datafusion() {
    check_all(Kind::Tumble);
}

#[test]
fn metrics_of_calendar_windows_equal_datafusion() {
    check_all(Kind::Calendar);
}

#[test]
fn metrics_of_hopping_windows_equal_datafusion() {
    check_all(Kind::Hop);
}

fn check_all(kind: Kind) {
    let (mut restarts, mut rows) = (0, 0);
    let checked = seeds::check_all(CASES, async |seed| {
        let checked = check(kind, seed).await;
        restarts += checked.0;
        rows += checked.1;
    });
    let Some(cases) = checked else { return };
    println!("{cases} cases, {restarts} crashes, {rows} rows");
    assert!(restarts > cases / 4, "too few crashes to show anything");
    assert!(rows > cases as usize * 5, "too few rows to show anything");
}

async fn check(kind: Kind, seed: u64) -> (u64, usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let case = case(kind, &mut random);
    let ran = run(&case, &mut random, seed).await;
    let cut = case.cut.as_ref().unwrap();
    let mut ours: Vec<String> = ran.lines.iter().map(|line| cut.plain(line)).collect();
    ours.sort();
    let expected = batch(&case).await;
    assert_eq!(ours, expected, "seed {seed}\n{}\n{}", case.file, case.batch);
    (ran.restarts, expected.len())
}

#[test]
fn measures_come_and_go_in_tumbling_windows() {
    change_all(Kind::Tumble);
}

#[test]
fn measures_come_and_go_in_hopping_windows() {
    change_all(Kind::Hop);
}

fn change_all(kind: Kind) {
    let mut sum = Changed::default();
    let checked = seeds::check_all(CHANGES, async |seed| {
        let changed = check_change(kind, seed).await;
        sum.restarts += changed.restarts;
        sum.open += changed.open;
        sum.known += changed.known;
        sum.new += changed.new;
    });
    let Some(cases) = checked else { return };
    println!("{kind:?}: {cases} changed blocks: {sum:?}");
    assert!(sum.restarts > cases / 4, "too few crashes to show anything");
    assert!(sum.open > cases as usize * 5, "too few windows were open");
    assert!(sum.known > cases as usize && sum.new > cases as usize);
}

#[derive(Debug, Default)]
struct Changed {
    restarts: u64,
    /// Rows of windows that were open when the block was changed.
    open: usize,
    known: usize,
    new: usize,
}

/// Stops a block in the middle of its rows, and continues with some of its measures,
/// reordered and renamed, and with new ones. Measures that remain cover all rows; new
/// ones cover the rows after the change.
async fn check_change(kind: Kind, seed: u64) -> Changed {
    let random = &mut SmallRng::seed_from_u64(seed);
    let (cut, delay_ms, partitions) = events(kind, random);
    let keys = keys(random);
    let mut pool: Vec<Measure> = (0..random.random_range(2..7))
        .map(|index| Measure::random(index, random))
        .collect();
    let before: Vec<Measure> = pool[..random.random_range(1..pool.len())].to_vec();
    pool.shuffle(random);
    let keeps = pool.iter().position(|it| before.contains(it)).unwrap();
    let most = random.random_range(keeps + 1..=pool.len());
    let mut after = pool[..most].to_vec();
    for (index, measure) in after.iter_mut().enumerate() {
        if random.random_bool(0.3) {
            measure.name = format!("other{index}");
        }
    }
    let ends: Vec<usize> = partitions
        .iter()
        .map(|rows| random.random_range(0..=rows.len()))
        .collect();
    let halves = || partitions.iter().zip(&ends);

    let mut rig = Rig::new(block(&cut, &keys, delay_ms, &before));
    for (partition, (rows, end)) in halves().enumerate() {
        let rows = rows[..*end].iter().cloned();
        rig.script.push(&format!("p{partition}"), rows);
    }
    rig.until = Until::CaughtUp;
    let (_, restarts) = with_crashes(&mut rig, random, seed).await;
    let closed = rig.lines("out").await;

    rig.file = block(&cut, &keys, delay_ms, &after);
    for (partition, (rows, end)) in halves().enumerate() {
        let rows = rows[*end..].iter().cloned();
        rig.script.push(&format!("p{partition}"), rows);
    }
    rig.until = Until::Stopped;
    let (status, more) = with_crashes(&mut rig, random, seed).await;
    assert_eq!((status.totals.late, status.totals.dead_letter), (0, 0));
    let mut open = rig.lines("out").await;
    for line in &closed {
        let place = open.iter().position(|it| it == line).unwrap();
        open.remove(place);
    }

    let context = context();
    let all = || partitions.iter().flatten();
    let earlier = halves().flat_map(|(rows, end)| &rows[..*end]);
    let later = halves().flat_map(|(rows, end)| &rows[*end..]);
    register(&context, "events", COLUMNS, all());
    register(&context, "events_earlier", COLUMNS, earlier);
    register(&context, "events_later", COLUMNS, later);
    let window = |line: &String| line.splitn(3, ',').take(2).collect::<Vec<_>>().join(",");
    let is_closed: BTreeSet<String> = closed.iter().map(window).collect();
    let counted = |of: &'static str| move |measure: &Measure| (measure.clone(), of);

    let of_before: Vec<_> = before.iter().map(counted("_earlier")).collect();
    let sql = batch_of(&cut, &keys, &of_before, &of_before);
    let mut expected = answer(&context, &sql).await;
    expected.retain(|line| is_closed.contains(&window(line)));
    let told = format!("seed {seed}\n{}", rig.file);
    assert_eq!(closed, expected, "closed before the change, {told}\n{sql}");

    let is_known = |it: &Measure| before.contains(it);
    let mut groups = of_before;
    groups.extend(after.iter().map(counted("_later")));
    let values: Vec<_> = after
        .iter()
        .map(|it| counted(if is_known(it) { "" } else { "_later" })(it))
        .collect();
    let sql = batch_of(&cut, &keys, &groups, &values);
    let mut expected = answer(&context, &sql).await;
    expected.retain(|line| !is_closed.contains(&window(line)));
    assert_eq!(open, expected, "open at the change, {told}\n{sql}");
    let known = after.iter().filter(|it| is_known(it)).count();
    Changed {
        restarts: restarts + more,
        open: open.len(),
        known,
        new: after.len() - known,
    }
}

const SOURCES: [(&str, &str); 3] = [
    ("events", "true"),
    ("some", "n > 1"),
    ("others", "NOT b OR d IS NULL"),
];

const CONDITIONS: [&str; 5] = [
    "n > 3 AND k <> 'a'",
    "b",
    "d IS NOT NULL -- of money",
    "f BETWEEN -2 AND 3",
    "k IN ('a', 'b')",
];

/// The YAML of a measure, its SQL over the rows that it counts, and its value without
/// rows.
const MEASURES: [(&str, &str, &str); 9] = [
    ("agg: count", "count(*)", "0"),
    ("agg: count, arg: n", "count(n)", "0"),
    ("agg: sum, arg: d * 2", "sum(d * 2)", "NULL"),
    ("agg: min, arg: k", "min(k)", "NULL"),
    ("agg: max, arg: n", "max(n)", "NULL"),
    ("agg: avg, arg: n", "avg(n)", "NULL"),
    ("agg: distinct, arg: k", "count(DISTINCT k)", "0"),
    (
        "agg: distinct, arg: id, sketch: {theta: {lg_k: 12}}",
        "count(DISTINCT id)",
        "0",
    ),
    (
        "agg: distinct, arg: k, sketch: {theta: }",
        "count(DISTINCT k)",
        "0",
    ),
];

/// A measure of a block.
#[derive(Debug, Clone)]
struct Measure {
    name: String,
    from: &'static str,
    condition: Option<&'static str>,
    /// One of [`MEASURES`]; none for a histogram of events per user.
    of: Option<(&'static str, &'static str, &'static str)>,
}

impl PartialEq for Measure {
    /// Ignores the names.
    fn eq(&self, other: &Self) -> bool {
        (self.from, self.condition, self.of) == (other.from, other.condition, other.of)
    }
}

impl Measure {
    fn random(index: usize, random: &mut SmallRng) -> Self {
        let (from, _) = *SOURCES.choose(random).unwrap();
        let condition = *CONDITIONS.choose(random).unwrap();
        Self {
            name: format!("m{index}"),
            from,
            condition: random.random_bool(0.7).then_some(condition),
            of: random
                .random_bool(0.8)
                .then(|| *MEASURES.choose(random).unwrap()),
        }
    }

    fn count(name: &str, from: &'static str, condition: Option<&'static str>) -> Self {
        Self {
            name: name.to_owned(),
            from,
            condition,
            of: Some(MEASURES[0]),
        }
    }

    fn yaml(&self) -> String {
        let Self { name, from, .. } = self;
        let of = match self.of {
            Some((yaml, ..)) => yaml,
            None => "agg: per_user_histogram, arg: n, bounds: [1, 2, 5]",
        };
        let filter = self.condition;
        let filter = filter.map_or(String::new(), |it| format!(", where: \"{it}\""));
        format!("      {name}: {{from: {from}, {of}{filter}}}\n")
    }

    /// The rows that the measure counts, in their windows; `of` is the suffix of the
    /// sources' names.
    fn placed(&self, cut: &Cut, keys: &[String], of: &str) -> String {
        let from = format!("{}{of}", self.from);
        let rows = match self.condition {
            Some(condition) => format!("SELECT * FROM {from} WHERE {condition}\n"),
            None => format!("SELECT * FROM {from}"),
        };
        (cut.place)(&rows, keys)
    }

    /// Its value for each group of its rows, and without rows.
    fn values(&self, rows: &str, by: &str) -> (String, &'static str) {
        if let Some((_, sql, of_none)) = self.of {
            let sql = format!("SELECT {by}, {sql} AS v FROM {rows} GROUP BY {by}");
            return (sql, of_none);
        }
        // First by user, then over all users.
        let bucket = |range: &str| format!("count(CASE WHEN c {range} THEN 1 END)");
        let sql = format!(
            "SELECT {by}, make_array({}, {}, {}) AS v FROM (SELECT {by}, n, count(*) AS c \
             FROM {rows} WHERE n IS NOT NULL GROUP BY {by}, n) GROUP BY {by}",
            bucket("= 1"),
            bucket("BETWEEN 2 AND 4"),
            bucket(">= 5"),
        );
        (sql, "make_array(0, 0, 0)")
    }
}

/// Windows, the delay, and rows by partition.
fn events(kind: Kind, random: &mut SmallRng) -> (Cut, i64, Vec<Vec<String>>) {
    let cut = Cut::random(kind, random);
    let delay_ms = random.random_range(0..10 * cut.step_ms);
    let arrival = Arrival {
        from_ms: cut.from_ms,
        step_ms: cut.step_ms,
        delay_ms,
        one_key: false,
    };
    let partitions = (0..random.random_range(1..4)).map(|partition| {
        let rows = random.random_range(0..300);
        rows_of(random, partition, rows, &arrival)
    });
    let partitions = partitions.collect();
    (cut, delay_ms, partitions)
}

fn keys(random: &mut SmallRng) -> Vec<String> {
    let keys: [&[&str]; 3] = [&[], &["k"], &["b", "k"]];
    let keys = keys[random.random_range(0..3)].iter();
    keys.map(ToString::to_string).collect()
}

fn case(kind: Kind, random: &mut SmallRng) -> Case {
    let (cut, delay_ms, partitions) = events(kind, random);
    let keys = keys(random);
    let mut measures: Vec<Measure> = (0..random.random_range(1..6))
        .map(|index| Measure::random(index, random))
        .collect();
    // One more column, by which numbers can be divided.
    measures.push(Measure::count("rows", "events", None));
    measures.push(Measure::count("bs", "some", Some("b")));
    let file = block(&cut, &keys, delay_ms, &measures);
    let file = file.replace(
        "sinks:\n",
        "    derived: {a: rows / bs, c: a * 100}\nsinks:\n",
    );
    let measures: Vec<_> = measures.into_iter().map(|it| (it, "")).collect();
    let batch = format!(
        "SELECT *, CASE WHEN bs > 0 THEN CAST(rows AS DOUBLE) / CAST(bs AS DOUBLE) END AS a, \
         CASE WHEN bs > 0 THEN CAST(rows AS DOUBLE) / CAST(bs AS DOUBLE) * 100 END AS c \
         FROM ({})",
        batch_of(&cut, &keys, &measures, &measures)
    );
    Case {
        file,
        partitions,
        batch,
        cut: Some(cut),
    }
}

/// A measure, and the suffix of its sources' names.
type Counted = (Measure, &'static str);

/// The `values` of each group in which one of `groups` counts a row.
fn batch_of(cut: &Cut, keys: &[String], groups: &[Counted], values: &[Counted]) -> String {
    let mut columns = vec!["window_start".to_owned(), "window_end".to_owned()];
    columns.extend(keys.iter().cloned());
    let by = columns.join(", ");
    let called: BTreeSet<&str> = groups.iter().chain(values).map(|(_, of)| *of).collect();
    let mut views = Vec::new();
    for of in called {
        for (name, filter) in &SOURCES[1..] {
            views.push(format!(
                "{name}{of} AS (SELECT * FROM events{of} WHERE {filter})"
            ));
        }
    }
    let all: Vec<String> = groups
        .iter()
        .map(|(measure, of)| format!("SELECT {by} FROM ({})", measure.placed(cut, keys, of)))
        .collect();
    views.push(format!(
        "g AS (SELECT DISTINCT {by} FROM ({}))",
        all.join(" UNION ALL ")
    ));
    let on: Vec<_> = columns.clone();
    for column in &mut columns {
        *column = format!("g.{column}");
    }
    let mut joins = String::new();
    for (index, (measure, of)) in values.iter().enumerate() {
        let view = format!("v{index}");
        views.push(format!("p{index} AS ({})", measure.placed(cut, keys, of)));
        let (sql, of_none) = measure.values(&format!("p{index}"), &by);
        views.push(format!("{view} AS ({sql})"));
        columns.push(format!("coalesce({view}.v, {of_none}) AS {}", measure.name));
        let on = on.iter();
        let on: Vec<String> = on
            .map(|group| format!("(g.{group} IS NOT DISTINCT FROM {view}.{group})"))
            .collect();
        write!(joins, " LEFT JOIN {view} ON {}", on.join(" AND ")).unwrap();
    }
    let (views, columns) = (views.join(", "), columns.join(", "));
    format!("WITH {views} SELECT {columns} FROM g{joins}")
}

fn block(cut: &Cut, keys: &[String], delay_ms: i64, measures: &[Measure]) -> String {
    let mut steps = String::new();
    for (name, filter) in &SOURCES[1..] {
        writeln!(steps, "  {name}: {{from: events, where: \"{filter}\"}}").unwrap();
    }
    let measures: String = measures.iter().map(Measure::yaml).collect();
    format!(
        "name: random
sources:
  events:
    files: {{url: /nowhere/*.ndjson}}
    format: {{json: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: {delay_ms}ms}}
steps:
{steps}metrics:
  result:
    key: [{}]
    window: {}
    measures:
{measures}sinks:
  out: {{from: result, console: {{}}}}
",
        keys.join(", "),
        window(&cut.call)
    )
}

/// The window of a block that corresponds to a query's window call.
fn window(call: &str) -> String {
    // An interval is written out in SQL; a duration of the file has the unit `s`.
    let call = call.replace(" seconds", "s");
    let constants: Vec<&str> = call.split('\'').skip(1).step_by(2).collect();
    match (call.split('(').next().unwrap(), constants.as_slice()) {
        ("tumble", [width]) => format!("{{tumble: {width}}}"),
        ("hop", [slide, size]) => format!("{{hop: {size}, every: {slide}}}"),
        ("tumble_day", [zone]) => format!("{{tumble: day, timezone: {zone}}}"),
        ("tumble_week", [zone, _]) => format!("{{tumble: week, timezone: {zone}}}"),
        ("tumble_month", [zone]) => format!("{{tumble: month, timezone: {zone}}}"),
        _ => panic!("no block has the window `{call}`"),
    }
}
