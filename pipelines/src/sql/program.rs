//! All relations of a pipeline, and which columns each must deliver.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use datafusion::{
    common::Column,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
};
use tagflow_operators::window::Emission;

use super::{
    Catalog, EXACT, Fault, Lineage, Lookup, Ordered, Part, Relation, Rows, SqlError, Stream,
    Windowed, grain::common_grain, metrics, optimize, places::Places, plan,
};

/// The required columns of a relation, for its readers.
#[derive(Debug, Clone)]
pub struct Needs {
    /// The relation.
    pub relation: String,
    /// The columns, in the relation's own order.
    pub columns: Vec<String>,
    /// Their plan; `None` for a source.
    pub stream: Option<Stream>,
    /// The greatest width that divides the grain of every window that reads its
    /// rows; zero if no window does.
    pub grain: Duration,
}

/// The planned relations of a pipeline.
pub struct Program {
    pub(super) catalog: Catalog,
    pub(super) plans: BTreeMap<String, LogicalPlan>,
    /// For queries whose windows may be emitted more than once.
    pub(super) emissions: BTreeMap<String, Emission>,
    /// The equivalent SQL of `metrics` blocks.
    pub(super) metrics: BTreeMap<String, String>,
    /// The measures of these, each as if it were alone.
    pub(super) measures: BTreeMap<String, BTreeMap<String, LogicalPlan>>,
    /// The parts of steps that DataFusion does not plan.
    pub(super) ordered: BTreeMap<String, Ordered>,
    /// The planned relations, inputs first.
    pub(super) order: Vec<String>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

impl Program {
    /// The errors.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Expressions that may have another meaning than their author expects.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The equivalent SQL of each `metrics` block.
    pub fn metrics(&self) -> &BTreeMap<String, String> {
        &self.metrics
    }

    /// The planned relations.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The relation `name`, if it could be planned.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.catalog.relation(name)
    }

    /// Adds a relation without readers whose rows have another origin.
    pub fn add(&mut self, name: &str, relation: Relation) {
        self.catalog.add(name, relation);
    }

    /// The required columns of each relation, inputs first: for all columns of `outputs`, and for
    /// `exact`, a relation and its columns that need the watermark of each instant. Unneeded
    /// relations are omitted.
    ///
    /// # Errors
    /// A plan that can no longer run after its optimization; the error includes the
    /// relation's name.
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

    /// The definition of the rows of `stream`, down to the sources, in one line. It does not depend
    /// on other readers of the relations between.
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

    /// Like [`Program::definition`], for some columns of a relation; `None` for a source.
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

    /// The definition of the groups of `windowed`, of `relation`, besides its windows and its keys:
    /// their rows. Groups of a block of metrics depend on its measures.
    ///
    /// # Errors
    /// As [`Program::needs`].
    pub fn grouping(&self, relation: &str, windowed: &Windowed) -> Result<String, Fault> {
        if self.measures.contains_key(relation) {
            return Ok("measures".to_owned());
        }
        self.definition(&windowed.input.narrowed(&windowed.reads(None)))
    }

    /// The definition of the input rows of an aggregate of `windowed`, as in
    /// [`Program::definition`].
    ///
    /// # Errors
    /// As [`Program::needs`].
    pub fn aggregated(&self, windowed: &Windowed, aggregate: &Expr) -> Result<String, Fault> {
        self.definition(&windowed.input.narrowed(&windowed.reads(Some(aggregate))))
    }

    /// The measure of the block `relation` that an aggregate computes, and its definition; `None`
    /// for a query.
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

    /// The columns of sources that a relation passes on unchanged as its column.
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

    /// Like [`Program::carried_from`], for a column of `stream`.
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

    /// The plan for `columns` of a relation; `None` for a source.
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

    /// The columns that a relation delivers. The state of an aggregate follows its query, whichever
    /// columns its readers need, and so do the rows that a step buffers. Every relation delivers at
    /// least one column, a source its event time.
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

    /// The plan for only `columns` of a relation.
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
