//! Translates a join with a table, a [`Lookup`], into an operator.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use tagflow_engine::{
    Error, Result,
    graph::{NodeKind, OperatorNode},
};
use tagflow_operators::{
    expr::{condition, physical},
    join::lookup::{self, LookupSpec, Missing},
};

use super::{
    Lowering,
    flow::{Flow, column_name},
    streams::Place,
};
use crate::sql::{Lookup, Stream};

impl Lowering<'_> {
    pub(super) fn lookup(
        &mut self,
        place: Place<'_>,
        lookup: &Lookup,
        grain: Duration,
    ) -> Result<Flow> {
        let input = self.stream(place, &lookup.input, grain, None)?;
        let dimension = self.dimension(&lookup.table)?;
        let columns = input.resolved(lookup.input.schema())?;
        let unplanned = |error| {
            Error::internal(format!("a join with `{}` does not fit", lookup.table))
                .with_source(error)
        };
        let before: Vec<usize> = lookup
            .input
            .schema()
            .columns()
            .iter()
            .map(|column| columns.index_of_column(column).map_err(unplanned))
            .collect::<Result<_, _>>()?;
        let last = input.schema.fields().len().wrapping_sub(1);
        let after: Vec<usize> = input.has_offsets().then_some(last).into_iter().collect();
        let all = self.spec.tables.get(&lookup.table);
        let of_table = all.map_or(&[][..], |table| table.columns.personal());
        let all = all.map_or(&[][..], |table| table.columns.as_slice());
        let found: Vec<usize> = lookup
            .columns
            .iter()
            .filter_map(|name| all.iter().position(|column| column.name == *name))
            .collect();

        let of_input = |&index: &usize| input.schema.field(index).clone();
        let mut fields: Vec<Field> = before.iter().map(of_input).collect();
        fields.extend(found.iter().map(|&index| match lookup.missing {
            Missing::Drop => all[index].field(),
            Missing::Null => all[index].field().with_nullable(true),
        }));
        let mut personal = BTreeSet::new();
        for (index, field) in fields.iter_mut().enumerate() {
            let is_personal = if index < before.len() {
                input.personal.contains(field.name())
            } else {
                of_table.contains(field.name())
            };
            if is_personal {
                personal.insert(column_name(&lookup.schema, index));
            }
            *field = field.clone().with_name(column_name(&lookup.schema, index));
        }
        fields.extend(after.iter().map(of_input));

        let table = all.iter().map(|column| {
            let field = Arc::new(column.field().with_nullable(true));
            (lookup.alias.clone(), field)
        });
        let both = columns
            .iter()
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
            .chain(table)
            .collect();
        let both = DFSchema::new_with_metadata(both, HashMap::new()).map_err(unplanned)?;
        let spec = LookupSpec {
            dimension,
            key: lookup
                .key
                .iter()
                .map(|key| physical(&key.clone().unalias_nested().data, &columns))
                .collect::<Result<_>>()?,
            condition: lookup
                .condition
                .as_ref()
                .map(|on| condition(on, &both))
                .transpose()?,
            missing: lookup.missing,
            before,
            found,
            after,
            schema: Arc::new(Schema::new(fields)),
            errors: self.row_errors(&input),
        };
        let mut spec = spec;
        spec.errors.personal.extend(of_table.iter().cloned());
        let (can_fail, errors) = (spec.can_fail(&input.schema), spec.errors.clone());
        let schema = Arc::clone(&spec.schema);
        let operator = NodeKind::Operator(OperatorNode {
            factory: lookup::factory(spec),
            fingerprint: None,
        });
        let name = self.free(&format!("{}.lookup", place.relation()));
        let label = Stream::Lookup(lookup.clone()).headline();
        let node = self.graph.add(name, label, operator);
        if can_fail {
            self.rejects(node, &errors);
        }
        self.forward(&input.ends, node);
        Ok(Flow {
            ends: vec![node],
            schema,
            rows: input.rows,
            personal,
        })
    }
}
