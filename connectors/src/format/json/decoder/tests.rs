use arrow::{
    array::{Array, AsArray},
    datatypes::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType},
    util::display::array_value_to_string,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tagflow_engine::source::{EncodedRows, Rejected};

use super::*;
use crate::format::testing::{columns, rows};

fn decode(declared: &[&str], texts: &[&str]) -> Decoded {
    let mut format = JsonFormat::new(columns(declared), JsonOptions::default());
    let decoded = format.decode(&rows(texts)).unwrap();
    assert_eq!(
        decoded.records.num_rows() + decoded.rejected.len(),
        texts.len()
    );
    decoded
}

fn rejection(declared: &[&str], text: &str) -> Rejected {
    let mut decoded = decode(declared, &[text]);
    assert_eq!(decoded.rejected.len(), 1, "{text} is not rejected");
    decoded.rejected.remove(0)
}

#[test]
fn every_type_is_read() {
    let row = r#"{
        "s": "a\u00e9", "i": -5, "f": 1.5e3, "b": true, "d": "12.5", "n": 12.50,
        "ms": 1500, "sec": 1.25, "t": "1970-01-01T08:00:00+08:00", "day": "1970-01-02",
        "j": {"x": [1, "y"]}, "l": ["p", null, "q"], "ll": [[1], []]
    }"#;
    let declared = [
        "s: string",
        "i: int64",
        "f: float64",
        "b: bool",
        "d: decimal(18,2)",
        "n: decimal(4,2)",
        "ms: timestamp(ms)",
        "sec: timestamp(s)",
        "t: timestamp(rfc3339)",
        "day: date",
        "j: json",
        "l: list<string>",
        "ll: list<list<int64>>",
        "none: string?",
    ];
    let records = decode(&declared, &[row]).records;
    let column = |name: &str| records.column_by_name(name).unwrap();
    assert_eq!(column("s").as_string::<i32>().value(0), "aé");
    assert_eq!(column("i").as_primitive::<Int64Type>().value(0), -5);
    assert_eq!(
        column("f").as_primitive::<Float64Type>().value(0).to_bits(),
        1500_f64.to_bits()
    );
    assert!(column("b").as_boolean().value(0));
    assert_eq!(column("d").as_primitive::<Decimal128Type>().value(0), 1250);
    assert_eq!(column("n").as_primitive::<Decimal128Type>().value(0), 1250);
    let micros = |name: &str| {
        column(name)
            .as_primitive::<TimestampMicrosecondType>()
            .value(0)
    };
    assert_eq!(
        (micros("ms"), micros("sec"), micros("t")),
        (1_500_000, 1_250_000, 0)
    );
    assert_eq!(column("day").as_primitive::<Date32Type>().value(0), 1);
    assert_eq!(
        column("j").as_string::<i32>().value(0),
        r#"{"x": [1, "y"]}"#
    );
    assert_eq!(array_value_to_string(column("l"), 0).unwrap(), "[p, , q]");
    assert_eq!(array_value_to_string(column("ll"), 0).unwrap(), "[[1], []]");
    assert!(column("none").is_null(0));
}

