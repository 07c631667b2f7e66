//! Runs the tests of a file, step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use tagflow_engine::{Clock as _, Error, EventTime, Result};

use super::{
    encode::encode,
    harness::Harness,
    known::{self, Members},
    table::Table,
};
use tagflow_pipelines::{
    Pipeline, Spec,
    counters::counter,
    diagnostic::{Diagnostics, Position},
    expected::{Expected, shown_text},
    lower::{table_of, tap},
    spec::{
        Action, Content, DEAD_LETTERS, Dimension, Expect, Expectation, LATE, Name, Nodes,
        SEGMENT_CHANGES, Setting, SourceConfig, TAG_CHANGES, TAGS_CURRENT, TestCase, TestRow, Tick,
        WatermarkStep,
    },
};

/// The result of a test.
#[derive(Debug, Clone)]
pub struct TestResult {
    /// The file, as the user named it.
    pub file: Arc<str>,
    /// The pipeline.
    pub pipeline: String,
    /// The test.
    pub name: String,
    /// The test's position.
    pub at: Position,
    /// Its duration.
    pub took: Duration,
    /// The failures of the first step that fails; later steps are not run.
    pub failures: Vec<Failure>,
}

/// An unmet expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The expectation's position in the file.
    pub at: Position,
    /// The last action: `watermark 2026-01-05T12:00:00Z`.
    pub after: Option<String>,
    /// The node.
    pub node: String,
    /// The expected rows.
    pub expected: String,
    /// The actual rows.
    pub got: String,
}

/// Runs all tests of a file, each on its own pipeline with `lanes` lanes.
///
/// # Errors
/// `Internal` where a test cannot run at all; a failed test is no error.
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
            let failures = runtime.block_on(case(pipeline, test, lanes))?;
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

