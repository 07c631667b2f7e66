use std::sync::Arc;

use arrow::{
    array::{Int64Array, StringArray},
    record_batch::RecordBatch,
};

use super::*;

fn campaigns(ids: Vec<Option<i64>>) -> RecordBatch {
    let names: StringArray = ids.iter().map(|id| Some(format!("c{id:?}"))).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids)) as _, true),
        ("name", Arc::new(names) as _, true),
    ])
    .unwrap()
}

#[test]
fn a_repeated_key_is_named() {
    let rows = campaigns(vec![Some(1), None, Some(2), None, Some(1)]);
    let error = Dimension::new("campaigns", rows, &[0]).unwrap_err();
    assert!(error.to_string().contains("the key `id = 1`"), "{error}");
}

#[test]
fn nulls_find_nothing() {
    let rows = campaigns(vec![Some(1), None, Some(2)]);
    let dimension = Dimension::new("campaigns", rows, &[0]).unwrap();
    let keys = Int64Array::from(vec![Some(2), None, Some(3), Some(1)]);
    let places = dimension.find(&[Arc::new(keys)]).unwrap();
    let places: Vec<_> = places.iter().collect();
    assert_eq!(places, [Some(2), None, None, Some(0)]);
}
