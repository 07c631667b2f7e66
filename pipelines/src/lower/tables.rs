//! Tables: files that are read whole, and again when they change.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tagflow_connectors::{
    files::{FilesConfig, TableFiles, TableVersion},
    format::DEFAULT_MAX_ROW_BYTES,
};
use tagflow_engine::{
    Error, ErrorKind, Result, graph::DecoderFactory, side_input::SideInput, source::Rows,
};
use tagflow_operators::join::{CurrentDimension, Dimension};
use tagflow_schemas::Column;
use tokio::sync::Mutex;

use super::{Lowering, sources};
use crate::spec;

impl Lowering<'_> {
    /// Checks the settings of every table, including those without a lookup.
    pub(super) fn check_tables(&mut self) {
        for (name, table) in self.spec.tables.iter() {
            if let Err(error) = files(table) {
                self.report(table.url.at(), format!("tables.{name}.url"), &error);
            }
        }
    }

    /// The table `name`, refreshed while the job runs.
    pub(super) fn dimension(&mut self, name: &str) -> Result<CurrentDimension> {
        let given = self.options.tables.get(name);
        if let Some(known) = given.or_else(|| self.dimensions.get(name)) {
            return Ok(known.clone());
        }
        let table = self.spec.tables.get(name);
        let table = table.ok_or_else(|| Error::internal(format!("`{name}` is no table")))?;
        let current = CurrentDimension::default();
        self.graph.side_inputs.push(Arc::new(TableInput {
            name: name.to_owned(),
            files: files(table)?,
            key: key(table),
            refresh_every: *table.refresh,
            current: current.clone(),
            version: Mutex::new(None),
        }));
        self.dimensions.insert(name.to_owned(), current.clone());
        Ok(current)
    }
}

/// The table `name` with these rows only.
///
/// # Errors
/// `Data` where a row cannot be read, or two have the same key.
pub fn table_of(name: &str, table: &spec::Dimension, rows: &Rows) -> Result<Dimension> {
    let decoded = decoder(table)()?.decode(rows)?;
    if let Some(bad) = decoded.rejected.first() {
        return Err(Error::data(format!(
            "row {} of `{name}` cannot be read: {}",
            bad.row + 1,
            bad.message
        )));
    }
    Dimension::new(name, decoded.records, &key(table))
}

fn files(table: &spec::Dimension) -> Result<TableFiles> {
    let columns = table.columns.as_slice();
    let names = columns.iter().map(|column| column.name.clone());
    let config = FilesConfig {
        columns: Some(names.collect()),
        ..FilesConfig::new(table.url.as_str(), sources::file_format(&table.format))
    };
    TableFiles::new(config, Column::schema(columns), decoder(table))
}

fn decoder(table: &spec::Dimension) -> DecoderFactory {
    let columns = table.columns.as_slice().to_vec();
    sources::decoder(
        &table.format,
        &table.columns,
        columns,
        DEFAULT_MAX_ROW_BYTES,
    )
}

/// The indexes of the key columns.
fn key(table: &spec::Dimension) -> Vec<usize> {
    let columns = table.columns.as_slice();
    let place = |key: &str| columns.iter().position(|column| column.name == key);
    table.key.iter().filter_map(|key| place(key)).collect()
}

/// A table that is read before the job starts and while it runs.
struct TableInput {
    name: String,
    files: TableFiles,
    key: Vec<usize>,
    refresh_every: Duration,
    current: CurrentDimension,
    /// The version of the rows in `current`.
    version: Mutex<Option<TableVersion>>,
}

impl TableInput {
    async fn read(&self) -> Result<()> {
        let mut version = self.version.lock().await;
        if let Some((read, rows)) = self.files.read(version.as_ref()).await? {
            let dimension = Dimension::new(&self.name, rows, &self.key)?;
            self.current.replace(dimension);
            *version = Some(read);
        }
        Ok(())
    }
}

impl SideInput for TableInput {
    fn name(&self) -> &str {
        &self.name
    }

    fn load(&self) -> BoxFuture<'_, Result<()>> {
        async {
            self.read().await.map_err(|error| {
                let message = format!("the table `{}` cannot be read", self.name);
                match error.kind() {
                    ErrorKind::External => Error::external(message),
                    _ => Error::config(message),
                }
                .with_source(error)
            })
        }
        .boxed()
    }

    fn refresh_every(&self) -> Duration {
        self.refresh_every
    }
}
