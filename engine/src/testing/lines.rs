//! A sink that writes text lines.

use std::sync::Arc;

use arrow::{
    datatypes::{Schema, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use async_trait::async_trait;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use sha2::{Digest, Sha256};

use crate::{
    Batch, Result,
    committer::{Committer, CommitterContext},
    element::BarrierKind,
    files::{FileCommitter, PreparedFiles, StagedFile, Table},
    sink::{PreparedCommit, Sink, SinkContext, SinkFactory},
};

/// The suffix of its files.
const SUFFIX: &str = "lines";

/// Writes each row as a line of comma-separated values, with one file for each epoch.
#[derive(Clone)]
pub struct LinesSink {
    /// Its table.
    pub table: Table,
}

impl LinesSink {
    /// A table in the folder `name` of `store`.
    pub fn new(name: &str, store: Arc<dyn ObjectStore>) -> Self {
        let schema: SchemaRef = Arc::new(Schema::empty());
        let (url, root) = (format!("memory:///{name}").into(), Path::from(name));
        Self {
            table: Table {
                name: name.into(),
                url,
                store,
                root,
                schema,
                shared: false,
                suffix: SUFFIX,
            },
        }
    }

    /// The lines of all published files, sorted.
    pub async fn published(&self) -> Result<Vec<String>> {
        use futures::TryStreamExt;
        let failed = |error: object_store::Error| {
            crate::Error::external("cannot read the lines").with_source(error)
        };
        let listed = self.table.store.list(Some(&self.table.root));
        let files: Vec<_> = listed.try_collect().await.map_err(failed)?;
        let mut lines = Vec::new();
        for file in files
            .into_iter()
            .filter(|file| file.location.extension() == Some(SUFFIX))
        {
            let got = self.table.store.get(&file.location).await.map_err(failed)?;
            let bytes = got.bytes().await.map_err(failed)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            lines.extend(text.lines().map(ToOwned::to_owned));
        }
        lines.sort();
        Ok(lines)
    }
}

impl SinkFactory for LinesSink {
    fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Open {
            table: self.table.clone(),
            context,
            lines: Vec::new(),
        }))
    }

    fn target(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.table.url))
    }

    fn committer(&self, context: CommitterContext) -> Option<Box<dyn Committer>> {
        Some(Box::new(FileCommitter::new(self.table.clone(), context)))
    }

    fn table(&self) -> Option<Table> {
        Some(self.table.clone())
    }
}

struct Open {
    table: Table,
    context: SinkContext,
    lines: Vec<String>,
}

#[async_trait]
impl Sink for Open {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let options = FormatOptions::default();
        let columns = batch
            .records
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| column.value(row).to_string());
            self.lines.push(values.collect::<Vec<_>>().join(","));
        }
        Ok(())
    }

    async fn prepare_commit(&mut self, _kind: BarrierKind) -> Result<PreparedCommit> {
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return Ok(PreparedCommit::default());
        }
        let text = lines.join("\n") + "\n";
        let path = format!(
            "{}/{}/{}",
            self.table.root,
            self.context.staging,
            self.context.ids.unique()
        );
        let staged = Path::from(path);
        let (bytes, sha256) = (text.len() as u64, format!("{:x}", Sha256::digest(&text)));
        self.table
            .store
            .put(&staged, text.into())
            .await
            .map_err(|error| crate::Error::external("cannot stage the lines").with_source(error))?;
        let file = StagedFile {
            staged,
            folder: Path::default(),
            name: None,
            rows: lines.len() as u64,
            bytes,
            sha256,
        };
        let prepared = PreparedFiles {
            files: vec![file],
            ..PreparedFiles::default()
        };
        prepared.into_commit(&self.table.root)
    }
}
