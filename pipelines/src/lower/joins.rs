//! Translates joins of two streams, and rankings, into operators that buffer rows.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow::{
    compute::SortOptions,
    datatypes::{Field, Schema},
};
use datafusion::{
    common::{DFSchema, JoinType},
    logical_expr::Expr,
};
use tagflow_engine::{
    Error, Port, Result,
    graph::{NodeId, NodeKind, OperatorNode, Partitioning},
    operator::OperatorFactory,
};
use tagflow_operators::{
    expr::{can_fail, condition, physical},
    join::{Alone, Bound, JoinSide, JoinSpec},
    top_n::{self, TopSpec},
};

use super::{
    Lowering, SizeOf,
    flow::{Computed, Flow, Offsets, column_name},
    streams::Place,
};
use crate::sql::{EVENT_GRAIN, Join, JoinBound, Rows, Stream, Top};

/// A map whose rows are buffered.
struct Held {
    node: NodeId,
    schema: Arc<Schema>,
    /// The columns with personal data.
    personal: BTreeSet<String>,
}

impl Lowering<'_> {
    pub(super) fn join(&mut self, place: Place<'_>, join: &Join) -> Result<Flow> {
        let relation = place.relation();
        let grain = match join.bound {
            JoinBound::Window(_) => Duration::ZERO,
            JoinBound::Interval { .. } => EVENT_GRAIN,
        };
        let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let times = match &join.bound {
            JoinBound::Window(columns) | JoinBound::Interval { columns, .. } => columns,
        };
        // Rows that only a window reads are identified by the columns of their join. Another column
        // may be missing in rows that were buffered before it was read: it is null.
        let needed = match place {
            Place::Top(_) => (0..join.schema.fields().len()).collect(),
            Place::Input(_) => join.reads(),
        };
        let sides = [(&join.left, left_keys), (&join.right, right_keys)];
        let mut inputs = Vec::new();
        let mut first = 0;
        for (number, (stream, keys)) in sides.into_iter().enumerate() {
            let columns = stream.schema().fields().len();
            let optional = (0..columns).filter(|place| !needed.contains(&(first + place)));
            let optional = optional.collect();
            first += columns;
            let name = format!("{relation}.{}", ["left", "right"][number]);
            let Held {
                node,
                schema,
                personal,
            } = self.held_input(relation, &name, stream, &keys, &optional, grain)?;
            let time = stream.schema().index_of_column(&times[number]);
            let time = time.map_err(|error| {
                Error::internal("the time of a join is not there").with_source(error)
            })?;
            let is_kept = match number {
                0 => matches!(join.kind, JoinType::Left | JoinType::Full),
                _ => matches!(join.kind, JoinType::Right | JoinType::Full),
            };
            let side = JoinSide {
                columns,
                keys: keys.len(),
                input: schema,
                personal,
                time,
                alone: if is_kept { Alone::Emit } else { Alone::Drop },
            };
            inputs.push((node, side));
        }
        let [(left, left_side), (right, right_side)]: [(NodeId, JoinSide); 2] =
            inputs
                .try_into()
                .map_err(|_| Error::internal("a join has two sides"))?;

        let mut fields = Vec::new();
        let mut personal = BTreeSet::new();
        for (side, other) in [(&left_side, &right_side), (&right_side, &left_side)] {
            for field in &side.input.fields()[..side.columns] {
                let name = column_name(&join.schema, fields.len());
                let nullable = field.is_nullable() || other.alone == Alone::Emit;
                if side.personal.contains(field.name()) {
                    personal.insert(name.clone());
                }
                fields.push(Field::new(name, field.data_type().clone(), nullable));
            }
        }
        let flow = Flow {
            ends: Vec::new(),
            schema: Arc::new(Schema::new(fields)),
            rows: match join.bound {
                JoinBound::Window(_) => Rows::Windows,
                JoinBound::Interval { .. } => Rows::Pairs,
            },
            personal,
        };
        let columns = flow.resolved(&join.schema)?;
        let on = join.condition.as_ref();
        let on = on.map(|on| condition(on, &columns)).transpose()?;
        let can_fail = on.as_ref().is_some_and(|on| can_fail(on, &flow.schema));
        let ends = vec![left, right];
        let errors = self.row_errors(&Flow {
            ends,
            ..flow.clone()
        });
        let spec = JoinSpec {
            pipeline: Arc::clone(&self.pipeline),
            query: Arc::from(relation),
            bound: match join.bound {
                JoinBound::Window(_) => Bound::Window,
                JoinBound::Interval { min_us, max_us, .. } => Bound::Interval { min_us, max_us },
            },
            condition: on,
            output: Arc::clone(&flow.schema),
            errors: errors.clone(),
            sides: [left_side, right_side],
        };
        let inputs = [
            (left, spec.sides[0].hash_columns()),
            (right, spec.sides[1].hash_columns()),
        ];
        let stream = Stream::Join(join.narrowed(&needed));
        let of = spec.clone();
        let size: SizeOf = Box::new(move |load| of.size(load));
        let node = self.holder(relation, &stream, spec.factory(), size, &inputs)?;
        if can_fail {
            self.rejects(node, &errors);
        }
        Ok(Flow {
            ends: vec![node],
            ..flow
        })
    }

    pub(super) fn top(&mut self, place: Place<'_>, top: &Top) -> Result<Flow> {
        let relation = place.relation();
        let name = format!("{relation}.input");
        let none = BTreeSet::new();
        let held = self.held_input(relation, &name, &top.input, &[], &none, Duration::ZERO)?;
        let (input, schema) = (held.node, held.schema);
        let flow = Flow {
            ends: vec![input],
            schema: Arc::clone(&schema),
            rows: Rows::Windows,
            personal: held.personal.clone(),
        };
        let columns = flow.resolved(top.input.schema())?;
        let limit = top.limit;
        let limit = limit.ok_or_else(|| Error::internal("a ranking without a limit"))?;
        let mut fields: Vec<Field> = Vec::new();
        for index in 0..top.schema.fields().len() {
            let field = match schema.fields().get(index) {
                Some(field) => field.as_ref().clone(),
                None => top.schema.field(index).as_ref().clone(),
            };
            fields.push(field.with_name(column_name(&top.schema, index)));
        }
        let order = top.order.iter().map(|sort| {
            let options = SortOptions {
                descending: !sort.asc,
                nulls_first: sort.nulls_first,
            };
            Ok((physical(&sort.expr, &columns)?, options))
        });
        let spec = TopSpec {
            pipeline: Arc::clone(&self.pipeline),
            query: Arc::from(relation),
            input: schema,
            personal: held.personal.clone(),
            window: top.window,
            partition: top.partition.clone(),
            order: order.collect::<Result<_>>()?,
            limit,
            output: Arc::new(Schema::new(fields)),
            errors: self.row_errors(&flow),
        };
        let (can_fail, errors) = (spec.can_fail(), spec.errors.clone());
        let output = Arc::clone(&spec.output);
        let inputs = [(input, top.partition.clone())];
        let stream = Stream::Top(top.clone());
        let of = spec.clone();
        let size: SizeOf = Box::new(move |load| of.size(load));
        let node = self.holder(relation, &stream, top_n::factory(spec), size, &inputs)?;
        if can_fail {
            self.rejects(node, &errors);
        }
        Ok(Flow {
            ends: vec![node],
            schema: output,
            rows: Rows::Windows,
            personal: held.personal,
        })
    }

    /// A map with exactly the columns of `stream`, then `keys`, then the offset if rows have one.
    /// These are buffered, and shown in late rows. The columns at `optional` may be missing in
    /// restored rows.
    fn held_input(
        &mut self,
        relation: &str,
        name: &str,
        stream: &Stream,
        keys: &[Expr],
        optional: &BTreeSet<usize>,
        grain: Duration,
    ) -> Result<Held> {
        let input = self.stream(Place::Input(relation), stream, grain, None)?;
        let columns = input.resolved(stream.schema())?;
        let mut computed = Vec::new();
        for (index, column) in stream.schema().columns().into_iter().enumerate() {
            let name = column_name(stream.schema(), index);
            let mut column = compute(Expr::Column(column), name, &columns)?;
            if optional.contains(&index) {
                let field = column.field.as_ref().clone().with_nullable(true);
                column.field = Arc::new(field);
            }
            computed.push(column);
        }
        for (index, key) in keys.iter().enumerate() {
            let key = key.clone().unalias_nested().data;
            computed.push(compute(key, format!("_key_{index}"), &columns)?);
        }
        let shown = computed
            .iter()
            .filter(|column| input.is_personal(&column.expr));
        let personal = shown.map(|column| column.field.name().clone()).collect();
        let spec = input.map(&columns, None, computed, Offsets::Keep)?;
        let schema = Arc::clone(&spec.schema);
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|it| it.name().as_str())
            .collect();
        let label = format!("columns {}", names.join(", "));
        let node = self.add_map(name, label, spec, &input);
        self.forward(&input.ends, node);
        Ok(Held {
            node,
            schema,
            personal,
        })
    }

    /// Adds an operator that buffers rows of `inputs`, which are partitioned by the hash of some
    /// columns.
    fn holder(
        &mut self,
        relation: &str,
        stream: &Stream,
        factory: OperatorFactory,
        size: SizeOf,
        inputs: &[(NodeId, Vec<usize>)],
    ) -> Result<NodeId> {
        // The definition of the input is part of the state's fingerprint.
        let definition = self.program.definition(stream);
        let definition = definition.map_err(|fault| Error::config(fault.error.message))?;
        let name = self.free(relation);
        let operator = OperatorNode {
            factory,
            fingerprint: Some(definition),
        };
        let label = stream.headline();
        self.sizes.insert(name.clone(), size);
        let node = self.graph.add(name, label, NodeKind::Operator(operator));
        for (port, (input, columns)) in (0..).map(Port).zip(inputs) {
            let by_key = Partitioning::Hash(columns.clone());
            self.graph
                .connect((*input, Port::MAIN), (node, port), by_key);
        }
        self.windows.push(node);
        Ok(node)
    }
}

fn compute(expr: Expr, name: String, columns: &DFSchema) -> Result<Computed> {
    let field = physical(&expr, columns)?
        .return_field(columns.as_arrow())
        .map_err(|error| Error::config(format!("cannot compute `{expr}`")).with_source(error))?;
    let field = Field::new(name, field.data_type().clone(), field.is_nullable());
    Ok(Computed {
        expr,
        field: Arc::new(field),
    })
}
