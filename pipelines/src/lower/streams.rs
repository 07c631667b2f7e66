//! Translates steps and queries, each a [`Stream`], into operators.

use std::{fmt::Write, sync::Arc, time::Duration};

use arrow::datatypes::{Field, IntervalMonthDayNano, Schema, SchemaRef};
use datafusion::{
    common::{Column, DFSchema, DataFusionError, ScalarValue},
    functions::core::expr_fn::get_field,
    logical_expr::{Expr, ExprSchemable},
    prelude::lit,
};
use tagflow_engine::{
    Error, Port, Result,
    graph::{NodeId, NodeKind, OperatorNode, Partitioning},
};
use tagflow_operators::{
    expr::physical,
    map::{self, MapSpec},
    window::{Aggregate, Aggregation, AggregationSpec, Key},
};

use super::{
    Lowering,
    flow::{Computed, Flow, Offsets, column_name},
};
use crate::sql::{EXACT, Fault, Map, Needs, Rows, Stream, Union, Windowed};

/// The role of a node in a relation, for its name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// Its rows are those of the relation, or become so without a window.
    Top(&'a str),
    /// A window reads its rows.
    Input(&'a str),
}

impl<'a> Place<'a> {
    pub(super) fn relation(self) -> &'a str {
        match self {
            Self::Top(relation) | Self::Input(relation) => relation,
        }
    }
}

/// The event time of rows whose time is a window's.
const WINDOW_TIME: &str = "_window_time";

/// The required shape of rows where several streams merge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape<'a> {
    columns: &'a Schema,
    offsets: Offsets,
}

