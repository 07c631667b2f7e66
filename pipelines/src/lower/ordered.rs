//! Translates the parts of steps that need the rows of a key in order: an
//! [`Ordered`](crate::sql::Ordered) stream becomes an operator.

use std::sync::Arc;

use tagflow_engine::{
    Error, Port, Result,
    graph::{NodeKind, OperatorNode, Partitioning},
};
use tagflow_operators::keyed::{self, OrderedSpec, Rule};

use super::{Lowering, flow::Flow};
use crate::sql::{Ordered, OrderedRule, Stream};

impl Lowering<'_> {
    /// Adds the operator of `relation` after `input`.
    pub(super) fn ordered(
        &mut self,
        relation: &str,
        stream: &Ordered,
        input: &Flow,
    ) -> Result<Flow> {
        let schema = &input.schema;
        let key = stream.key.iter().map(|column| schema.index_of(column));
        let key: Vec<usize> = key.collect::<Result<_, _>>()?;
        let rule = match &stream.rule {
            OrderedRule::Dedupe { within } => Rule::Dedupe { within: *within },
            OrderedRule::Rate {
                over,
                more_than,
                flag,
            } => Rule::Rate {
                over: *over,
                more_than: usize::try_from(*more_than)
                    .map_err(|_| Error::config("`more_than` is too large"))?,
                flag: schema.index_of(flag)?,
            },
            OrderedRule::Sessions { gap, column } => Rule::Sessions {
                gap: *gap,
                column: column.clone(),
            },
        };
        let is_never_late = matches!(rule, Rule::Rate { .. });
        let operator = keyed::Ordered::new(OrderedSpec {
            pipeline: Arc::clone(&self.pipeline),
            step: Arc::from(relation),
            input: Arc::clone(schema),
            time: schema.index_of(&stream.time)?,
            key: key.clone(),
            personal: input.personal.clone(),
            rule,
        })?;
        // The definition of the input is part of the state's fingerprint: a changed `where` before
        // it means another state.
        let input_is = self
            .program
            .definition(&stream.input)
            .map_err(|fault| Error::config(fault.error.message))?;
        let node = self.graph.add(
            relation,
            Stream::Ordered(stream.clone()).headline(),
            NodeKind::Operator(OperatorNode {
                factory: operator.factory(),
                fingerprint: Some(format!("{}; {input_is}", operator.fingerprint())),
            }),
        );
        let of = Arc::clone(&operator);
        self.sizes
            .insert(relation.to_owned(), Box::new(move |load| of.size(load)));
        for end in &input.ends {
            let by_key = Partitioning::Hash(key.clone());
            self.graph
                .connect((*end, Port::MAIN), (node, Port::MAIN), by_key);
        }
        if !is_never_late {
            self.windows.push(node);
        }
        Ok(Flow {
            ends: vec![node],
            schema: operator.output_schema(),
            rows: input.rows,
            personal: input.personal.clone(),
        })
    }
}
