//! Plans a query's aggregates, and runs it in batch with `DataFusion`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::SortColumn,
    compute::{concat_batches, lexsort_to_indices, take_record_batch},
    datatypes::{DataType, Float64Type, TimestampMicrosecondType},
    util::display::array_value_to_string,
};
use datafusion::{
    datasource::MemTable,
    logical_expr::{Aggregate as LogicalAggregate, LogicalPlan},
    optimizer::Analyzer,
    prelude::SessionContext,
};
use tagflow_engine::{Result, SystemClock};

use super::rows::{self, Row, SIZE_US, TIME};
use crate::{
    expr::physical,
    row_errors::{DeadLetterPolicy, RowErrors},
    window::{Aggregate, Aggregation, AggregationSpec, Emission, Key, Period, Windows},
};

/// The tolerance of a comparison with the oracle.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tolerance {
    /// Equal.
    Exact,
    /// A float equal except for rounding.
    Rounding,
    /// An estimate, with at most this relative error.
    Within(f64),
}

/// `aggregates` by tumbling window and `keys`: SQL over the test rows' columns.
pub(super) fn plan(keys: &[&str], aggregates: &[&str]) -> Result<Arc<Aggregation>> {
    let size = Duration::from_micros(SIZE_US as u64);
    let windows = Windows::Tumble(Period::Fixed(size));
    plan_windows(windows, Emission::default(), keys, aggregates)
}

/// `aggregates` by window and `keys`: SQL over the test rows' columns.
pub(super) fn plan_windows(
    windows: Windows,
    emission: Emission,
    keys: &[&str],
    aggregates: &[&str],
) -> Result<Arc<Aggregation>> {
    let aggregate = logical(&sql(keys, aggregates));
    let input = aggregate.input.schema();
    let keys = aggregate.group_expr[1..].iter();
    let aggregates = aggregate.aggr_expr.iter();
    Aggregation::new(AggregationSpec {
        pipeline: "test".into(),
        query: "q".into(),
        input: rows::schema(),
        time: TIME,
        personal: BTreeSet::new(),
        windows,
        emission,
        keys: keys
            .map(|key| {
                let name = key.schema_name().to_string();
                physical(key, input).map(|expr| Key { expr, name })
            })
            .collect::<Result<_>>()?,
        aggregates: aggregates
            .map(|aggregate| Aggregate::new(aggregate, input))
            .collect::<Result<_>>()?,
        errors: RowErrors {
            dead_letters: Some(DeadLetterPolicy {
                pipeline: "test".into(),
                clock: Arc::new(SystemClock),
                on_error: BTreeMap::new(),
            }),
            ..RowErrors::default()
        },
        personal_results: BTreeSet::new(),
    })
}

/// The results of `DataFusion` in batch, by window and keys: the window's start, the keys, the
/// aggregates. Each aggregate is a query of its own: two that order their rows differently cannot
/// be planned in the same query.
pub(super) fn batch(rows: &[Row], keys: &[&str], aggregates: &[&str]) -> Vec<RecordBatch> {
    let context = context(rows::batch(rows));
    let answer = |aggregates: &[&str]| {
        let query = sql(keys, aggregates);
        block_on(async { context.sql(&query).await.unwrap().collect().await.unwrap() })
    };
    let groups = answer(&[]);
    if groups.is_empty() {
        return groups;
    }
    let groups = sorted(&groups, 1 + keys.len());
    let mut columns: Vec<(String, ArrayRef)> = vec![];
    for (i, column) in groups.columns().iter().enumerate() {
        columns.push((i.to_string(), Arc::clone(column)));
    }
    for aggregate in aggregates {
        let rows = sorted(&answer(&[aggregate]), 1 + keys.len());
        assert_eq!(rows.columns()[..=keys.len()], *groups.columns());
        columns.push((
            (*aggregate).to_string(),
            Arc::clone(rows.columns().last().unwrap()),
        ));
    }
    vec![named(columns)]
}

/// As [`batch`], for an aggregate over the rows from `since` on. Groups without such rows have its
/// value of no row.
pub(super) fn batch_since(
    rows: &[Row],
    since: usize,
    key: &str,
    aggregate: &str,
) -> Vec<RecordBatch> {
    let context = context(rows::batch(&rows[since..]));
    let all = rows::batch(rows);
    let all = MemTable::try_new(all.schema(), vec![vec![all]]).unwrap();
    context.register_table("everything", Arc::new(all)).unwrap();
    let query = format!(
        "WITH counted AS (SELECT start, {key}, {aggregate} AS v FROM t GROUP BY start, {key}),
        nothing AS (SELECT {aggregate} AS v FROM t WHERE false)
        SELECT * FROM counted UNION ALL
        SELECT e.start, e.{key}, v FROM (SELECT DISTINCT start, {key} FROM everything) e
        CROSS JOIN nothing WHERE NOT EXISTS (SELECT 1 FROM counted
            WHERE counted.start = e.start AND counted.{key} IS NOT DISTINCT FROM e.{key})"
    );
    block_on(async { context.sql(&query).await.unwrap().collect().await.unwrap() })
}

