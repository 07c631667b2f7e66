//! The SQL that is equivalent to a `metrics` block.
//!
//! ```text
//! SELECT "window", key…, measures…, derived… FROM (
//!   SELECT tumble("event time", …) AS "window", key…, count(*) FILTER (WHERE "clicks where") …
//!   FROM (one SELECT a source: the event time, the key, and for each measure its argument
//!         and its condition, UNION ALL)
//!   GROUP BY 1, …)
//! ```
//!
//! Names with a space are internal columns; no other column can have such a name.

use std::{collections::BTreeMap, fmt::Write, ops::ControlFlow, sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    common::DFSchema,
    logical_expr::{self, ExprSchemable, LogicalPlan},
    sql::sqlparser::ast::{BinaryOperator, Expr, visit_expressions_mut},
};
use tagflow_engine::time::micros;
use tagflow_operators::window::{CalendarUnit, Emission, Period, Weekday, Windows, misaligned};

use super::{
    Catalog, Lineage, MetricsPart, Part, Relation, SelectItem, SqlError,
    column_name::check_name,
    error::unknown_column,
    functions::time_zone,
    parse,
    plan::{self, Planned},
    resolve,
};
use crate::spec::{Agg, Measure, Metrics, MetricsWindow, Width};

type Faults = Vec<(Part, SqlError)>;

/// The suffix of a measure's name for the column that marks the rows it counts.
const WHERE: &str = " where";

/// A planned `metrics` block.
pub(super) struct PlannedMetrics {
    /// Its equivalent SQL.
    pub(super) sql: String,
    /// When its rows are emitted.
    pub(super) emission: Emission,
    /// The plan of that SQL.
    pub(super) planned: Planned,
    /// Each measure as if it were alone. The meaning of its state does not depend on its name or on
    /// other measures.
    pub(super) measures: BTreeMap<String, LogicalPlan>,
}

