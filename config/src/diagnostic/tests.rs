use super::*;

fn at(line: u32, column: u32) -> Position {
    Position { line, column }
}

fn sample() -> Diagnostics {
    let mut found = Diagnostics::new("a,b.yaml");
    found
        .error(at(24, 22), "queries.q.sql", "50% of it is wrong")
        .help("first\nsecond");
    found.warning(at(30, 1), "admin.listen", "anyone can read it");
    found.error(at(3, 7), "steps.clean", "unknown key `wher`");
    found
}

#[test]
fn a_person_reads_columns() {
    assert_eq!(
        sample().human(),
        "\
a,b.yaml:3:7    error    unknown key `wher`
a,b.yaml:24:22  error    50% of it is wrong
                         help: first
                               second
a,b.yaml:30:1   warning  anyone can read it
2 errors, 1 warning
"
    );
    assert_eq!(Diagnostics::new("a.yaml").human(), "");
}

#[test]
fn a_program_reads_objects() {
    let objects: serde_json::Value = serde_json::from_str(&sample().json()).unwrap();
    assert_eq!(
        objects[1],
        serde_json::json!({
            "file": "a,b.yaml", "line": 24, "column": 22, "severity": "error",
            "path": "queries.q.sql", "message": "50% of it is wrong", "help": "first\nsecond",
        })
    );
    assert_eq!(objects[0]["help"], serde_json::Value::Null);
    assert_eq!(Diagnostics::new("a.yaml").json(), "[]\n");
}

#[test]
fn github_reads_commands() {
    assert_eq!(
        sample().github(),
        "\
::error file=a%2Cb.yaml,line=3,col=7::unknown key `wher`
::error file=a%2Cb.yaml,line=24,col=22::50%25 of it is wrong%0Ahelp: first%0Asecond
::warning file=a%2Cb.yaml,line=30,col=1::anyone can read it
"
    );
}

#[test]
fn problems_at_one_place_keep_their_order() {
    let mut found = Diagnostics::new("a.yaml");
    for message in ["one", "two", "three"] {
        found.error(Position::START, "", message);
    }
    let messages: Vec<_> = found.iter().map(|item| &*item.message).collect();
    assert_eq!(messages, ["one", "two", "three"]);
}

#[test]
fn only_a_like_name_is_suggested() {
    let names = ["where", "from", "select"];
    assert_eq!(closest("wher", names), Some("where"));
    assert_eq!(closest("form", names), Some("from"));
    assert_eq!(closest("Select", names), Some("select"));
    assert_eq!(closest("metrics", names), None);
    assert_eq!(closest("x", ["y"]), None);
    assert_eq!(unknown("metrics", names), " (have: where, from, select)");
    assert_eq!(unknown("metrics", []), "");
}
