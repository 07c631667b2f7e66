use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use datafusion::{
    common::{DFSchema, ToDFSchema},
    logical_expr::{Expr, cast},
    prelude::{col, lit},
};
use tagflow_engine::{
    Batch, ErrorKind, Port, Result, SystemClock,
    graph::OnError,
    ledger::Counts,
    operator::{LaneContext, Output},
    source::PartitionId,
};

use super::{MapSpec, factory};
use crate::{
    expr::physical,
    row_errors::{DeadLetterPolicy, RowErrors},
};

fn input() -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        (
            "n",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(0)])),
        ),
        ("s", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        (
            "keep",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
    ];
    let columns = columns.map(|(name, values)| (name, values, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn partition() -> Arc<PartitionId> {
    Arc::new(PartitionId::new("events", "t/0"))
}

/// The output's batches, and the accounts of the input's rows.
fn run(predicate: Option<Expr>, projection: &[(Expr, DataType)]) -> Result<(Vec<Batch>, Counts)> {
    let ran = run_with(RowErrors::default(), predicate, projection, input())?;
    let batches = ran.0.into_iter().map(|(port, batch)| {
        assert_eq!(port, Port::MAIN);
        batch
    });
    Ok((batches.collect(), ran.1))
}

/// Like [`run`], with a policy for rows on which an expression fails.
fn run_with(
    errors: RowErrors,
    predicate: Option<Expr>,
    projection: &[(Expr, DataType)],
    rows: RecordBatch,
) -> Result<(Vec<(Port, Batch)>, Counts)> {
    let schema: DFSchema = rows.schema().to_dfschema().unwrap();
    let columns = projection.iter().enumerate();
    let fields: Vec<Field> = columns
        .map(|(i, (_, data_type))| Field::new(format!("c{i}"), data_type.clone(), true))
        .collect();
    let columns = projection.iter().zip(&fields);
    let spec = MapSpec {
        predicate: predicate.map(|it| physical(&it, &schema).unwrap()),
        projection: columns
            .map(|((expr, _), field)| (physical(expr, &schema).unwrap(), field.name().clone()))
            .collect(),
        schema: Arc::new(Schema::new(fields)),
        errors,
    };
    let mut map = factory(spec)(&LaneContext {
        node: "clean".into(),
        lane: 0,
        lanes: 1,
        memory_bytes: None,
    })?;
    let mut out = Output::default();
    let batch = Batch::of_partition(rows, partition());
    map.on_batch(Port::MAIN, batch, &mut out)?;
    Ok((out.take(), out.ledger().get(&partition())))
}

#[test]
fn column_references_are_not_copied() {
    let (batches, counts) = run(None, &[(col("s"), DataType::Utf8)]).unwrap();
    let input = input();
    let [batch] = &batches[..] else { panic!() };
    assert_eq!(batch.num_rows(), 3);
    assert_eq!(batch.records.column(0), input.column(1));
    assert_eq!(batch.records.schema().field(0).name(), "c0");
    assert_eq!(batch.origin, Batch::of_partition(input, partition()).origin);
    assert_eq!(counts, Counts::default());

    let rows = super::tests::input();
    let column = crate::expr::evaluate(
        &physical(&col("s"), &rows.schema().to_dfschema().unwrap()).unwrap(),
        &rows,
    );
    assert!(Arc::ptr_eq(&column.unwrap(), rows.column(1)));
}

#[test]
fn rows_where_the_condition_is_false_or_null_are_filtered() {
    let projection = [(col("n") + lit(1_i64), DataType::Int64)];
    let (batches, counts) = run(Some(col("keep")), &projection).unwrap();
    let [batch] = &batches[..] else { panic!() };
    let expected: ArrayRef = Arc::new(Int64Array::from(vec![2]));
    assert_eq!(batch.records.column(0), &expected);
    assert_eq!(counts.filtered, 2);
}

#[test]
fn nothing_comes_of_a_batch_without_matches() {
    let (batches, counts) = run(Some(lit(false)), &[(col("n"), DataType::Int64)]).unwrap();
    assert!(batches.is_empty());
    assert_eq!(counts.filtered, 3);
}

#[test]
fn constants_fill_a_column() {
    let (batches, _) = run(Some(lit(true)), &[(lit(7_i64), DataType::Int64)]).unwrap();
    assert_eq!(batches[0].records.column(0).len(), 3);
}

#[test]
fn a_failing_expression_names_its_node_and_itself() {
    let error = run(None, &[(lit(1_i64) / col("n"), DataType::Int64)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!(
        error.to_string(),
        "`clean` cannot compute `1 / n`: division by zero, on a row of `events:t/0`; write `x / \
         nullif(y, 0)`, which is null there, or drop such rows by a `where` in front"
    );
}

/// Dead letters, with the column `s` as personal data.
fn dead_letters() -> RowErrors {
    let policy = DeadLetterPolicy {
        pipeline: "campaigns".into(),
        clock: Arc::new(SystemClock),
        on_error: [(Arc::from("events"), OnError::DeadLetter)].into(),
    };
    RowErrors {
        dead_letters: Some(policy),
        personal: ["s".to_owned()].into(),
    }
}

fn many_rows() -> RecordBatch {
    let n: Int64Array = (0..1000).map(|row| Some(row % 100)).collect();
    let s: StringArray = (0..1000).map(|row| Some(format!("{row}x"))).collect();
    let offsets: Int64Array = (0..1000).map(|row| Some(7000 + row)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(n) as ArrayRef, true),
        ("s", Arc::new(s), true),
        ("keep", Arc::new(BooleanArray::from(vec![true; 1000])), true),
        ("_offset", Arc::new(offsets), false),
    ])
    .unwrap()
}

#[test]
fn regression_rows_on_which_an_expression_fails_are_set_aside() {
    let projection = [(lit(100_i64) / col("n"), DataType::Int64)];
    let (batches, counts) = run_with(dead_letters(), None, &projection, many_rows()).unwrap();
    let [(Port::DEAD_LETTERS, letters), (Port::MAIN, results)] = &batches[..] else {
        panic!("{batches:?}")
    };
    assert_eq!(
        (results.num_rows(), counts.dead_letter, counts.filtered),
        (990, 10, 0)
    );
    let letters = &letters.records;
    let offsets = letters["offset"].as_primitive::<Int64Type>();
    let expected: Vec<i64> = (0..10).map(|row| 7000 + 100 * row).collect();
    assert_eq!(offsets.values(), &expected[..]);
    let text = |name: &str| letters[name].as_string::<i32>().value(3).to_owned();
    assert_eq!((&*text("node"), &*text("expression")), ("clean", "100 / n"));
    assert_eq!((&*text("source"), &*text("partition")), ("events", "t/0"));
    assert_eq!(text("reason"), "division_by_zero");
    assert_eq!(
        text("error"),
        "`clean` cannot compute `100 / n`: division by zero"
    );
    assert!(text("hint").contains("nullif"));
    let payload = letters["payload"].as_binary::<i32>().value(3);
    assert_eq!(payload, br#"{"n":0,"s":"***","keep":true}"#);
}

#[test]
fn regression_a_message_shows_no_personal_value() {
    let projection = [(cast(col("s"), DataType::Int64), DataType::Int64)];
    let rows = many_rows().slice(0, 1);
    let (batches, _) = run_with(dead_letters(), None, &projection, rows.clone()).unwrap();
    let letter = format!("{:?}", batches[0].1.records);
    assert!(!letter.contains("0x"), "{letter}");
    let stops = RowErrors {
        dead_letters: None,
        ..dead_letters()
    };
    let error = run_with(stops, None, &projection, rows).unwrap_err();
    assert_eq!(
        error.chain(),
        "`clean` cannot compute `CAST(s AS Int64)`: a value cannot be cast, on row 7000 of \
         `events:t/0`; write `TRY_CAST(x AS type)`, which is null there, or drop such rows by a \
         `where` in front"
    );
}

#[test]
fn a_filter_keeps_failing_rows_from_the_projection() {
    let filter = Some(col("n").gt(lit(0_i64)));
    let projection = [(lit(1_i64) / col("n"), DataType::Int64)];
    let (batches, counts) = run(filter, &projection).unwrap();
    assert_eq!(batches[0].num_rows(), 1);
    assert_eq!(counts.filtered, 2);
}
