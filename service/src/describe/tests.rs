use super::*;
use tagflow_pipelines::LoadOptions;

#[test]
fn tables_of_tagflow() {
    insta::assert_snapshot!(dictionary(None).unwrap());
    let one = dictionary(Some("late")).unwrap();
    assert!(one.starts_with("late: ") && !one.contains("\n\n"), "{one}");
    assert_eq!(
        dictionary(Some("tag.changes")).unwrap_err(),
        "there is no table `tag.changes`; did you mean `tags.changes`?"
    );
}

const FILE: &str = r#"
name: p
sources:
  events:
    files: {url: /nowhere/*.ndjson}
    format: {json: {}}
    columns: {who: string, event_type: string, item: string, price: "decimal(10,2)", at: timestamp(ms)}
    time: {event_time: at}
queries:
  hourly: SELECT tumble(at, INTERVAL '1 hour') AS "window", count(*) AS n FROM events GROUP BY 1
tags:
  from: events
  key: who
  define:
    seen: {agg: count, where: price > 1, windows: [1d, 30d, lifetime], ttl: 90d}
    items: {agg: distinct, arg: item, windows: [1h], exact: true, exact_up_to: 100}
    recent: {agg: last_k, arg: item, k: 20}
    seen_at: {agg: last, arg: at}
    days_since: {time_since: seen_at, unit: d}
    recency: {score: days_since, cuts: [7, 30.5], reversed: true}
    interests: {top_k: {arg: item, k: 5, half_life: 14d}, weights: {view: 1, buy: 2.5}}
    stage: {funnel: {within: 1d, steps: {first: item = 'a', second: item = 'b'}}}
    gone: {absence: {after: item = 'a', expect: item = 'b', within: 30m}, ttl: 3d}
sinks:
  profile: {from: tags.current, parquet: {url: /nowhere/profile, mode: snapshot}}
  hours: {from: hourly, parquet: {url: /nowhere/hours, partition_by: {day: date(window_start)}}}
"#;

#[test]
fn tables_of_a_pipeline() {
    let pipeline = Pipeline::open_str("p.yaml", FILE, &LoadOptions::default());
    let pipeline = pipeline.unwrap_or_else(|problems| panic!("{}", problems.human()));
    insta::assert_snapshot!("profile", of(&pipeline, Some("profile")).unwrap());
    insta::assert_snapshot!("hours", of(&pipeline, Some("hours")).unwrap());
    let all = of(&pipeline, None).unwrap();
    let titles: Vec<_> = all
        .lines()
        .filter(|line| line.starts_with(char::is_alphabetic))
        .collect();
    assert_eq!(
        titles,
        [
            "profile: from tags.current",
            "hours: from hourly",
            "dead_letters",
            "late"
        ]
    );
    assert_eq!(
        of(&pipeline, Some("profil")).unwrap_err(),
        "there is no table `profil`; did you mean `profile`?"
    );
}
