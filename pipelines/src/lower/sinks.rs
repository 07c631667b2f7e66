//! Sinks: their columns and their targets.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::{common::DFSchema, logical_expr::Expr};
use tagflow_connectors::{
    SinkConfig,
    blackhole::BlackholeSinkFactory,
    component::SinkContext,
    parquet::{Newest, ParquetConfig, PartitionColumn, Revisions, WriteMode},
};
use tagflow_engine::{
    Port, Result,
    graph::{NodeId, NodeKind, Partitioning},
    sink::SinkFactory,
};

use super::{
    Lowering, Sinks, definitions,
    flow::{Computed, Flow, Offsets},
    sql_errors, tap,
};
use tagflow_config::diagnostic::{same_but_for_case, unknown};

use crate::{
    spec::{Name, Setting, Sink, TAGS_CURRENT},
    sql::{Output, OutputColumn, Relation, Rows, SqlError, Upsert},
};

/// The Hive folder of a snapshot.
const BUCKET: &str = "bucket";

/// A sink that is valid in itself.
pub(super) struct PlannedSink {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) columns: Vec<OutputColumn>,
    /// The filter on rows; `None` writes all rows.
    filter: Option<Expr>,
    factory: Arc<dyn SinkFactory>,
    label: String,
    /// How often the sink writes the newest full profile, shared between the lanes; `None` if it
    /// writes all rows.
    pub(super) newest: Option<Duration>,
}

/// The rows of a sink, and the layout of its table.
struct PlannedRows {
    columns: Vec<OutputColumn>,
    filter: Option<Expr>,
    /// As [`PlannedSink::newest`].
    every: Option<Duration>,
    partition_by: Vec<PartitionColumn>,
    newest: Option<Newest>,
}

