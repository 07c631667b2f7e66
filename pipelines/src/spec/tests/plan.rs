//! The stored plan of a pipeline contains no secret.

use super::*;

const SECRETIVE: &str = "\
name: demo
params: {topic: t, rows: 5}
sources:
  events:
    kafka:
      brokers: ${env:BROKERS}
      topics: [\"${params.topic}\"]
      properties:
        sasl.password: ${env:PASSWORD}
        ssl.key.password: hunter3
        fetch.min.bytes: 1000
    format: {json: {}}
    columns: {user_id: string, ts: timestamp(ms)}
    time: {event_time: ts}
queries:
  q: SELECT * FROM events LIMIT ${params.rows}
sinks:
  out: {from: q, console: {}}
";

fn secretive() -> Spec {
    let mut options = options(&[("BROKERS", "kafka:9092"), ("PASSWORD", "hunter2")]);
    options.set = vec![("rows".into(), "6".into()), ("rows".into(), "7".into())];
    load_str("p.yaml", SECRETIVE, &options).unwrap()
}

#[test]
fn references_have_their_values() {
    let spec = secretive();
    let SourceConfig::Kafka(kafka) = &spec.sources.get("events").unwrap().input else {
        panic!("not Kafka");
    };
    assert_eq!(*kafka.brokers, "kafka:9092");
    assert_eq!(*kafka.topics[0], "t");
    let properties: Vec<_> = kafka
        .properties
        .iter()
        .map(|(name, value)| (&**name, value.expose()))
        .collect();
    assert_eq!(
        properties,
        [
            ("sasl.password", "hunter2"),
            ("ssl.key.password", "hunter3"),
            ("fetch.min.bytes", "1000"),
        ]
    );
    let query = spec.queries.get("q").unwrap();
    assert_eq!(query.sql.text(), "SELECT * FROM events LIMIT 7");
}

#[test]
fn the_plan_and_debug_hold_references_and_no_value() {
    let spec = secretive();
    let plan = spec.plan_json();
    for shown in [
        plan.as_str(),
        &format!("{spec:?}"),
        &format!("{:?}", spec.params),
    ] {
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(!shown.contains("kafka:9092"), "{shown}");
    }
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let kafka = &plan["sources"]["events"]["kafka"];
    assert_eq!(kafka["brokers"], "${env:BROKERS}");
    assert_eq!(kafka["properties"]["sasl.password"], "${env:PASSWORD}");
    assert_eq!(kafka["properties"]["ssl.key.password"], "***");
    assert_eq!(kafka["properties"]["fetch.min.bytes"], "1000");
    assert_eq!(
        plan["params"],
        serde_json::json!({"topic": "t", "rows": "7"})
    );
    assert_eq!(
        plan["checkpoint"]["url"],
        "${env:TAGFLOW_STATE:-./.tagflow}"
    );
}

#[test]
fn a_literal_secret_is_warned_of() {
    assert_eq!(
        secretive().warnings.human(),
        "p.yaml:10:27  warning  the secret `ssl.key.password` is written in the file\n\
         \x20                      help: take it from the environment or a file: `${env:X}`, \
         `${file:path}`\n\
         1 warning\n"
    );
}

#[test]
fn the_plan_is_the_same_however_the_file_is_written() {
    let plan = spec(MINIMAL).plan_json();
    let other = "\
# a comment
sinks:
  out:
    console:
    from: \"events\"
sources:
  events:
    time: {delay: 5000ms, event_time: ts}
    columns:
      user_id: string
      ts: timestamp(ms)
    format: {json: }
    kafka: {topics: [t], brokers: 'localhost:9092', start: earliest}
name: demo
steps:
";
    assert_eq!(spec(other).plan_json(), plan);
    assert_ne!(spec(&with("topics: [t]", "topics: [u]")).plan_json(), plan);
}

#[test]
fn the_order_of_columns_is_in_the_plan() {
    let plan: serde_json::Value = serde_json::from_str(&spec(MINIMAL).plan_json()).unwrap();
    let columns = &plan["sources"]["events"]["columns"];
    assert_eq!(
        *columns,
        serde_json::json!([["user_id", "string"], ["ts", "timestamp(ms)"]])
    );
}

#[test]
fn params_are_checked() {
    let set = |pairs: &[(&str, &str)]| LoadOptions {
        set: pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..options(&[])
    };
    let text = format!("params: {{day: , lanes: 2}}\nparallelism: ${{params.lanes}}\n{MINIMAL}");
    let problems = load_str("p.yaml", &text, &set(&[("dya", "x")])).unwrap_err();
    assert_eq!(
        problems.human(),
        "p.yaml:1:1   error  unknown param `dya` in `--set`; did you mean `day`?\n\
         p.yaml:1:13  error  param `day` has no value\n\
         \x20                   help: give it one in the file, or run with `--set day=…`\n\
         2 errors\n"
    );
    let spec = load_str("p.yaml", &text, &set(&[("day", "x"), ("lanes", "3")])).unwrap();
    assert_eq!(spec.parallelism.map(|lanes| *lanes), Some(3));
}

#[test]
fn sql_leads_back_to_the_file() {
    let text = "queries:\n  q: |\n    SELECT a,\n      ${params.c} + z FROM events\n";
    let text = format!("params: {{c: a_long_name}}\n{text}{MINIMAL}");
    let spec = spec(&text);
    let sql = &spec.queries.get("q").unwrap().sql;
    assert_eq!(sql.text(), "SELECT a,\n  a_long_name + z FROM events\n");
    assert_eq!(sql.at().to_string(), "4:5");
    for ((line, column), expected) in [
        ((1, 1), "4:5"),
        ((1, 8), "4:12"),
        ((1, 99), "4:14"),
        ((2, 3), "5:7"),
        ((2, 9), "5:7"),
        ((2, 15), "5:19"),
        ((2, 17), "5:21"),
        ((9, 1), "6:1"),
    ] {
        assert_eq!(
            sql.position(line, column).to_string(),
            expected,
            "{line}:{column}"
        );
    }
    let z = sql.text().find('z').unwrap();
    assert_eq!(sql.position_of_byte(z).to_string(), "5:21");
    assert_eq!(sql.position_of_byte(9999).to_string(), "6:1");
}

#[test]
fn sql_takes_no_file() {
    let text = format!("queries: {{q: \"SELECT '${{file:secret}}'\"}}\n{MINIMAL}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "hunter2").unwrap();
    let file = folder.path().join("p.yaml");
    let problems = load_str(&file.display().to_string(), &text, &options(&[])).unwrap_err();
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.message, "SQL cannot hold `${file:…}`");
    assert_eq!(problem.at.to_string(), "1:23");
}
