//! Dead letters and late rows: two tables that every pipeline may fill.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use tagflow_connectors::parquet::{FileOptions, PartitionColumn};
use tagflow_engine::{
    Error, Port, Result,
    graph::{NodeId, Partitioning},
};
use tagflow_schemas::{dead_letter, late};

use super::{
    Lowering,
    flow::{Computed, Flow, Offsets},
    sinks,
};
use crate::{
    spec::Setting,
    sql::{Lineage, Output, OutputColumn, Relation, Rows},
};

/// The Hive folder of both tables: a day.
const FOLDER: &str = "dt";

impl Lowering<'_> {
    /// Adds the table of dead letters, if there is a source that has some.
    pub(super) fn dead_letters(&mut self) {
        let from = std::mem::take(&mut self.rejecting);
        let url = &self.spec.errors.dead_letters.url;
        let added = self.set_aside(
            "dead_letters",
            url,
            dead_letter::schema(),
            "failed_at",
            &from,
        );
        if let Err(error) = added {
            self.report(url.at(), "errors.dead_letters.url".into(), &error);
        }
    }

    /// Adds the table of late rows, if there are windows.
    pub(super) fn late_rows(&mut self) {
        let from = std::mem::take(&mut self.windows);
        let url = &self.spec.errors.late.url;
        let added = self.set_aside("late", url, late::schema(), "event_time", &from);
        if let Err(error) = added {
            self.report(url.at(), "errors.late.url".into(), &error);
        }
    }

    /// The rows that `from` sets aside, in a table by the day of `time`.
    fn set_aside(
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
        let table = sinks::table(
            name,
            url,
            Arc::clone(&spec.schema),
            partitions,
            None,
            FileOptions::default(),
        )?;
        let node = format!("errors.{name}");
        // A map each: one for all would fuse nodes that rows are exchanged between.
        let maps = from.iter().map(|from| {
            let label = format!("the day of {time}");
            let map = self.add_map(&format!("{node}.columns"), label, spec.clone());
            let edge = ((*from, Port::ASIDE), (map, Port::MAIN));
            self.graph.connect(edge.0, edge.1, Partitioning::Forward);
            map
        });
        let maps: Vec<NodeId> = maps.collect();
        let label = format!("parquet {}", url.shown());
        self.end(node, label, table, &maps, &Partitioning::Gather);
        Ok(())
    }
}
