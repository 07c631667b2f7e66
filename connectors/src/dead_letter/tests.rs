use arrow::{
    array::{ArrayRef, AsArray, Int64Array, StringArray},
    datatypes::TimestampMicrosecondType,
};
use tagflow_engine::source::Reference;

use super::*;
use crate::sink_conformance::ManualClock;

fn rejected(row: u32, reason: &'static str, field: Option<&str>) -> Rejected {
    Rejected {
        row,
        reason,
        field: field.map(str::to_owned),
        message: format!("row {row} is bad"),
    }
}

fn batch(rows: Rows, bad: &[Rejected]) -> RecordBatch {
    masked(rows, bad, Mask::default())
}

fn masked(rows: Rows, bad: &[Rejected], mask: Mask) -> RecordBatch {
    let chunk = Chunk {
        partition: Arc::from("events/3"),
        first: 100,
        next: 104,
        rows,
    };
    let clock = ManualClock::at_micros(1_767_600_000_000_000);
    DeadLetterRows::new("campaigns", Arc::new(clock), mask)
        .batch("events", &chunk, bad)
        .unwrap()
}

#[test]
fn encoded_rows_keep_their_bytes() {
    let rows = EncodedRows {
        data: vec![b'{', 0xff, b'\n', b'o', b'k', b'\n', b'n', b'o'].into(),
        spans: vec![(0, 2), (3, 5), (5, 5), (6, 8)],
        offsets: vec![100, 101, 103, 107],
        tombstones: vec![2],
        reference: Reference::None,
        folders: None,
    };
    let bad = [
        rejected(0, "not_json", None),
        rejected(2, "tombstone", None),
        rejected(3, "wrong_type", Some("amount")),
    ];
    let letters = batch(Rows::Encoded(rows), &bad);
    assert_eq!(letters.schema(), dead_letter::schema());
    let payloads: Vec<_> = letters["payload"].as_binary::<i32>().iter().collect();
    assert_eq!(payloads, [Some(&b"{\xff"[..]), None, Some(b"no")]);
    let text = |name: &str| -> Vec<Option<String>> {
        let column = letters[name].as_string::<i32>();
        column.iter().map(|text| text.map(str::to_owned)).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(text("pipeline"), vec![some("campaigns"); 3]);
    assert_eq!(text("source"), vec![some("events"); 3]);
    assert_eq!(text("partition"), vec![some("events/3"); 3]);
    assert_eq!(text("reason")[1], some("tombstone"));
    assert_eq!(text("field"), [None, None, some("amount")]);
    assert_eq!(text("error")[2], some("row 3 is bad"));
    let offsets = letters["offset"].as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(offsets.values(), &[100, 103, 107]);
    let times = letters["failed_at"].as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(2), 1_767_600_000_000_000);
}

#[test]
fn column_rows_become_json_objects() {
    let records = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        (
            "name",
            Arc::new(StringArray::from(vec![Some("a"), None, Some("b\nc")])),
        ),
    ])
    .unwrap();
    let rows = || {
        Rows::Columns(ColumnRows {
            records: records.clone(),
            first: 40,
            reference: Reference::None,
            folders: None,
        })
    };
    let bad = [
        rejected(1, "missing_field", Some("name")),
        rejected(2, "no_event_time", None),
    ];
    let letters = batch(rows(), &bad);
    let payloads: Vec<_> = letters["payload"].as_binary::<i32>().iter().collect();
    assert_eq!(
        payloads,
        [
            Some(&br#"{"id":2,"name":null}"#[..]),
            Some(br#"{"id":3,"name":"b\nc"}"#)
        ]
    );
    let offsets = letters["offset"].as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(offsets.values(), &[41, 42]);

    let letters = masked(rows(), &bad, Mask::new(["name".to_owned()]));
    let payloads: Vec<_> = letters["payload"].as_binary::<i32>().iter().collect();
    assert_eq!(
        payloads,
        [
            Some(&br#"{"id":2,"name":null}"#[..]),
            Some(br#"{"id":3,"name":"***"}"#)
        ]
    );
}

#[test]
fn no_rejects_make_no_letters() {
    assert_eq!(
        batch(Rows::Encoded(EncodedRows::default()), &[]).num_rows(),
        0
    );
}
