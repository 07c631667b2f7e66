//! Translates a [`Spec`] into the engine's [`Graph`].
//!
//! | in the file | in the graph |
//! | --- | --- |
//! | a source | a source node that decodes only the columns that are read |
//! | a step, a query without a window | one map, `<name>` |
//! | a step's `dedupe`, `flag_bots`, `sessions` | ⇄ `<name>.dedupe` ▷ `<name>.bots` ⇄ `<name>.rate` ⇄ `<name>.sessions` before that map |
//! | a query with a window or a `ttl` | `<name>.input` ▷ `<name>.partial` ⇄ `<name>` ▷ `<name>.select` |
//! | a join with a table | `<name>.lookup` |
//! | a join of streams | `<name>.left`, `<name>.right` ⇄ `<name>` ▷ `<name>.select` |
//! | the best rows of a window | `<name>.input` ⇄ `<name>` ▷ `<name>.select` |
//! | a block of metrics | as its equivalent query |
//! | `tags`, `segments` | `tags.input` ⇄ `tags` (⇄ `tags.population` ⇄ `tags` for scores by quantiles) ▷ `tags.changes`, `tags.current`, `segments.changes` |
//! | a sink | `<name>.columns` ▷ `<name>` |
//! | `errors` | `errors.dead_letters` and `errors.late`, as sinks |
//!
//! A relation with several readers is in the graph once; one without a path to a sink is omitted. A
//! relation that is observed without a sink in the file ([`LowerOptions::taps`]) gets a sink,
//! `tap.<name>`. Names are ids of state and metrics, so they depend only on the file.

mod definitions;
mod expectations;
mod flow;
mod joins;
mod lookups;
mod metrics;
mod ordered;
mod row_errors;
mod side_outputs;
mod sinks;
mod sources;
mod sql_errors;
mod stages;
mod streams;
mod tables;
mod tags;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arrow::datatypes::SchemaRef;
use tagflow_config::diagnostic::{Diagnostics, Position};
use tagflow_engine::{
    Clock, Error, Port, SystemClock,
    files::Table,
    graph::{self, Graph, NodeId},
};
use tagflow_operators::{join::CurrentDimension, tags::Tags};

use crate::{
    spec::Spec,
    sql::{Needs, Program, tags::PlannedTags},
};
use flow::Flows;
pub use side_outputs::MAX_OPEN as SET_ASIDE_MAX_OPEN;
pub use tables::table_of;
pub use tagflow_operators::size::{Load, StateSize};

/// The parameters of a graph.
#[derive(Clone)]
pub struct LowerOptions {
    /// The clock of sources and dead letters.
    pub clock: Arc<dyn Clock>,
    /// The active sinks of the file.
    pub sinks: Sinks,
    /// Observed relations: each has an additional sink, [`tap`], which drops its rows unless it is
    /// replaced.
    pub taps: BTreeSet<String>,
    /// Tables with given rows, which are not read from their files.
    pub tables: BTreeMap<String, CurrentDimension>,
}

/// The active sinks of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sinks {
    /// All, with the tables of dead letters and late rows.
    All,
    /// None: no table is written.
    None,
}

/// The sink that observes `relation`; its name is not possible in a file.
pub fn tap(relation: &str) -> String {
    format!("tap.{relation}")
}

impl Default for LowerOptions {
    /// The machine's clock.
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            sinks: Sinks::All,
            taps: BTreeSet::new(),
            tables: BTreeMap::new(),
        }
    }
}

/// A valid pipeline.
pub struct Lowered {
    /// The graph that runs.
    pub graph: Graph,
    /// The tables that it writes, those of dead letters and late rows last.
    pub tables: Vec<Table>,
    /// Whether every source is bounded.
    pub bounded: bool,
    /// The required columns of each relation and their plan, inputs first.
    pub relations: Vec<Needs>,
    /// The SQL of each block of metrics.
    pub metrics: BTreeMap<String, String>,
    /// The estimated memory of each node's state.
    pub sizes: BTreeMap<String, SizeOf>,
    /// The fingerprint of each tag's state.
    pub definitions: BTreeMap<String, String>,
    /// The fingerprint of each aggregate's state, by the node that has it.
    pub aggregates: Definitions,
    /// The tags and segments, if there are any.
    pub known: Option<Arc<Tags>>,
    /// The columns of each node that is observed or that tests inspect.
    pub shapes: BTreeMap<String, SchemaRef>,
    /// Warnings about its SQL and its sinks.
    pub warnings: Diagnostics,
}

/// The fingerprints of several nodes' states, part by part.
pub type Definitions = BTreeMap<String, BTreeMap<String, String>>;

/// The estimated memory of a node's state.
pub type SizeOf = Box<dyn Fn(&Load) -> StateSize + Send + Sync>;

/// Lowers a pipeline. Touches no network and creates nothing.
///
/// # Errors
/// All errors of its SQL and of the settings of its connectors.
pub fn lower(spec: &Spec, options: &LowerOptions) -> Result<Lowered, Diagnostics> {
    let mut lowering = Lowering::new(spec, options);
    let lowered = lowering.run();
    match lowered {
        Some(lowered) if !lowering.diagnostics.has_errors() => Ok(lowered),
        _ => Err(lowering.diagnostics),
    }
}

