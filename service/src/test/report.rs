//! Renders test results for people, for programs and for GitHub's pull-request view.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{Failure, TestResult};
use tagflow_pipelines::diagnostic::Diagnostics;

/// One line per test, with its failures beneath, then the counts.
///
/// ```text
/// ok    user-tags  a thirty-day count falls with no new event   2 ms
/// FAIL  user-tags  cart abandoned fires at 30 minutes   3 ms
///       after watermark 10:30:01  tags  expected 1 row  got no row   (user_tags.yaml:131)
/// 1 passed, 1 failed
/// ```
pub fn human(results: &[TestResult]) -> String {
    human_with(results, |_, text| text.to_owned())
}

/// Like [`human`], with `paint` applied to each verdict; true is a passed test.
pub fn human_with(results: &[TestResult], paint: impl Fn(bool, &str) -> String) -> String {
    let width = |result: &TestResult| result.pipeline.chars().count();
    let width = results.iter().map(width).max().unwrap_or(0);
    let mut text = String::new();
    for result in results {
        let verdict = if result.has_passed() { "ok  " } else { "FAIL" };
        let verdict = paint(result.has_passed(), verdict);
        let TestResult { pipeline, name, .. } = result;
        let took = milliseconds(result.took);
        let _ = writeln!(text, "{verdict}  {pipeline:<width$}  {name}   {took}");
        for failure in &result.failures {
            let (file, line) = (&result.file, failure.at.line);
            let _ = writeln!(text, "      {}   ({file}:{line})", failure.text());
        }
    }
    let passed = results.iter().filter(|result| result.has_passed()).count();
    let failed = results.len() - passed;
    let _ = match failed {
        0 if passed == 0 => writeln!(text, "no tests"),
        0 => writeln!(text, "{passed} passed"),
        _ => writeln!(text, "{passed} passed, {failed} failed"),
    };
    text
}

/// An array of objects with `file`, `line`, `pipeline`, `test`, `passed`,
/// `took_ms` and `failures`.
pub fn json(results: &[TestResult]) -> String {
    let failure = |failure: &Failure| {
        json!({
            "line": failure.at.line,
            "column": failure.at.column,
            "after": failure.after,
            "node": failure.node,
            "expected": failure.expected,
            "got": failure.got,
        })
    };
    let result = |result: &TestResult| {
        json!({
            "file": &*result.file,
            "line": result.at.line,
            "pipeline": result.pipeline,
            "test": result.name,
            "passed": result.has_passed(),
            "took_ms": result.took.as_secs_f64() * 1000.0,
            "failures": result.failures.iter().map(failure).collect::<Vec<_>>(),
        })
    };
    format!("{:#}\n", results.iter().map(result).collect::<Value>())
}

/// One workflow command per failure, which the pull request's view shows at the line.
pub fn github(results: &[TestResult]) -> String {
    let mut text = String::new();
    for result in results {
        let mut problems = Diagnostics::new(std::sync::Arc::clone(&result.file));
        for failure in &result.failures {
            let message = format!("{}: {}", result.name, failure.text());
            problems.error(failure.at, "tests", message);
        }
        text.push_str(&problems.github());
    }
    text
}

impl TestResult {
    /// Whether all expectations were met.
    pub fn has_passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl Failure {
    /// On one line, without its position.
    fn text(&self) -> String {
        let Self {
            after,
            node,
            expected,
            got,
            ..
        } = self;
        let after = after.as_ref().map(|after| format!("after {after}  "));
        format!(
            "{}{node}  expected {expected}  got {got}",
            after.unwrap_or_default()
        )
    }
}

fn milliseconds(took: Duration) -> String {
    format!("{:.0} ms", took.as_secs_f64() * 1000.0)
}
