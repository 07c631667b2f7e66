//! Every function gives values of the type that is planned, and DataFusion's values.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray,
        RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    compute::{cast, concat_batches},
    datatypes::{DataType, Int64Type, SchemaRef},
};
use datafusion::{
    common::{DFSchema, DFSchemaRef},
    logical_expr::{Expr, ExprSchemable},
    prelude::{SessionConfig, SessionContext},
};
use tagflow_operators::{expr::physical, window::Aggregate};

use super::{needs, query, source};
use crate::sql::{
    Definition, Program, SelectItem, Stream, Windowed, functions::WindowKind, resolve,
};

/// Columns of the rows, with the types of sources.
const COLUMNS: [(&str, &str, bool); 10] = [
    ("a", "int64", false),
    ("f", "float64", true),
    ("d", "decimal(10,2)", true),
    ("x", "string", true),
    ("b", "bool", true),
    ("t", "timestamp(ms)", false),
    ("u", "timestamp(ms)", true),
    ("day", "date", true),
    ("l", "list<int64>", true),
    ("s", "list<string>", true),
];

/// Arguments that read a row.
const VARIABLES: [&str; 11] = [
    "a",
    "f",
    "d",
    "x",
    "b",
    "t",
    "day",
    "l",
    "s",
    "t - u",
    "named_struct('p', a)",
];

/// Constant arguments.
const CONSTANTS: [&str; 9] = [
    "1",
    "-1",
    "1 + 1",
    "2.5",
    "'day'",
    "'epoch'",
    "'Int64'",
    "DATE '2026-01-05'",
    "INTERVAL '1 day'",
];

fn program(more: &[(&str, Definition)]) -> Program {
    let rows = source(&COLUMNS, "t");
    let mut definitions = BTreeMap::from([("rows".to_owned(), rows)]);
    for (name, definition) in more {
        definitions.insert((*name).to_owned(), definition.clone());
    }
    Program::plan(&definitions, |_| false)
}

/// Three rows, the last of nulls where there may be some.
fn rows(schema: &SchemaRef) -> RecordBatch {
    let day_us = 86_400_000_000_i64;
    let times = |times: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
    };
    let numbers = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(3), Some(1)]),
        Some(vec![Some(2)]),
        None,
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![2, 3, 4])),
        Arc::new(Float64Array::from(vec![Some(0.5), Some(1.0), None])),
        Arc::new(
            Decimal128Array::from(vec![Some(255), Some(1_049), None])
                .with_precision_and_scale(10, 2)
                .unwrap(),
        ),
        Arc::new(StringArray::from(vec![Some("12"), Some("7"), None])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        times(vec![
            Some(20_458 * day_us),
            Some(20_459 * day_us + 1_500),
            Some(20_460 * day_us),
        ]),
        times(vec![Some(20_457 * day_us), Some(20_458 * day_us), None]),
        Arc::new(Date32Array::from(vec![Some(20_458), Some(20_459), None])),
        Arc::new(numbers.clone()),
        Arc::new(numbers),
    ];
    let columns = columns.iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()).unwrap());
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
}

/// Calls of functions whose arguments are of their own kind.
const SPECIAL: [(&str, &str); 6] = [
    ("array_replace_n", "array_replace_n(l, 1, 5, 1)"),
    ("decode", "decode(encode(x, 'hex'), 'hex')"),
    ("digest", "digest(x, 'sha256')"),
    ("encode", "encode(x, 'hex')"),
    ("get_field", "get_field(named_struct('p', a), 'p')"),
    ("map_extract", "map_extract(map(['k'], [a]), 'k')"),
];

/// Functions without a call here, and the reason.
const NOT_CALLED: [(&str, &str); 6] = [
    ("map_entries", "no column is a map"),
    ("map_keys", "no column is a map"),
    ("map_values", "no column is a map"),
    (
        "theta_estimate",
        "its argument is the result of an aggregate",
    ),
    ("union_extract", "no column is a union"),
    ("union_tag", "no column is a union"),
];

