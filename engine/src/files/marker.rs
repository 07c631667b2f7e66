//! The marker of a table names the log that owns it.
//!
//! The first log that writes to a table creates the marker with put-if-absent. Another log is
//! refused, unless its sink declares the table as shared. Without the marker, two logs of the same
//! name could fill a table twice: after the loss of a state folder, from two machines with local
//! states, or from a test beside production.

use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{TableTotals, paths, place::Place};
use crate::{
    Error, EventTime, Result,
    commit::{LogId, store::PutOutcome},
    committer::{Claim, Inspected},
};

/// The marker's name, in the table's folder. Readers skip names that begin with `_`.
pub const MARKER: &str = "_tagflow.json";

/// The content of the marker. Later versions may add fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    /// The log that owns the table.
    log: LogId,
    /// The pipeline's name.
    pipeline: String,
    /// The URL of its state.
    state: String,
    /// The machine that wrote the marker.
    host: String,
    /// The time of the write.
    at: EventTime,
}

/// Whether a table is known to belong to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owned {
    /// Its marker or its commits show it.
    Known,
    /// It has no marker, and no commit has put files into it.
    Unmarked,
}

/// Refuses a table that another log has marked. Writes nothing.
///
/// # Errors
/// `Config` if the table belongs to another log; `External` if its store fails.
pub(super) async fn check(place: &Place, log: &Inspected<'_>) -> Result<Owned> {
    match read(place).await? {
        Some(marker) if Some(marker.log) == log.log => Ok(Owned::Known),
        Some(marker) => Err(belongs_to_another(place, &marker, log.state)),
        // A log of an older build did not count files by table. It has run, so the table belongs
        // to it.
        None if TableTotals::were_added(log.past)? => Ok(Owned::Known),
        None => Ok(Owned::Unmarked),
    }
}

/// Marks the table as this log's if it has no marker.
///
/// # Errors
/// `Config` if another log was faster; `External` if the store fails.
pub(super) async fn ensure(place: &Place, claim: &Claim<'_>, at: EventTime) -> Result<()> {
    let marker = Marker {
        log: claim.log,
        pipeline: claim.pipeline.to_owned(),
        state: claim.state.to_owned(),
        host: claim.owner.host.clone(),
        at,
    };
    let bytes = serde_json::to_vec_pretty(&marker)
        .map_err(|error| Error::internal("cannot write a marker as JSON").with_source(error))?;
    let bytes = Bytes::from(bytes);
    let path = path(place);
    let mut backoff = place.store.backoff();
    loop {
        match read(place).await? {
            Some(found) if found.log == claim.log || place.table.shared => return Ok(()),
            Some(found) => return Err(belongs_to_another(place, &found, claim.state)),
            None => {}
        }
        match place.store.put_if_absent(&path, bytes.clone()).await {
            PutOutcome::Created => return Ok(()),
            // Read the marker: this log may have written it.
            PutOutcome::Exists => backoff.after_nothing("create", &path).await?,
            PutOutcome::Ambiguous(error) => backoff.after("create", &path, error).await?,
        }
    }
}

async fn read(place: &Place) -> Result<Option<Marker>> {
    let path = path(place);
    let Some(bytes) = place.store.get(&path).await? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Error::data(format!(
            "`{path}`, the marker of table `{}`, does not read; restore it from a backup, or \
             delete it if no other pipeline writes to the table",
            place.table.name
        ))
        .with_source(error)
    })
}

fn path(place: &Place) -> Path {
    paths::absolute(&place.table.root, MARKER)
}

fn belongs_to_another(place: &Place, marker: &Marker, state: &str) -> Error {
    let (ours, way_on) = if marker.state == state {
        (
            "the log in this run's state is a new one: the old one was lost".to_owned(),
            "Restore that state folder, or move the table away to start anew",
        )
    } else {
        (
            format!("this run has its state in `{state}`"),
            "Run with that state (`checkpoint.url`, `TAGFLOW_STATE`), or give the table another \
             `url`",
        )
    };
    Error::config(format!(
        "table `{}` in `{}` belongs to another commit log: pipeline `{}` with its state in `{}`, \
         first run on host `{}` at {}; {ours}. {way_on}, or set `shared: true` in the sink if \
         both are to write there",
        place.table.name, place.table.url, marker.pipeline, marker.state, marker.host, marker.at
    ))
}

/// The error for a table with files that no log is known to have published.
pub(super) fn has_files(place: &Place, file: &str, state: &str) -> Error {
    Error::config(format!(
        "table `{}` in `{}` has files already (`{file}`), and the commit log in `{state}` has \
         published none of them: that state folder is new, or was lost. Rows that were read \
         before would count twice. Restore the state folder, or move the table's files away to \
         start anew, or set `shared: true` in the sink to write beside them",
        place.table.name, place.table.url
    ))
}
