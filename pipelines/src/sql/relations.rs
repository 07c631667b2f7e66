//! All relations of a pipeline: planned in the order of their needs, then asked
//! which columns each must deliver.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use tagflow_engine::time;
use tagflow_schemas::Column;

use super::{
    Catalog, Functions, Lineage, Relation, Rows, SqlError, Stream, optimize,
    parse::{self, ParsedQuery},
    plan::{self, Places, Planned},
    refuse, resolve,
};
use crate::diagnostic::closest;

/// What the pipeline file says of a relation.
#[derive(Debug, Clone)]
pub enum Definition {
    /// Rows from outside.
    Source {
        /// All columns.
        columns: Vec<Column>,
        /// The one with the event time.
        event_time: String,
    },
    /// Row by row.
    Step {
        /// The relation that it reads.
        from: String,
        /// Which rows go on.
        filter: Option<String>,
        /// The columns; those of `from`, if there are none.
        select: Option<Vec<SelectItem>>,
    },
    /// Streaming SQL.
    Query {
        /// The text.
        sql: String,
    },
}

/// A column of a step.
#[derive(Debug, Clone)]
pub struct SelectItem {
    /// Its name, where that is not in the text.
    pub name: Option<String>,
    /// An expression, with `AS` and a name where `name` gives none; or `*`.
    pub text: String,
}

/// Something wrong with one text of one relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The relation.
    pub relation: String,
    /// Which of its texts.
    pub part: Part,
    /// What, and where in that text.
    pub error: SqlError,
}

/// A text of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What it reads.
    From,
    /// The filter of a step.
    Where,
    /// The column of a step at this place.
    Select(usize),
    /// The SQL of a query.
    Query,
}

/// What a relation must deliver to those that read it.
#[derive(Debug, Clone)]
pub struct Needs {
    /// The relation.
    pub relation: String,
    /// Which of its columns, in its own order.
    pub columns: Vec<String>,
    /// How they are made; a source has none.
    pub stream: Option<Stream>,
    /// The greatest width that divides that of every window which its rows go
    /// into; zero if they go into none.
    pub grain: Duration,
}

/// The planned relations of a pipeline.
pub struct Program {
    catalog: Catalog,
    plans: BTreeMap<String, LogicalPlan>,
    /// Those that could be planned, inputs first.
    order: Vec<String>,
    faults: Vec<Fault>,
}

impl Program {
    /// Plans every definition; what is wrong is in [`Program::faults`]. Of a
    /// name that `is_unreadable`, nothing can be said, so whatever reads it is
    /// left unplanned without a word.
    pub fn plan(
        definitions: &BTreeMap<String, Definition>,
        is_unreadable: impl Fn(&str) -> bool,
    ) -> Self {
        let mut planning = Planning {
            definitions,
            is_unreadable: &is_unreadable,
            parsed: BTreeMap::new(),
            refused: BTreeSet::new(),
            visited: BTreeMap::new(),
            program: Self {
                catalog: Catalog::new(Functions::new()),
                plans: BTreeMap::new(),
                order: Vec::new(),
                faults: Vec::new(),
            },
        };
        planning.parse();
        for name in definitions.keys() {
            planning.visit(name, &mut Vec::new());
        }
        planning.program
    }