/// Aggregates without a call here, and the reason.
const NOT_AGGREGATED: [(&str, &str); 4] = [
    (
        "any_value",
        "refused: its value depends on the order of rows",
    ),
    ("grouping", "refused: there are no grouping sets"),
    (
        "nth_value",
        "refused: its value depends on the order of rows",
    ),
    ("theta_union", "its argument is the result of an aggregate"),
];

/// Arguments of aggregates.
const AGGREGATED: [&str; 16] = [
    "",
    "a",
    "f",
    "d",
    "x",
    "b",
    "t",
    "a, f",
    "f, 0.5",
    "x, ','",
    "x, '1,2'",
    "x, 12",
    "f, 1, 0.5",
    "a ORDER BY t",
    "x ORDER BY t",
    "a, 2 ORDER BY t",
];

/// Calls of `name` with up to two arguments that type-check, or three where it needs
/// them. Of calls with the same first argument and type, a few.
fn calls(name: &str, type_of: impl Fn(&str) -> Option<DataType>) -> Vec<String> {
    let special = SPECIAL.iter().filter(|(special, _)| *special == name);
    let mut found: Vec<String> = special.map(|(_, call)| (*call).to_owned()).collect();
    for count in 0..=3 {
        if count > 2 && !found.is_empty() {
            break;
        }
        let mut of_kind: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for (first, arguments) in arguments(count) {
            let call = format!("{name}({arguments})");
            let Some(data_type) = type_of(&call) else {
                continue;
            };
            let seen = of_kind.entry((first, data_type.to_string())).or_default();
            *seen += 1;
            if *seen <= 3 {
                found.push(call);
            }
            // Of three arguments, some show the type.
            if count > 2 && found.len() == 3 {
                break;
            }
        }
    }
    found
}

/// Lists of `count` arguments, each with its first. One of two and more reads a row.
fn arguments(count: usize) -> Vec<(&'static str, String)> {
    let all = || CONSTANTS.into_iter().chain(VARIABLES);
    match count {
        0 => vec![("", String::new())],
        1 => all().map(|only| (only, only.to_owned())).collect(),
        2 => VARIABLES
            .into_iter()
            .flat_map(|variable| {
                let others = CONSTANTS.into_iter().chain(["a", "x", variable]);
                let after = others.map(move |other| (variable, format!("{variable}, {other}")));
                let before = CONSTANTS.into_iter();
                after.chain(before.map(move |other| (other, format!("{other}, {variable}"))))
            })
            .collect(),
        _ => VARIABLES
            .into_iter()
            .flat_map(|first| {
                let few = || CONSTANTS.into_iter().chain(["a", "x", "l"]);
                let pairs = few().flat_map(move |second| few().map(move |third| (second, third)));
                pairs.map(move |(second, third)| (first, format!("{first}, {second}, {third}")))
            })
            .collect(),
    }
}

/// The longest part of `calls` whose programs have no faults.
fn sound(calls: &[String], plan: &impl Fn(&[String]) -> Program) -> Vec<String> {
    if calls.is_empty() || plan(calls).faults().is_empty() {
        return calls.to_vec();
    }
    if calls.len() == 1 {
        return Vec::new();
    }
    let (first, second) = calls.split_at(calls.len() / 2);
    [sound(first, plan), sound(second, plan)].concat()
}

