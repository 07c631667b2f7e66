//! The summary at the end of a run.

use std::fmt::Write as _;

use tagflow_engine::{
    ledger::Counts,
    runtime::{End, Outcome},
};
use tagflow_service::start::TableRef;

use crate::human;

/// The tables of rows that need attention, and how to query them.
const DEAD_LETTERS: &str = "dead_letters";
const LATE: &str = "late";

/// The end of a run that wrote `tables`; `state` is its state folder, as the argument of the
/// `query` command.
pub(crate) fn of(outcome: &Outcome, tables: &[TableRef], state: &str) -> String {
    let status = &outcome.status;
    let mut text = match &outcome.committed {
        Some(commit) => format!("{} stopped after commit #{}\n", status.pipeline, commit.seq),
        None => format!("{} stopped; there was nothing to commit\n", status.pipeline),
    };
    write_rows(&mut text, status.rows_in, &status.totals, tables);
    write_tables(&mut text, tables, state);
    let open = outcome
        .committed
        .as_ref()
        .map_or(0, |commit| commit.state_bytes);
    if outcome.end == End::Keep && open > 0 {
        let _ = writeln!(
            text,
            "kept for the next run: {} of state (`--drain` closes open windows)",
            human::bytes(open)
        );
    }
    text
}

fn write_rows(text: &mut String, read: u64, totals: &Counts, tables: &[TableRef]) {
    let _ = writeln!(text, "  read          {:>13}", human::count(read));
    if totals.rows_in > read {
        let all = human::count(totals.rows_in);
        let _ = writeln!(text, "with earlier runs:\n  read          {all:>13}");
    }
    let at = |name: &str| {
        let table = tables.iter().find(|table| &*table.name == name);
        table.map_or(String::new(), |table| format!("  {}", table.url))
    };
    for (label, rows, place) in [
        ("copied", totals.copied, String::new()),
        ("contributed", totals.contributed, String::new()),
        ("filtered", totals.filtered, String::new()),
        ("late", totals.late, at(LATE)),
        (
            "dead letters",
            totals.dead_letter + totals.derived_dead_letter,
            at(DEAD_LETTERS),
        ),
        ("duplicates", totals.duplicate, String::new()),
    ] {
        if rows > 0 || label == "contributed" {
            let _ = writeln!(text, "  {label:<13} {:>13}{place}", human::count(rows));
        }
    }
}

fn write_tables(text: &mut String, tables: &[TableRef], state: &str) {
    let results: Vec<_> = tables
        .iter()
        .filter(|table| ![DEAD_LETTERS, LATE].contains(&&*table.name))
        .collect();
    let Some(first) = results.first() else {
        return;
    };
    let width = results
        .iter()
        .map(|table| table.name.len())
        .max()
        .unwrap_or(0);
    let _ = writeln!(text, "tables:");
    for table in &results {
        let _ = writeln!(text, "  {:width$}  {}", table.name, table.url);
    }
    let folder = if state == DEFAULT_STATE {
        String::new()
    } else {
        format!("--state {state} ")
    };
    let _ = writeln!(
        text,
        "to look at them: tagflow query {folder}'select * from \"{}\" limit 10'",
        first.name
    );
}

/// The default state folder of `query`.
const DEFAULT_STATE: &str = "./.tagflow";

#[cfg(test)]
mod tests {
    use tagflow_engine::{EventTime, commit::Committed, status::JobStatus};

    use super::*;

    fn outcome() -> Outcome {
        let mut status = JobStatus::starting("clicks", EventTime::from_micros(0));
        status.rows_in = 1000;
        status.totals = Counts {
            rows_in: 1000,
            contributed: 983,
            dead_letter: 17,
            ..Counts::default()
        };
        Outcome {
            committed: Some(Committed {
                seq: 12,
                at: EventTime::from_micros(0),
                files: 1,
                file_bytes: 10,
                state_bytes: 0,
            }),
            status,
            end: End::Keep,
        }
    }

    fn tables() -> Vec<TableRef> {
        let table = |name: &str| TableRef {
            name: name.into(),
            url: format!("./lake/{name}").into(),
        };
        ["clicks_minute", "dead_letters", "late"].map(table).into()
    }

    #[test]
    fn it_says_where_everything_is() {
        assert_eq!(
            of(&outcome(), &tables(), "./.tagflow"),
            "clicks stopped after commit #12\n\
             \x20 read                  1,000\n\
             \x20 contributed             983\n\
             \x20 dead letters             17  ./lake/dead_letters\n\
             tables:\n\
             \x20 clicks_minute  ./lake/clicks_minute\n\
             to look at them: tagflow query 'select * from \"clicks_minute\" limit 10'\n"
        );
    }

    #[test]
    fn rows_that_several_took_are_told() {
        let mut outcome = outcome();
        outcome.status.totals.copied = 250;
        let text = of(&outcome, &tables(), "./.tagflow");
        assert!(text.contains("\n  copied                  250\n"), "{text}");
    }

    #[test]
    fn a_second_run_tells_both_and_what_stays_open() {
        let mut outcome = outcome();
        outcome.status.rows_in = 400;
        outcome.committed.as_mut().unwrap().state_bytes = 3_100_000;
        let text = of(&outcome, &tables(), "s3://lake/state");
        assert!(
            text.contains(
                "  read                    400\n\
                 with earlier runs:\n\
                 \x20 read                  1,000\n\
                 \x20 contributed             983\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("query --state s3://lake/state 'select"),
            "{text}"
        );
        assert!(
            text.contains("kept for the next run: 3.1 MB of state"),
            "{text}"
        );
        outcome.end = End::Drain;
        let text = of(&outcome, &tables(), "s3://lake/state");
        assert!(!text.contains("kept"), "{text}");
    }

    #[test]
    fn a_run_without_tables_has_no_table_to_show() {
        let text = of(&outcome(), &[], "./.tagflow");
        assert!(!text.contains("tables"), "{text}");
    }
}
