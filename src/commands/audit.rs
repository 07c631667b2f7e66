//! `tagflow audit`.

use std::fmt::Write as _;

use tagflow_engine::commit::audit::{Depth, Severity, Subject};
use tagflow_pipelines::{LoadOptions, load};
use tagflow_service::{audit::Audit, state_folder::StateFolder};

use crate::{
    cli,
    exit::Exit,
    human, output,
    terminal::{Stream, Tone},
};

pub(crate) async fn execute(args: cli::Audit) -> anyhow::Result<Exit> {
    let (state, pipeline) = match (&args.file, args.pipeline) {
        (Some(file), _) => {
            let options = LoadOptions {
                set: args.set,
                ..LoadOptions::default()
            };
            let spec = load(file, &options)?;
            let state = StateFolder::open(&spec.checkpoint.url)?;
            (state, spec.name.value().clone())
        }
        (None, pipeline) => {
            let pipeline = pipeline.expect("the command line wants it without a file");
            (StateFolder::open(&args.state.state)?, pipeline)
        }
    };
    let depth = if args.deep {
        Depth::Bytes
    } else {
        Depth::Sizes
    };
    let mut audit = Audit::of(&state, &pipeline, depth).await?;
    if args.repair {
        let deleted = audit.repair().await?;
        if deleted > 0 {
            eprintln!(
                "deleted {} that commits had removed",
                things(deleted as u64, "file")
            );
            audit = Audit::of(&state, &pipeline, depth).await?;
        }
    }
    output::print(&if args.json {
        format!("{}\n", serde_json::to_string_pretty(&audit)?)
    } else {
        human(&audit)
    })?;
    Ok(if audit.ok { Exit::Success } else { Exit::Data })
}

/// One line per proved property, with its findings beneath.
fn human(audit: &Audit) -> String {
    let mut text = String::new();
    for (subject, label, seen) in [
        (Subject::Log, "log", log(audit)),
        (
            Subject::Offsets,
            "offsets",
            things(audit.partitions, "partition"),
        ),
        (Subject::Rows, "rows", rows(audit)),
        (Subject::Tables, "tables", tables(audit)),
        (
            Subject::State,
            "state",
            format!(
                "{}, {}",
                things(audit.state_parts, "part"),
                human::bytes(audit.state_bytes)
            ),
        ),
    ] {
        let found = audit.findings.iter().filter(|of| of.subject == subject);
        let found: Vec<_> = found.collect();
        let is_wrong = found.iter().any(|of| of.severity == Severity::Wrong);
        let (tone, verdict) = if is_wrong {
            (Tone::Bad, "WRONG ")
        } else {
            (Tone::Good, "ok    ")
        };
        let verdict = Stream::Out.paint(tone, verdict);
        let _ = writeln!(text, "{label:<8} {verdict} {seen}");
        for finding in found {
            let severity = match finding.severity {
                Severity::Wrong => Stream::Out.paint(Tone::Bad, "wrong"),
                Severity::Odd => Stream::Out.paint(Tone::Odd, "odd"),
            };
            let _ = writeln!(text, "  {severity}: {}", finding.message);
        }
    }
    let wrong = audit.wrong().count() as u64;
    let _ = if wrong == 0 {
        writeln!(
            text,
            "{}: the tables hold what the log says",
            audit.pipeline
        )
    } else {
        writeln!(text, "{}: {wrong} wrong", audit.pipeline)
    };
    text
}

fn log(audit: &Audit) -> String {
    let mut text = format!(
        "{} up to #{}, {}",
        things(audit.commits, "commit"),
        audit.last,
        things(audit.claims, "claim")
    );
    if audit.collected > 0 {
        let _ = write!(text, "; {} more collected", human::count(audit.collected));
    }
    text
}

fn rows(audit: &Audit) -> String {
    let totals = &audit.totals;
    let mut text = format!("{} in", human::count(totals.rows_in));
    for (label, rows) in [("copied", totals.copied), ("released", totals.released)] {
        if rows > 0 {
            let _ = write!(text, " + {} {label}", human::count(rows));
        }
    }
    let _ = write!(text, " = {} contributed", human::count(totals.contributed));
    for (label, rows) in [
        ("filtered", totals.filtered),
        ("late", totals.late),
        ("dead letters", totals.dead_letter),
        ("duplicates", totals.duplicate),
        ("held", totals.held),
    ] {
        if rows > 0 {
            let _ = write!(text, " + {} {label}", human::count(rows));
        }
    }
    text
}

fn tables(audit: &Audit) -> String {
    let files = audit.tables.iter().map(|table| table.files).sum();
    let bytes = audit.tables.iter().map(|table| table.bytes).sum();
    let collected = audit.tables.iter().map(|table| table.collected).sum();
    let mut text = format!(
        "{} in {}, {}",
        things(files, "file"),
        things(audit.tables.len() as u64, "table"),
        human::bytes(bytes)
    );
    if collected > 0 {
        let _ = write!(text, "; {} of collected commits", human::count(collected));
    }
    let shared = audit.tables.iter().filter(|table| table.shared);
    for table in shared {
        let _ = write!(text, "; `{}` is another pipeline's too", table.name);
    }
    text
}

/// `1 file`, `1,204 files`.
fn things(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", human::count(count))
}
