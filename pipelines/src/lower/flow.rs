//! The rows of relations in the graph, and expressions over them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::{
    common::{Column, DFSchema},
    logical_expr::Expr,
};
use tagflow_engine::{
    Error, Result,
    graph::{NodeId, OFFSET_COLUMN},
};
use tagflow_operators::{
    expr::{condition, physical},
    map::MapSpec,
    row_errors::RowErrors,
};

use crate::sql::Rows;

/// Relations that are in the graph, by name.
pub(super) type Flows = BTreeMap<String, Flow>;

/// The rows that some nodes emit, all with the same shape.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    /// The nodes that emit them.
    pub(super) ends: Vec<NodeId>,
    /// Their columns under the names that plans have for them, with [`OFFSET_COLUMN`] last if rows
    /// carry their offset.
    pub(super) schema: SchemaRef,
    /// The kind of the rows.
    pub(super) rows: Rows,
    /// The columns with personal data, or with values computed from it.
    pub(super) personal: BTreeSet<String>,
}

/// A column to compute: its value and its name.
pub(super) struct Computed {
    pub(super) expr: Expr,
    pub(super) field: Arc<Field>,
}

impl Flow {
    /// Whether `expr` over these rows shows personal data.
    pub(super) fn is_personal(&self, expr: &Expr) -> bool {
        let mut columns = expr.column_refs().into_iter();
        columns.any(|column| self.personal.contains(&column.name))
    }

    /// Whether rows carry their offset.
    pub(super) fn has_offsets(&self) -> bool {
        let last = self.schema.fields().last();
        last.is_some_and(|field| field.name() == OFFSET_COLUMN)
    }

    /// The columns, as known to expressions that were planned over `planned`.
    pub(super) fn resolved(&self, planned: &DFSchema) -> Result<DFSchema> {
        let names: HashMap<String, _> = planned
            .iter()
            .enumerate()
            .map(|(index, column)| (column_name(planned, index), column))
            .collect();
        let fields = self
            .schema
            .fields()
            .iter()
            .map(|field| match names.get(field.name()) {
                Some((qualifier, planned)) => {
                    let field = field.as_ref().clone().with_name(planned.name());
                    (qualifier.cloned(), Arc::new(field))
                }
                None => (None, Arc::clone(field)),
            })
            .collect();
        DFSchema::new_with_metadata(fields, HashMap::new())
            .map_err(|error| Error::internal("columns do not fit their plan").with_source(error))
    }

    /// A map of these rows, which expressions know as `columns`.
    pub(super) fn map(
        &self,
        columns: &DFSchema,
        filter: Option<&Expr>,
        computed: Vec<Computed>,
        offsets: Offsets,
    ) -> Result<MapSpec> {
        let mut projection = Vec::with_capacity(computed.len() + 1);
        let mut fields = Vec::with_capacity(computed.len() + 1);
        for Computed { expr, field } in computed {
            projection.push((physical(&expr, columns)?, field.name().clone()));
            fields.push(field);
        }
        if offsets == Offsets::Keep && self.has_offsets() {
            let offset = Expr::Column(Column::new_unqualified(OFFSET_COLUMN));
            projection.push((physical(&offset, columns)?, OFFSET_COLUMN.to_owned()));
            fields.extend(self.schema.fields().last().cloned());
        }
        Ok(MapSpec {
            predicate: filter
                .map(|filter| condition(filter, columns))
                .transpose()?,
            projection,
            schema: Arc::new(Schema::new(fields)),
            errors: RowErrors::default(),
        })
    }
}

/// The name of the planned column at `index` in the rows. It includes the relation if another
/// column has the same name.
pub(super) fn column_name(planned: &DFSchema, index: usize) -> String {
    let name = planned.field(index).name();
    let of_name = planned.fields().iter().filter(|it| it.name() == name);
    match of_name.count() {
        1 => name.clone(),
        _ => Column::from(planned.qualified_field(index)).flat_name(),
    }
}

/// Whether a map passes on the offsets of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offsets {
    /// If rows have them.
    Keep,
    /// No later node needs to identify rows.
    Drop,
}
