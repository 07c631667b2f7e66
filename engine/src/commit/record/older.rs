//! Records of versions 1 to 3, which named the files of tables.
//!
//! A file becomes a committable of its table. The totals of a table and its ghosts become the note
//! of the table.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Error, Map, Value};

use crate::{
    EventTime,
    committer::Committable,
    files::{Change, Ghost, Note, RemovedFile, TableTotals},
};

/// A file that a commit publishes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedFile {
    table: Arc<str>,
    staged: String,
    #[serde(rename = "final")]
    published: String,
    rows: u64,
    bytes: u64,
    sha256: String,
}

/// A file that a commit removes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldRemovedFile {
    table: Arc<str>,
    #[serde(rename = "final")]
    published: String,
}

/// A file that a former owner may still be copying.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldGhost {
    table: Arc<str>,
    #[serde(rename = "final")]
    published: String,
    since: EventTime,
    removed: bool,
}

/// The body of an older record, as this version writes it.
pub(super) fn upgrade(body: &str) -> Result<Value, Error> {
    let mut fields: Map<String, Value> = serde_json::from_str(body)?;
    let added: Vec<AddedFile> = take(&mut fields, "files")?;
    let removed: Vec<OldRemovedFile> = take(&mut fields, "removed")?;
    let ghosts: Vec<OldGhost> = take(&mut fields, "ghosts")?;
    let outbox = serde_json::to_value(outbox(added, removed)?)?;
    fields.insert("outbox".to_owned(), outbox);
    if let Some(Value::Object(checkpoint)) = fields.get_mut("checkpoint") {
        let tables: Option<BTreeMap<Arc<str>, TableTotals>> = take(checkpoint, "tables")?;
        if let Some(tables) = tables {
            let notes = serde_json::to_value(notes(tables, ghosts)?)?;
            checkpoint.insert("notes".to_owned(), notes);
        }
    }
    Ok(Value::Object(fields))
}

/// Takes a field out of an object. A missing field has its default.
fn take<T: Default + for<'a> Deserialize<'a>>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<T, Error> {
    fields
        .remove(name)
        .map_or_else(|| Ok(T::default()), serde_json::from_value)
}

fn outbox(
    added: Vec<AddedFile>,
    removed: Vec<OldRemovedFile>,
) -> Result<BTreeMap<Arc<str>, Vec<Committable>>, Error> {
    let mut outbox: BTreeMap<Arc<str>, Vec<Committable>> = BTreeMap::new();
    for file in added {
        let change = Change::Add {
            staged: file.staged,
            published: file.published,
            sha256: file.sha256,
        };
        let committable = Committable {
            rows: file.rows,
            bytes: file.bytes,
            content: serde_json::to_string(&change)?,
        };
        outbox.entry(file.table).or_default().push(committable);
    }
    for file in removed {
        let published = file.published;
        let committable = Committable {
            rows: 0,
            bytes: 0,
            content: serde_json::to_string(&Change::Remove(RemovedFile { published }))?,
        };
        outbox.entry(file.table).or_default().push(committable);
    }
    Ok(outbox)
}

fn notes(
    tables: BTreeMap<Arc<str>, TableTotals>,
    ghosts: Vec<OldGhost>,
) -> Result<BTreeMap<Arc<str>, String>, Error> {
    let with_totals = |(table, totals)| {
        let note = Note {
            totals: Some(totals),
            ghosts: Vec::new(),
        };
        (table, note)
    };
    let mut notes: BTreeMap<Arc<str>, Note> = tables.into_iter().map(with_totals).collect();
    for ghost in ghosts {
        // A ghost is a file of a commit, so its table has totals.
        let note = notes.entry(ghost.table).or_default();
        note.ghosts.push(Ghost {
            published: ghost.published,
            since: ghost.since,
            removed: ghost.removed,
        });
    }
    let written = notes
        .into_iter()
        .map(|(table, note)| Ok((table, serde_json::to_string(&note)?)));
    written.collect()
}