#[test]
fn bad_rows_say_why() {
    for (declared, text, reason, field, message) in [
        (
            "a: int64",
            r#"{"a":"abc"}"#,
            "wrong_type",
            Some("a"),
            r#"`a`: expected int64, got string "abc""#,
        ),
        (
            "a: int64",
            r#"{"a":1.0}"#,
            "wrong_type",
            Some("a"),
            "`a`: expected int64, got number 1.0",
        ),
        (
            "a: int64",
            r#"{"a":9223372036854775808}"#,
            "wrong_type",
            Some("a"),
            "`a`: expected int64, got number 9223372036854775808",
        ),
        (
            "a: float64",
            r#"{"a":1e400}"#,
            "wrong_type",
            Some("a"),
            "`a`: expected float64, got number 1e400",
        ),
        (
            "a: string",
            r#"{"a":1e400}"#,
            "wrong_type",
            Some("a"),
            "`a`: expected string, got number 1e400",
        ),
        (
            "a: string",
            r#"{"a":{"b":1}}"#,
            "wrong_type",
            Some("a"),
            r#"`a`: expected string, got object {"b":1}"#,
        ),
        (
            "a: bool",
            r#"{"a":1}"#,
            "wrong_type",
            Some("a"),
            "`a`: expected bool, got number 1",
        ),
        (
            "a: decimal(4,2)",
            r#"{"a":1.234}"#,
            "wrong_type",
            Some("a"),
            "`a`: expected decimal(4,2), got number 1.234",
        ),
        (
            "a: decimal(4,2)",
            r#"{"a":"100.00"}"#,
            "wrong_type",
            Some("a"),
            r#"`a`: expected decimal(4,2), got string "100.00""#,
        ),
        (
            "a: timestamp(ms)",
            r#"{"a":"1500"}"#,
            "wrong_type",
            Some("a"),
            r#"`a`: expected timestamp(ms), got string "1500""#,
        ),
        (
            "a: timestamp(rfc3339)",
            r#"{"a":"2026-01-05T12:00:00"}"#,
            "wrong_type",
            Some("a"),
            "assume_timezone",
        ),
        (
            "a: date",
            r#"{"a":"05.01.2026"}"#,
            "wrong_type",
            Some("a"),
            "expected date",
        ),
        (
            "a: list<int64>",
            r#"{"a":[1,2,"x"]}"#,
            "wrong_type",
            Some("a"),
            r#"`a`: item 2: expected int64, got string "x""#,
        ),
        (
            "a: list<int64>",
            r#"{"a":7}"#,
            "wrong_type",
            Some("a"),
            "`a`: expected list<int64>, got number 7",
        ),
        (
            "a: int64",
            "{}",
            "missing_field",
            Some("a"),
            "`a` is missing or null, and the column is required",
        ),
        (
            "a: int64",
            r#"{"a":null}"#,
            "missing_field",
            Some("a"),
            "required",
        ),
        (
            "a: string",
            r#"{"a":"\ud83d"}"#,
            "invalid_utf8",
            Some("a"),
            "surrogate",
        ),
        (
            "a: int64",
            "[1]",
            "wrong_type",
            None,
            "expected a JSON object, got array [1]",
        ),
        (
            "a: int64",
            "17",
            "wrong_type",
            None,
            "expected a JSON object, got number 17",
        ),
        (
            "a: int64",
            r#"{"a":1"#,
            "not_json",
            None,
            "not JSON at byte 6: the row ends too early",
        ),
        (
            "a: int64",
            r#"{"a":1}x"#,
            "not_json",
            None,
            "not JSON at byte 7: something follows",
        ),
        (
            "a: int64",
            "hello",
            "not_json",
            None,
            "not JSON at byte 0: expected a value",
        ),
        // Invalid JSON takes precedence over a wrong type.
        (
            "a: int64",
            r#"{"a":"x","b":}"#,
            "not_json",
            None,
            "at byte 13",
        ),
        ("a: int64", "  ", "empty", None, "empty"),
        ("a: int64", "", "empty", None, "empty"),
    ] {
        let rejected = rejection(&[declared], text);
        assert_eq!(
            (rejected.reason, rejected.field.as_deref()),
            (reason, field),
            "{text}"
        );
        assert!(
            rejected.message.contains(message),
            "{text}: {}",
            rejected.message
        );
    }
}

