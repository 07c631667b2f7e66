//! Runs the tests of a file, step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::datatypes::SchemaRef;
use tagflow_engine::{Clock as _, Error, EventTime, Result, ledger::Counts};

use super::{
    bench::Bench,
    encode::encode,
    table::{Expected, Table},
};
use crate::{
    Pipeline, Spec,
    diagnostic::{Diagnostics, Position},
    lower::{table_of, tap},
    spec::{
        Action, DEAD_LETTERS, Dimension, Expect, Expectation, Input, LATE, Nodes, Promise, Setting,
        TestCase, TestRow, Tick,
    },
};

/// How a test came out.
#[derive(Debug, Clone)]
pub struct TestResult {
    /// The file, as the user named it.
    pub file: Arc<str>,
    /// The pipeline.
    pub pipeline: String,
    /// The test.
    pub name: String,
    /// Where the test stands.
    pub at: Position,
    /// How long it took.
    pub took: Duration,
    /// What was not as expected; the steps after that were not taken.
    pub failures: Vec<Failure>,
}

/// What was not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where the file expects it.
    pub at: Position,
    /// What had happened last: `watermark 2026-01-05T12:00:00Z`.
    pub after: Option<String>,
    /// The node.
    pub node: String,
    /// What should have come out of it.
    pub expected: String,
    /// What did.
    pub got: String,
}

/// Runs all tests of a file, each on a pipeline of its own with `lanes` lanes.
///
/// # Errors
/// `Internal` where a test cannot be run at all; one that fails is no error.
pub fn run(pipeline: &Pipeline, lanes: usize) -> Result<Vec<TestResult>> {
    // One thread: tasks take turns in the same order each time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::external("cannot start a thread").with_source(error))?;
    let spec = &pipeline.spec;
    let tests = spec.tests.iter();
    tests
        .map(|test| {
            let begun = Instant::now();
            let failures = runtime.block_on(case(spec, &pipeline.lowered.shapes, test, lanes))?;
            Ok(TestResult {
                file: Arc::clone(&spec.file),
                pipeline: spec.name.value().clone(),
                name: test.name.value().clone(),
                at: test.name.at(),
                took: begun.elapsed(),
                failures,
            })
        })
        .collect()
}

/// Runs one test; the failures of the first step that has some.
async fn case(
    spec: &Spec,
    shapes: &BTreeMap<String, SchemaRef>,
    test: &TestCase,
    lanes: usize,
) -> Result<Vec<Failure>> {
    let (taps, tables) = (taps(spec, test), tables(spec, test));
    let start = start(test);
    let now = start.unwrap_or(EventTime::from_micros(0));
    let mut case = Case {
        spec,
        shapes,
        bench: Bench::start(spec, &taps, &tables, lanes, now)?,
        is_time_told: start.is_some(),
        after: None,
    };
    for (name, table) in spec.tables.iter() {
        if tables.contains(&**name) {
            case.fill(name, table, &[])?;
        }
    }
    for step in &test.steps {
        let failures = match case.step(&step.action).await {
            Ok(failures) => failures,
            Err(error) => vec![case.stopped(step.at, &error)],
        };
        if !failures.is_empty() {
            return Ok(failures);
        }
        if !matches!(step.action, Action::Expect(_)) {
            case.after = Some(step.action.headline());
        }
    }
    let last = test.steps.last().map_or(test.name.at(), |step| step.at);
    let settled = case.bench.settle().await;
    Ok(settled
        .err()
        .map(|error| case.stopped(last, &error))
        .into_iter()
        .collect())
}

/// The sources, steps and queries that a test looks at.
fn taps(spec: &Spec, test: &TestCase) -> BTreeSet<String> {
    let expects = test.steps.iter().filter_map(|step| match &step.action {
        Action::Expect(expect) => Some(expect),
        _ => None,
    });
    let names = expects.flat_map(|expect| expect.nodes.names());
    names
        .filter(|name| spec.is_node(name))
        .map(ToString::to_string)
        .collect()
}