impl Lowering<'_> {
    /// Adds a step or query.
    pub(super) fn relation(&mut self, needs: &Needs, stream: &Stream) -> Result<()> {
        let place = Place::Top(&needs.relation);
        let flow = self.stream(place, stream, needs.grain, None)?;
        self.flows.insert(needs.relation.clone(), flow);
        Ok(())
    }

    /// `grain` is zero if no window reads the rows.
    pub(super) fn stream(
        &mut self,
        place: Place<'_>,
        stream: &Stream,
        grain: Duration,
        shape: Option<Shape<'_>>,
    ) -> Result<Flow> {
        match stream {
            Stream::Map(map) => self.map(place, map, grain, shape),
            // A map gives the rows the required shape.
            other if shape.is_some() => self.map(place, &as_map(other.clone()), grain, shape),
            Stream::Scan(scan) => self.flows.get(&scan.relation).cloned().ok_or_else(|| {
                Error::internal(format!("`{}` is read before it is made", scan.relation))
            }),
            Stream::Union(union) => self.union(place, union, grain),
            Stream::Ordered(ordered) => {
                let input = self.stream(place, &ordered.input, EXACT, None)?;
                self.ordered(place.relation(), ordered, &input)
            }
            Stream::Windowed(windowed) => self.windowed(place.relation(), windowed),
            Stream::Lookup(lookup) => self.lookup(place, lookup, grain),
            Stream::Join(join) => self.join(place, join),
            Stream::Top(top) => self.top(place, top),
        }
    }

    fn map(
        &mut self,
        place: Place<'_>,
        map: &Map,
        grain: Duration,
        shape: Option<Shape<'_>>,
    ) -> Result<Flow> {
        let input = self.stream(place, &map.input, grain, None)?;
        let columns = input.resolved(map.input.schema())?;
        let exprs: Vec<Expr> = map.columns.clone().unwrap_or_else(|| {
            let columns = map.input.schema().columns().into_iter();
            columns.map(Expr::Column).collect()
        });
        let mut computed = Vec::with_capacity(exprs.len());
        for (index, expr) in exprs.into_iter().enumerate() {
            let field = physical(&expr, &columns)?
                .return_field(columns.as_arrow())
                .map_err(|error| {
                    Error::config(format!("cannot compute `{expr}`")).with_source(error)
                })?;
            let field = match shape.and_then(|shape| shape.columns.fields().get(index)) {
                // Inputs may differ in whether a column has nulls.
                Some(shape) => Field::new(shape.name(), field.data_type().clone(), true),
                None => Field::new(
                    column_name(&map.schema, index),
                    field.data_type().clone(),
                    field.is_nullable(),
                ),
            };
            computed.push(Computed {
                expr,
                field: Arc::new(field),
            });
        }
        let offsets = shape.map_or(Offsets::Keep, |shape| shape.offsets);
        let shown = computed
            .iter()
            .filter(|column| input.is_personal(&column.expr));
        let personal = shown.map(|column| column.field.name().clone()).collect();
        let spec = input.map(&columns, map.filter.as_ref(), computed, offsets)?;
        let name = match place {
            Place::Input(relation) => format!("{relation}.input"),
            Place::Top(relation) if map.input.holds_rows() => format!("{relation}.select"),
            Place::Top(relation) => relation.to_owned(),
        };
        let schema = Arc::clone(&spec.schema);
        let label = Stream::Map(map.clone()).headline();
        let node = self.add_map(&name, label, spec, &input);
        self.forward(&input.ends, node);
        Ok(Flow {
            ends: vec![node],
            schema,
            rows: input.rows,
            personal,
        })
    }

    fn union(&mut self, place: Place<'_>, union: &Union, grain: Duration) -> Result<Flow> {
        // All inputs have the same shape, so rows have offsets only if all inputs have them.
        let has_offsets = union.inputs.iter().all(|input| self.has_offsets(input));
        let shape = Shape {
            columns: union.schema.as_arrow(),
            offsets: if has_offsets {
                Offsets::Keep
            } else {
                Offsets::Drop
            },
        };
        let mut flows = Vec::with_capacity(union.inputs.len());
        for input in &union.inputs {
            flows.push(self.stream(place, input, grain, Some(shape))?);
        }
        let rows = flows.iter().map(|flow| flow.rows).max();
        let rows = rows.unwrap_or(Rows::Events);
        let schema = flows.first().map(|flow| Arc::clone(&flow.schema));
        let schema = schema.ok_or_else(|| Error::internal("a union of nothing"))?;
        if flows.iter().any(|flow| flow.schema != schema) {
            return Err(Error::internal("the inputs of a union have several shapes"));
        }
        Ok(Flow {
            personal: flows
                .iter()
                .flat_map(|flow| flow.personal.clone())
                .collect(),
            ends: flows.into_iter().flat_map(|flow| flow.ends).collect(),
            schema,
            rows,
        })
    }

    /// Whether its rows carry their offset: rows of sources do, pairs and results of windows do
    /// not.
    fn has_offsets(&self, stream: &Stream) -> bool {
        match stream {
            Stream::Scan(scan) => {
                let flow = self.flows.get(&scan.relation);
                flow.is_some_and(Flow::has_offsets)
            }
            Stream::Join(_) | Stream::Windowed(_) => false,
            other => {
                let mut inputs = other.inputs().into_iter();
                inputs.all(|input| self.has_offsets(input))
            }
        }
    }

    fn windowed(&mut self, relation: &str, windowed: &Windowed) -> Result<Flow> {
        // The input has exactly the columns that the query reads, because late rows are shown.
        let place = Place::Input(relation);
        let mut input = self.stream(place, &windowed.input, windowed.grain(), None)?;
        let wanted = windowed.input.schema().fields().len() + usize::from(input.has_offsets());
        if input.schema.fields().len() > wanted {
            let narrow = as_map(windowed.input.as_ref().clone());
            input = self.map(place, &narrow, windowed.grain(), None)?;
        }
        let time = time_column(windowed)?;
        if windowed
            .time
            .get_type(windowed.input.schema())
            .map_err(unplannable)?
            .is_nested()
        {
            input = self.window_time(relation, &input, windowed, &time)?;
        }
        let columns = input.resolved(windowed.input.schema())?;
        let spec = self.aggregation(relation, windowed, &input, &columns)?;
        let window = Aggregation::new(spec)?;

        // The definition of the input is part of the state's fingerprint: a changed
        // WHERE means another state.
        let rows = self.program.grouping(relation, windowed).map_err(config)?;
        let fingerprint = Some(format!("{}; {rows}", window.fingerprint()));
        let name = self.free(relation);
        let aggregates = window.definitions();
        let aggregates = aggregates.map(|(name, definition)| (name.to_owned(), definition));
        self.aggregates.insert(name.clone(), aggregates.collect());
        let label = Stream::Windowed(windowed.clone()).headline();
        let partial = NodeKind::Operator(OperatorNode {
            factory: window.partial(),
            fingerprint: fingerprint.clone(),
        });
        let partial = self.graph.add(
            format!("{name}.partial"),
            format!("{label}, on each lane"),
            partial,
        );
        let finalize = NodeKind::Operator(OperatorNode {
            factory: window.finalize(),
            fingerprint,
        });
        let of = Arc::clone(&window);
        self.sizes
            .insert(name.clone(), Box::new(move |load| of.size(load)));
        let finalize = self.graph.add(name, label, finalize);
        self.forward(&input.ends, partial);
        if window.can_fail() {
            self.rejects(partial, window.errors());
        }
        if window.may_not_fit() {
            self.rejects(finalize, window.errors());
        }
        for port in [Port::MAIN, Port::SIDE] {
            let by_key = Partitioning::Hash(window.hash_columns());
            self.graph
                .connect((partial, port), (finalize, port), by_key);
        }
        self.windows.push(finalize);
        let schema = planned_names(windowed, &window.output_schema());
        // In the same order: the window, the keys, the aggregates.
        let computed = windowed.keys.iter().chain(&windowed.aggregates);
        let personal = schema.fields().iter().skip(1).zip(computed);
        let personal = personal
            .filter(|(_, expr)| input.is_personal(expr))
            .map(|(field, _)| field.name().clone())
            .collect();
        Ok(Flow {
            ends: vec![finalize],
            schema,
            rows: windowed.rows(),
            personal,
        })
    }

    /// Adds the event time of rows whose time is a window: its last instant.
    fn window_time(
        &mut self,
        relation: &str,
        input: &Flow,
        windowed: &Windowed,
        window: &Column,
    ) -> Result<Flow> {
        let columns = input.resolved(windowed.input.schema())?;
        let mut computed: Vec<Computed> = columns
            .iter()
            .map(|(qualifier, field)| Computed {
                expr: Expr::Column(Column::new(qualifier.cloned(), field.name())),
                field: Arc::clone(field),
            })
            .collect();
        let microsecond = IntervalMonthDayNano::new(0, 0, 1_000);
        let end = get_field(Expr::Column(window.clone()), "end");
        let last = end - lit(ScalarValue::IntervalMonthDayNano(Some(microsecond)));
        let kind = last.get_type(&columns).map_err(unplannable)?;
        computed.push(Computed {
            expr: last,
            field: Arc::new(Field::new(WINDOW_TIME, kind, false)),
        });
        let spec = input.map(&columns, None, computed, Offsets::Drop)?;
        let schema = Arc::clone(&spec.schema);
        let label = format!("the last instant of {}", window.name);
        let node = self.add_map(&format!("{relation}.time"), label, spec, input);
        self.forward(&input.ends, node);
        Ok(Flow {
            ends: vec![node],
            schema,
            rows: input.rows,
            personal: input.personal.clone(),
        })
    }

    fn aggregation(
        &self,
        relation: &str,
        windowed: &Windowed,
        input: &Flow,
        columns: &DFSchema,
    ) -> Result<AggregationSpec> {
        let time = match input.schema.index_of(WINDOW_TIME) {
            Ok(time) => time,
            Err(_) => input.schema.index_of(&time_column(windowed)?.name)?,
        };
        let groups = windowed.keys.len() + 1;
        let key_places = (0..groups).filter(|place| *place != windowed.window);
        let keys: Vec<Key> = key_places
            .zip(&windowed.keys)
            .map(|(place, key)| {
                Ok(Key {
                    expr: physical(&key.clone().unalias_nested().data, columns)?,
                    name: windowed.schema.field(place).name().clone(),
                })
            })
            .collect::<Result<_>>()?;
        let aggregates: Vec<Aggregate> = windowed
            .aggregates
            .iter()
            .map(|aggregate| self.aggregate(relation, windowed, aggregate, columns))
            .collect::<Result<_>>()?;
        let names = keys.iter().map(|key| &key.name);
        let names = names.chain(aggregates.iter().map(|aggregate| &aggregate.name));
        let computed = windowed.keys.iter().chain(&windowed.aggregates);
        let personal_results = computed.zip(names);
        let personal_results = personal_results
            .filter(|(expr, _)| input.is_personal(expr))
            .map(|(_, name)| name.clone())
            .collect();
        Ok(AggregationSpec {
            pipeline: Arc::clone(&self.pipeline),
            query: Arc::from(relation),
            input: Arc::clone(&input.schema),
            time,
            personal: input.personal.clone(),
            windows: windowed.windows.clone(),
            emission: windowed.emission,
            keys,
            aggregates,
            errors: self.row_errors(input),
            personal_results,
        })
    }

    fn aggregate(
        &self,
        relation: &str,
        windowed: &Windowed,
        expr: &Expr,
        columns: &DFSchema,
    ) -> Result<Aggregate> {
        let mut aggregate = Aggregate::new(expr, columns)?;
        let measure = self.program.measure(relation, expr).map_err(config)?;
        if let Some((name, definition)) = measure {
            aggregate.name = name;
            aggregate.definition = definition;
        } else {
            let rows = self.program.aggregated(windowed, expr).map_err(config)?;
            aggregate.name.clone_from(&aggregate.definition);
            let _ = write!(aggregate.definition, "; {rows}");
        }
        Ok(aggregate)
    }

    /// Adds a map of rows of `flow`.
    pub(super) fn add_map(
        &mut self,
        name: &str,
        label: String,
        mut spec: MapSpec,
        flow: &Flow,
    ) -> NodeId {
        let name = self.free(name);
        spec.errors = self.row_errors(flow);
        let can_fail = spec.can_fail(&flow.schema);
        let errors = spec.errors.clone();
        let operator = OperatorNode {
            factory: map::factory(spec),
            fingerprint: None,
        };
        let node = self.graph.add(name, label, NodeKind::Operator(operator));
        if can_fail {
            self.rejects(node, &errors);
        }
        node
    }

    /// Connects results with a node of the same lane.
    pub(super) fn forward(&mut self, from: &[NodeId], to: NodeId) {
        for from in from {
            let edge = ((*from, Port::MAIN), (to, Port::MAIN));
            self.graph.connect(edge.0, edge.1, Partitioning::Forward);
        }
    }

    /// `name`, with a number if several nodes have this name.
    pub(super) fn free(&self, name: &str) -> String {
        let taken = |name: &str| self.graph.nodes.iter().any(|node| *node.name == *name);
        let mut free = name.to_owned();
        let mut number = 1;
        while taken(&free) {
            number += 1;
            free = format!("{name}.{number}");
        }
        free
    }
}

