//! Reads files whole, as one table.

use std::sync::Arc;

use arrow::{compute::concat_batches, datatypes::SchemaRef, record_batch::RecordBatch};
use chrono::{DateTime, Utc};
use tagflow_engine::{Error, Result, source::Decoder};

use super::{config::FilesConfig, listing, object::FileObject, open_file::OpenFile};

/// The files of a small table, which is read whole and may be read again.
pub struct TableFiles {
    config: FilesConfig,
    schema: SchemaRef,
    decoder: Arc<dyn Fn() -> Result<Box<dyn Decoder>> + Send + Sync>,
}

/// Identifies the version of the files, to detect changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableVersion(Vec<FileVersion>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileVersion {
    name: Arc<str>,
    e_tag: Option<String>,
    last_modified: DateTime<Utc>,
    size: u64,
}

impl TableFiles {
    /// The files of `config`; `decoder` turns their rows into rows of `schema`. Opens nothing yet.
    ///
    /// # Errors
    /// `Config` where `config` is invalid.
    pub fn new(
        config: FilesConfig,
        schema: SchemaRef,
        decoder: Arc<dyn Fn() -> Result<Box<dyn Decoder>> + Send + Sync>,
    ) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            schema,
            decoder,
        })
    }

    /// All rows, with their version; `None` if that is `known`.
    ///
    /// # Errors
    /// `Data` where there is no file, or a file has an unreadable row: a table must be
    /// complete. `External` where the store fails.
    pub async fn read(
        &self,
        known: Option<&TableVersion>,
    ) -> Result<Option<(TableVersion, RecordBatch)>> {
        let files = listing::list(&self.config.url).await?.files;
        if files.is_empty() {
            return Err(listing::nothing_matches(&self.config.url));
        }
        let version = TableVersion(files.iter().map(FileVersion::of).collect());
        if known == Some(&version) {
            return Ok(None);
        }
        let mut batches = Vec::new();
        for file in files {
            self.read_file(file, &mut batches).await?;
        }
        Ok(Some((version, concat_batches(&self.schema, &batches)?)))
    }

    async fn read_file(&self, file: FileObject, batches: &mut Vec<RecordBatch>) -> Result<()> {
        let name = Arc::clone(&file.name);
        let mut decoder = (self.decoder)()?;
        let Some(mut open) = OpenFile::open(file, None, &self.config, None).await? else {
            return Ok(());
        };
        while let Some(chunk) = open.next().await? {
            let decoded = decoder.decode(&chunk.rows)?;
            if let Some(bad) = decoded.rejected.first() {
                let offset = chunk.rows.offset(bad.row as usize);
                return Err(Error::data(format!(
                    "the row at {offset} of `{name}` cannot be read: {}",
                    bad.message
                )));
            }
            batches.push(decoded.records);
        }
        Ok(())
    }
}

impl FileVersion {
    fn of(file: &FileObject) -> Self {
        Self {
            name: Arc::clone(&file.name),
            e_tag: file.meta.e_tag.clone(),
            last_modified: file.meta.last_modified,
            size: file.meta.size,
        }
    }
}
