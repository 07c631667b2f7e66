use tagflow_engine::source::Rejected;

use super::*;
use crate::format::testing::{cell, columns, rows};

fn named(names: &[&str]) -> CsvOptions {
    CsvOptions {
        header: CsvHeader::Names(names.iter().map(ToString::to_string).collect()),
        ..CsvOptions::default()
    }
}

fn cells(decoded: &Decoded) -> Vec<Vec<Option<String>>> {
    (0..decoded.records.num_rows())
        .map(|row| {
            let columns = decoded.records.columns().iter();
            columns.map(|column| cell(column, row)).collect()
        })
        .collect()
}

#[test]
fn values_are_split_and_unquoted() {
    for (row, expected) in [
        ("a,b", Ok(vec!["a", "b"])),
        ("", Ok(vec![""])),
        (",", Ok(vec!["", ""])),
        (r#""a,b","say ""hi""""#, Ok(vec!["a,b", r#"say "hi""#])),
        (r#""",x"#, Ok(vec!["", "x"])),
        ("日本,語", Ok(vec!["日本", "語"])),
        (r#""open"#, Err("not closed")),
        (r#""a"b,c"#, Err("follows after a closing quote")),
        (r#"5" pipe,c"#, Err("inside a value")),
    ] {
        let values: Result<Vec<_>, _> = Values::new(row, &CsvOptions::default()).collect();
        match (values, expected) {
            (Ok(values), Ok(expected)) => {
                let texts: Vec<_> = values.iter().map(|value| &*value.text).collect();
                assert_eq!(texts, expected, "{row}");
            }
            (Err(problem), Err(part)) => assert!(problem.at(0).message.contains(part), "{row}"),
            (values, _) => panic!("{row}: {values:?}"),
        }
    }
}

#[test]
fn every_type_is_read() {
    let declared = [
        "s: string?",
        "i: int64?",
        "f: float64?",
        "b: bool?",
        "d: decimal(18,2)?",
        "ms: timestamp(ms)?",
        "t: timestamp(rfc3339)?",
        "day: date?",
        "j: json?",
        "l: list<int64>?",
    ];
    let names = ["s", "i", "f", "b", "d", "ms", "t", "day", "j", "l"];
    let mut format = CsvFormat::new(columns(&declared), named(&names));
    let decoded = format
        .decode(&rows(&[
            r#"x,5,1.5,true,12.5,1500,1970-01-01T00:00:01Z,1970-01-02,"{""a"":1}","[1,2]""#,
            r#""",,,,,,,,,"#,
        ]))
        .unwrap();
    assert_eq!(decoded.rejected, []);
    let cells = cells(&decoded);
    let first: Vec<_> = cells[0].iter().flatten().map(String::as_str).collect();
    assert_eq!(
        first,
        [
            "x",
            "5",
            "1.5",
            "true",
            "12.50",
            "1500000",
            "1000000",
            "1970-01-02",
            r#"{"a":1}"#,
            "[1, 2]",
        ]
    );
    // An empty quoted text is a text; without quotes it is null.
    assert_eq!(cells[1][0].as_deref(), Some(""));
    assert!(cells[1][1..].iter().all(Option::is_none));
}

#[test]
fn bad_rows_say_why() {
    let cases: [(&str, &str, Option<&str>, &str); 7] = [
        (
            "x,",
            "wrong_type",
            Some("i"),
            r#"`i`: expected int64, got "x""#,
        ),
        (",true", "missing_field", Some("i"), "required"),
        (
            "1",
            "not_csv",
            None,
            "the row has 1 values, and there are 2 fields",
        ),
        ("1,2,3", "not_csv", None, "3 values"),
        ("1,\"2", "not_csv", None, "not closed"),
        ("", "empty", None, "empty"),
        (
            "1,maybe",
            "wrong_type",
            Some("b"),
            r#"expected bool, got "maybe""#,
        ),
    ];
    for (text, reason, field, message) in cases {
        let mut format = CsvFormat::new(columns(&["i: int64", "b: bool?"]), named(&["i", "b"]));
        let mut decoded = format.decode(&rows(&["7,true", text, "8,"])).unwrap();
        let rejected: Vec<Rejected> = std::mem::take(&mut decoded.rejected);
        assert_eq!(rejected.len(), 1, "{text}");
        assert_eq!((rejected[0].row, rejected[0].reason), (1, reason), "{text}");
        assert_eq!(rejected[0].field.as_deref(), field, "{text}");
        assert!(
            rejected[0].message.contains(message),
            "{text}: {}",
            rejected[0].message
        );
        assert_eq!(cells(&decoded)[1], [Some("8".to_owned()), None]);
    }
}

#[test]
fn the_header_line_before_the_rows_names_the_fields() {
    let mut format = CsvFormat::new(columns(&["a: int64", "b: string?"]), CsvOptions::default());
    for (header, row, expected) in [
        ("\u{feff}b,x,a\r\n", "one,?,1", ["1", "one"]),
        ("a,b\n", "2,two", ["2", "two"]),
    ] {
        let data = format!("{header}{row}");
        let encoded = EncodedRows {
            spans: vec![(header.len() as u32, data.len() as u32)],
            offsets: vec![header.len() as i64],
            data: data.into(),
            ..EncodedRows::default()
        };
        let decoded = format.decode(&Rows::Encoded(encoded)).unwrap();
        assert_eq!(decoded.rejected, []);
        assert_eq!(
            cells(&decoded),
            [expected.map(|cell| Some(cell.to_owned()))]
        );
    }
}
