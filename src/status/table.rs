//! Rows as a table for the eye.

use std::time::Duration;

use comfy_table::{Table, presets};
use tagflow_engine::EventTime;

use super::Row;
use crate::figures;

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

/// A line a pipeline, beneath it what it waits for or failed with.
pub(crate) fn table(rows: &[Row], now: EventTime) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(HEADER);
    for row in rows {
        table.add_row(cells(row, now));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut lines = table.lines();
    let mut text = String::new();
    let mut push = |line: Option<String>| {
        text.push_str(line.unwrap_or_default().trim_end());
        text.push('\n');
    };
    push(lines.next());
    for row in rows {
        push(lines.next());
        if let Some(message) = &row.message {
            push(Some(format!("  {message}")));
        }
    }
    text
}

fn cells(row: &Row, now: EventTime) -> [String; 11] {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| figures::NOTHING.into());
    let delay = row.delay_s.map(Duration::from_secs_f64);
    let commit = row.commit.as_ref();
    [
        row.pipeline.clone(),
        row.state.clone(),
        or_nothing(row.rows_in_per_s.map(figures::rate)),
        or_nothing(row.lag_rows.map(figures::count)),
        or_nothing(delay.map(figures::duration)),
        figures::moment(row.watermark.map(|at| at.0)),
        figures::share(row.totals.late, row.totals.rows_in),
        figures::share(row.totals.duplicate, row.totals.rows_in),
        figures::count(row.totals.dead_letter),
        or_nothing(
            commit.map(|commit| format!("#{} {}", commit.seq, figures::ago(commit.at.0, now))),
        ),
        figures::bytes(row.state_bytes),
    ]
}

#[cfg(test)]
mod tests {
    use tagflow_engine::ledger::Counts;

    use super::*;
    use crate::status::row::{Commit, Moment, Process};

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
        assert_eq!(table(&[running, waiting], now), expected);
    }
}
