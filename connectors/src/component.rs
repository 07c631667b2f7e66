//! Components: the sources and sinks that a pipeline file can name.
//!
//! A component's folder has all of it: its settings, which are its block in the pipeline file, its
//! checks, and the code that runs. [`SourceConfig`](crate::SourceConfig) and
//! [`SinkConfig`](crate::SinkConfig) list them.

use std::{fmt, sync::Arc, time::Duration};

use arrow::datatypes::SchemaRef;
use tagflow_config::Diagnostics;
use tagflow_engine::{Clock, Result, sink::SinkFactory, source::Source};

use crate::{
    files::{EventTimes, FileFormat},
    parquet::{Newest, PartitionColumn},
};

/// The settings of a source.
pub trait SourceComponent: fmt::Debug {
    /// One line for people: `kafka behaviour-events`.
    fn describe(&self) -> String;

    /// Whether its rows end.
    fn is_bounded(&self) -> bool;

    /// Whether rows may be in any format. Otherwise they are JSON.
    fn has_formats(&self) -> bool {
        false
    }

    /// Whether its columns and their event time are known, so that the file may omit them.
    fn has_columns(&self) -> bool {
        false
    }

    /// The URLs that it reads from a store.
    fn urls(&self) -> Vec<&str> {
        Vec::new()
    }

    /// The default of `max_future`: how far ahead of the clock an event may be. Clocks of devices
    /// and servers are rarely further wrong.
    fn max_future(&self) -> Duration {
        Duration::from_mins(5)
    }

    /// Reports the mistakes in its settings. `path` is its place in the file,
    /// `sources.events.kafka`. Touches no network.
    fn check(&self, path: &str, diagnostics: &mut Diagnostics);

    /// The source. Touches no network.
    ///
    /// # Errors
    /// `Config` where the settings do not fit together.
    fn connect(&self, context: &SourceContext) -> Result<Arc<dyn Source>>;
}

/// The surroundings of a source.
pub struct SourceContext {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// The time at which rows are received.
    pub clock: Arc<dyn Clock>,
    /// The format of the rows in files.
    pub format: FileFormat,
    /// The longest row.
    pub max_row_bytes: usize,
    /// The columns to read from files of columns; `None` reads all.
    pub columns: Option<Vec<String>>,
    /// How to find the event times of a file before it is read.
    pub event_times: Option<EventTimes>,
    /// The memory limit of the pipeline, if there is one.
    pub memory: Option<u64>,
}

/// The settings of a sink.
pub trait SinkComponent: fmt::Debug {
    /// One line for people: `parquet s3://lake/clicks`.
    fn describe(&self) -> String;

    /// Whether it delivers committed output, so that `deliver` can limit the undelivered part.
    fn delivers(&self) -> bool;

    /// The URL of its table, if it writes one.
    fn table(&self) -> Option<&tagflow_config::Setting<String>> {
        None
    }

    /// Reports the mistakes in its settings. `path` is its place in the file, `sinks.out.parquet`.
    /// Touches no network.
    fn check(&self, _path: &str, _diagnostics: &mut Diagnostics) {}

    /// The sink. Touches no network.
    ///
    /// # Errors
    /// `Config` where the rows cannot be written with these settings.
    fn connect(&self, context: SinkContext) -> Result<Arc<dyn SinkFactory>>;
}

/// The surroundings of a sink.
pub struct SinkContext {
    /// Its name.
    pub name: Arc<str>,
    /// The columns of its rows.
    pub schema: SchemaRef,
    /// The Hive folders of a table, outermost first.
    pub partition_by: Vec<PartitionColumn>,
    /// How newer rows of a table replace earlier ones; if `None`, all rows stay.
    pub newest: Option<Newest>,
    /// The memory limit of the pipeline, if there is one.
    pub memory: Option<u64>,
}

/// The size of a buffer: `most`, or one part in `parts` of the memory limit if that is less.
pub(crate) fn part_of_memory(memory: Option<u64>, parts: usize, most: usize) -> usize {
    memory.map_or(most, |limit| most.min(limit as usize / parts))
}