    /// What is wrong.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The relations that could be planned.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The relation `name`, if it could be planned.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.catalog.relation(name)
    }

    /// What each relation must deliver so that all columns of `outputs` can be
    /// written, inputs first. Relations that none of them reads are left out.
    ///
    /// # Errors
    /// A plan that can no longer run after it was optimized; the relation's
    /// name comes with it.
    pub fn needs(&self, outputs: &BTreeSet<String>) -> Result<Vec<Needs>, Fault> {
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
        let mut needs = Vec::new();
        for name in self.order.iter().rev() {
            let (Some(relation), Some(wanted_here)) = (self.relation(name), wanted.remove(name))
            else {
                continue;
            };
            let grain = wanted_here.grain;
            let columns = columns_of(relation, &wanted_here);
            let stream = match self.plans.get(name) {
                None => None,
                Some(plan) => Some(self.narrowed(name, plan, relation, &columns)?),
            };
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
            if let Some(plan) = self.plans.get(&scan.relation)
                && let Some(relation) = self.relation(&scan.relation)
            {
                let input = self.narrowed(&scan.relation, plan, relation, &scan.columns)?;
                let input = self.definition(&input)?;
                definition.push_str(&format!("; {} is {input}", scan.relation));
            }
        }
        Ok(definition)
    }

    /// The stream that makes only `columns` of a relation.
    fn narrowed(
        &self,
        name: &str,
        plan: &LogicalPlan,
        relation: &Relation,
        columns: &[String],
    ) -> Result<Stream, Fault> {
        let fault = |error: SqlError| Fault {
            relation: name.to_owned(),
            part: Part::Query,
            error,
        };
        let planner = |error| fault(SqlError::of_planner(&error));
        let mut plan = plan.clone();
        if columns.len() < relation.schema.fields().len() {
            let columns = columns
                .iter()
                .map(|column| Expr::Column(datafusion::common::Column::new_unqualified(column)));
            plan = LogicalPlanBuilder::from(plan)
                .project(columns)
                .and_then(LogicalPlanBuilder::build)
                .map_err(planner)?;
        }
        let plan = optimize::optimize(plan, self.catalog.config()).map_err(planner)?;
        plan::walk(&plan, &self.catalog, Places::default()).map_err(fault)
    }
}

#[derive(Debug, Default)]
struct Wanted {
    columns: BTreeSet<String>,
    grain: Duration,
}

/// The columns that a relation delivers. The state of an aggregate is what its
/// query says, whoever reads which of its columns; and every relation delivers
/// one column at least, a source its event time.
fn columns_of(relation: &Relation, wanted: &Wanted) -> Vec<String> {
    let all = relation.schema.fields().iter().zip(&relation.lineage);
    let mut columns: Vec<String> = all
        .filter(|(field, lineage)| {
            relation.rows == Rows::Windows
                || **lineage == Lineage::EventTime
                || wanted.columns.contains(field.name())
        })
        .map(|(field, _)| field.name().clone())
        .collect();
    if columns.is_empty() {
        columns.extend(relation.schema.fields().first().map(|f| f.name().clone()));
    }
    columns
}

/// The greatest width that divides both; zero stands for no width.
fn common_grain(a: Duration, b: Duration) -> Duration {
    let (mut a, mut b) = (time::micros(a), time::micros(b));
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Duration::from_micros(a.unsigned_abs())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    Open,
    Done,
}

struct Planning<'a> {
    is_unreadable: &'a dyn Fn(&str) -> bool,
    definitions: &'a BTreeMap<String, Definition>,
    parsed: BTreeMap<&'a str, ParsedQuery>,
    /// Queries that cannot run, as their text shows.
    refused: BTreeSet<&'a str>,
    visited: BTreeMap<&'a str, Visit>,
    program: Program,
}

impl<'a> Planning<'a> {
    fn parse(&mut self) {
        for (name, definition) in self.definitions {
            let Definition::Query { sql } = definition else {
                continue;
            };
            match parse::query(sql) {
                Ok(parsed) => {
                    for error in refuse::refuse(&parsed.query, self.program.catalog.functions()) {
                        self.refused.insert(name);
                        self.fault(name, Part::Query, error);
                    }
                    self.parsed.insert(name, parsed);
                }
                Err(error) => self.fault(name, Part::Query, error),
            }
        }
    }

    fn fault(&mut self, relation: &str, part: Part, error: SqlError) {
        self.program.faults.push(Fault {
            relation: relation.to_owned(),
            part,
            error,
        });
    }

    /// Plans `name` after what it reads; `path` is who asks.
    fn visit(&mut self, name: &'a str, path: &mut Vec<&'a str>) {
        let Some((name, definition)) = self.definitions.get_key_value(name) else {
            return;
        };
        if self.visited.contains_key(name.as_str()) {
            return;
        }
        self.visited.insert(name, Visit::Open);
        path.push(name);
        let ready = self.inputs(name, definition, path);
        path.pop();
        self.visited.insert(name, Visit::Done);
        if !ready {
            return;
        }
        match definition {
            Definition::Source {
                columns,
                event_time,
            } => {
                let relation = source(columns, event_time);
                self.program.catalog.add(name, relation);
                self.program.order.push(name.clone());
            }
            Definition::Step {
                from,
                filter,
                select,
            } => {
                let catalog = &self.program.catalog;
                match resolve::step(from, filter.as_deref(), select.as_deref(), catalog) {
                    Ok(planned) => self.planned(name, planned),
                    Err(faults) => {
                        for (part, error) in faults {
                            self.fault(name, part, error);
                        }
                    }
                }
            }
            Definition::Query { .. } => self.query(name),
        }
    }

