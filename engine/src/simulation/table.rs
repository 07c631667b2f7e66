//! A sink of text files with every allowed behavior.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::AsArray,
    datatypes::{Int64Type, Schema},
};
use async_trait::async_trait;
use object_store::{MultipartUpload as _, ObjectStore, ObjectStoreExt, path::Path};
use sha2::{Digest, Sha256};

use super::{
    lie::{Lie, LyingCommitter},
    tally::lines,
};
use crate::{
    Batch, Error, Result,
    committer::{Committer, CommitterContext},
    element::BarrierKind,
    files::{FileCommitter, PreparedFiles, RemovedFile, StagedFile, Table},
    sink::{PreparedCommit, Sink, SinkContext, SinkFactory},
    state::{NewPart, Snapshot, StatePart},
};

/// When files are finished, and whether they are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// At each cut.
    EachCut,
    /// At this number of lines; until then the lines are state.
    Rolling(usize),
    /// Each file has all lines, the newest of each window and key, and replaces the one before.
    Replacing,
}

/// The way of uploads to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    Whole,
    InParts,
}

/// A table of lines: the values of a row, or its only column.
#[derive(Clone)]
pub(super) struct SimTable {
    pub(super) table: Table,
    pub(super) files: Files,
    pub(super) upload: Upload,
    pub(super) lie: Option<Lie>,
}

impl SimTable {
    /// A table in the folder `name` of `store`.
    pub(super) fn new(
        name: &str,
        store: Arc<dyn ObjectStore>,
        files: Files,
        upload: Upload,
        lie: Option<Lie>,
    ) -> Self {
        let table = Table {
            name: name.into(),
            url: format!("memory:///{name}").into(),
            store,
            root: Path::from(name),
            schema: Arc::new(Schema::empty()),
            shared: false,
            suffix: "lines",
        };
        Self {
            table,
            files,
            upload,
            lie,
        }
    }
}

impl SinkFactory for SimTable {
    fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Open {
            table: self.clone(),
            context,
            lines: Vec::new(),
            file: None,
            changed: false,
        }))
    }

    fn target(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.table.url))
    }

    fn committer(&self, context: CommitterContext) -> Option<Box<dyn Committer>> {
        let files = FileCommitter::new(self.table.clone(), context);
        Some(match self.lie {
            Some(lie) => Box::new(LyingCommitter::new(files, lie)),
            None => Box::new(files),
        })
    }

    fn table(&self) -> Option<Table> {
        Some(self.table.clone())
    }
}

struct Open {
    table: SimTable,
    context: SinkContext,
    lines: Vec<String>,
    /// The name of the file with all lines, if files are replaced.
    file: Option<String>,
    changed: bool,
}

#[async_trait]
impl Sink for Open {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let columns = batch.records.columns();
        if let [column] = columns {
            let lines = column.as_string::<i32>().iter().flatten();
            self.lines.extend(lines.map(ToOwned::to_owned));
        } else {
            let values = columns[2].as_primitive::<Int64Type>().values();
            self.lines.extend(values.iter().map(ToString::to_string));
        }
        self.changed = true;
        Ok(())
    }

    async fn prepare_commit(&mut self, kind: BarrierKind) -> Result<PreparedCommit> {
        let prepared = self.prepare(kind).await?;
        prepared.into_commit(&self.table.table.root)
    }

    async fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            let mut lines: Vec<String> = part
                .rows
                .column(0)
                .as_string::<i32>()
                .iter()
                .flatten()
                .map(ToOwned::to_owned)
                .collect();
            if part.key == "file" {
                self.file = Some(lines.remove(0));
            }
            self.lines.extend(lines);
            // The part may belong to another lane, which drops it.
            self.changed = true;
        }
        Ok(())
    }
}

impl Open {
    async fn prepare(&mut self, kind: BarrierKind) -> Result<PreparedFiles> {
        let mut cut = PreparedFiles::default();
        match self.table.files {
            Files::Replacing => {
                if !std::mem::take(&mut self.changed) {
                    return Ok(cut);
                }
                let mut newest = BTreeMap::new();
                for line in self.lines.drain(..) {
                    newest.insert(window_and_key(&line).to_owned(), line);
                }
                self.lines = newest.into_values().collect();
                let unique = self.context.ids.unique().simple();
                let name = format!("{}-{unique}", self.context.log);
                cut.files
                    .push(self.stage(&self.lines, Some(name.clone())).await?);
                if let Some(replaced) = self.file.replace(name.clone()) {
                    cut.removed.push(RemovedFile {
                        published: format!("all/{replaced}.lines"),
                    });
                }
                cut.snapshot = Snapshot {
                    put: vec![part("file", [&[name], self.lines.as_slice()].concat())?],
                    removed: vec!["file".to_owned()],
                };
            }
            Files::Rolling(most) if kind == BarrierKind::Checkpoint && self.lines.len() < most => {
                if !std::mem::take(&mut self.changed) {
                    return Ok(cut);
                }
                cut.snapshot = Snapshot {
                    put: vec![part("open", self.lines.clone())?],
                    removed: vec!["open".to_owned()],
                };
            }
            Files::EachCut | Files::Rolling(_) => {
                if self.lines.is_empty() {
                    return Ok(cut);
                }
                cut.files.push(self.stage(&self.lines, None).await?);
                self.lines.clear();
                self.changed = false;
                if self.table.files != Files::EachCut {
                    cut.snapshot.removed.push("open".to_owned());
                }
            }
        }
        Ok(cut)
    }

    async fn stage(&self, lines: &[String], name: Option<String>) -> Result<StagedFile> {
        let table = &self.table.table;
        let text = lines.join("\n") + "\n";
        let inside = Path::from(self.context.ids.unique().to_string());
        let staging = &self.context.staging;
        let parts = table.root.parts().chain(staging.parts());
        let staged: Path = parts.chain(inside.parts()).collect();
        let failed = |error| Error::external("cannot stage the lines").with_source(error);
        self.upload(&staged, text.clone()).await.map_err(failed)?;
        Ok(StagedFile {
            staged,
            folder: Path::from("all"),
            name,
            rows: lines.len() as u64,
            bytes: text.len() as u64,
            sha256: format!("{:x}", Sha256::digest(&text)),
        })
    }

    async fn upload(&self, staged: &Path, text: String) -> object_store::Result<()> {
        let store = &self.table.table.store;
        if self.table.upload == Upload::Whole {
            return store.put(staged, text.into()).await.map(drop);
        }
        let mut upload = store.put_multipart(staged).await?;
        let (first, second) = text.split_at(text.len() / 2);
        upload.put_part(first.to_owned().into()).await?;
        upload.put_part(second.to_owned().into()).await?;
        upload.complete().await.map(drop)
    }
}

/// The identity of a line of counts: `start key`.
pub(super) fn window_and_key(line: &str) -> &str {
    let mut spaces = line.match_indices(' ').map(|(at, _)| at);
    spaces.nth(1).map_or(line, |end| &line[..end])
}

fn part(key: &str, text: Vec<String>) -> Result<NewPart> {
    Ok(NewPart::new(key, lines(text)?))
}
