//! JSON rows, one per line, of every column type.
//!
//! No input may make the decoder panic. Each row is either decoded or rejected, with the
//! same result alone as among others. Rows that `serde_json` rejects are rejected, and
//! decoded rows have the values that `serde_json` reads.

#![no_main]

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tagflow_connectors::format::{JsonFormat, JsonOptions};
use tagflow_engine::source::{Decoded, Decoder, EncodedRows, Rows};
use tagflow_schemas::Column;

const COLUMNS: [(&str, &str); 14] = [
    ("s", "string"),
    ("i", "int64"),
    ("f", "float64"),
    ("b", "bool"),
    ("d", "decimal(18,2)"),
    ("sec", "timestamp(s)"),
    ("ms", "timestamp(ms)"),
    ("us", "timestamp(us)"),
    ("ns", "timestamp(ns)"),
    ("t", "timestamp(rfc3339)"),
    ("day", "date"),
    ("j", "json"),
    ("l", "list<string>"),
    ("ll", "list<list<int64>>"),
];

fn format() -> JsonFormat {
    let column = |(name, kind): (&str, &str)| Column {
        name: name.to_owned(),
        kind: kind.parse().expect("a type"),
        nullable: true,
    };
    JsonFormat::new(COLUMNS.map(column).into(), JsonOptions::default())
}

fn decode(rows: &[&[u8]]) -> Decoded {
    let mut encoded = EncodedRows {
        data: rows.concat().into(),
        ..EncodedRows::default()
    };
    let mut start = 0;
    for (index, row) in rows.iter().enumerate() {
        let end = start + row.len() as u32;
        encoded.spans.push((start, end));
        encoded.offsets.push(index as i64);
        start = end;
    }
    let decoded = format()
        .decode(&Rows::Encoded(encoded))
        .expect("no bad row is an error");
    assert_eq!(
        decoded.records.num_rows() + decoded.rejected.len(),
        rows.len()
    );
    decoded
}

fuzz_target!(|data: &[u8]| {
    let rows: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let together = decode(&rows);
    let (mut good, mut rejected) = (0, together.rejected.iter());
    for row in rows {
        let alone = decode(&[row]);
        if let Some(one) = alone.rejected.first() {
            let among = rejected.next().expect("it is rejected among others too");
            assert_eq!((one.reason, &one.message), (among.reason, &among.message));
            assert_eq!(one.field, among.field);
            continue;
        }
        assert_eq!(alone.records, together.records.slice(good, 1));
        good += 1;
        let text = str::from_utf8(row).expect("what is not UTF-8 is rejected");
        compare(text, &alone.records);
    }
    assert!(rejected.next().is_none());
});

/// Compares a decoded row with the values that `serde_json` reads.
fn compare(text: &str, record: &RecordBatch) {
    let depth = text
        .bytes()
        .filter(|byte| matches!(byte, b'{' | b'['))
        .count();
    if depth > 100 {
        // `serde_json` rejects one level of nesting less.
        return;
    }
    let whole: Result<&RawValue, _> = serde_json::from_str(text);
    assert!(whole.is_ok(), "{text:?} is not JSON, and is read");
    // A name that is not text matches no column.
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else {
        return;
    };
    let value = |name: &str| {
        fields
            .get(name)
            .map(|value| value.get())
            .filter(|it| *it != "null")
    };
    let column = |name: &str| record.column_by_name(name).expect("the column");
    for (name, _) in COLUMNS {
        assert_eq!(
            value(name).is_some(),
            column(name).is_valid(0),
            "`{name}` of {text:?}"
        );
    }
    if let Some(value) = value("s") {
        let expected: String = serde_json::from_str(value).expect("a text");
        assert_eq!(column("s").as_string::<i32>().value(0), expected);
    }
    if let Some(value) = value("i") {
        let expected: i64 = value.parse().expect("a whole number");
        assert_eq!(column("i").as_primitive::<Int64Type>().value(0), expected);
    }
    if let Some(value) = value("f") {
        let expected: f64 = value.parse().expect("a number");
        let read = column("f").as_primitive::<Float64Type>().value(0);
        assert_eq!(read.to_bits(), expected.to_bits());
    }
    if let Some(value) = value("b") {
        assert_eq!(column("b").as_boolean().value(0), value == "true");
    }
    if let Some(value) = value("j") {
        assert_eq!(column("j").as_string::<i32>().value(0), value);
    }
}