/// Plans a block whose sources are in `catalog`.
pub(super) fn plan(metrics: &Metrics, catalog: &Catalog) -> Result<PlannedMetrics, Faults> {
    let emission = Emission {
        ttl: None,
        previews: metrics.emit.preview.as_deref().copied(),
        lateness: match &metrics.emit.corrections {
            Some(corrections) => *corrections.until,
            None => Duration::ZERO,
        },
    };
    let (windows, window) = cut(&metrics.window).map_err(|(part, error)| fault(part, error))?;
    emission
        .check(&windows)
        .map_err(|reason| fault(MetricsPart::Emit, SqlError::new(reason)))?;
    let mut block = Block::new(metrics, window, catalog)?;
    block.check_texts()?;

    // One by one, so that an error is attributed to its measure.
    let once = Emission::default();
    let mut faults = Faults::new();
    let mut measures = BTreeMap::new();
    for (index, (name, measure)) in block.measures.iter().enumerate() {
        let sql = block.aggregate(&[("measure", measure)]);
        match planned(&sql, once, catalog) {
            Ok(planned) => {
                measures.insert((*name).to_owned(), planned.plan);
            }
            Err(error) => faults.extend(fault(MetricsPart::Measure(index), error)),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let whole = |error| fault(MetricsPart::Whole, error);
    let aggregate = block.aggregate(&block.measures);
    let measured = planned(&block.outer(&aggregate, &[]), once, catalog).map_err(whole)?;
    let derived = derived(metrics, &measured.relation, catalog)?;
    let sql = block.outer(&aggregate, &derived);
    let planned = planned(&sql, emission, catalog).map_err(whole)?;
    Ok(PlannedMetrics {
        sql,
        emission,
        planned,
        measures,
    })
}

/// The measure that an aggregate of the block computes.
pub(super) fn measure_of(aggregate: &logical_expr::Expr) -> Option<String> {
    let columns = aggregate.column_refs();
    let mut names = columns.iter().map(|column| column.name.as_str());
    names.find_map(|name| name.strip_suffix(WHERE).map(str::to_owned))
}

/// Plans generated SQL, in which positions mean nothing to a user.
fn planned(sql: &str, emission: Emission, catalog: &Catalog) -> Result<Planned, SqlError> {
    let planned = parse::query(sql).and_then(|parsed| plan::query(parsed.query, emission, catalog));
    planned.map_err(|error| SqlError {
        line: 1,
        column: 1,
        ..error
    })
}

fn fault(part: MetricsPart, error: SqlError) -> Faults {
    vec![(Part::Metrics(part), error)]
}

/// A measure with its name.
type Named<'a> = (&'a str, &'a Measure);

/// A block with known columns.
struct Block<'a> {
    catalog: &'a Catalog,
    key: Vec<&'a str>,
    window: String,
    measures: Vec<Named<'a>>,
    /// The type of each measure's argument.
    types: BTreeMap<&'a str, DataType>,
    /// The sources, each with its event time.
    sources: Vec<(&'a str, &'a str)>,
}

impl<'a> Block<'a> {
    /// Finds the event times and the key of the sources.
    fn new(metrics: &'a Metrics, window: String, catalog: &'a Catalog) -> Result<Self, Faults> {
        let measures: Vec<Named<'_>> = metrics
            .measures
            .iter()
            .map(|(name, measure)| (&**name, measure))
            .collect();
        let mut sources: Vec<(&str, &str)> = Vec::new();
        let mut relations: Vec<(&str, &Relation)> = Vec::new();
        let mut faults = Faults::new();
        for (index, (_, measure)) in measures.iter().enumerate() {
            let from = measure.from.as_str();
            if relations.iter().any(|(known, _)| *known == from) {
                continue;
            }
            let part = MetricsPart::From(index);
            let Some(relation) = catalog.relation(from) else {
                let error = SqlError::new(format!("nothing is called `{from}`"));
                return Err(fault(part, error));
            };
            relations.push((from, relation));
            let times = relation.lineage.iter();
            let mut times = times.zip(relation.schema.fields());
            if let Some((_, time)) = times.find(|(it, _)| **it == Lineage::EventTime) {
                sources.push((from, time.name()));
            } else {
                let error = SqlError::new(format!("the rows of `{from}` have no event time"));
                let help = "carry the event time of the source through unchanged";
                faults.extend(fault(part, error.help(help)));
            }
        }
        let key: Vec<&str> = metrics.key.iter().map(|it| it.as_str()).collect();
        for (index, column) in key.iter().enumerate() {
            if let Err(error) = check_key(column, &relations) {
                faults.extend(fault(MetricsPart::Key(index), error));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            catalog,
            key,
            window,
            measures,
            types: BTreeMap::new(),
            sources,
        })
    }

    /// Checks each `where` and `arg` over its source, and records the types.
    fn check_texts(&mut self) -> Result<(), Faults> {
        let mut faults = Faults::new();
        for (index, (name, measure)) in self.measures.iter().enumerate() {
            let from = measure.from.as_str();
            let mut add = |part: MetricsPart, errors: Faults| {
                let errors = errors.into_iter();
                faults.extend(errors.map(|(_, error)| (Part::Metrics(part.clone()), error)));
            };
            if let Some(filter) = &measure.filter {
                let checked = resolve::step(from, from, Some(filter.text()), None, self.catalog);
                if let Err(errors) = checked {
                    add(MetricsPart::Where(index), errors);
                }
            }
            if let Some(arg) = &measure.arg {
                let item = SelectItem {
                    name: Some("arg".to_owned()),
                    text: arg.text().to_owned(),
                };
                match resolve::step(from, from, None, Some(&[item]), self.catalog) {
                    Ok(planned) => {
                        let field = planned.relation.schema.field(0);
                        self.types.insert(name, field.data_type().clone());
                    }
                    Err(errors) => add(MetricsPart::Arg(index), errors),
                }
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    /// The measures by window and key.
    fn aggregate(&self, measures: &[Named<'_>]) -> String {
        let mut columns = vec![format!("{} AS \"window\"", self.window)];
        columns.extend(self.key.iter().map(|column| quoted(column)));
        columns.extend(measures.iter().map(|(name, measure)| {
            let filter = quoted(&format!("{name}{WHERE}"));
            let call = call(name, measure);
            format!(
                "{call} FILTER (WHERE {filter}) AS {}",
                aggregated(name, measure)
            )
        }));
        let groups: Vec<String> = (1..=self.key.len() + 1).map(|it| it.to_string()).collect();
        let sources = self.sources.iter();
        let sources = sources.filter_map(|(from, time)| self.rows(from, time, measures));
        let sources: Vec<String> = sources.collect();
        format!(
            "SELECT {}\nFROM (\n{}\n)\nGROUP BY {}",
            columns.join(",\n  "),
            indented(&sources.join("\nUNION ALL\n")),
            groups.join(", ")
        )
    }

    /// The rows of a source that count for any of the measures; `None` if no measure reads it.
    fn rows(&self, from: &str, time: &str, measures: &[Named<'_>]) -> Option<String> {
        let mut columns = vec![format!("{} AS \"event time\"", quoted(time))];
        columns.extend(self.key.iter().map(|column| quoted(column)));
        let mut counted = Vec::new();
        for (name, measure) in measures {
            let is_of_it = measure.from.as_str() == from;
            let (filter, arg) = (
                quoted(&format!("{name}{WHERE}")),
                quoted(&format!("{name} arg")),
            );
            match &measure.filter {
                _ if !is_of_it => columns.push(format!("CAST(NULL AS BOOLEAN) AS {filter}")),
                None => columns.push(format!("true AS {filter}")),
                Some(text) => columns.push(format!("{} AS {filter}", normal(text.text()))),
            }
            match &measure.arg {
                Some(text) if is_of_it => {
                    columns.push(format!("{} AS {arg}", normal(text.text())));
                }
                Some(_) => {
                    let kind = self
                        .types
                        .get(name)
                        .map_or(String::new(), ToString::to_string);
                    let kind = kind.replace('\'', "''");
                    columns.push(format!("arrow_cast(NULL, '{kind}') AS {arg}"));
                }
                None => {}
            }
            if is_of_it {
                counted.push(filter);
            }
        }
        if counted.is_empty() {
            return None;
        }
        Some(format!(
            "SELECT * FROM (\n  SELECT {}\n  FROM {}\n)\nWHERE {}",
            columns.join(",\n    "),
            quoted(from),
            counted.join(" OR ")
        ))
    }

    /// The columns of the table, over the aggregate.
    fn outer(&self, aggregate: &str, derived: &[(String, String)]) -> String {
        let mut columns = vec!["\"window\"".to_owned()];
        columns.extend(self.key.iter().map(|column| quoted(column)));
        for (name, measure) in &self.measures {
            let of = aggregated(name, measure);
            if measure.sketch.is_some() {
                columns.push(format!("theta_estimate({of}) AS {}", quoted(name)));
            } else {
                columns.push(of.clone());
            }
            if *measure.keep_sketch {
                columns.push(of);
            }
        }
        let derived = derived.iter();
        columns.extend(derived.map(|(name, sql)| format!("{sql} AS {}", quoted(name))));
        format!(
            "SELECT {}\nFROM (\n{}\n)",
            columns.join(",\n  "),
            indented(aggregate)
        )
    }
}

/// The call of a measure's aggregate.
fn call(name: &str, measure: &Measure) -> String {
    let arg = match &measure.arg {
        Some(_) => quoted(&format!("{name} arg")),
        None => "*".to_owned(),
    };
    match (*measure.agg, &measure.sketch) {
        (Agg::Count, _) => format!("count({arg})"),
        (Agg::Sum, _) => format!("sum({arg})"),
        (Agg::Min, _) => format!("min({arg})"),
        (Agg::Max, _) => format!("max({arg})"),
        (Agg::Avg, _) => format!("avg({arg})"),
        (Agg::Distinct, None) => format!("count(DISTINCT {arg})"),
        (Agg::Distinct, Some(sketch)) => format!("theta_sketch({arg}, {})", *sketch.theta.lg_k),
        (Agg::PerUserHistogram, _) => {
            let bounds = measure.bounds.iter().flatten();
            let bounds: Vec<String> = bounds.map(|it| it.value().to_string()).collect();
            format!("frequency_histogram({arg}, '{}')", bounds.join(","))
        }
    }
}

/// The column of the aggregate, quoted: a measure's, or its sketch's.
fn aggregated(name: &str, measure: &Measure) -> String {
    match measure.sketch {
        Some(_) => quoted(&format!("{name}_sketch")),
        None => quoted(name),
    }
}

/// Checks that all sources have the column, with one type.
fn check_key(name: &str, relations: &[(&str, &Relation)]) -> Result<(), SqlError> {
    let mut first = None;
    for (from, relation) in relations {
        let Ok(field) = relation.schema.field_with_name(name) else {
            let have = DFSchema::try_from_qualified_schema(*from, &relation.schema)
                .map_err(|error| SqlError::of_planner(&error))?;
            let wrong = datafusion::common::Column::new_unqualified(name);
            return Err(unknown_column(&wrong, &have.columns()));
        };
        let (other, kind) = first.get_or_insert((from, field.data_type()));
        if *kind != field.data_type() {
            return Err(SqlError::new(format!(
                "`{name}` is a {kind} in `{other}` and a {} in `{from}`",
                field.data_type()
            ))
            .help("give it one type in a step's `select`"));
        }
    }
    check_name(name)
}

/// The window of event time, and the call that defines it.
fn cut(window: &MetricsWindow) -> Result<(Windows, String), (MetricsPart, SqlError)> {
    let zone_of = |name: &str| {
        time_zone(name).map_err(|reason| (MetricsPart::Timezone, SqlError::new(reason)))
    };
    let calendar = |unit, timezone: &str| {
        let zone = zone_of(timezone)?;
        Ok(Windows::Tumble(Period::Calendar(unit, zone)))
    };
    let time = "\"event time\"";
    let (windows, call) = match window {
        MetricsWindow::Tumble { width, timezone } => match *width.value() {
            Width::Fixed(size) => {
                if let Some(offset) = misaligned(zone_of(timezone)?, size) {
                    return Err((MetricsPart::Timezone, not_aligned(size, timezone, offset)));
                }
                let call = format!("tumble({time}, {})", interval(size));
                (Windows::Tumble(Period::Fixed(size)), call)
            }
            Width::Day => (
                calendar(CalendarUnit::Day, timezone)?,
                format!("tumble_day({time}, '{}')", timezone.value()),
            ),
            Width::Week => (
                calendar(CalendarUnit::Week(Weekday::Mon), timezone)?,
                format!("tumble_week({time}, '{}', 'monday')", timezone.value()),
            ),
            Width::Month => (
                calendar(CalendarUnit::Month, timezone)?,
                format!("tumble_month({time}, '{}')", timezone.value()),
            ),
        },
        MetricsWindow::Hop { size, every } => (
            Windows::Hop {
                slide: *every.value(),
                size: *size.value(),
            },
            format!("hop({time}, {}, {})", interval(**every), interval(**size)),
        ),
        MetricsWindow::Cumulate {
            every, timezone, ..
        } => (
            Windows::Cumulate {
                step: *every.value(),
                within: Period::Calendar(CalendarUnit::Day, zone_of(timezone)?),
            },
            format!(
                "cumulate({time}, {}, '{}')",
                interval(**every),
                timezone.value()
            ),
        ),
    };
    match windows.check() {
        Ok(()) => Ok((windows, call)),
        Err(reason) => Err((MetricsPart::Window, SqlError::new(reason))),
    }
}

fn not_aligned(size: Duration, timezone: &str, offset: i64) -> SqlError {
    let shown = humantime::format_duration;
    let sign = if offset < 0 { "behind" } else { "ahead of" };
    SqlError::new(format!(
        "windows of {} cannot begin on the hours of `{timezone}`, which is at times {} {sign} UTC",
        shown(size),
        shown(Duration::from_secs(offset.unsigned_abs()))
    ))
    .help("take a width that divides this, or `tumble: day`; or leave `timezone` out")
}

/// An interval in the largest unit that divides it.
fn interval(width: Duration) -> String {
    let width = micros(width);
    let units = [
        ("hour", 3_600_000_000),
        ("minute", 60_000_000),
        ("second", 1_000_000),
        ("millisecond", 1_000),
    ];
    let divides = |(_, unit): &&(&str, i64)| width % unit == 0;
    let (name, unit) = units.iter().find(divides).unwrap_or(&("microsecond", 1));
    format!("INTERVAL '{} {name}'", width / unit)
}

/// The derived columns as SQL over the measures. Each is checked over `measured` and the earlier
/// derived columns.
fn derived(
    metrics: &Metrics,
    measured: &Relation,
    catalog: &Catalog,
) -> Result<Vec<(String, String)>, Faults> {
    let mut fields = measured.schema.fields().to_vec();
    let mut known: BTreeMap<String, Expr> = BTreeMap::new();
    let mut derived = Vec::new();
    let mut faults = Faults::new();
    for (index, (name, text)) in metrics.derived.iter().enumerate() {
        let schema = DFSchema::try_from(Schema::new(fields.clone())).map(Arc::new);
        let checked = schema
            .map_err(|error| vec![SqlError::of_planner(&error)])
            .and_then(|schema| {
                let expr = resolve::expression(text.text(), &schema, catalog)?;
                let kind = expr.get_type(&*schema);
                let kind = kind.map_err(|error| vec![SqlError::of_planner(&error)])?;
                let sql = parse::expression(text.text()).and_then(|it| over_measures(it, &known));
                Ok((kind, sql.map_err(|error| vec![error])?))
            });
        match checked {
            Ok((kind, sql)) => {
                fields.push(Arc::new(Field::new(&**name, kind, true)));
                derived.push((name.to_string(), sql.to_string()));
                known.insert(name.to_string(), sql);
            }
            Err(errors) => {
                // Later ones may name it.
                fields.push(Arc::new(Field::new(&**name, DataType::Float64, true)));
                for error in errors {
                    faults.extend(fault(MetricsPart::Derived(index), error));
                }
            }
        }
    }
    if faults.is_empty() {
        Ok(derived)
    } else {
        Err(faults)
    }
}

/// `text` with names replaced by their `known` expressions. A division is one of floating point,
/// and null where the denominator is 0.
fn over_measures(mut text: Expr, known: &BTreeMap<String, Expr>) -> Result<Expr, SqlError> {
    let visited = visit_expressions_mut(&mut text, |expr| {
        match expr {
            Expr::Identifier(ident) => {
                if let Some(meant) = known.get(&parse::fold(ident)) {
                    *expr = Expr::Nested(Box::new(meant.clone()));
                }
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Divide,
                right,
            } => {
                let ratio =
                    format!("(CAST({left} AS DOUBLE) / NULLIF(CAST({right} AS DOUBLE), 0))");
                match parse::expression(&ratio) {
                    Ok(ratio) => *expr = ratio,
                    Err(error) => return ControlFlow::Break(error),
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    match visited {
        ControlFlow::Continue(()) => Ok(text),
        ControlFlow::Break(error) => Err(error),
    }
}

/// A checked expression, on one line and without comments.
fn normal(text: &str) -> String {
    let expression = parse::expression(text).expect("the text was checked");
    expression.to_string()
}

/// A name that SQL reads literally.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn indented(text: &str) -> String {
    let mut indented = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        let _ = writeln!(indented, "  {line}");
    }
    indented.truncate(indented.trim_end().len());
    indented
}