impl PlannedRows {
    /// All rows, without a layout.
    fn all(output: &Output) -> Self {
        Self {
            columns: output.columns().to_vec(),
            filter: None,
            every: None,
            partition_by: Vec::new(),
            newest: None,
        }
    }
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
            filter: None,
            factory: Arc::new(BlackholeSinkFactory::default()),
            label: "watched".to_owned(),
            newest: None,
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
        let planned = match &sink.output {
            SinkConfig::Parquet(parquet) => self.planned_table(name, sink, parquet, &output)?,
            _ => PlannedRows::all(&output),
        };
        let component = sink.output.component();
        let connected = component.connect(SinkContext {
            name: Arc::from(&**name),
            schema: schema_of(&planned.columns),
            partition_by: planned.partition_by,
            newest: planned.newest,
            memory: self.spec.memory_limit(),
        });
        let factory = match connected {
            Ok(factory) => factory,
            Err(error) => {
                let at = component.table().map_or(name.at(), Setting::at);
                self.report(at, format!("{path}.{}", sink.output.name()), &error);
                return None;
            }
        };
        Some(PlannedSink {
            name: name.to_string(),
            from: sink.from.value().clone(),
            columns: planned.columns,
            filter: planned.filter,
            factory,
            label: component.describe(),
            newest: planned.every,
        })
    }

    /// The rows and the layout of a table.
    fn planned_table(
        &mut self,
        name: &Name,
        sink: &Sink,
        parquet: &ParquetConfig,
        output: &Output,
    ) -> Option<PlannedRows> {
        let replacing = match *parquet.mode {
            WriteMode::Append | WriteMode::Snapshot => None,
            WriteMode::ReplaceWindows => Some(self.replacing(name, sink, parquet, output)?),
        };
        let is_snapshot = *parquet.mode == WriteMode::Snapshot;
        let (columns, partition_by) = if is_snapshot {
            self.buckets(name, parquet, output)?
        } else {
            self.partitions(name, parquet, output, replacing.as_ref())?
        };
        let schema = schema_of(&columns);
        self.check_columns(name, parquet, &schema, output)?;
        let newest = match replacing {
            Some(replacing) => Some(Newest::Revisions(replacing.revisions)),
            None if is_snapshot => Some(Newest::Snapshot {
                bucket: schema.index_of(BUCKET).ok()?,
            }),
            None => None,
        };
        let (filter, every) = if is_snapshot {
            (None, Some(*parquet.every))
        } else {
            (self.profile_filter(&sink.from, parquet), None)
        };
        Some(PlannedRows {
            columns,
            filter,
            every,
            partition_by,
            newest,
        })
    }

    /// The key of a table in which newer rows replace older ones.
    fn replacing(
        &mut self,
        name: &Name,
        sink: &Sink,
        parquet: &ParquetConfig,
        output: &Output,
    ) -> Option<Replacing> {
        let relation = self.program.relation(&sink.from)?;
        let from = sink.from.value();
        let (message, help) = match (&relation.upsert, relation.rows) {
            (Some(upsert), _) => return Some(Replacing::new(upsert, relation, output)),
            (None, Rows::Revisions) => (
                format!(
                    "`replace_windows` finds the row to replace by its window and the GROUP BY \
                     columns, and `{from}` lacks one of them or leaves rows out"
                ),
                "carry the window, every GROUP BY column and `revision` (of sessions \
                 `is_retracted` too) through unchanged, and have no WHERE and no UNION ALL over \
                 the query's result",
            ),
            (None, Rows::Changes) => (
                format!("`replace_windows` goes by windows, and the rows of `{from}` have none"),
                "leave `mode` out; the row with the latest `changed_at` says what a key is",
            ),
            (None, Rows::Windows | Rows::Pairs | Rows::Events) => (
                format!(
                    "`replace_windows` is for windows that come out more than once, and `{from}` \
                     gives each row once"
                ),
                "leave `mode` out, or give the query `emit: {every: …}` or `allowed_lateness`",
            ),
        };
        let path = format!("sinks.{name}.parquet.mode");
        let diagnostic = self.diagnostics.error(parquet.mode.at(), path, message);
        diagnostic.help(help);
        None
    }

    /// The columns of a table's rows, including those of its folders.
    fn partitions(
        &mut self,
        name: &Name,
        parquet: &ParquetConfig,
        output: &Output,
        replacing: Option<&Replacing>,
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
                        sql_errors::sql(text, path.clone(), &error, &mut self.diagnostics);
                    }
                    sound = false;
                    continue;
                }
            };
            if let Some(changing) = replacing.and_then(|it| it.changing(&computed)) {
                let error = SqlError::new(format!(
                    "`{partition}` goes by `{changing}`, which a correction may change, and then \
                     the row to replace is in another folder"
                ))
                .help("partition by the window and the GROUP BY columns alone");
                sql_errors::sql(text, path, &error, &mut self.diagnostics);
                sound = false;
                continue;
            }
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
                    sql_errors::sql(text, path, &error, &mut self.diagnostics);
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

    /// The columns of a snapshot's rows, including that of their folder: one of this many, by the
    /// hash of the key.
    fn buckets(
        &mut self,
        name: &Name,
        parquet: &ParquetConfig,
        output: &Output,
    ) -> Option<(Vec<OutputColumn>, Vec<PartitionColumn>)> {
        let key = output.schema().field(0).name().replace('"', "\"\"");
        let text = format!("bucket(\"{key}\", {})", *parquet.buckets);
        let bucket = match output.compute(BUCKET, &text, self.program.catalog()) {
            Ok(bucket) => bucket,
            Err(errors) => {
                let path = format!("sinks.{name}.parquet.buckets");
                for error in errors {
                    sql_errors::add(
                        parquet.buckets.at(),
                        path.clone(),
                        &error,
                        &mut self.diagnostics,
                    );
                }
                return None;
            }
        };
        let mut columns = output.columns().to_vec();
        let partition = PartitionColumn {
            name: BUCKET.to_owned(),
            column: columns.len(),
        };
        columns.push(bucket);
        Some((columns, vec![partition]))
    }

    /// Checks the names of a table's columns, and those of `sort_by`.
    fn check_columns(
        &mut self,
        name: &Name,
        parquet: &ParquetConfig,
        schema: &SchemaRef,
        output: &Output,
    ) -> Option<()> {
        let fields = schema.fields().iter();
        if let Some((one, other)) = same_but_for_case(fields.map(|it| it.name().as_str())) {
            let message = format!(
                "the columns `{one}` and `{other}` differ in case alone: DuckDB, Spark and Athena \
                 take them for one"
            );
            let path = format!("sinks.{name}.parquet");
            let warning = self.diagnostics.warning(name.at(), path, message);
            warning.help = Some("give one another name with `AS`".to_owned());
        }
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
        sound.then_some(())
    }

    /// Adds a sink.
    pub(super) fn sink(&mut self, sink: PlannedSink) {
        let from = match sink.newest {
            Some(every) => newest_profile(every),
            None => sink.from.clone(),
        };
        let Some(flow) = self.flows.get(&from).cloned() else {
            return;
        };
        let position = definitions::position(self.spec, &sink.from);
        let map = match self.columns(&sink.name, &flow, sink.filter.as_ref(), sink.columns) {
            Ok(map) => map,
            Err(error) => return self.report(position, format!("sinks.{}", sink.name), &error),
        };
        let partitioning = match flow.rows {
            _ if sink.newest.is_some() => Partitioning::Broadcast,
            Rows::Events | Rows::Pairs => Partitioning::Forward,
            Rows::Windows | Rows::Revisions | Rows::Changes => Partitioning::Gather,
        };
        let from = [(map, Port::MAIN)];
        self.end(sink.name, sink.label, sink.factory, &from, &partitioning);
    }

    /// Adds the map that computes a sink's columns.
    fn columns(
        &mut self,
        name: &str,
        flow: &Flow,
        filter: Option<&Expr>,
        columns: Vec<OutputColumn>,
    ) -> Result<NodeId> {
        let names: Vec<&str> = columns.iter().map(|it| it.field.name().as_str()).collect();
        let label = format!("columns {}", names.join(", "));
        let computed = columns
            .into_iter()
            .map(|OutputColumn { field, expr }| Computed { expr, field })
            .collect();
        let planned = flow.resolved(&DFSchema::empty())?;
        let spec = flow.map(&planned, filter, computed, Offsets::Drop)?;
        let map = self.add_map(&format!("{name}.columns"), label, spec, flow);
        self.forward(&flow.ends, map);
        Ok(map)
    }

    /// Adds a sink's node and its table; it reads the outputs `from`.
    pub(super) fn end(
        &mut self,
        name: impl Into<Arc<str>>,
        label: String,
        factory: Arc<dyn SinkFactory>,
        from: &[(NodeId, Port)],
        partitioning: &Partitioning,
    ) {
        self.tables.extend(factory.table());
        let node = self.graph.add(name, label, NodeKind::Sink(factory));
        for from in from {
            let to = (node, Port::MAIN);
            self.graph.connect(*from, to, partitioning.clone());
        }
    }
}