#[test]
fn a_bad_row_costs_nothing_but_itself() {
    let decoded = decode(
        &["a: string", "l: list<int64>", "b: int64?"],
        &[
            r#"{"a":"one","l":[1],"b":1}"#,
            r#"{"a":"lost","l":[8,9,"x"],"b":2}"#,
            r#"{"a":"two","l":[2,3]}"#,
            r#"{"a":"lost","l":[8,9],"b":2"#,
            r#"{"a":"three","l":[],"b":3}"#,
        ],
    );
    let bad: Vec<_> = decoded
        .rejected
        .iter()
        .map(|it| (it.row, it.reason))
        .collect();
    assert_eq!(bad, [(1, "wrong_type"), (3, "not_json")]);
    let shown = |column: usize| {
        let column = decoded.records.column(column);
        (0..3)
            .map(|row| array_value_to_string(column, row).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(0), ["one", "two", "three"]);
    assert_eq!(shown(1), ["[1]", "[2, 3]", "[]"]);
    assert_eq!(shown(2), ["1", "", "3"]);
}

#[test]
fn the_last_of_two_equal_fields_counts() {
    let texts = [
        r#"{"a":1,"l":[1,2],"a":2,"l":[3]}"#,
        r#"{"a":1,"a":null,"l":[1],"l":null}"#,
        r#"{"\u0061":7}"#,
    ];
    let records = decode(&["a: int64?", "l: list<int64>?"], &texts).records;
    let shown = |column: usize, row| array_value_to_string(records.column(column), row).unwrap();
    assert_eq!((shown(0, 0), shown(1, 0)), ("2".into(), "[3]".into()));
    assert!(records.column(0).is_null(1) && records.column(1).is_null(1));
    assert_eq!(shown(0, 2), "7");
}

#[test]
fn one_row_that_is_not_utf8_is_judged_by_itself() {
    let mut data = b"{\"a\":\"x\"}{\"a\":\"".to_vec();
    data.extend([0xff, b'"', b'}']);
    data.extend("{\"a\":\"é\"}".bytes());
    let encoded = EncodedRows {
        spans: vec![(0, 9), (9, 18), (18, 28)],
        offsets: vec![0, 1, 2],
        data: data.into(),
        ..EncodedRows::default()
    };
    let mut format = JsonFormat::new(columns(&["a: string"]), JsonOptions::default());
    let decoded = format.decode(&Rows::Encoded(encoded)).unwrap();
    assert_eq!(decoded.records.num_rows(), 2);
    assert_eq!(decoded.rejected[0].reason, "invalid_utf8");
    assert_eq!(decoded.rejected[0].message, "not UTF-8 at byte 6");
}

#[test]
fn tombstones_and_giants_are_rejected() {
    let giant = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
    let Rows::Encoded(mut encoded) = rows(&["", &giant, r#"{"a":"x"}"#]) else {
        unreachable!()
    };
    encoded.tombstones = vec![0];
    let options = JsonOptions {
        max_row_bytes: 64,
        ..JsonOptions::default()
    };
    let mut format = JsonFormat::new(columns(&["a: string"]), options);
    let decoded = format.decode(&Rows::Encoded(encoded)).unwrap();
    let bad: Vec<_> = decoded.rejected.iter().map(|it| it.reason).collect();
    assert_eq!(bad, ["tombstone", "too_large"]);
    assert_eq!(
        decoded.rejected[1].message,
        "the row is larger than 64 bytes"
    );
    assert_eq!(decoded.records.num_rows(), 1);
}

#[test]
fn a_hostile_row_is_only_rejected() {
    let deep = format!(r#"{{"a":1,"b":{}"#, "[".repeat(1 << 19));
    assert_eq!(rejection(&["a: int64"], &deep).reason, "not_json");
}

#[test]
fn no_columns_still_count_the_rows() {
    let decoded = decode(&[], &[r#"{"a":1}"#, "x", "{}"]);
    assert_eq!(decoded.records.num_rows(), 2);
}

#[test]
fn an_assumed_zone_makes_local_times_readable() {
    let options = JsonOptions {
        assume_timezone: Some(Tz::Asia__Shanghai),
        ..JsonOptions::default()
    };
    let mut format = JsonFormat::new(columns(&["t: timestamp(rfc3339)"]), options);
    let decoded = format
        .decode(&rows(&[r#"{"t":"1970-01-01 08:00:01"}"#]))
        .unwrap();
    let times = decoded
        .records
        .column(0)
        .as_primitive::<TimestampMicrosecondType>()
        .clone();
    assert_eq!(times.value(0), 1_000_000);
}

const DECLARED: [&str; 4] = [
    "s: string",
    "i: int64?",
    "d: decimal(6,2)?",
    "l: list<bool>?",
];

/// Decodes a row by way of a tree: the cells as text, or `None`.
fn model(text: &str) -> Option<Vec<Option<String>>> {
    let row: Json = serde_json::from_str(text).ok()?;
    let row = row.as_object()?;
    let of = |name: &str| row.get(name).filter(|value| !value.is_null());
    let cell = |name: &str, read: &dyn Fn(&Json) -> Option<String>| match of(name) {
        Some(value) => read(value).map(Some),
        None => Some(None),
    };
    let s = of("s")?.as_str()?.to_owned();
    let i = cell("i", &|value| Some(value.as_i64()?.to_string()))?;
    let d = cell("d", &|value| {
        let cents = value.as_str()?.parse::<f64>().ok()? * 100.0;
        ((cents - cents.round()).abs() < 1e-6 && cents.abs() < 999_999.5)
            .then(|| format!("{:.2}", cents / 100.0))
    })?;
    let l = cell("l", &|value| {
        let items: Option<Vec<_>> = value
            .as_array()?
            .iter()
            .map(|item| match item {
                Json::Null => Some(String::new()),
                item => item.as_bool().map(|it| it.to_string()),
            })
            .collect();
        Some(format!("[{}]", items?.join(", ")))
    })?;
    Some(vec![Some(s), i, d, l])
}

fn value() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
        Just(json!({"x": [1, {"y": null}]})),
    ]
}

fn row() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        3 => (Just("s"), ".{0,20}".prop_map(Json::from)),
        3 => (Just("i"), any::<i64>().prop_map(Json::from)),
        3 => (Just("d"), (-2_000_000_i32..2_000_000).prop_map(|it| json!(format!("{}.{:02}", it / 100, it.abs() % 100)))),
        3 => (Just("l"), prop::collection::vec(any::<Option<bool>>(), 0..4).prop_map(Json::from)),
        1 => (prop::sample::select(vec!["s", "i", "l", "other", "more"]), value()),
    ];
    let row = prop::collection::btree_map(0..9_u8, field, 0..6).prop_map(|fields| {
        let object: serde_json::Map<_, _> = fields
            .into_values()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Json::from(object).to_string()
    });
    (
        row,
        any::<prop::sample::Index>(),
        prop::sample::select(vec!["", "", "", "", "}", "x", "\""]),
    )
        .prop_map(|(mut row, at, noise)| {
            let at = at.index(row.len());
            if row.is_char_boundary(at) {
                row.insert_str(at, noise);
            }
            row
        })
}

proptest! {
    #[test]
    fn rows_decode_as_a_naive_reading_says(texts in prop::collection::vec(row(), 1..20), cut in 1..20_usize) {
        let mut format = JsonFormat::new(columns(&DECLARED), JsonOptions::default());
        let expected: Vec<_> = texts.iter().filter_map(|text| model(text)).collect();
        let mut actual = Vec::new();
        // The split into chunks does not change the rows.
        for chunk in texts.chunks(cut) {
            let chunk: Vec<_> = chunk.iter().map(String::as_str).collect();
            let decoded = format.decode(&rows(&chunk)).unwrap();
            prop_assert_eq!(decoded.records.num_rows() + decoded.rejected.len(), chunk.len());
            for row in 0..decoded.records.num_rows() {
                actual.push(
                    decoded.records.columns().iter()
                        .map(|column| column.is_valid(row).then(|| array_value_to_string(column, row).unwrap()))
                        .collect::<Vec<_>>(),
                );
            }
        }
        prop_assert_eq!(actual, expected);
    }
}
