//! A corpus of errors: each bad row is accounted for with its reason, and each bad pipeline file is
//! refused with its position. Add new cases to the folder beside this file.

use std::{collections::BTreeSet, fmt::Write as _};

use tagflow_pipelines::{LoadOptions, Pipeline};

use crate::{broker::Broker, process::Folder};

const JSON_ROWS: &str = include_str!("poison/json.tsv");
const CSV_ROWS: &str = include_str!("poison/csv.tsv");
const GOOD_PIPELINE: &str = include_str!("poison/good.yaml");
const PIPELINES: &str = include_str!("poison/pipelines.tsv");

/// The fields that a row of the corpus needs.
const NEEDED: &str = r#""s":"a","at":1767571200000"#;
const GOOD_CSV: &str = "a,1767571200000,,,,,,,,";

/// A bad row, with the reason and the field of its dead letter.
struct BadRow {
    reason: String,
    bytes: Vec<u8>,
}

/// The content of two columns of a corpus.
fn lines(corpus: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = corpus.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        line.split_once('\t')
            .unwrap_or_else(|| panic!("no tab in {line:?}"))
    })
}

/// The bad rows of a corpus.
fn bad_rows(corpus: &str) -> Vec<BadRow> {
    let row = |(reason, row): (&str, &str)| {
        let mut parts = reason.split(' ');
        let (reason, field) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        BadRow {
            reason: format!("{reason},{field}"),
            bytes: unescaped(&row.replace('@', NEEDED)),
        }
    };
    lines(corpus).map(row).collect()
}

