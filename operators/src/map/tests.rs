use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    common::{DFSchema, ToDFSchema},
    logical_expr::Expr,
    prelude::{col, lit},
};
use tagflow_engine::{
    Batch, ErrorKind, Port, Result,
    ledger::Counts,
    operator::{LaneContext, Output},
    source::PartitionId,
};

use super::{MapSpec, factory};
use crate::expr::physical;

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

/// The output's batches and what became of the input's rows.
fn run(predicate: Option<Expr>, projection: &[(Expr, DataType)]) -> Result<(Vec<Batch>, Counts)> {
    let schema: DFSchema = input().schema().to_dfschema().unwrap();
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
    };
    let mut map = factory(spec)(&LaneContext {
        node: "clean".into(),
        lane: 0,
        lanes: 1,
    })?;
    let mut out = Output::default();
    map.on_batch(
        Port::MAIN,
        Batch::of_partition(input(), partition()),
        &mut out,
    )?;
    let batches = out.take().into_iter().map(|(port, batch)| {
        assert_eq!(port, Port::MAIN);
        batch
    });
    Ok((batches.collect(), out.ledger().get(&partition())))
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
        "clean",
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
    assert_eq!(error.to_string(), "`clean` cannot compute `1 / n`");
    assert!(
        error.chain().contains("Divide by zero"),
        "{}",
        error.chain()
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