#[tokio::test]
async fn regression_scalar_functions_give_the_type_that_is_planned() {
    let empty = program(&[]);
    let functions = empty.catalog().functions();
    let schema = Arc::clone(&empty.relation("rows").unwrap().schema);
    let over: DFSchemaRef = Arc::new(DFSchema::try_from(Arc::clone(&schema)).unwrap());
    let rows = rows(&schema);
    let oracle = Oracle::new(&rows);
    let all = functions.scalar_names();
    let names: BTreeSet<&str> = all
        .iter()
        // A window stands in GROUP BY alone.
        .filter(|name| !functions.is_volatile(name) && WindowKind::named(name).is_none())
        .map(|name| functions.scalar(name).unwrap().name())
        .collect();
    let mut not_called = Vec::new();
    for name in names {
        let typed = calls(name, |call| {
            let expr = resolve::expression(call, &over, empty.catalog()).ok()?;
            expr.get_type(&over).ok()
        });
        // Of some, the arguments are of the right types and yet wrong.
        let calls = sound(&typed, &step);
        if calls.is_empty() {
            not_called.push(name);
            continue;
        }
        let program = step(&calls);
        let planned = program.relation("step");
        let planned = planned.unwrap_or_else(|| panic!("{name}: {:?}", program.faults()));
        let needs = needs(&program, &["step"]);
        let Some(Stream::Map(map)) = &needs.last().unwrap().stream else {
            panic!("{name}: a step is a map");
        };
        let columns = map.columns.iter().flatten();
        let mut answered = Vec::new();
        for ((call, expr), field) in calls.iter().zip(columns).zip(planned.schema.fields()) {
            let Some(values) = values(expr, map.input.schema(), &rows) else {
                continue;
            };
            assert_eq!(values.data_type(), field.data_type(), "{call}");
            answered.push((call.as_str(), values));
        }
        if answered.is_empty() {
            not_called.push(name);
        }
        oracle.check(&answered).await;
    }
    let expected: Vec<&str> = NOT_CALLED.iter().map(|(name, _)| *name).collect();
    assert_eq!(not_called, expected);
}

#[tokio::test]
async fn regression_aggregates_give_the_type_that_is_planned() {
    let empty = program(&[]);
    let functions = empty.catalog().functions();
    let rows = rows(&empty.relation("rows").unwrap().schema);
    let oracle = Oracle::new(&rows);
    let all = functions.aggregate_names();
    let all = all
        .iter()
        .map(|name| functions.aggregate(name).unwrap().name());
    let names: BTreeSet<&str> = all.collect();
    let mut not_called = Vec::new();
    for name in names {
        let calls = AGGREGATED.map(|arguments| format!("{name}({arguments})"));
        let calls = sound(&calls, &aggregation);
        let mut answered = Vec::new();
        if !calls.is_empty() {
            let program = aggregation(&calls);
            let planned = &program.relation("q").unwrap().schema;
            let outputs = BTreeSet::from(["q".to_owned()]);
            let needs = program.needs(&outputs, None).unwrap();
            let windowed = windowed(needs.last().unwrap().stream.as_ref());
            for (place, call) in calls.iter().enumerate() {
                let Some(value) = windowed.and_then(|it| value(it, place, &rows)) else {
                    continue;
                };
                assert_eq!(
                    value.data_type(),
                    planned.field(1 + place).data_type(),
                    "{call}"
                );
                answered.push((call.as_str(), value));
            }
        }
        if answered.is_empty() {
            not_called.push(name);
        }
        oracle.check(&answered).await;
    }
    let expected: Vec<&str> = NOT_AGGREGATED.iter().map(|(name, _)| *name).collect();
    assert_eq!(not_called, expected);
}

/// A query with a column for each aggregate.
fn aggregation(calls: &[String]) -> Program {
    let columns = calls.iter().enumerate();
    let columns = columns.map(|(place, call)| format!(", {call} AS c{place}"));
    let columns = columns.collect::<Vec<_>>().concat();
    let sql = format!("SELECT tumble(t, INTERVAL '30 days') AS w{columns} FROM rows GROUP BY 1");
    program(&[("q", query(&sql))])
}

/// A step with a column for each call.
fn step(calls: &[String]) -> Program {
    let item = |(place, call): (usize, &String)| SelectItem {
        name: Some(format!("c{place}")),
        text: call.clone(),
    };
    let step = Definition::Step {
        from: "rows".into(),
        called: "rows".into(),
        filter: None,
        select: Some(calls.iter().enumerate().map(item).collect()),
    };
    program(&[("step", step)])
}

fn windowed(stream: Option<&Stream>) -> Option<&Windowed> {
    match stream? {
        Stream::Windowed(windowed) => Some(windowed),
        Stream::Map(map) => windowed(Some(&map.input)),
        _ => None,
    }
}

