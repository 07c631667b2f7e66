use proptest::prelude::*;

use super::*;

fn check(text: &str) -> std::result::Result<(), SyntaxError> {
    let mut scanner = Scanner::new(text);
    scanner.value()?;
    scanner.end()
}

#[test]
fn values_are_slices_of_the_text() {
    for (text, expected) in [
        ("null", Value::Null),
        (" true ", Value::Bool(true)),
        ("false", Value::Bool(false)),
        ("-12.5e+3", Value::Number("-12.5e+3")),
        ("0", Value::Number("0")),
        (
            r#""a long enough text""#,
            Value::String(Text::Plain("a long enough text")),
        ),
        (
            r#""12345678\u00e9""#,
            Value::String(Text::Escaped(r"12345678\u00e9")),
        ),
        (r#" [1, {"a":[]}] "#, Value::Array(r#"[1, {"a":[]}]"#)),
        ("{}", Value::Object("{}")),
        ("[[],[]]", Value::Array("[[],[]]")),
    ] {
        assert_eq!(Scanner::new(text).value(), Ok(expected), "{text}");
        assert_eq!(check(text), Ok(()), "{text}");
    }
}

#[test]
fn errors_name_the_byte() {
    for (text, byte, part) in [
        ("", 0, "too early"),
        ("tru", 3, "too early"),
        ("trie", 0, "a value"),
        ("nul ", 0, "a value"),
        ("{", 1, "too early"),
        (r#"{"a" 1}"#, 5, "`:`"),
        (r#"{"a":1,}"#, 7, "name"),
        (r#"{"a":1 "b":2}"#, 7, "`,` or `}`"),
        ("[1 2]", 3, "`,` or `]`"),
        ("[1,]", 3, "a value"),
        ("[1}", 2, "`,` or `]`"),
        ("01", 1, "begin with 0"),
        ("-", 1, "too early"),
        ("1.x", 2, "digit"),
        ("1e", 2, "too early"),
        ("+1", 0, "a value"),
        ("\"a\nb\"", 2, "control"),
        (r#""abc"#, 4, "too early"),
        (r#""\x""#, 1, "escape"),
        (r#""\u12"#, 5, "too early"),
        (r#""\u12g4""#, 1, "hexadecimal"),
        ("{} {}", 3, "follows"),
        ("NaN", 0, "a value"),
    ] {
        let error = check(text).unwrap_err();
        assert!(error.what.contains(part), "{text}: {error:?}");
        assert_eq!(error.byte, byte, "{text}: {error:?}");
    }
}

#[test]
fn nesting_is_bounded_and_costs_no_stack() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(check(&nested(128)), Ok(()));
    assert_eq!(check(&nested(129)).unwrap_err().byte, 128);
    assert_eq!(check(&"[".repeat(1 << 20)).unwrap_err().byte, 128);
    assert_eq!(
        check(&r#"{"a":["#.repeat(1 << 20)).unwrap_err().byte,
        6 * 64
    );
}

#[test]
fn each_byte_that_ends_a_plain_string_is_seen_at_each_place() {
    for byte in 0..=127_u8 {
        for at in 0..20 {
            let mut text = [b'a'; 20];
            text[at] = byte;
            let stops = matches!(byte, b'"' | b'\\' | ..0x20);
            assert_eq!(
                plain_len(&text),
                if stops { at } else { 20 },
                "{byte} at {at}"
            );
        }
    }
    assert_eq!(plain_len("日本語のテキスト\"".as_bytes()), 24);
}

/// Text close to JSON: its pieces in any order.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\"a\"",
        "\"b\\n\"",
        "\"\\u00e9\"",
        "\"",
        "\\",
        "1",
        "-0",
        "0.5",
        "1e3",
        "01",
        "true",
        "null",
        "fals",
        "é",
        "\n",
        "\u{1}",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map(".{0,5}", inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

proptest! {
    #[test]
    fn it_takes_what_serde_json_takes(text in nearly_json()) {
        prop_assert_eq!(check(&text).is_ok(), is_json(&text), "{}", text);
    }

    #[test]
    fn it_takes_all_json(value in json()) {
        prop_assert_eq!(check(&value.to_string()), Ok(()));
        prop_assert_eq!(check(&serde_json::to_string_pretty(&value).unwrap()), Ok(()));
    }

    #[test]
    fn it_takes_no_json_cut_short(value in json(), cut in any::<prop::sample::Index>()) {
        let text = serde_json::json!({"a": value}).to_string();
        let end = cut.index(text.len());
        if let Some(text) = text.get(..end) {
            let error = check(text).unwrap_err();
            prop_assert_eq!(error.byte, end);
        }
    }

    #[test]
    fn it_judges_broken_json_as_serde_json_does(
        value in json(), at in any::<prop::sample::Index>(), with in any::<char>()
    ) {
        let mut chars: Vec<char> = value.to_string().chars().collect();
        let at = at.index(chars.len());
        chars[at] = with;
        let text: String = chars.into_iter().collect();
        prop_assert_eq!(check(&text).is_ok(), is_json(&text), "{}", text);
    }
}
