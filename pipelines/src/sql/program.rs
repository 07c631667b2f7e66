//! All relations of a pipeline, and which columns each must deliver.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use datafusion::{
    common::Column,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
};
use tagflow_engine::time;
use tagflow_operators::window::Emission;

use super::{
    Catalog, Definition, EXACT, Fault, Lineage, Lookup, Ordered, Part, Relation, Rows, SqlError,
    Stream, Windowed, metrics, optimize,
    plan::{self, Places},
    planning::Planning,
};

/// What a relation must deliver to those that read it.
#[derive(Debug, Clone)]
pub struct Needs {
    /// The relation.
    pub relation: String,
    /// Which of its columns, in its own order.
    pub columns: Vec<String>,
    /// How they are made; a source has none.
    pub stream: Option<Stream>,
    /// The greatest width that divides the grain of every window which its rows
    /// go into; zero if they go into none.
    pub grain: Duration,
}

/// The planned relations of a pipeline.
pub struct Program {
    pub(super) catalog: Catalog,
    pub(super) plans: BTreeMap<String, LogicalPlan>,
    /// Of queries whose windows may come out more than once.
    pub(super) emissions: BTreeMap<String, Emission>,
    /// The SQL that `metrics` blocks stand for.
    pub(super) metrics: BTreeMap<String, String>,
    /// The measures of these, each as if it were alone.
    pub(super) measures: BTreeMap<String, BTreeMap<String, LogicalPlan>>,
    /// The parts of steps that are no plan of DataFusion's.
    pub(super) ordered: BTreeMap<String, Ordered>,
    /// Those that could be planned, inputs first.
    pub(super) order: Vec<String>,
    pub(super) faults: Vec<Fault>,
}

impl Program {
    /// Plans every definition; what is wrong is in [`Program::faults`]. Of a
    /// name that `is_unreadable`, nothing can be said, so whatever reads it is
    /// left unplanned without a word.
    pub fn plan(
        definitions: &BTreeMap<String, Definition>,
        is_unreadable: impl Fn(&str) -> bool,
    ) -> Self {
        Planning::new(definitions, &is_unreadable).run()
    }

    /// What is wrong.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The SQL that each `metrics` block stands for.
    pub fn metrics(&self) -> &BTreeMap<String, String> {
        &self.metrics
    }