/// The tables that a test fills.
fn tables(spec: &Spec, test: &TestCase) -> BTreeSet<String> {
    let sent = test.steps.iter().filter_map(|step| match &step.action {
        Action::Send(sent) => Some(sent),
        _ => None,
    });
    let names = sent.flat_map(Nodes::names);
    names
        .filter(|name| spec.tables.get(name).is_some())
        .map(ToString::to_string)
        .collect()
}

/// The first time that a test tells: what the clock shows until then.
fn start(test: &TestCase) -> Option<EventTime> {
    test.steps.iter().find_map(|step| match &step.action {
        Action::Clock(tick) => match **tick {
            Tick::To(time) => Some(time),
            Tick::By(_) => None,
        },
        _ => None,
    })
}

struct Case<'a> {
    spec: &'a Spec,
    shapes: &'a BTreeMap<String, SchemaRef>,
    bench: Bench<'a>,
    /// Whether the clock shows a time that the test has chosen; times cannot be
    /// judged against any other.
    is_time_told: bool,
    after: Option<String>,
}

impl Case<'_> {
    async fn step(&mut self, action: &Action) -> Result<Vec<Failure>> {
        match action {
            Action::Send(sent) => self.send(sent).await?,
            Action::Watermark(Promise::All(at)) => {
                self.bench.inboxes().for_each(|inbox| inbox.promise(**at));
            }
            Action::Watermark(Promise::Of(sources)) => {
                for (name, at) in sources.iter() {
                    if let Some(inbox) = self.bench.inbox(name) {
                        inbox.promise(**at);
                    }
                }
            }
            Action::Clock(tick) => {
                self.bench.settle().await?;
                let clock = self.bench.clock();
                clock.move_to(match **tick {
                    Tick::To(time) => time,
                    Tick::By(duration) => clock.now().saturating_add(duration),
                });
            }
            Action::Restart => self.bench.restart().await?,
            Action::Expect(expect) => {
                self.bench.settle().await?;
                return self.expect(expect);
            }
        }
        Ok(Vec::new())
    }

    /// Lets a table have these rows alone.
    fn fill(&self, name: &str, table: &Dimension, rows: &[TestRow]) -> Result<()> {
        let rows = encode(rows, (&table.format, &table.columns), 0, None)?;
        self.bench.fill(name, table_of(name, table, &rows)?);
        Ok(())
    }

    async fn send(&mut self, sent: &Nodes<Vec<TestRow>>) -> Result<()> {
        for (name, rows) in sent.iter() {
            if let Some(table) = self.spec.tables.get(name) {
                // Rows that came before find the table as it was.
                self.bench.settle().await?;
                self.fill(name, table, rows)?;
            }
            // What leads nowhere has no inbox.
            if let (Some(source), Some(inbox)) =
                (self.spec.sources.get(name), self.bench.inbox(name))
            {
                let is_live = matches!(source.input(), Input::Kafka(_)) && self.is_time_told;
                let received = is_live.then(|| self.bench.clock().now());
                let shape = (&source.format, &source.columns);
                inbox.send(encode(rows, shape, inbox.next(), received)?);
            }
        }
        Ok(())
    }

    fn expect(&self, expect: &Expect) -> Result<Vec<Failure>> {
        let mut failures = Vec::new();
        for (name, expectation) in expect.nodes.iter() {
            let node = match &**name {
                DEAD_LETTERS | LATE => format!("errors.{name}"),
                relation if self.spec.is_node(relation) => tap(relation),
                sink => sink.to_owned(),
            };
            let table = Table::of(&self.bench.take(&node))?;
            self.compare(name, expectation, &table, &mut failures)?;
        }
        self.count(&expect.counters, &mut failures);
        Ok(failures)
    }

    fn compare(
        &self,
        name: &str,
        expectation: &Expectation,
        table: &Table,
        failures: &mut Vec<Failure>,
    ) -> Result<()> {
        let Expectation {
            at,
            equals,
            contains,
            count,
        } = expectation;
        let mut fail = |at, expected, got| {
            failures.push(Failure {
                at,
                after: self.after.clone(),
                node: name.to_owned(),
                expected,
                got,
            });
        };
        if let Some(count) = count
            && **count != table.num_rows() as u64
        {
            fail(count.at(), rows(**count), rows(table.num_rows() as u64));
        }
        for row in contains.iter().flatten() {
            let expected = self.read(row, name)?;
            if table.containing(&expected)?.is_empty() {
                let got = nearest(table, &expected, |row| table.row_of(row, &expected))?;
                fail(expected.at, expected.text()?, got);
            }
        }
        if let Some(equals) = equals {
            let mut left: Vec<usize> = (0..table.num_rows()).collect();
            for row in equals {
                let expected = self.read(row, name)?;
                let equal = table.equal_to(&expected)?;
                if let Some(place) = left.iter().position(|row| equal.contains(row)) {
                    left.remove(place);
                } else {
                    let got = nearest(table, &expected, |row| table.row(row))?;
                    fail(expected.at, expected.text()?, got);
                }
            }
            if let (Some(first), true) = (left.first(), equals.len() < table.num_rows()) {
                let all = rows(table.num_rows() as u64);
                let got = format!("{all}, such as {}", table.row(*first)?);
                fail(*at, rows(equals.len() as u64), got);
            }
        }
        Ok(())
    }

    fn count(&self, counters: &Nodes<Setting<u64>>, failures: &mut Vec<Failure>) {
        let totals = self.bench.totals();
        for (name, expected) in counters.iter() {
            let got = counter(&totals, name).unwrap_or_default();
            if got != **expected {
                failures.push(Failure {
                    at: expected.at(),
                    after: self.after.clone(),
                    node: format!("counters.{name}"),
                    expected: expected.to_string(),
                    got: got.to_string(),
                });
            }
        }
    }

    fn read(&self, row: &TestRow, node: &str) -> Result<Expected> {
        let mut problems = Diagnostics::new(Arc::clone(&self.spec.file));
        let shape = self.shapes.get(node);
        shape
            .and_then(|shape| Expected::read(row, shape, node, &mut problems))
            .ok_or_else(|| Error::internal(format!("an expected row of `{node}` was not checked")))
    }

    fn stopped(&self, at: Position, error: &Error) -> Failure {
        Failure {
            at,
            after: self.after.clone(),
            node: self.spec.name.value().clone(),
            expected: "that it goes on".to_owned(),
            got: error.chain(),
        }
    }
}

