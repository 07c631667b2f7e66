//! Renders rows as a table for people.

use std::time::Duration;

use comfy_table::{Table, presets};
use tagflow_engine::EventTime;

use tagflow_service::status::Row;

use crate::{
    human,
    terminal::{Stream, Tone},
};

const HEADER: [&str; 11] = [
    "PIPELINE",
    "STATE",
    "IN/s",
    "LAG",
    "DELAY",
    "WATERMARK",
    "LATE",
    "DUP",
    "DEAD",
    "COMMIT",
    "STATE",
];

/// The columns that are omitted first if the table is too wide, by their index.
const LESS_NEEDED: [usize; 5] = [WATERMARK, 10, 7, 2, 4];
const WATERMARK: usize = 5;

/// One line per pipeline, with the reason beneath if it waits or failed. Columns are omitted so
/// that lines fit `width`, if possible.
pub(crate) fn table(rows: &[Row], now: EventTime, width: Option<usize>) -> String {
    let mut left_out = Vec::new();
    loop {
        let lines = lines(rows, now, &left_out);
        let widest = lines.iter().map(|line| line.chars().count()).max();
        let fits = width.is_none_or(|width| widest.unwrap_or(0) <= width);
        match LESS_NEEDED.get(left_out.len()) {
            Some(&column) if !fits => left_out.push(column),
            _ => return with_messages(&lines, rows),
        }
    }
}

/// The header and one line per row, without the omitted columns.
fn lines(rows: &[Row], now: EventTime, left_out: &[usize]) -> Vec<String> {
    let kept = |cells: [String; 11]| -> Vec<String> {
        let cells = cells.into_iter().enumerate();
        let kept = cells.filter(|(place, _)| !left_out.contains(place));
        kept.map(|(_, cell)| cell).collect()
    };
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(kept(HEADER.map(str::to_owned)));
    for row in rows {
        table.add_row(kept(cells(row, now)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn with_messages(lines: &[String], rows: &[Row]) -> String {
    let mut lines = lines.iter();
    let header = lines.next().map_or("", String::as_str);
    let state = header.find(HEADER[1]).unwrap_or(0);
    let mut text = format!("{header}\n");
    for (line, row) in lines.zip(rows) {
        text.push_str(&painted(line, state, row));
        text.push('\n');
        if let Some(message) = &row.message {
            text.push_str("  ");
            text.push_str(message);
            text.push('\n');
        }
    }
    text
}

/// The line with the colour of the row's state, which is at `place`.
fn painted(line: &str, place: usize, row: &Row) -> String {
    // A name of a pipeline is ASCII, so characters are bytes.
    let split = line.split_at_checked(place);
    let split = split.and_then(|(before, rest)| Some((before, rest.strip_prefix(&*row.state)?)));
    match (split, Tone::of_state(&row.state)) {
        (Some((before, after)), Some(tone)) => {
            format!("{before}{}{after}", Stream::Out.paint(tone, &row.state))
        }
        _ => line.to_owned(),
    }
}

fn cells(row: &Row, now: EventTime) -> [String; 11] {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| human::NOTHING.into());
    let delay = row.delay_s.map(Duration::from_secs_f64);
    let commit = row.commit.as_ref();
    [
        row.pipeline.clone(),
        row.state.clone(),
        or_nothing(row.rows_in_per_s.map(human::rate)),
        or_nothing(row.lag_rows.map(human::count)),
        or_nothing(delay.map(human::duration)),
        human::moment(row.watermark.map(|at| at.0)),
        human::share(row.totals.late, row.totals.rows_in),
        human::share(row.totals.duplicate, row.totals.rows_in),
        human::count(row.totals.dead_letter),
        or_nothing(
            commit.map(|commit| format!("#{} {}", commit.seq, human::ago(commit.at.0, now))),
        ),
        human::bytes(row.state_bytes),
    ]
}

#[cfg(test)]
mod tests {
    use tagflow_engine::ledger::Counts;

    use super::*;
    use tagflow_service::status::{Commit, Moment, Process};

    fn row(pipeline: &str, state: &str) -> Row {
        Row {
            pipeline: pipeline.into(),
            state: state.into(),
            message: None,
            rows_in_per_s: None,
            lag_rows: None,
            delay_s: None,
            watermark: None,
            totals: Counts::default(),
            commit: None,
            state_bytes: 0,
            owner: Process {
                host: "here".into(),
                pid: 1,
                admin: None,
            },
        }
    }

    #[test]
    fn the_table_is_the_designs() {
        let watermark = EventTime::from_micros(1_767_688_191_000_000);
        let now = watermark.saturating_add(Duration::from_secs(20));
        let running = Row {
            rows_in_per_s: Some(81_204.2),
            lag_rows: Some(12_330),
            delay_s: Some(1.4),
            watermark: Some(Moment(watermark)),
            totals: Counts {
                rows_in: 1_000_000,
                late: 200,
                duplicate: 3100,
                dead_letter: 17,
                ..Counts::default()
            },
            commit: Some(Commit {
                seq: 1842,
                at: Moment(now.saturating_sub(Duration::from_secs(6))),
            }),
            state_bytes: 3_100_000,
            ..row("campaign-metrics", "running")
        };
        let waiting = Row {
            message: Some("source `events` cannot be reached: connection refused".into()),
            ..row("orders", "waiting")
        };
        let expected = "\
PIPELINE          STATE    IN/s    LAG     DELAY  WATERMARK            LATE   DUP    DEAD  COMMIT        STATE
campaign-metrics  running  81,204  12,330  1.4s   2026-01-06 08:29:51  0.02%  0.31%  17    #1842 6s ago  3.1 MB
orders            waiting  -       -       -      -                    -      -      0     -             0 B
  source `events` cannot be reached: connection refused
";
        assert_eq!(table(&[running, waiting], now, None), expected);
    }

    #[test]
    fn regression_lines_fit_eighty_columns() {
        let now = EventTime::from_micros(1_767_688_191_000_000);
        let running = Row {
            rows_in_per_s: Some(81_204.2),
            lag_rows: Some(12_330),
            delay_s: Some(1.4),
            watermark: Some(Moment(now)),
            commit: Some(Commit {
                seq: 1842,
                at: Moment(now),
            }),
            state_bytes: 3_100_000,
            ..row("campaign-metrics", "running")
        };
        let text = table(&[running], now, Some(80));
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{text}");
        }
        for column in ["LAG", "DELAY", "LATE", "DEAD", "COMMIT"] {
            assert!(text.contains(column), "{column}: {text}");
        }
    }
}
