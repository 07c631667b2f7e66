//! Plans all relations of a pipeline, in the order of their dependencies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tagflow_operators::window::Emission;
use tagflow_schemas::Column;

use super::{
    Catalog, Definition, Fault, Functions, Lineage, Part, Program, Relation, Rows, SqlError,
    metrics::{self, PlannedMetrics},
    parse::{self, ParsedQuery},
    plan::{self, Planned},
    resolve, stages, unsupported,
};
use tagflow_config::diagnostic::closest;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    Open,
    Done,
}

impl Program {
    /// Plans every definition; errors are in [`Program::faults`]. Definitions
    /// that read a name that `is_unreadable` are left unplanned, and cause no
    /// fault.
    pub fn plan(
        definitions: &BTreeMap<String, Definition>,
        is_unreadable: impl Fn(&str) -> bool,
    ) -> Self {
        Planning::new(definitions, &is_unreadable).run()
    }
}

/// Plans relations, each after its inputs.
struct Planning<'a> {
    is_unreadable: &'a dyn Fn(&str) -> bool,
    definitions: &'a BTreeMap<String, Definition>,
    parsed: BTreeMap<&'a str, ParsedQuery>,
    /// Queries that cannot run, judging by their text.
    refused: BTreeSet<&'a str>,
    visited: BTreeMap<&'a str, Visit>,
    program: Program,
}

impl<'a> Planning<'a> {
    fn new(
        definitions: &'a BTreeMap<String, Definition>,
        is_unreadable: &'a dyn Fn(&str) -> bool,
    ) -> Self {
        Self {
            is_unreadable,
            definitions,
            parsed: BTreeMap::new(),
            refused: BTreeSet::new(),
            visited: BTreeMap::new(),
            program: Program {
                catalog: Catalog::new(Functions::new()),
                plans: BTreeMap::new(),
                emissions: BTreeMap::new(),
                metrics: BTreeMap::new(),
                measures: BTreeMap::new(),
                ordered: BTreeMap::new(),
                order: Vec::new(),
                faults: Vec::new(),
                warnings: Vec::new(),
            },
        }
    }

    fn run(mut self) -> Program {
        self.parse();
        for name in self.definitions.keys() {
            self.visit(name, &mut Vec::new());
        }
        self.program
    }