/// The counter `name`, as records of the commit log call it.
pub(crate) fn counter(counts: &Counts, name: &str) -> Option<u64> {
    COUNTERS
        .iter()
        .find(|(found, _)| *found == name)
        .map(|(_, of)| of(counts))
}

type Counter = (&'static str, fn(&Counts) -> u64);

/// What can be counted. Not what contributed: to look at rows is to use them
/// once more.
pub(crate) const COUNTERS: [Counter; 5] = [
    ("in", |counts| counts.rows_in),
    ("filtered", |counts| counts.filtered),
    ("late", |counts| counts.late),
    ("dead_letter", |counts| counts.dead_letter),
    ("duplicate", |counts| counts.duplicate),
];

/// What there is in place of an expected row, as `shown`.
fn nearest(
    table: &Table,
    expected: &Expected,
    shown: impl Fn(usize) -> Result<String>,
) -> Result<String> {
    let all = table.num_rows() as u64;
    Ok(match table.nearest(expected)? {
        _ if all == 0 => "nothing".to_owned(),
        _ if all == 1 => shown(0)?,
        Some(row) => format!("{}, the nearest of {}", shown(row)?, rows(all)),
        None => format!("{}, such as {}", rows(all), shown(0)?),
    })
}

fn rows(count: u64) -> String {
    match count {
        0 => "no row".to_owned(),
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    }
}
