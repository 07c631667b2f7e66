//! Finds the position of a part of a `metrics` block in the file.

use tagflow_config::diagnostic::{Diagnostics, Position};

use crate::{
    spec::{Measure, Metrics, MetricsWindow, Name, Setting, SqlText},
    sql::{MetricsPart, SqlError},
};

use super::sql_errors::{add, sql};

/// Adds an error of a part of a block, at its position in the file.
pub(super) fn report(
    (name, metrics): (&Name, &Metrics),
    part: &MetricsPart,
    error: &SqlError,
    diagnostics: &mut Diagnostics,
) {
    let measure = |index: usize| metrics.measures.iter().nth(index);
    let (path, text, at): (_, Option<&SqlText>, Option<Position>) = match part {
        MetricsPart::Whole => (String::new(), None, None),
        MetricsPart::Key(index) => {
            let column = metrics.key.get(*index);
            (".key".to_owned(), None, column.map(Setting::at))
        }
        MetricsPart::Window => (".window".to_owned(), None, Some(window(metrics))),
        MetricsPart::Timezone => (".window.timezone".to_owned(), None, Some(timezone(metrics))),
        MetricsPart::Emit => {
            let emit = &metrics.emit;
            let until = emit.corrections.as_ref().map(|it| it.until.at());
            let preview = emit.preview.as_ref().map(Setting::at);
            (".emit".to_owned(), None, preview.or(until))
        }
        MetricsPart::Measure(index)
        | MetricsPart::From(index)
        | MetricsPart::Where(index)
        | MetricsPart::Arg(index) => {
            let found = measure(*index);
            let path = found.map_or_else(String::new, |(name, _)| format!(".measures.{name}"));
            let text = found.and_then(|(_, measure)| text(measure, part));
            let at = found.map(|(name, measure)| match part {
                MetricsPart::From(_) => measure.from.at(),
                _ => name.at(),
            });
            (path, text, at)
        }
        MetricsPart::Derived(index) => {
            let found = metrics.derived.iter().nth(*index);
            let path = found.map_or_else(String::new, |(name, _)| format!(".derived.{name}"));
            (path, found.map(|(_, text)| text), None)
        }
    };
    let path = format!("metrics.{name}{path}");
    match text {
        Some(text) => sql(text, path, error, diagnostics),
        None => add(at.unwrap_or(name.at()), path, error, diagnostics),
    }
}

/// The text with a mistake in a measure.
fn text<'a>(measure: &'a Measure, part: &MetricsPart) -> Option<&'a SqlText> {
    match part {
        MetricsPart::Where(_) => measure.filter.as_ref(),
        MetricsPart::Arg(_) | MetricsPart::Measure(_) => measure.arg.as_ref(),
        _ => None,
    }
}

fn window(metrics: &Metrics) -> Position {
    match &metrics.window {
        MetricsWindow::Tumble { width, .. } => width.at(),
        MetricsWindow::Hop { size, .. } => size.at(),
        MetricsWindow::Cumulate { every, .. } => every.at(),
    }
}

fn timezone(metrics: &Metrics) -> Position {
    match &metrics.window {
        MetricsWindow::Tumble { timezone, .. } | MetricsWindow::Cumulate { timezone, .. } => {
            timezone.at()
        }
        MetricsWindow::Hop { .. } => window(metrics),
    }
}