    fn parse(&mut self) {
        for (name, definition) in self.definitions {
            let Definition::Query { sql, .. } = definition else {
                continue;
            };
            match parse::query(sql) {
                Ok(parsed) => {
                    for error in
                        unsupported::refuse(&parsed.query, self.program.catalog.functions())
                    {
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

    /// Plans `name` after its inputs; `path` contains its readers.
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
            Definition::Table { columns, key } => {
                let relation = Relation {
                    schema: Column::schema(columns),
                    lineage: vec![Lineage::Plain; columns.len()],
                    rows: Rows::Events,
                    upsert: None,
                };
                let catalog = &mut self.program.catalog;
                catalog.add_table(name, relation, key.clone());
            }
            Definition::Step {
                from,
                called,
                filter,
                select,
            } => {
                let (filter, select) = (filter.as_deref(), select.as_deref());
                let catalog = &self.program.catalog;
                match resolve::step(from, called, filter, select, catalog) {
                    Ok(planned) => self.planned(name, planned),
                    Err(faults) => self.faults(name, faults),
                }
            }
            Definition::Flagged {
                from,
                user_agent,
                column,
            } => {
                let catalog = &self.program.catalog;
                match stages::flagged(from, user_agent.as_deref(), column, catalog) {
                    Ok(planned) => self.planned(name, planned),
                    Err(faults) => self.faults(name, faults),
                }
            }
            Definition::Ordered { from, key, rule } => {
                match stages::ordered(from, key, rule, &self.program.catalog) {
                    Ok((ordered, relation)) => {
                        self.program.catalog.add(name, relation);
                        self.program.ordered.insert(name.clone(), ordered);
                        self.program.order.push(name.clone());
                    }
                    Err(faults) => self.faults(name, faults),
                }
            }
            Definition::Query { emission, .. } => self.query(name, *emission),
            Definition::Metrics(block) => match metrics::plan(block, &self.program.catalog) {
                Ok(PlannedMetrics {
                    sql,
                    emission,
                    planned,
                    measures,
                }) => {
                    self.program.emissions.insert(name.clone(), emission);
                    self.program.metrics.insert(name.clone(), sql);
                    self.program.measures.insert(name.clone(), measures);
                    self.planned(name, planned);
                }
                Err(faults) => self.faults(name, faults),
            },
        }
    }

    fn faults(&mut self, relation: &str, faults: Vec<(Part, SqlError)>) {
        for (part, error) in faults {
            self.fault(relation, part, error);
        }
    }

    fn query(&mut self, name: &str, emission: Emission) {
        let Some(parsed) = self.parsed.remove(name) else {
            return;
        };
        if self.refused.contains(name) {
            return;
        }
        match plan::query(parsed.query, emission, &self.program.catalog) {
            Ok(planned) => {
                self.program.emissions.insert(name.to_owned(), emission);
                self.planned(name, planned);
            }
            Err(error) => self.fault(name, Part::Query, error),
        }
    }

    fn planned(&mut self, name: &str, planned: Planned) {
        let warnings = planned.warnings.into_iter();
        self.program.warnings.extend(warnings.map(|error| Fault {
            relation: name.to_owned(),
            part: Part::Query,
            error,
        }));
        self.program.catalog.add(name, planned.relation);
        self.program.plans.insert(name.to_owned(), planned.plan);
        self.program.order.push(name.to_owned());
    }

    /// Plans the inputs of `name`; false if an input cannot be planned.
    fn inputs(&mut self, name: &str, definition: &'a Definition, path: &mut Vec<&'a str>) -> bool {
        let (reads, part) = match definition {
            Definition::Source { .. } | Definition::Table { .. } => return true,
            Definition::Step { from, .. }
            | Definition::Flagged { from, .. }
            | Definition::Ordered { from, .. } => (vec![(from.clone(), None)], Part::From),
            Definition::Metrics(metrics) => {
                let reads = metrics.measures.iter();
                let reads: BTreeSet<&str> = reads.map(|(_, it)| it.from.as_str()).collect();
                let reads = reads.into_iter().map(|read| (read.to_owned(), None));
                (reads.collect(), Part::From)
            }
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
            if part == Part::Query && read.contains('.') {
                continue;
            }
            let definitions = self.definitions;
            let Some((read, found)) = definitions.get_key_value(&read) else {
                ready = false;
                // The input of a step is checked with the rest of the file.
                if (self.is_unreadable)(&read) || part == Part::From {
                    continue;
                }
                let error = self.unknown(&read, name).at_token_if(place);
                self.fault(name, part.clone(), error);
                continue;
            };
            // As above.
            if part == Part::From && matches!(found, Definition::Table { .. }) {
                ready = false;
                continue;
            }
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

    /// Such cycles are found with the rest of the file.
    fn is_circle_of_steps(&self, read: &str, path: &[&str]) -> bool {
        let is_step = |name: &&str| {
            let definition = self.definitions.get(*name);
            !matches!(
                definition,
                None | Some(Definition::Query { .. } | Definition::Metrics(_))
            )
        };
        path.iter().skip_while(|name| **name != read).all(is_step)
    }

    fn unknown(&self, wrong: &str, reader: &str) -> SqlError {
        let names = || {
            let others = self.definitions.keys().map(String::as_str);
            // Only names of parts of steps contain a dot.
            others.filter(move |name| *name != reader && !name.contains('.'))
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
    let lineage = |column: &Column| {
        if column.name == event_time {
            Lineage::EventTime
        } else {
            Lineage::Plain
        }
    };
    Relation {
        schema: Arc::clone(&Column::schema(&columns)),
        lineage: columns.iter().map(lineage).collect(),
        rows: Rows::Events,
        upsert: None,
    }
}
