//! Files as a source: bounded, read once, in the order of their event times.
//!
//! Each file is a partition. The next file is assigned when the one before it has finished. Until
//! then the source's watermark stays at or below the times of the files that follow
//! ([`EventTimes`]), so files that overlap in time make no row late. Positions are bytes in files
//! of lines and row numbers in Parquet files.

mod component;
mod config;
mod event_times;
mod folders;
mod lines;
mod listing;
mod local;
mod object;
mod open_file;
mod parquet;
mod reader;
mod table;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use tagflow_engine::{
    Clock, Error, Result,
    source::{Offset, Positions, Source, SourceReader},
};

pub use component::check_url;
pub use config::{CsvRecords, FileFormat, FilesConfig};
pub use event_times::EventTimes;
pub use table::{TableFiles, TableVersion};

use crate::storage;
use object::FileObject;
use reader::FilesReader;

/// A source of files.
#[derive(Clone)]
pub struct FilesSource {
    config: FilesConfig,
    clock: Arc<dyn Clock>,
    event_times: Option<EventTimes>,
}

impl FilesSource {
    /// A source with `config`. Opens nothing yet. The clock gives the time at which rows are
    /// received.
    ///
    /// # Errors
    /// `Config` where `config` is invalid.
    pub fn new(config: FilesConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            clock,
            event_times: None,
        })
    }

    /// Reads the files in the order of their event times, and holds the watermark for unread files.
    /// Without this, a file's times are unknown until it is read: no window closes before the last
    /// file begins.
    #[must_use]
    pub fn ordered_by(self, event_times: EventTimes) -> Self {
        Self {
            event_times: Some(event_times),
            ..self
        }
    }
}

#[async_trait]
impl Source for FilesSource {
    /// Lists the files. A listed file is read as of its listing: a file that changes while it is
    /// read is an error. A pattern that matches no file is an error as well.
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        let mut listing = listing::list(&self.config.url).await?;
        if listing.files.is_empty() && !self.config.allow_empty.as_ref().is_some_and(|it| **it) {
            let url = self.config.url.value();
            return Err(Error::data(format!(
                "no file matches `{url}`; where that is no mistake, write `allow_empty: true`"
            )));
        }
        known_as(&mut listing.files, positions);
        Ok(Box::new(FilesReader::start(
            self.config.clone(),
            Arc::clone(&self.clock),
            self.event_times.clone(),
            listing,
            positions.clone(),
        )))
    }
}

/// Gives files the names by which `positions` knows them. The same file is then not read again when
/// its URL is spelt differently: `./in/*`, `in/*`, `/data/in/*`, `file:///data/in/*`.
fn known_as(files: &mut [FileObject], positions: &Positions) {
    if files.iter().all(|file| positions.contains_key(&file.name)) {
        return;
    }
    let mut names: HashMap<String, (&Arc<str>, Offset)> = HashMap::new();
    for (name, &position) in positions {
        // Names of files after `file://` are not always encoded as in URLs.
        let as_written = name.strip_prefix("file://").map(str::to_owned);
        for place in storage::place(name).ok().into_iter().chain(as_written) {
            let known = names.entry(place).or_insert((name, position));
            if known.1 < position {
                *known = (name, position);
            }
        }
    }
    for file in files {
        if !positions.contains_key(&file.name)
            && let Some((name, _)) = names.get(&*file.place)
        {
            file.name = Arc::clone(name);
        }
    }
}

#[cfg(test)]
mod tests;
