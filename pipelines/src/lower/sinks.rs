//! Sinks: the columns that they write, and where.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use tagflow_connectors::{
    blackhole::BlackholeSinkFactory,
    console::ConsoleSinkFactory,
    parquet::{Compression, FileOptions, ParquetSinkConfig, ParquetSinkFactory, PartitionColumn},
    storage,
};
use tagflow_engine::{
    Port, Result,
    graph::{NodeId, NodeKind, Partitioning},
    sink::SinkFactory,
};

use super::{
    Lowering, Sinks, definitions,
    flow::{Computed, Flow, Offsets},
    tap,
};
use crate::{
    diagnostic::unknown,
    spec::{self, Name, ParquetSink, Setting, Sink},
    sql::{Output, OutputColumn, Rows, SqlError},
};

/// How many rows a console sink prints for each lane and commit.
const CONSOLE_ROWS: usize = 40;

/// A sink that is right in itself.
pub(super) struct PlannedSink {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) columns: Vec<OutputColumn>,
    factory: Arc<dyn SinkFactory>,
    label: String,
}

impl Lowering<'_> {
    /// Checks every sink.
    pub(super) fn sinks(&mut self) -> Vec<PlannedSink> {
        let (spec, options) = (self.spec, self.options);
        let mut sinks: Vec<PlannedSink> = match options.sinks {
            Sinks::All => spec
                .sinks
                .iter()
                .filter_map(|(name, sink)| self.planned_sink(name, sink))
                .collect(),
            Sinks::None => Vec::new(),
        };
        sinks.extend(
            options
                .taps
                .iter()
                .filter_map(|from| self.planned_tap(from)),
        );
        sinks
    }

    fn planned_tap(&mut self, from: &str) -> Option<PlannedSink> {
        let output = match Output::of(self.program.relation(from)?) {
            Ok(output) => output,
            Err(error) => {
                let at = definitions::position(self.spec, from);
                self.diagnostics.error(at, from, error.message);
                return None;
            }
        };
        self.shapes
            .insert(from.to_owned(), Arc::clone(output.schema()));
        Some(PlannedSink {
            name: tap(from),
            from: from.to_owned(),
            columns: output.columns().to_vec(),
            factory: Arc::new(BlackholeSinkFactory::default()),
            label: "watched".to_owned(),
        })
    }

    fn planned_sink(&mut self, name: &Name, sink: &Sink) -> Option<PlannedSink> {
        let path = format!("sinks.{name}");
        if self.spec.relations().any(|relation| **relation == **name) {
            let message = format!(
                "the name `{name}` is taken: state and metrics go by it, so a sink needs its own"
            );
            self.diagnostics
                .error(name.at(), path.as_str(), message)
                .help(format!("call the sink `{name}_table`"));
        }
        if ["dead_letters", "late"].contains(&&**name) {
            let message = format!("`{name}` is the name of a table of Tagflow's own");
            self.diagnostics
                .error(name.at(), path.as_str(), message)
                .help("give the sink another name; `errors` says where that table is");
        }
        let relation = self.program.relation(&sink.from)?;
        let output = match Output::of(relation) {
            Ok(output) => output,
            Err(error) => {
                let diagnostic = self.diagnostics.error(sink.from.at(), path, error.message);
                if let Some(help) = error.help {
                    diagnostic.help(help);
                }
                return None;
            }
        };
        let (columns, factory, label) = match sink.output() {
            spec::Output::Console(_) => {
                let factory: Arc<dyn SinkFactory> =
                    Arc::new(ConsoleSinkFactory::new(&**name, CONSOLE_ROWS));
                (output.columns().to_vec(), factory, "console".to_owned())
            }
            spec::Output::Blackhole(_) => {
                let factory: Arc<dyn SinkFactory> = Arc::new(BlackholeSinkFactory::default());
                (output.columns().to_vec(), factory, "blackhole".to_owned())
            }
            spec::Output::Parquet(parquet) => {
                let (columns, partitions) = self.partitions(name, parquet, &output)?;
                let factory =
                    self.parquet(name, parquet, schema_of(&columns), partitions, &output)?;
                let label = format!("parquet {}", parquet.url.shown());
                (columns, factory, label)
            }
        };
        Some(PlannedSink {
            name: name.to_string(),
            from: sink.from.value().clone(),
            columns,
            factory,
            label,
        })
    }

    /// The columns that a table's rows have with those of its folders.
    fn partitions(
        &mut self,
        name: &Name,
        parquet: &ParquetSink,
        output: &Output,
    ) -> Option<(Vec<OutputColumn>, Vec<PartitionColumn>)> {
        let mut columns = output.columns().to_vec();
        let mut partitions = Vec::new();
        let mut sound = true;
        for (partition, text) in parquet.partition_by.iter() {
            let path = format!("sinks.{name}.parquet.partition_by.{partition}");
            let computed = output.compute(partition, text.text(), self.program.catalog());
            let computed = match computed {
                Ok(computed) => computed,
                Err(errors) => {
                    for error in errors {
                        definitions::sql(text, path.clone(), &error, &mut self.diagnostics);
                    }
                    sound = false;
                    continue;
                }
            };
            let same_name = columns
                .iter()
                .position(|column| column.field.name() == computed.field.name());
            let column = match same_name {
                None => {
                    columns.push(computed);
                    columns.len() - 1
                }
                Some(index) if columns[index].expr == computed.expr => index,
                Some(_) => {
                    let error = SqlError::new(format!(
                        "`{partition}` is a column of the rows already, with another value"
                    ));
                    definitions::sql(text, path, &error, &mut self.diagnostics);
                    sound = false;
                    continue;
                }
            };
            partitions.push(PartitionColumn {
                name: partition.to_string(),
                column,
            });
        }
        sound.then_some((columns, partitions))
    }

    fn parquet(
        &mut self,
        name: &Name,
        parquet: &ParquetSink,
        schema: SchemaRef,
        partition_by: Vec<PartitionColumn>,
        output: &Output,
    ) -> Option<Arc<dyn SinkFactory>> {
        let mut sound = true;
        for column in &parquet.sort_by {
            if output.schema().index_of(column).is_err() {
                let names: Vec<&str> = output
                    .schema()
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str())
                    .collect();
                let list = unknown(column, names);
                let message = format!("column `{}` not found{list}", column.value());
                let path = format!("sinks.{name}.parquet.sort_by");
                self.diagnostics.error(column.at(), path, message);
                sound = false;
            }
        }
        if !sound {
            return None;
        }
        let files = file_options(parquet);
        match table(name, &parquet.url, schema, partition_by, files) {
            Ok(factory) => Some(factory),
            Err(error) => {
                self.report(parquet.url.at(), format!("sinks.{name}.parquet"), &error);
                None
            }
        }
    }

    /// Adds a sink.
    pub(super) fn sink(&mut self, sink: PlannedSink) {
        let Some(flow) = self.flows.get(&sink.from).cloned() else {
            return;
        };
        let position = definitions::position(self.spec, &sink.from);
        let map = match self.columns(&sink.name, &flow, sink.columns) {
            Ok(map) => map,
            Err(error) => return self.report(position, format!("sinks.{}", sink.name), &error),
        };
        let partitioning = match flow.rows {
            Rows::Events | Rows::Pairs => Partitioning::Forward,
            Rows::Windows | Rows::Revisions => Partitioning::Gather,
        };
        self.end(sink.name, sink.label, sink.factory, &[map], &partitioning);
    }

    /// Adds the map that computes what a sink writes.
    fn columns(&mut self, name: &str, flow: &Flow, columns: Vec<OutputColumn>) -> Result<NodeId> {
        let names: Vec<&str> = columns.iter().map(|it| it.field.name().as_str()).collect();
        let label = format!("columns {}", names.join(", "));
        let computed = columns
            .into_iter()
            .map(|OutputColumn { field, expr }| Computed { expr, field })
            .collect();
        let planned = flow.resolved(&DFSchema::empty())?;
        let spec = flow.map(&planned, None, computed, Offsets::Drop)?;
        let map = self.add_map(&format!("{name}.columns"), label, spec);
        self.forward(&flow.ends, map);
        Ok(map)
    }

    /// Adds a sink's node and its table.
    pub(super) fn end(
        &mut self,
        name: impl Into<Arc<str>>,
        label: String,
        factory: Arc<dyn SinkFactory>,
        from: &[NodeId],
        partitioning: &Partitioning,
    ) {
        self.tables.extend(factory.table());
        let node = self.graph.add(name, label, NodeKind::Sink(factory));
        for from in from {
            let edge = ((*from, Port::MAIN), (node, Port::MAIN));
            self.graph.connect(edge.0, edge.1, partitioning.clone());
        }
    }
}

