//! Files as a source: bounded, read once, in the order of their names.
//!
//! Each file is a partition. The next file is assigned when the one before it
//! has finished, so that the watermark follows the files' order. Positions are
//! bytes in files of lines and row numbers in Parquet files.

mod config;
mod lines;
mod listing;
mod object;
mod parquet;
mod reader;
mod table;

use std::sync::Arc;

use async_trait::async_trait;
use tagflow_engine::{
    Clock, Result,
    source::{Positions, Source, SourceReader},
};

pub use config::{FileFormat, FilesConfig};
pub use listing::check;
pub use table::{TableFiles, TableVersion};

use reader::FilesReader;

/// A source of files.
#[derive(Clone)]
pub struct FilesSource {
    config: FilesConfig,
    clock: Arc<dyn Clock>,
}

impl FilesSource {
    /// A source as `config` says. Nothing is opened yet. The clock tells when rows were
    /// received.
    ///
    /// # Errors
    /// `Config` where `config` cannot be meant.
    pub fn new(config: FilesConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, clock })
    }
}

#[async_trait]
impl Source for FilesSource {
    /// Lists the files. A file that is listed is read as it is then: one that
    /// changes while it is read is an error.
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        let files = listing::list(&self.config.url).await?;
        Ok(Box::new(FilesReader::start(
            self.config.clone(),
            Arc::clone(&self.clock),
            files,
            positions.clone(),
        )))
    }
}

#[cfg(test)]
mod tests;