/// Runs one test; returns the failures of the first step that fails.
async fn case(pipeline: &Pipeline, test: &TestCase, lanes: usize) -> Result<Vec<Failure>> {
    let (spec, lowered) = (&pipeline.spec, &pipeline.lowered);
    let (taps, tables) = (taps(spec, test), tables(spec, test));
    let start = start(test);
    let now = start.unwrap_or(EventTime::from_micros(0));
    let mut case = Case {
        spec,
        shapes: &lowered.shapes,
        bench: Harness::start(spec, &taps, &tables, lanes, now)?,
        is_time_told: start.is_some(),
        after: None,
        members: Members::default(),
        seen: BTreeMap::new(),
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

/// The sources, steps and queries that a test inspects.
fn taps(spec: &Spec, test: &TestCase) -> BTreeSet<String> {
    let expects = test.steps.iter().filter_map(|step| match &step.action {
        Action::Expect(expect) => Some(expect),
        _ => None,
    });
    let mut taps = BTreeSet::new();
    for expect in expects {
        let names = expect.nodes.names().filter(|name| spec.is_node(name));
        taps.extend(names.map(ToString::to_string));
        if !expect.tags.is_empty() {
            taps.insert(TAG_CHANGES.to_owned());
        }
        if !expect.segments.is_empty() {
            taps.insert(SEGMENT_CHANGES.to_owned());
        }
    }
    taps
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

/// The first time in a test: the clock's time until then.
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
    bench: Harness<'a>,
    /// Whether the test has set the clock; only then can times be checked.
    is_time_told: bool,
    after: Option<String>,
    /// The members of each segment.
    members: Members,
    /// Rows applied to these since the last `expect` of their node.
    seen: BTreeMap<&'static str, Vec<RecordBatch>>,
}

impl Case<'_> {
    async fn step(&mut self, action: &Action) -> Result<Vec<Failure>> {
        match action {
            Action::Send(sent) => self.send(sent).await?,
            Action::Watermark(WatermarkStep::All(at)) => {
                self.bench.inboxes().for_each(|inbox| inbox.promise(**at));
            }
            Action::Watermark(WatermarkStep::Of(sources)) => {
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
                return self.expect(expect).await;
            }
        }
        Ok(Vec::new())
    }

    /// Replaces the rows of a table.
    fn fill(&self, name: &str, table: &Dimension, rows: &[TestRow]) -> Result<()> {
        let rows = encode(rows, (&table.format, &table.columns), 0, None)?;
        self.bench.fill(name, table_of(name, table, &rows)?);
        Ok(())
    }

    async fn send(&mut self, sent: &Nodes<Vec<TestRow>>) -> Result<()> {
        for (name, rows) in sent.iter() {
            if let Some(table) = self.spec.tables.get(name) {
                // Earlier rows are joined with the earlier table.
                self.bench.settle().await?;
                self.fill(name, table, rows)?;
            }
            // A source without readers has no inbox.
            if let (Some(source), Some(inbox)) =
                (self.spec.sources.get(name), self.bench.inbox(name))
            {
                let is_live = matches!(source.input, SourceConfig::Kafka(_)) && self.is_time_told;
                let received = is_live.then(|| self.bench.clock().now());
                let shape = (&source.format, &source.columns);
                inbox.send(encode(rows, shape, inbox.next(), received)?);
            }
        }
        Ok(())
    }

    async fn expect(&mut self, expect: &Expect) -> Result<Vec<Failure>> {
        let mut failures = Vec::new();
        for name in [TAG_CHANGES, SEGMENT_CHANGES] {
            for rows in self.bench.take(&tap(name)) {
                if name == SEGMENT_CHANGES {
                    self.members.take(&rows)?;
                }
                self.seen.entry(name).or_default().push(rows);
            }
        }
        for (name, expectation) in expect.nodes.iter() {
            let node = match &**name {
                DEAD_LETTERS | LATE => format!("errors.{name}"),
                relation if self.spec.is_node(relation) => tap(relation),
                sink => sink.to_owned(),
            };
            let seen = self.seen.remove(&**name);
            let table = Table::of(&seen.unwrap_or_else(|| self.bench.take(&node)))?;
            self.compare(name, expectation, &table, &mut failures)?;
        }
        for (key, row) in expect.tags.iter() {
            self.tags(key, row, &mut failures).await?;
        }
        for (segment, members) in expect.segments.iter() {
            let mut expected: Vec<&str> = members.iter().map(|key| key.as_str()).collect();
            expected.sort_unstable();
            let got = self.members.of(segment);
            if got != expected {
                failures.push(Failure {
                    at: segment.at(),
                    after: self.after.clone(),
                    node: format!("segments.{segment}"),
                    expected: shown_keys(&expected),
                    got: shown_keys(&got),
                });
            }
        }
        self.count(&expect.counters, &mut failures);
        Ok(failures)
    }

    /// Compares each tag of a key by itself.
    async fn tags(&mut self, key: &Name, row: &TestRow, failures: &mut Vec<Failure>) -> Result<()> {
        let known = self.bench.known(key).await?;
        let profile = self.shapes.get(TAGS_CURRENT);
        let profile = profile.ok_or_else(|| Error::internal("the tags were not checked"))?;
        for (tag, value) in row.fields() {
            let one = TestRow {
                at: tag.at(),
                content: Content::Fields(vec![(tag.clone(), value.clone())]),
            };
            let expected = self.read(&one, TAGS_CURRENT)?;
            let got = known.as_ref().map(|known| known::row(known, tag, profile));
            let got = Table::of(got.transpose()?.as_slice())?;
            if got.containing(&expected)?.is_empty() {
                failures.push(Failure {
                    at: expected.at,
                    after: self.after.clone(),
                    node: format!("tags.{key}"),
                    expected: expected.text()?,
                    got: nearest(&got, &expected, |row| got.row_of(row, &expected))?,
                });
            }
        }
        Ok(())
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
            // Rows that occur less often than expected, with both numbers.
            let mut too_few: Vec<(Expected, u64, u64)> = Vec::new();
            for row in equals {
                let expected = self.read(row, name)?;
                let equal = table.equal_to(&expected)?;
                if let Some(place) = left.iter().position(|row| equal.contains(row)) {
                    left.remove(place);
                } else if equal.is_empty() {
                    let got = nearest(table, &expected, |row| table.row(row))?;
                    fail(expected.at, expected.text()?, got);
                } else {
                    let there = equal.len() as u64;
                    match too_few
                        .iter_mut()
                        .find(|it| it.0.text().ok() == expected.text().ok())
                    {
                        Some((_, wanted, _)) => *wanted += 1,
                        None => too_few.push((expected, there + 1, there)),
                    }
                }
            }
            for (expected, wanted, there) in too_few {
                let row = expected.text()?;
                let wanted = format!("{} {row}", rows(wanted));
                fail(expected.at, wanted, rows(there));
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

/// The rows in place of an expected row, as `shown`.
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

fn shown_keys(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| shown_text(key)).collect();
    format!("[{}]", keys.join(", "))
}

fn rows(count: u64) -> String {
    match count {
        0 => "no row".to_owned(),
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    }
}
