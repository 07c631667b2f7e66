//! The configured sink of a table.

use std::sync::Arc;

use tagflow_engine::{
    Result,
    committer::{Committer, CommitterContext},
    files::{FileCommitter, Table},
    sink::{Sink, SinkContext, SinkFactory},
};

use super::{
    config::{Newest, ParquetSinkConfig},
    layout::Layout,
    replace::{ReplacingSink, RevisionColumns, Share, SnapshotSink},
    sink::ParquetSink,
};

/// The suffix of the files.
const SUFFIX: &str = "parquet";

/// A configured Parquet sink.
#[derive(Debug)]
pub struct ParquetSinkFactory {
    config: Arc<ParquetSinkConfig>,
    layout: Arc<Layout>,
    revisions: Option<Arc<RevisionColumns>>,
}

impl ParquetSinkFactory {
    /// Checks `config`, without touching the store.
    ///
    /// # Errors
    /// `Config` where the rows cannot be written as configured.
    pub fn new(config: ParquetSinkConfig) -> Result<Self> {
        let layout = Layout::new(&config)?;
        let revisions = match &config.newest {
            Some(Newest::Revisions(revisions)) => Some(RevisionColumns::new(revisions, &layout)),
            Some(Newest::Snapshot { .. }) | None => None,
        };
        Ok(Self {
            config: Arc::new(config),
            layout: Arc::new(layout),
            revisions: revisions.transpose()?.map(Arc::new),
        })
    }

    pub(super) fn open_lane(&self, context: SinkContext) -> Result<ParquetSink> {
        ParquetSink::new(Arc::clone(&self.config), Arc::clone(&self.layout), context)
    }
}

impl SinkFactory for ParquetSinkFactory {
    fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        Ok(match (&self.revisions, &self.config.newest) {
            (None, Some(Newest::Snapshot { bucket })) => {
                let share = Share::of(&context, *bucket);
                let rows = self.open_lane(context)?;
                let layout = Arc::clone(&self.layout);
                Box::new(SnapshotSink::new(rows, layout, share))
            }
            (None, _) => Box::new(self.open_lane(context)?),
            (Some(revisions), _) => Box::new(ReplacingSink::new(
                Arc::clone(&self.config),
                Arc::clone(&self.layout),
                Arc::clone(revisions),
                context,
            )?),
        })
    }

    fn replaces(&self) -> bool {
        self.config.newest.is_some()
    }

    fn fingerprint(&self) -> Option<String> {
        if let Some(Newest::Snapshot { .. }) = self.config.newest {
            // The state is the names of files, whatever their columns.
            return Some(format!("snapshot in {}", self.config.url));
        }
        let table = self.table()?.fingerprint();
        Some(match &self.revisions {
            None => table,
            Some(revisions) => format!("{table}; {}", revisions.fingerprint(&self.layout)),
        })
    }

    fn target(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.config.url))
    }

    fn committer(&self, context: CommitterContext) -> Option<Box<dyn Committer>> {
        Some(Box::new(FileCommitter::new(self.table()?, context)))
    }

    fn table(&self) -> Option<Table> {
        Some(Table {
            name: self.config.name.clone(),
            url: self.config.url.clone(),
            store: self.config.store.clone(),
            root: self.config.root.clone(),
            schema: self.layout.table.clone(),
            shared: self.config.shared,
            suffix: SUFFIX,
        })
    }
}
