use arrow::array::{
    Float64Array, Int32Array, Int64Array, StringArray, TimestampMillisecondArray, UInt64Array,
};
use tagflow_engine::source::{ColumnRows, Reference};

use super::*;
use crate::format::testing::{cell, columns};

fn decode(declared: &[&str], arrays: Vec<(&str, ArrayRef)>) -> Decoded {
    let records = RecordBatch::try_from_iter_with_nullable(
        arrays.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    ColumnsFormat::new(columns(declared), None)
        .decode(&Rows::Columns(ColumnRows {
            records,
            first: 0,
            reference: Reference::None,
            folders: None,
        }))
        .unwrap()
}

fn shown(decoded: &Decoded) -> Vec<String> {
    let row = |row| {
        let cells: Vec<_> = decoded
            .records
            .columns()
            .iter()
            .map(|column| cell(column, row).unwrap_or_default())
            .collect();
        cells.join("|")
    };
    (0..decoded.records.num_rows()).map(row).collect()
}

#[test]
fn columns_become_the_declared_types() {
    let decoded = decode(
        &[
            "t: timestamp(ms)",
            "u: timestamp(rfc3339)",
            "i: int64",
            "d: decimal(6,2)",
            "s: string",
            "n: date?",
        ],
        vec![
            ("s", Arc::new(StringArray::from(vec!["x"]))),
            ("other", Arc::new(StringArray::from(vec!["y"]))),
            ("i", Arc::new(Int32Array::from(vec![5]))),
            ("d", Arc::new(StringArray::from(vec!["1.5"]))),
            ("t", Arc::new(Int64Array::from(vec![1500]))),
            ("u", Arc::new(TimestampMillisecondArray::from(vec![1500]))),
        ],
    );
    assert_eq!(decoded.rejected, []);
    assert_eq!(shown(&decoded), ["1500000|1500000|5|1.50|x|"]);
}

#[test]
fn values_that_do_not_fit_cost_their_row() {
    let decoded = decode(
        &["i: int64", "t: timestamp(s)?", "d: decimal(4,2)?"],
        vec![
            (
                "i",
                Arc::new(UInt64Array::from(vec![
                    Some(1),
                    None,
                    Some(u64::MAX),
                    Some(4),
                    Some(5),
                ])),
            ),
            (
                "t",
                Arc::new(Int64Array::from(vec![
                    Some(1),
                    Some(1),
                    Some(1),
                    Some(i64::MAX),
                    None,
                ])),
            ),
            (
                "d",
                Arc::new(StringArray::from(vec![
                    Some("1"),
                    None,
                    None,
                    None,
                    Some("1.005"),
                ])),
            ),
        ],
    );
    let bad: Vec<_> = decoded
        .rejected
        .iter()
        .map(|it| (it.row, it.reason, it.field.as_deref().unwrap()))
        .collect();
    assert_eq!(
        bad,
        [
            (1, "missing_field", "i"),
            (2, "wrong_type", "i"),
            (3, "wrong_type", "t"),
            (4, "wrong_type", "d"),
        ]
    );
    assert_eq!(
        decoded.rejected[1].message,
        "`i`: expected int64, got a UInt64 that does not fit"
    );
    assert_eq!(shown(&decoded), ["1|1000000|1.00"]);
}

#[test]
fn nothing_is_rounded() {
    let floats = || Arc::new(Float64Array::from(vec![Some(1.5), None])) as ArrayRef;
    let decoded = decode(&["a: int64?"], vec![("a", floats())]);
    assert_eq!(decoded.rejected.len(), 1);
    assert_eq!(shown(&decoded), [""]);
    let decoded = decode(&["a: decimal(6,2)?"], vec![("a", floats())]);
    assert_eq!(decoded.rejected.len(), 1);
}

#[test]
fn a_missing_required_column_rejects_every_row() {
    let i = || ("i", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef);
    let decoded = decode(&["i: int64", "x: string"], vec![i()]);
    assert_eq!(decoded.rejected.len(), 2);
    assert_eq!(decoded.records.num_rows(), 0);
    assert_eq!(decode(&["i: int64", "x: string?"], vec![i()]).rejected, []);
    assert_eq!(decode(&[], vec![i()]).records.num_rows(), 2);
}