/// Asserts that a window's results (`actual`) equal those of the oracle.
pub(super) fn assert_same(
    actual: &[RecordBatch],
    expected: &[RecordBatch],
    keys: usize,
    tolerances: &[Tolerance],
) {
    let actual: Vec<RecordBatch> = actual.iter().map(with_start).collect();
    let count = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(count(&actual), count(expected), "rows");
    if count(expected) == 0 {
        return;
    }
    let actual = sorted(&actual, 1 + keys);
    let expected = sorted(expected, 1 + keys);
    for column in 0..=keys {
        assert_eq!(actual.column(column), expected.column(column), "keys");
    }
    for (i, tolerance) in tolerances.iter().enumerate() {
        let column = 1 + keys + i;
        assert_column(
            actual.column(column),
            expected.column(column),
            *tolerance,
            actual.schema().field(column).name(),
        );
    }
}

fn assert_column(actual: &ArrayRef, expected: &ArrayRef, tolerance: Tolerance, name: &str) {
    assert_eq!(actual.data_type(), expected.data_type(), "{name}");
    let slack = match (tolerance, actual.data_type()) {
        (Tolerance::Exact | Tolerance::Rounding, _) if *actual.data_type() != DataType::Float64 => {
            0.0
        }
        (Tolerance::Exact, _) => 0.0,
        (Tolerance::Rounding, _) => 1e-9,
        (Tolerance::Within(slack), _) => slack,
    };
    for row in 0..actual.len() {
        let show = |values: &ArrayRef| array_value_to_string(values, row).unwrap();
        let (a, e) = (show(actual), show(expected));
        let close = slack > 0.0
            && match (float(actual, row), float(expected, row)) {
                (Some(a), Some(e)) => (a - e).abs() <= slack * e.abs().max(1.0),
                _ => false,
            };
        assert!(a == e || close, "{name}, row {row}: {a}, expected {e}");
    }
}

fn float(values: &ArrayRef, row: usize) -> Option<f64> {
    let values = values.as_primitive_opt::<Float64Type>()?;
    values.is_valid(row).then(|| values.value(row))
}

/// The window's start in place of the window, after checking its end.
fn with_start(rows: &RecordBatch) -> RecordBatch {
    let window = rows.column(0).as_struct();
    let starts = window.column(0).as_primitive::<TimestampMicrosecondType>();
    let ends = window.column(1).as_primitive::<TimestampMicrosecondType>();
    for (start, end) in starts.values().iter().zip(ends.values()) {
        assert_eq!(start + SIZE_US, *end);
    }
    let mut columns: Vec<(String, ArrayRef)> = vec![("start".into(), Arc::clone(window.column(0)))];
    for (i, column) in rows.columns().iter().enumerate().skip(1) {
        columns.push((rows.schema().field(i).name().clone(), Arc::clone(column)));
    }
    named(columns)
}

/// Rows of `columns`, whose names may repeat.
fn named(columns: Vec<(String, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter();
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true)))
        .unwrap()
}

fn sorted(batches: &[RecordBatch], by: usize) -> RecordBatch {
    let rows = concat_batches(&batches[0].schema(), batches).unwrap();
    let columns: Vec<SortColumn> = rows.columns()[..by]
        .iter()
        .map(|values| SortColumn {
            values: Arc::clone(values),
            options: None,
        })
        .collect();
    take_record_batch(&rows, &lexsort_to_indices(&columns, None).unwrap()).unwrap()
}

fn sql(keys: &[&str], aggregates: &[&str]) -> String {
    let mut groups = vec!["start"];
    groups.extend(keys);
    let mut columns = groups.clone();
    columns.extend(aggregates);
    format!(
        "SELECT {} FROM t GROUP BY {}",
        columns.join(", "),
        groups.join(", ")
    )
}

fn logical(sql: &str) -> LogicalAggregate {
    let context = context(RecordBatch::new_empty(rows::schema()));
    let state = context.state();
    let plan = block_on(state.create_logical_plan(sql)).unwrap();
    let plan = Analyzer::new()
        .execute_and_check(plan, state.config_options(), |_, _| {})
        .unwrap();
    let mut node = &plan;
    loop {
        match node {
            LogicalPlan::Aggregate(aggregate) => return aggregate.clone(),
            other => node = other.inputs()[0],
        }
    }
}

fn context(rows: RecordBatch) -> SessionContext {
    let context = SessionContext::new();
    let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    context
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