/// The time column of a window.
fn time_column(windowed: &Windowed) -> Result<Column> {
    match windowed.time.clone().unalias_nested().data {
        Expr::Column(time) => Ok(time),
        _ => Err(Error::internal("the event time of a window is no column")),
    }
}

fn config(fault: Fault) -> Error {
    Error::config(fault.error.message)
}

fn unplannable(error: DataFusionError) -> Error {
    Error::internal("a window has no event time").with_source(error)
}

/// A map that keeps its input's columns.
fn as_map(input: Stream) -> Map {
    Map {
        schema: Arc::clone(input.schema()),
        input: Box::new(input),
        filter: None,
        columns: None,
    }
}

/// The operator's output (window, keys, aggregates) under the plan's names.
fn planned_names(windowed: &Windowed, output: &SchemaRef) -> SchemaRef {
    let groups = windowed.keys.len() + 1;
    let keys = (0..groups).filter(|place| *place != windowed.window);
    let aggregates = groups..windowed.schema.fields().len();
    let places = std::iter::once(windowed.window)
        .chain(keys)
        .chain(aggregates);
    let fields: Vec<Field> = places
        .zip(output.fields())
        .map(|(place, field)| {
            let name = windowed.schema.field(place).name();
            field.as_ref().clone().with_name(name)
        })
        .collect();
    Arc::new(Schema::new(fields))
}