/// All errors of a pipeline's SQL and of the settings of its connectors that can be found without a
/// network.
pub fn check(spec: &Spec) -> Diagnostics {
    let options = LowerOptions::default();
    let mut lowering = Lowering::new(spec, &options);
    lowering.run();
    lowering.diagnostics
}

struct Lowering<'a> {
    spec: &'a Spec,
    options: &'a LowerOptions,
    pipeline: Arc<str>,
    program: Program,
    diagnostics: Diagnostics,
    graph: Graph,
    tables: Vec<Table>,
    sizes: BTreeMap<String, SizeOf>,
    shapes: BTreeMap<String, SchemaRef>,
    flows: Flows,
    /// Nodes whose bad rows become dead letters, each with the output of those.
    rejecting: Vec<(NodeId, Port)>,
    /// Windows and parts of steps, which emit late rows.
    windows: Vec<NodeId>,
    /// The tables that are looked up.
    dimensions: BTreeMap<String, CurrentDimension>,
    /// Tags and segments, until they are in the graph.
    tags: Option<PlannedTags>,
    /// The columns of sources that are keys of tags: they must not be empty.
    keys: BTreeMap<String, BTreeSet<String>>,
    /// Tags and segments in the graph.
    known: Option<Arc<Tags>>,
    /// The fingerprint of each tag's state.
    definitions: BTreeMap<String, String>,
    /// The fingerprint of each aggregate's state, by its node.
    aggregates: Definitions,
}

impl<'a> Lowering<'a> {
    fn new(spec: &'a Spec, options: &'a LowerOptions) -> Self {
        let definitions = definitions::definitions(spec);
        let program = Program::plan(&definitions, |name| spec.is_unreadable(name));
        Self {
            spec,
            options,
            pipeline: Arc::from(spec.name.as_str()),
            program,
            diagnostics: Diagnostics::new(Arc::clone(&spec.file)),
            graph: Graph::default(),
            tables: Vec::new(),
            sizes: BTreeMap::new(),
            shapes: BTreeMap::new(),
            flows: Flows::default(),
            rejecting: Vec::new(),
            windows: Vec::new(),
            dimensions: BTreeMap::new(),
            tags: None,
            known: None,
            keys: BTreeMap::new(),
            definitions: BTreeMap::new(),
            aggregates: Definitions::new(),
        }
    }

    /// Lowers all valid parts; the errors are in the diagnostics.
    fn run(&mut self) -> Option<Lowered> {
        for fault in self.program.faults() {
            definitions::report(self.spec, fault, &mut self.diagnostics);
        }
        for warning in self.program.warnings() {
            definitions::warn(self.spec, warning, &mut self.diagnostics);
        }
        self.check_sources();
        self.check_tables();
        self.planned_tags();
        let sinks = self.sinks();
        self.expectations(&sinks);
        let outputs: BTreeSet<String> = sinks.iter().map(|sink| sink.from.clone()).collect();
        let tables = self.spec.tag_tables();
        let is_tagged = tables.iter().any(|table| outputs.contains(*table));
        let events = self.tags.as_ref().filter(|_| is_tagged);
        let events = events.map(|tags| (tags.from.as_str(), tags.reads.as_slice()));
        let relations = match self.program.needs(&outputs, events) {
            Ok(relations) => relations,
            Err(fault) => {
                definitions::report(self.spec, &fault, &mut self.diagnostics);
                return None;
            }
        };
        if self.diagnostics.has_errors() {
            return None;
        }

        if is_tagged {
            self.find_keys();
        }
        for needs in &relations {
            if self.diagnostics.has_errors() && !self.are_inputs_there(needs) {
                // Their errors are reported already.
                continue;
            }
            let lowered = match &needs.stream {
                None => self.source(needs),
                Some(stream) => self.relation(needs, stream),
            };
            if let Err(error) = lowered {
                let at = definitions::position(self.spec, &needs.relation);
                self.report(at, needs.relation.clone(), &error);
            }
        }
        if is_tagged {
            self.tags(&sinks);
        }
        if self.diagnostics.has_errors() {
            return None;
        }
        for sink in sinks {
            self.sink(sink);
        }
        if self.options.sinks == Sinks::All {
            self.dead_letters();
            self.late_rows();
        }
        if let Err(error) = graph::validate(&self.graph) {
            self.report(Position::START, String::new(), &error);
            return None;
        }
        let bounded = relations
            .iter()
            .filter_map(|needs| self.spec.sources.get(&needs.relation))
            .all(|source| source.input.component().is_bounded());
        Some(Lowered {
            graph: std::mem::take(&mut self.graph),
            tables: std::mem::take(&mut self.tables),
            sizes: std::mem::take(&mut self.sizes),
            shapes: std::mem::take(&mut self.shapes),
            bounded,
            relations,
            metrics: self.program.metrics().clone(),
            definitions: std::mem::take(&mut self.definitions),
            aggregates: std::mem::take(&mut self.aggregates),
            known: self.known.take(),
            warnings: self.diagnostics.clone(),
        })
    }

    /// Whether all inputs of a relation are in the graph.
    fn are_inputs_there(&self, needs: &Needs) -> bool {
        let mut there = true;
        if let Some(stream) = &needs.stream {
            stream.scans(Duration::ZERO, &mut |scan, _| {
                there &= self.flows.contains_key(&scan.relation);
            });
        }
        there
    }

    fn report(&mut self, at: Position, path: String, error: &Error) {
        self.diagnostics.error(at, path, error.chain());
    }
}