/// Replaces each `\xNN` by its byte.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        let (before, after) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        let byte = after
            .get(2..4)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(b'\\'));
        rest = &after[if byte.is_some() { 4 } else { 1 }..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn pipeline(source: &str, format: &str) -> String {
    format!(
        "\
name: poison
sources:
  events:
    {source}
    format: {format}
    columns:
      {{s: string, at: timestamp(ms), i: int64?, f: float64?, b: bool?, d: \"decimal(6,2)?\", u: string?,
       sec: timestamp(s)?, us: timestamp(us)?, ns: timestamp(ns)?, t: timestamp(rfc3339)?, day: date?,
       j: json?, l: list<int64>?}}
    time: {{event_time: at, max_future: 5m}}
sinks:
  out: {{from: events, parquet: {{url: ./lake/out}}}}
checkpoint: {{url: ./state}}
"
    )
}

/// Checks that all these rows are dead letters with their reasons, in order, and that each good row
/// between them passed.
#[track_caller]
fn check(folder: &Folder, rows: &[BadRow]) {
    folder
        .tagflow(&["run", "p.yaml", "--once", "--admin", "off"])
        .expect(0);
    let ask = |sql: &str| {
        let args = ["query", sql, "--file", "p.yaml", "--format", "csv"];
        folder.tagflow(&args).expect(0).stdout
    };
    let letters = ask(
        "select reason, field, octet_length(encode(payload, 'hex')) / 2 as bytes, error \
                       from dead_letters order by \"partition\", \"offset\"",
    );
    let mut letters = letters.lines().skip(1);
    let mut wrong = String::new();
    for row in rows {
        let expected = format!("{},{}", row.reason, row.bytes.len());
        let letter = letters.next().unwrap_or("nothing");
        if !letter.starts_with(&format!("{expected},")) {
            let text = String::from_utf8_lossy(&row.bytes);
            let _ = writeln!(wrong, "{text}\n  is {letter}\n  not {expected}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(letters.next(), None, "more dead letters than bad rows");
    let count = ask("select count(*) as n from out");
    assert_eq!(count, format!("n\n{}\n", rows.len() + 1));
}

/// The rows with a good one before each and at the end.
fn between_good(rows: &[BadRow], good: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for row in rows {
        text.extend_from_slice(good.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(&row.bytes);
        text.push(b'\n');
    }
    text.extend_from_slice(good.as_bytes());
    text
}

#[test]
fn the_corpus_is_large_and_has_nothing_twice() {
    let rows = [JSON_ROWS, CSV_ROWS]
        .map(|corpus| lines(corpus).collect::<Vec<_>>())
        .concat();
    let files: Vec<_> = lines(PIPELINES).collect();
    println!(
        "{} bad rows, {} bad pipeline files",
        rows.len(),
        files.len()
    );
    assert!(rows.len() >= 250 && files.len() >= 100);
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len());
    assert_eq!(files.iter().collect::<BTreeSet<_>>().len(), files.len());
}

#[test]
fn each_bad_row_of_json_in_a_file_is_a_dead_letter() {
    let folder = Folder::new();
    let rows = bad_rows(JSON_ROWS);
    folder.write("in.ndjson", between_good(&rows, &format!("{{{NEEDED}}}")));
    folder.write(
        "p.yaml",
        pipeline("files: {url: ./in.ndjson}", "{json: {}}"),
    );
    check(&folder, &rows);
}

#[test]
fn each_bad_row_of_json_in_kafka_is_a_dead_letter() {
    let folder = Folder::new();
    let rows = bad_rows(JSON_ROWS);
    let broker = Broker::new("poison", 1);
    let good = format!("{{{NEEDED}}}").into_bytes();
    let messages = rows
        .iter()
        .flat_map(|row| [good.clone(), row.bytes.clone()]);
    let messages = messages.chain([good.clone()]);
    broker.send("poison", messages.map(|message| (0, Some(message))));
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [poison]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source, "{json: {}}"));
    check(&folder, &rows);
}

#[test]
fn each_bad_row_of_csv_is_a_dead_letter() {
    let folder = Folder::new();
    // An unclosed quote reaches to the next one, so each such row has its own file.
    let is_open = |row: &BadRow| row.bytes.split(|byte| *byte == b'"').count() % 2 == 0;
    let (open, mut rows): (Vec<_>, Vec<_>) = bad_rows(CSV_ROWS).into_iter().partition(is_open);
    let file = |rows: &[u8]| [b"s,at,i,f,b,d,t,day,j,l\n", rows].concat();
    folder.write("in/0.csv", file(&between_good(&rows, GOOD_CSV)));
    for (index, row) in open.iter().enumerate() {
        let rows = [GOOD_CSV.as_bytes(), &row.bytes, b""].join(&b'\n');
        folder.write(&format!("in/1{index:02}.csv"), file(&rows));
    }
    rows.extend(open);
    let files = "files: {url: \"./in/*.csv\"}";
    folder.write("p.yaml", pipeline(files, "{csv: {}}"));
    check(&folder, &rows);
}

#[test]
fn each_bad_pipeline_file_is_refused_at_its_place() {
    let options = LoadOptions::default;
    if let Err(problems) = Pipeline::open_str("p.yaml", GOOD_PIPELINE, &options()) {
        panic!("{}", problems.human());
    }
    let (mut said, mut taken) = (String::new(), String::new());
    for (good, bad) in lines(PIPELINES) {
        let [good, bad] = [good, bad].map(|text| text.replace("\\n", "\n").replace("\\t", "\t"));
        assert_eq!(GOOD_PIPELINE.matches(&good).count(), 1, "{good:?}");
        let text = GOOD_PIPELINE.replace(&good, &bad);
        let Err(problems) = Pipeline::open_str("p.yaml", &text, &options()) else {
            let _ = writeln!(taken, "{bad:?} for {good:?}");
            continue;
        };
        let problems = problems.human();
        let place = problems.split("  ").next().unwrap();
        let numbers = place.strip_prefix("p.yaml:").unwrap().split(':');
        let numbers: Vec<usize> = numbers.map(|number| number.parse().unwrap()).collect();
        assert!(
            matches!(numbers[..], [line, _] if line <= text.lines().count()),
            "{place}"
        );
        let _ = writeln!(said, "{bad}\n{problems}");
    }
    assert!(taken.is_empty(), "no mistake was found in\n{taken}");
    insta::assert_snapshot!(said);
}