/// The value of an aggregate over all rows; none where it has none.
fn value(windowed: &Windowed, place: usize, rows: &RecordBatch) -> Option<ArrayRef> {
    let aggregate = windowed.aggregates.get(place)?;
    let over = windowed.input.schema();
    let rows = match windowed.input.as_ref() {
        Stream::Map(map) => {
            let columns = map.columns.as_ref()?.iter();
            let columns = columns.map(|expr| values(expr, map.input.schema(), rows));
            RecordBatch::try_new(Arc::clone(over.inner()), columns.collect::<Option<_>>()?).ok()?
        }
        _ => project(over, rows),
    };
    let function = Aggregate::new(aggregate, over).ok()?.function;
    let mut arguments = function.expressions();
    let order = function.order_bys().iter();
    arguments.extend(order.map(|sort| Arc::clone(&sort.expr)));
    let arguments = arguments.iter().map(|argument| {
        let values = argument.evaluate(&rows).ok()?;
        values.into_array(rows.num_rows()).ok()
    });
    let arguments: Vec<ArrayRef> = arguments.collect::<Option<_>>()?;
    let mut accumulator = function.create_accumulator().ok()?;
    accumulator.update_batch(&arguments).ok()?;
    Some(accumulator.evaluate().ok()?.to_array().unwrap())
}

/// The values of `expr`; none where a row has no value.
fn values(expr: &Expr, over: &DFSchema, rows: &RecordBatch) -> Option<ArrayRef> {
    let rows = project(over, rows);
    let values = physical(expr, over).ok()?.evaluate(&rows).ok()?;
    values.into_array(rows.num_rows()).ok()
}

/// The columns of `rows` that `over` names.
fn project(over: &DFSchema, rows: &RecordBatch) -> RecordBatch {
    let names = over.fields().iter().map(|field| field.name());
    let places: Vec<usize> = names
        .map(|name| rows.schema().index_of(name).unwrap())
        .collect();
    rows.project(&places).unwrap()
}

/// Plain DataFusion.
struct Oracle(SessionContext);

impl Oracle {
    fn new(rows: &RecordBatch) -> Self {
        let mut config = SessionConfig::new();
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let session = SessionContext::new_with_config(config);
        session.register_batch("rows", rows.clone()).unwrap();
        Self(session)
    }

    /// Asserts that DataFusion gives the same values, where it answers.
    async fn check(&self, answered: &[(&str, ArrayRef)]) {
        let calls: Vec<&str> = answered.iter().map(|(call, _)| *call).collect();
        let theirs: Vec<_> = if let Some(theirs) = self.ask(&calls).await {
            theirs.into_iter().map(Some).collect()
        } else {
            let mut theirs = Vec::new();
            for call in calls {
                theirs.push(self.ask(&[call]).await.and_then(|mut it| it.pop()));
            }
            theirs
        };
        for ((call, ours), theirs) in answered.iter().zip(theirs) {
            let Some(theirs) = theirs else { continue };
            assert_eq!(ours.data_type(), theirs.data_type(), "{call}");
            let is_interval = call.contains("epoch") && call.contains("t - u");
            let is_ordered = call.starts_with("array_agg") || call.starts_with("string_agg");
            if !is_interval && !is_ordered {
                assert_eq!(ours, &theirs, "{call}");
            }
        }
    }

    /// The values of each call; none where DataFusion cannot answer.
    async fn ask(&self, calls: &[&str]) -> Option<Vec<ArrayRef>> {
        let columns = calls.iter().enumerate();
        let columns = columns.map(|(place, call)| format!("{call} AS c{place}"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        if columns.is_empty() {
            return Some(Vec::new());
        }
        let frame = self
            .0
            .sql(&format!("SELECT {columns} FROM rows"))
            .await
            .ok()?;
        let schema = Arc::clone(frame.schema().inner());
        let batches = frame.collect().await.ok()?;
        let first = batches.first().map_or(schema, RecordBatch::schema);
        let rows = concat_batches(&first, &batches).ok()?;
        Some(rows.columns().to_vec())
    }
}