    /// The relations that could be planned.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The relation `name`, if it could be planned.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.catalog.relation(name)
    }

    /// Adds a relation that no other one reads, and that something else makes.
    pub fn add(&mut self, name: &str, relation: Relation) {
        self.catalog.add(name, relation);
    }

    /// What each relation must deliver so that all columns of `outputs` can be
    /// written, and so that `exact` can be read with the watermark of each instant,
    /// a relation and its columns; inputs first. Relations that none of them reads
    /// are left out.
    ///
    /// # Errors
    /// A plan that can no longer run after it was optimized; the relation's
    /// name comes with it.
    pub fn needs(
        &self,
        outputs: &BTreeSet<String>,
        exact: Option<(&str, &[String])>,
    ) -> Result<Vec<Needs>, Fault> {
        let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
        for output in outputs {
            if let Some(relation) = self.relation(output) {
                let all = relation.schema.fields().iter();
                wanted
                    .entry(output.clone())
                    .or_default()
                    .columns
                    .extend(all.map(|field| field.name().clone()));
            }
        }
        if let Some((relation, columns)) = exact {
            let read = wanted.entry(relation.to_owned()).or_default();
            read.columns.extend(columns.iter().cloned());
            read.grain = EXACT;
        }
        let mut needs = Vec::new();
        for name in self.order.iter().rev() {
            let (Some(relation), Some(wanted_here)) = (self.relation(name), wanted.remove(name))
            else {
                continue;
            };
            let grain = wanted_here.grain;
            let columns = self.columns_of(name, relation, &wanted_here);
            let stream = self.stream(name, relation, &columns)?;
            if let Some(stream) = &stream {
                stream.scans(grain, &mut |scan, grain| {
                    let input = wanted.entry(scan.relation.clone()).or_default();
                    input.columns.extend(scan.columns.iter().cloned());
                    input.grain = common_grain(input.grain, grain);
                });
            }
            needs.push(Needs {
                relation: name.clone(),
                columns,
                stream,
                grain,
            });
        }
        needs.reverse();
        Ok(needs)
    }

    /// What determines the rows of `stream`, down to the sources, in one line.
    /// It does not depend on who else reads the relations on the way.
    ///
    /// # Errors
    /// As [`Program::needs`].
    pub fn definition(&self, stream: &Stream) -> Result<String, Fault> {
        let text = stream.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut definition = lines.join("; ");
        let mut scans = Vec::new();
        stream.scans(Duration::ZERO, &mut |scan, _| scans.push(scan.clone()));
        for scan in scans {
            if let Some(relation) = self.relation(&scan.relation)
                && let Some(input) = self.stream(&scan.relation, relation, &scan.columns)?
            {
                let input = self.definition(&input)?;
                definition = format!("{definition}; {} is {input}", scan.relation);
            }
        }
        Ok(definition)
    }

    /// As [`Program::definition`], of some columns of a relation; none of a source.
    ///
    /// # Errors
    /// As [`Program::needs`].
    pub fn definition_of(&self, name: &str, columns: &[&str]) -> Result<Option<String>, Fault> {
        let Some(relation) = self.relation(name) else {
            return Ok(None);
        };
        let fields = relation.schema.fields().iter().map(|field| field.name());
        let columns = fields.filter(|field| columns.contains(&field.as_str()));
        let columns: Vec<String> = columns.cloned().collect();
        let stream = self.stream(name, relation, &columns)?;
        stream.map(|stream| self.definition(&stream)).transpose()
    }

    /// What the groups of `windowed`, of `relation`, mean, besides its windows and its
    /// keys: the rows that make them. Those of a block of metrics come and go with its
    /// measures.
    ///
    /// # Errors
    /// As [`Program::needs`].
    pub fn grouping(&self, relation: &str, windowed: &Windowed) -> Result<String, Fault> {
        if self.measures.contains_key(relation) {
            return Ok("measures".to_owned());
        }
        self.definition(&windowed.input.narrowed(&windowed.reads(None)))
    }

    /// The rows of which an aggregate of `windowed` is, as
    /// [`Program::definition`] says it.
    ///
    /// # Errors
    /// As [`Program::needs`].
    pub fn aggregated(&self, windowed: &Windowed, aggregate: &Expr) -> Result<String, Fault> {
        self.definition(&windowed.input.narrowed(&windowed.reads(Some(aggregate))))
    }

    /// The measure of the block `relation` that an aggregate computes, and what it
    /// means; none of a query.
    ///
    /// # Errors
    /// As [`Program::needs`].
    pub fn measure(
        &self,
        relation: &str,
        aggregate: &Expr,
    ) -> Result<Option<(String, String)>, Fault> {
        let (Some(plans), Some(measure)) =
            (self.measures.get(relation), metrics::measure_of(aggregate))
        else {
            return Ok(None);
        };
        let Some(plan) = plans.get(&measure) else {
            return Ok(None);
        };
        let stream = self.walked(relation, plan.clone(), Emission::default())?;
        Ok(Some((measure, self.definition(&stream)?)))
    }

    /// The columns of sources that come out of a relation as its column, just as they
    /// are.
    pub fn carried_from(&self, name: &str, column: &str) -> Vec<(String, String)> {
        let of_source = || vec![(name.to_owned(), column.to_owned())];
        let Some(relation) = self.relation(name) else {
            return Vec::new();
        };
        match self.stream(name, relation, &[column.to_owned()]) {
            Ok(Some(stream)) => {
                let mut columns = stream.schema().fields().iter();
                let place = columns.position(|field| field.name() == column);
                place.map_or_else(Vec::new, |place| self.carried_through(&stream, place))
            }
            Ok(None) => of_source(),
            Err(_) => Vec::new(),
        }
    }

    /// As [`Program::carried_from`], of a column of `stream`.
    fn carried_through(&self, stream: &Stream, place: usize) -> Vec<(String, String)> {
        match stream {
            Stream::Scan(scan) => self.carried_from(&scan.relation, &scan.columns[place]),
            Stream::Map(map) => {
                let column = map.columns.as_ref().map(|columns| &columns[place]);
                let place = match column.map(|column| column.clone().unalias_nested().data) {
                    None => Some(place),
                    Some(Expr::Column(column)) => map.input.schema().maybe_index_of_column(&column),
                    Some(_) => None,
                };
                place.map_or_else(Vec::new, |place| self.carried_through(&map.input, place))
            }
            Stream::Union(union) => {
                let inputs = union.inputs.iter();
                inputs
                    .flat_map(|input| self.carried_through(input, place))
                    .collect()
            }
            Stream::Ordered(Ordered { input, .. }) | Stream::Lookup(Lookup { input, .. })
                if place < input.schema().fields().len() =>
            {
                self.carried_through(input, place)
            }
            _ => Vec::new(),
        }
    }

    /// What makes `columns` of a relation; nothing makes a source.
    fn stream(
        &self,
        name: &str,
        relation: &Relation,
        columns: &[String],
    ) -> Result<Option<Stream>, Fault> {
        if let Some(ordered) = self.ordered.get(name) {
            return Ok(Some(Stream::Ordered(ordered.clone())));
        }
        let plan = self.plans.get(name);
        plan.map(|plan| self.narrowed(name, plan, relation, columns))
            .transpose()
    }

    /// The columns that a relation delivers. The state of an aggregate is what its
    /// query says, whoever reads which of its columns, and so are the rows that a
    /// step holds back; every relation delivers one column at least, a source its
    /// event time.
    fn columns_of(&self, name: &str, relation: &Relation, wanted: &Wanted) -> Vec<String> {
        let all = relation.schema.fields().iter().zip(&relation.lineage);
        let is_state = relation.rows != Rows::Events || self.ordered.contains_key(name);
        let mut columns: Vec<String> = all
            .filter(|(field, lineage)| {
                is_state || **lineage == Lineage::EventTime || wanted.columns.contains(field.name())
            })
            .map(|(field, _)| field.name().clone())
            .collect();
        if columns.is_empty() {
            columns.extend(relation.schema.fields().first().map(|f| f.name().clone()));
        }
        columns
    }

    /// The stream that makes only `columns` of a relation.
    fn narrowed(
        &self,
        name: &str,
        plan: &LogicalPlan,
        relation: &Relation,
        columns: &[String],
    ) -> Result<Stream, Fault> {
        let planner = |error| fault(name, SqlError::of_planner(&error));
        let mut plan = plan.clone();
        if columns.len() < relation.schema.fields().len() {
            let columns = columns
                .iter()
                .map(|column| Expr::Column(Column::new_unqualified(column)));
            plan = LogicalPlanBuilder::from(plan)
                .project(columns)
                .and_then(LogicalPlanBuilder::build)
                .map_err(planner)?;
        }
        let emission = self.emissions.get(name).copied().unwrap_or_default();
        self.walked(name, plan, emission)
    }

    fn walked(&self, name: &str, plan: LogicalPlan, emission: Emission) -> Result<Stream, Fault> {
        let plan = optimize::optimize(plan, self.catalog.config())
            .map_err(|error| fault(name, SqlError::of_planner(&error)))?;
        plan::walk(&plan, emission, &self.catalog, Places::default())
            .map_err(|error| fault(name, error))
    }
}

fn fault(relation: &str, error: SqlError) -> Fault {
    Fault {
        relation: relation.to_owned(),
        part: Part::Query,
        error,
    }
}

#[derive(Debug, Default)]
struct Wanted {
    columns: BTreeSet<String>,
    grain: Duration,
}

/// The greatest width that divides both; zero stands for no width.
pub(super) fn common_grain(a: Duration, b: Duration) -> Duration {
    let (mut a, mut b) = (time::micros(a), time::micros(b));
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Duration::from_micros(a.unsigned_abs())
}
