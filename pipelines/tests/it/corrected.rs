//! Random windows that are emitted repeatedly: after any sequence of emissions, the final rows
//! equal DataFusion's batch result over all rows.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{
    case::Case,
    cut::Kind,
    oracle::{batch, run},
    seeds,
};

/// The number of cases of each kind in CI.
const CASES: u64 = 60;

#[test]
fn corrected_tumbling_windows_equal_datafusion() {
    check_all(Kind::Tumble);
}

#[test]
fn corrected_calendar_windows_equal_datafusion() {
    check_all(Kind::Calendar);
}

#[test]
fn corrected_hopping_windows_equal_datafusion() {
    check_all(Kind::Hop);
}

#[test]
fn corrected_cumulative_windows_equal_datafusion() {
    check_all(Kind::Cumulate);
}

#[test]
fn corrected_sessions_equal_datafusion() {
    check_all(Kind::Session);
}

fn check_all(kind: Kind) {
    let (mut restarts, mut again, mut rows) = (0, 0, 0);
    let checked = seeds::check_all(CASES, async |seed| {
        let checked = check(kind, seed).await;
        restarts += checked.0;
        again += checked.1;
        rows += checked.2;
    });
    let Some(cases) = checked else { return };
    println!("{kind:?}: {cases} pipelines, {restarts} crashes, {again} of {rows} rows again");
    assert!(restarts > cases / 4, "too few crashes to show anything");
    assert!(again as u64 > cases, "too few rows came out again");
    assert!(rows as u64 > cases * 10, "too few rows to show anything");
}

/// The number of crashes, of replaced rows, and of final rows.
async fn check(kind: Kind, seed: u64) -> (u64, usize, usize) {
    let random = &mut SmallRng::seed_from_u64(seed);
    let (mut case, text) = loop {
        let mut case = Case::random(kind, random);
        // In a line, an empty string and a null look the same.
        for sql in [&mut case.file, &mut case.batch] {
            *sql = sql.replace(" k AS key", " coalesce(k, '-') AS key");
        }
        let text = case.file.split_once("  result: |\n").unwrap().1;
        let text = text.split_once("\nsinks:").unwrap().0.trim().to_owned();
        // Rows that may be corrected cannot be filtered.
        if case.cut.is_some() && !text.contains("HAVING") {
            break (case, text);
        }
    };
    // The order of arrival stays, but the rows' windows have closed before.
    let delay = case.file.split_once("delay: ").unwrap().1;
    let delay: i64 = delay.split_once("ms").unwrap().0.parse().unwrap();
    let waits = random.random_range(0..=delay);
    let mut settings = format!("allowed_lateness: {}ms", (delay - waits).max(1));
    if random.random_bool(0.7) {
        let every = random.random_range(1..10_000);
        settings = format!("{settings}, emit: {{every: {every}ms}}");
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    let (before, after) = case.file.split_once("  result: |\n").unwrap();
    let (_, after) = after.split_once("\nsinks:").unwrap();
    let before = before.replace(&format!("delay: {delay}ms"), &format!("delay: {waits}ms"));
    case.file = format!("{before}  result: {{{settings}, sql: \"{text}\"}}\nsinks:{after}");

    let ran = run(&case, random, seed).await;
    let mut newest: BTreeMap<Vec<&str>, (i64, &str, bool)> = BTreeMap::new();
    for line in &ran.lines {
        let mut rest = line.as_str();
        let mut last = || {
            let (before, last) = rest.rsplit_once(',').unwrap();
            rest = before;
            last
        };
        let retracted = kind == Kind::Session && last() == "true";
        assert!(["true", "false"].contains(&last()));
        let revision: i64 = last().parse().unwrap();
        // The windows and keys, followed by the four aggregates.
        let identity: Vec<&str> = rest.split(',').collect();
        let identity = identity[..identity.len() - 4].to_vec();
        let entry = newest
            .entry(identity)
            .or_insert((revision, rest, retracted));
        if entry.0 <= revision {
            *entry = (revision, rest, retracted);
        }
    }
    let cut = case.cut.as_ref().unwrap();
    let holds = newest.values().filter(|(_, _, retracted)| !retracted);
    let mut ours: Vec<String> = holds.map(|(_, line, _)| cut.plain(line)).collect();
    ours.sort();
    let expected = batch(&case).await;
    assert_eq!(ours, expected, "seed {seed}\n{}\n{}", case.file, case.batch);
    (ran.restarts, ran.lines.len() - ours.len(), ours.len())
}