    fn query(&mut self, name: &str) {
        let Some(parsed) = self.parsed.remove(name) else {
            return;
        };
        if self.refused.contains(name) {
            return;
        }
        match plan::query(parsed.query, &self.program.catalog) {
            Ok(planned) => self.planned(name, planned),
            Err(error) => self.fault(name, Part::Query, error),
        }
    }

    fn planned(&mut self, name: &str, planned: Planned) {
        self.program.catalog.add(name, planned.relation);
        self.program.plans.insert(name.to_owned(), planned.plan);
        self.program.order.push(name.to_owned());
    }

    /// Plans what `name` reads; false if any of it cannot be planned.
    fn inputs(&mut self, name: &str, definition: &'a Definition, path: &mut Vec<&'a str>) -> bool {
        let (reads, part) = match definition {
            Definition::Source { .. } => return true,
            Definition::Step { from, .. } => (vec![(from.clone(), None)], Part::From),
            Definition::Query { .. } => match self.parsed.get(name) {
                Some(parsed) => {
                    let reads = parsed.reads.iter();
                    (
                        reads
                            .map(|(name, place)| (name.clone(), Some(*place)))
                            .collect(),
                        Part::Query,
                    )
                }
                None => return false,
            },
        };
        let mut ready = true;
        for (read, place) in reads {
            // A dotted name is refused with the rest of the text.
            if read.contains('.') {
                continue;
            }
            let definitions = self.definitions;
            let Some((read, _)) = definitions.get_key_value(&read) else {
                ready = false;
                // What a step reads is checked with the rest of the file.
                if (self.is_unreadable)(&read) || part == Part::From {
                    continue;
                }
                let error = self.unknown(&read, name).at_token_if(place);
                self.fault(name, part.clone(), error);
                continue;
            };
            if self.visited.get(read.as_str()) == Some(&Visit::Open) {
                ready = false;
                if self.is_circle_of_steps(read, path) {
                    continue;
                }
                let error = cycle(read, path).at_token_if(place);
                self.fault(name, part.clone(), error);
                continue;
            }
            self.visit(read, path);
            ready &= self.program.relation(read).is_some();
        }
        ready
    }

    /// Those are found with the rest of the file.
    fn is_circle_of_steps(&self, read: &str, path: &[&str]) -> bool {
        let is_step =
            |name: &&str| matches!(self.definitions.get(*name), Some(Definition::Step { .. }));
        path.iter().skip_while(|name| **name != read).all(is_step)
    }

    fn unknown(&self, wrong: &str, reader: &str) -> SqlError {
        let names = || {
            let others = self.definitions.keys().map(String::as_str);
            others.filter(move |name| *name != reader)
        };
        let have: Vec<&str> = names().collect();
        let error = SqlError::new(format!(
            "nothing is called `{wrong}` (have: {})",
            have.join(", ")
        ));
        match closest(wrong, names()) {
            Some(name) => error.help(format!("did you mean `{name}`?")),
            None => error,
        }
    }
}

fn cycle(read: &str, path: &[&str]) -> SqlError {
    let from = path.iter().position(|name| *name == read).unwrap_or(0);
    let mut names: Vec<String> = path[from..]
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    names.push(format!("`{read}`"));
    SqlError::new(format!("a circle: {}", names.join(" reads ")))
        .help("one of them must read something else")
}

fn source(columns: &[Column], event_time: &str) -> Relation {
    // A row without event time is a dead letter, so the column has no nulls.
    let columns: Vec<Column> = columns
        .iter()
        .map(|column| Column {
            nullable: column.nullable && column.name != event_time,
            ..column.clone()
        })
        .collect();
    let lineage = |column: &Column| match column.name == event_time {
        true => Lineage::EventTime,
        false => Lineage::Plain,
    };
    Relation {
        schema: Arc::clone(&Column::schema(&columns)),
        lineage: columns.iter().map(lineage).collect(),
        rows: Rows::Events,
    }
}