/// A Parquet table at `url`.
pub(super) fn table(
    name: &str,
    url: &Setting<String>,
    schema: SchemaRef,
    partition_by: Vec<PartitionColumn>,
    files: FileOptions,
) -> Result<Arc<dyn SinkFactory>> {
    let (store, root) = storage::open(url)?;
    let factory = ParquetSinkFactory::new(ParquetSinkConfig {
        name: Arc::from(name),
        url: Arc::from(url.as_str()),
        store,
        root,
        schema,
        partition_by,
        files,
    })?;
    Ok(Arc::new(factory))
}

pub(super) fn schema_of(columns: &[OutputColumn]) -> SchemaRef {
    let fields: Vec<_> = columns
        .iter()
        .map(|column| Arc::clone(&column.field))
        .collect();
    Arc::new(Schema::new(fields))
}

fn file_options(parquet: &ParquetSink) -> FileOptions {
    let files = &parquet.files;
    FileOptions {
        target_bytes: files.target.bytes(),
        max_open: *files.max_open,
        open_bytes: files.max_open_bytes.bytes() as usize,
        compression: match *files.compression {
            spec::Compression::Zstd(level) => Compression::Zstd(level),
            spec::Compression::Snappy => Compression::Snappy,
            spec::Compression::None => Compression::None,
        },
        row_group_rows: *files.row_group_rows as usize,
        sort_by: parquet
            .sort_by
            .iter()
            .map(|column| column.value().clone())
            .collect(),
        ..FileOptions::default()
    }
}
