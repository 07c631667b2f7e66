//! Dead letters and late rows: two tables that every pipeline may fill.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use tagflow_connectors::{
    parquet::{FileOptions, ParquetSinkConfig, ParquetSinkFactory, PartitionColumn},
    storage,
};
use tagflow_engine::{
    Error, Port, Result,
    graph::{NodeId, Partitioning},
    sink::SinkFactory,
};
use tagflow_schemas::{dead_letter, late};

use super::{
    Lowering,
    flow::{Computed, Flow, Offsets},
};
use crate::{
    spec::Setting,
    sql::{Lineage, Output, OutputColumn, Relation, Rows},
};

/// How long the files of both tables stay open: their rows are few and
/// urgent.
pub const MAX_OPEN: Duration = Duration::from_mins(1);

/// The Hive folder of both tables: a day.
pub(super) const FOLDER: &str = "dt";

/// The files of both tables.
fn files() -> FileOptions {
    FileOptions {
        max_open: MAX_OPEN,
        ..FileOptions::default()
    }
}

impl Lowering<'_> {
    /// Adds the table of dead letters, if a node can have some.
    pub(super) fn dead_letters(&mut self) {
        let from = std::mem::take(&mut self.rejecting);
        if from.is_empty() {
            return;
        }
        let name = "dead_letters";
        let url = &self.spec.errors.dead_letters.url;
        let schema = dead_letter::schema();
        let partitions = vec![PartitionColumn {
            name: FOLDER.to_owned(),
            column: schema.fields().len() - 1,
        }];
        let sharing = self.sharing_of(url);
        let table = match table(name, url, sharing, schema, partitions) {
            Ok(table) => table,
            Err(error) => {
                return self.report(url.at(), format!("errors.{name}.url"), &error);
            }
        };
        let label = format!("parquet {}", url.shown());
        self.end(
            format!("errors.{name}"),
            label,
            table,
            &from,
            &Partitioning::Gather,
        );
    }

    /// Adds the table of late rows, if there are windows.
    pub(super) fn late_rows(&mut self) {
        let from = std::mem::take(&mut self.windows);
        let url = &self.spec.errors.late.url;
        let added = self.side_output("late", url, late::schema(), "event_time", &from);
        if let Err(error) = added {
            self.report(url.at(), "errors.late.url".into(), &error);
        }
    }

    /// Several pipelines may write to one folder of their own choice, but not to a folder within
    /// the state folder of this one.
    fn sharing_of(&self, url: &str) -> Sharing {
        let state = self.spec.checkpoint.url.as_str().trim_end_matches('/');
        match url.strip_prefix(state) {
            Some(inside) if inside.starts_with('/') => Sharing::Alone,
            _ => Sharing::WithOthers,
        }
    }

    /// The rejected or late rows of `from`, in a table by the day of `time`.
    fn side_output(
        &mut self,
        name: &str,
        url: &Setting<String>,
        schema: SchemaRef,
        time: &str,
        from: &[NodeId],
    ) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        let relation = Relation {
            lineage: vec![Lineage::Plain; schema.fields().len()],
            schema: Arc::clone(&schema),
            rows: Rows::Events,
            upsert: None,
        };
        let wrong = |message: String| Error::internal(format!("the table `{name}`: {message}"));
        let output = Output::of(&relation).map_err(|error| wrong(error.message))?;
        let day = output
            .compute(FOLDER, &format!("date({time})"), self.program.catalog())
            .map_err(|errors| wrong(errors[0].message.clone()))?;
        let mut columns = output.columns().to_vec();
        columns.push(day);

        let flow = Flow {
            ends: Vec::new(),
            schema,
            rows: Rows::Events,
            personal: BTreeSet::new(),
        };
        let partitions = vec![PartitionColumn {
            name: FOLDER.to_owned(),
            column: columns.len() - 1,
        }];
        let computed = columns
            .into_iter()
            .map(|OutputColumn { field, expr }| Computed { expr, field })
            .collect();
        let planned = flow.resolved(&DFSchema::empty())?;
        let spec = flow.map(&planned, None, computed, Offsets::Drop)?;
        let sharing = self.sharing_of(url);
        let table = table(name, url, sharing, Arc::clone(&spec.schema), partitions)?;
        let node = format!("errors.{name}");
        // Each node has its own map: a shared one would fuse nodes that rows are exchanged between.
        let maps = from.iter().map(|from| {
            let label = format!("the day of {time}");
            let map = self.add_map(&format!("{node}.columns"), label, spec.clone(), &flow);
            let edge = ((*from, Port::SIDE), (map, Port::MAIN));
            self.graph.connect(edge.0, edge.1, Partitioning::Forward);
            map
        });
        let maps: Vec<NodeId> = maps.collect();
        let label = format!("parquet {}", url.shown());
        let maps: Vec<_> = maps.into_iter().map(|map| (map, Port::MAIN)).collect();
        self.end(node, label, table, &maps, &Partitioning::Gather);
        Ok(())
    }
}

/// A Parquet table at `url`.
fn table(
    name: &str,
    url: &Setting<String>,
    sharing: Sharing,
    schema: SchemaRef,
    partition_by: Vec<PartitionColumn>,
) -> Result<Arc<dyn SinkFactory>> {
    let (store, root) = storage::open(url)?;
    let factory = ParquetSinkFactory::new(ParquetSinkConfig {
        name: Arc::from(name),
        url: Arc::from(url.as_str()),
        store,
        root,
        schema,
        partition_by,
        newest: None,
        shared: sharing == Sharing::WithOthers,
        files: files(),
    })?;
    Ok(Arc::new(factory))
}

/// Whether other commit logs may write to a table too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// No; their files are refused.
    Alone,
    /// Yes.
    WithOthers,
}
