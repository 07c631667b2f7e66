//! The columns that tags are made of.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::{
    common::{Column, DFSchemaRef},
    logical_expr::{Expr, ExprSchemable, cast},
};
use sha2::{Digest, Sha256};

use crate::{
    spec::SqlText,
    sql::{Catalog, Fault, Program, SqlError, display, resolve},
};

/// The distinct columns that the tags of a block read, and how they are computed.
pub(super) struct Columns<'a> {
    program: &'a Program,
    from: &'a str,
    /// The rows of `from`, as expressions know them.
    schema: DFSchemaRef,
    /// What each value goes with: the key and the event time.
    always: [&'a str; 2],
    columns: Vec<Computed>,
}

struct Computed {
    expr: Expr,
    field: Arc<Field>,
    /// Whether it is a column of `from` as it is.
    is_carried: bool,
}

/// The columns in their order: those of the relation in front.
pub(super) struct Laid {
    pub(super) columns: Vec<(Expr, Arc<Field>)>,
    /// How many are of the relation.
    pub(super) carried: usize,
    /// Where each is that was asked for.
    pub(super) places: Vec<usize>,
}

impl Laid {
    pub(super) fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|(_, field)| Arc::clone(field));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

impl<'a> Columns<'a> {
    pub(super) fn new(
        program: &'a Program,
        from: &'a str,
        schema: DFSchemaRef,
        always: [&'a str; 2],
    ) -> Self {
        Self {
            program,
            from,
            schema,
            always,
            columns: Vec::new(),
        }
    }

    pub(super) fn catalog(&self) -> &'a Catalog {
        self.program.catalog()
    }

    /// The column `name` of the relation, which has it.
    pub(super) fn carried(&mut self, name: &str) -> usize {
        let is_it = |known: &Computed| known.is_carried && known.field.name() == name;
        if let Some(place) = self.columns.iter().position(is_it) {
            return place;
        }
        let (qualifier, field) = self
            .schema
            .qualified_field_with_unqualified_name(name)
            .expect("the relation has the column");
        self.columns.push(Computed {
            expr: Expr::Column(Column::new(qualifier.cloned(), name)),
            field: Arc::clone(field),
            is_carried: true,
        });
        self.columns.len() - 1
    }

    /// What `text` is over the relation, typed.
    pub(super) fn expression(&self, text: &SqlText) -> Result<(Expr, DataType), Vec<SqlError>> {
        let expr = resolve::expression(text.text(), &self.schema, self.catalog())?;
        let kind = expr.get_type(&*self.schema);
        let kind = kind.map_err(|error| vec![SqlError::of_planner(&error)])?;
        Ok((expr, kind))
    }

    /// The column that holds `expr` as a `kind`.
    pub(super) fn computed(&mut self, expr: Expr, kind: &DataType) -> Result<usize, SqlError> {
        let planner = |error| SqlError::of_planner(&error);
        let is_of_kind = expr.get_type(&*self.schema).map_err(planner)? == *kind;
        let expr = if is_of_kind {
            expr
        } else {
            cast(expr, kind.clone())
        };
        let mut reads: Vec<&str> = self.always.to_vec();
        let columns = expr.column_refs();
        reads.extend(columns.iter().map(|column| column.name.as_str()));
        let definition = self.program.definition_of(self.from, &reads);
        let definition = definition.map_err(|Fault { error, .. }| error)?;
        let mut carried: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        carried.sort_unstable();
        for column in carried {
            self.carried(column);
        }
        let name = match (&expr, &definition) {
            (Expr::Column(column), None) => return Ok(self.carried(&column.name)),
            (_, None) => display::sql(&expr),
            // What its columns stand for is part of what it is.
            (_, Some(definition)) => {
                let hash = format!("{:x}", Sha256::digest(definition));
                format!("{} of {}", display::sql(&expr), &hash[..8])
            }
        };
        let is_it = |known: &Computed| !known.is_carried && *known.field.name() == name;
        if let Some(place) = self.columns.iter().position(is_it) {
            return Ok(place);
        }
        let nullable = expr.nullable(&*self.schema).map_err(planner)?;
        self.columns.push(Computed {
            field: Arc::new(Field::new(name, kind.clone(), nullable)),
            expr,
            is_carried: false,
        });
        Ok(self.columns.len() - 1)
    }

    /// All of them, in order.
    pub(super) fn lay(self) -> Laid {
        let carried = self.columns.iter().filter(|it| it.is_carried).count();
        let (mut in_front, mut behind) = (0, carried);
        let places = self.columns.iter().map(|column| {
            let next = if column.is_carried {
                &mut in_front
            } else {
                &mut behind
            };
            *next += 1;
            *next - 1
        });
        let places = places.collect();
        let (front, back): (Vec<_>, Vec<_>) =
            self.columns.into_iter().partition(|it| it.is_carried);
        let columns = front.into_iter().chain(back);
        Laid {
            columns: columns.map(|it| (it.expr, it.field)).collect(),
            carried,
            places,
        }
    }
}

/// The type that a tag keeps values of type `kind` in; none if it cannot.
pub(super) fn kept_as(kind: &DataType) -> Option<DataType> {
    Some(match kind {
        DataType::Boolean
        | DataType::Int64
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::Date32 => kind.clone(),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => DataType::Int64,
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(..) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
        }
        DataType::Dictionary(_, value) => kept_as(value)?,
        _ => return None,
    })
}
