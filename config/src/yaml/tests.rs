use super::*;
use crate::diagnostic::Diagnostics;

fn tree(text: &str) -> (Option<Node>, Vec<String>) {
    let mut found = Diagnostics::new("a.yaml");
    let node = parse(text, &mut found);
    let messages = found
        .iter()
        .map(|item| format!("{} {}", item.at, item.message))
        .collect();
    (node, messages)
}

/// The value under `path`, or the item of a list at a number.
fn at<'n>(node: &'n Node, path: &str) -> &'n Node {
    path.split('.').fold(node, |node, key| match &node.value {
        Value::Map(entries) => entries
            .iter()
            .find(|(found, _)| found.text == key)
            .map(|(_, node)| node)
            .unwrap(),
        Value::List(items) => &items[key.parse::<usize>().unwrap()],
        Value::Scalar(_) => panic!("`{key}` of a scalar"),
    })
}

fn scalar(node: &Node) -> &Scalar {
    match &node.value {
        Value::Scalar(scalar) => scalar,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_node_knows_its_place() {
    let (node, messages) = tree("a: 1\nb:\n  - x\n  - {c: \"y\"}\n");
    let node = node.unwrap();
    assert_eq!(messages, [""; 0]);
    for (path, place) in [
        ("a", "1:4"),
        ("b.0", "3:5"),
        ("b.1", "4:5"),
        ("b.1.c", "4:9"),
    ] {
        assert_eq!(at(&node, path).at.to_string(), place, "{path}");
    }
}

#[test]
fn scalars_are_of_yaml_1_2() {
    for (text, kind) in [
        ("yes", Kind::String),
        ("no", Kind::String),
        ("on", Kind::String),
        ("off", Kind::String),
        ("true", Kind::Bool),
        ("False", Kind::Bool),
        ("null", Kind::Null),
        ("~", Kind::Null),
        ("", Kind::Null),
        ("12", Kind::Integer),
        ("-12", Kind::Integer),
        ("1.5", Kind::Float),
        (".5", Kind::Float),
        ("1e3", Kind::Float),
        ("nan", Kind::String),
        ("1.2.3", Kind::String),
        ("5s", Kind::String),
        ("-", Kind::String),
        ("'12'", Kind::String),
        ("\"true\"", Kind::String),
    ] {
        if text == "-" {
            assert_eq!(Kind::of_plain(text), kind);
            continue;
        }
        let (node, _) = tree(&format!("a: {text}\n"));
        assert_eq!(scalar(at(&node.unwrap(), "a")).kind(), kind, "{text}");
    }
}

#[test]
fn what_is_not_a_tree_is_said() {
    for (text, expected) in [
        ("", "1:1 the file is empty"),
        ("# only this\n", "1:1 the file is empty"),
        (
            "a: 1\nb: 2\na: 3\n",
            "3:1 duplicate key `a`; it is already at 1:1",
        ),
        (
            "a: !secret x\n",
            "1:4 the tag `!secret` is not understood; write the plain value",
        ),
        ("[a]: 1\n", "1:1 expected a name as key, got a list"),
        (
            "a: 1\n---\nb: 1\n",
            "2:1 a second document; one file holds one pipeline",
        ),
        ("a: &a [*a]\n", "1:8 an anchor cannot hold itself"),
    ] {
        assert_eq!(tree(text).1, [expected], "{text}");
    }
    let (node, messages) = tree("a: [1, 2\nb: 3\n");
    assert!(node.is_none());
    assert!(messages[0].contains("not YAML"), "{messages:?}");
}

#[test]
fn all_duplicates_are_said_at_once() {
    let (node, messages) = tree("a: 1\na: 2\nb: {c: 1, c: 2}\n");
    assert!(node.is_some());
    assert_eq!(
        messages,
        [
            "2:1 duplicate key `a`; it is already at 1:1",
            "3:11 duplicate key `c`; it is already at 3:5",
        ]
    );
}

#[test]
fn regression_aliases_of_long_texts_cannot_blow_up() {
    let long = "x".repeat(1 << 20);
    let aliases = "  - *long\n".repeat(5000);
    let (_, messages) = tree(&format!("a: &long {long}\nb:\n{aliases}"));
    let [message] = &messages[..] else { panic!() };
    assert!(
        message.ends_with("the values, with those of aliases, are more than 16 MiB"),
        "{message}"
    );
}

#[test]
fn regression_deep_nesting_is_refused() {
    let deep = "lists and maps are nested more than 64 deep";
    for text in [
        format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        "{a: ".repeat(100_000),
        (0..1000).fold(String::new(), |text, n| text + &" ".repeat(n) + "a:\n"),
        // Each alias is one level deeper than the one before.
        (1..1000).fold("a0: &a0 [1]\n".to_owned(), |text, n| {
            text + &format!("a{n}: &a{n} [*a{}]\n", n - 1)
        }),
    ] {
        let (_, messages) = tree(&text);
        let [message] = &messages[..] else { panic!() };
        // The parser has its own limit for brackets.
        let refused = [deep, "recursion limit exceeded"];
        assert!(
            refused.iter().any(|said| message.ends_with(said)),
            "{message}"
        );
    }
    let (_, messages) = tree(&format!("a: {}1{}", "[".repeat(60), "]".repeat(60)));
    assert!(messages.is_empty(), "{messages:?}");
}

#[test]
fn aliases_stand_for_their_anchor_and_cannot_blow_up() {
    let (node, messages) = tree("a: &x {c: 1}\nb: *x\n");
    assert_eq!(messages, [""; 0]);
    assert_eq!(scalar(at(&node.unwrap(), "b.c")).text, "1");

    let level = |level| format!("l{level}: &l{level} [*l{0}, *l{0}]\n", level - 1);
    let bomb: String = (1..30).map(level).collect();
    let (node, messages) = tree(&format!("l0: &l0 [x]\n{bomb}"));
    assert!(node.is_none());
    assert!(
        messages[0].contains("more than 100000 values"),
        "{messages:?}"
    );
}

/// The position of each of `words`, by the alignment.
fn places(file: &str, words: &[&str]) -> Vec<String> {
    let (node, messages) = tree(file);
    assert_eq!(messages, [""; 0]);
    let node = node.unwrap();
    let node = at(&node, "q");
    let scalar = scalar(node);
    let positions = scalar.positions(file, node.at);
    assert_eq!(positions.len(), scalar.text.chars().count() + 1);
    words
        .iter()
        .map(|word| {
            let byte = scalar.text.find(word).expect(word);
            positions[scalar.text[..byte].chars().count()].to_string()
        })
        .collect()
}

#[test]
fn a_literal_block_is_aligned() {
    let file = "q: |  # sql\n    SELECT é, x\n\n      FROM t\n    WHERE y\nz: 1\n";
    assert_eq!(
        places(file, &["SELECT", "x", "FROM", "t", "WHERE"]),
        ["2:5", "2:15", "4:7", "4:12", "5:5"]
    );
}

#[test]
fn a_block_with_its_own_indentation_is_aligned() {
    let file = "q: |2-\n    SELECT\n   x";
    assert_eq!(places(file, &["SELECT", "x"]), ["2:5", "3:4"]);
}

#[test]
fn a_block_that_begins_with_empty_lines_is_aligned() {
    assert_eq!(places("q: |\n\n\n  a\n  b\n", &["a", "b"]), ["4:3", "5:3"]);
}

#[test]
fn a_folded_block_is_aligned() {
    let file = "q: >\n  SELECT a\n  FROM t\n\n  WHERE b\n";
    assert_eq!(
        places(file, &["SELECT", "FROM", "t", "WHERE"]),
        ["2:3", "3:3", "3:8", "5:3"]
    );
}

#[test]
fn plain_and_quoted_scalars_are_aligned() {
    assert_eq!(
        places("q: a +\n  b\n", &["a", "+", "b"]),
        ["1:4", "1:6", "2:3"]
    );
    assert_eq!(
        places("q: 'a = ''x'' or b'\n", &["a", "x", "or", "b"]),
        ["1:5", "1:11", "1:15", "1:18"]
    );
    assert_eq!(
        places(
            "q: \"a \\\"x\\\" \\u00e9 \\\n  b\"\n",
            &["a", "\"x", "x", "é", "b"]
        ),
        ["1:5", "1:7", "1:9", "1:13", "2:3"]
    );
}

#[test]
fn carriage_returns_do_not_shift() {
    assert_eq!(
        places("q: |\r\n  a\r\n  b\r\n", &["a", "b"]),
        ["2:3", "3:3"]
    );
}