/// How newer rows of a table find those that they replace.
struct Replacing {
    /// The relation's columns that are equal in both.
    shared: BTreeSet<String>,
    revisions: Revisions,
}

impl Replacing {
    fn new(upsert: &Upsert, relation: &Relation, output: &Output) -> Self {
        let name = |place: usize| relation.schema.field(place).name().as_str();
        let column = |name: &str| {
            let column = output.schema().index_of(name);
            column.expect("a sink sees every column of its relation")
        };
        let window = name(upsert.window);
        let window_end = column(&format!("{window}_end"));
        let keys = upsert.keys.iter().map(|&key| name(key));
        let mut key = vec![column(&format!("{window}_start")), window_end];
        key.extend(keys.clone().map(column));
        Self {
            shared: keys.chain([window]).map(str::to_owned).collect(),
            revisions: Revisions {
                key,
                window_end,
                revision: column(name(upsert.revision)),
                retracted: upsert.retracted.map(|place| column(name(place))),
                lateness: upsert.lateness,
            },
        }
    }

    /// A column of `computed` that may differ between them.
    fn changing(&self, computed: &OutputColumn) -> Option<String> {
        let columns = computed.expr.column_refs();
        let mut names = columns.into_iter().map(|column| &column.name);
        names.find(|name| !self.shared.contains(*name)).cloned()
    }
}

pub(super) fn schema_of(columns: &[OutputColumn]) -> SchemaRef {
    let fields: Vec<_> = columns
        .iter()
        .map(|column| Arc::clone(&column.field))
        .collect();
    Arc::new(Schema::new(fields))
}

/// The name of the newest profile at this interval.
pub(super) fn newest_profile(every: Duration) -> String {
    let every = humantime::format_duration(every).to_string();
    format!("{TAGS_CURRENT}.newest_{}", every.replace(' ', "_"))
}
