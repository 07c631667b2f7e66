//! The columns that tags read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::{
    common::{Column, DFSchema, DFSchemaRef},
    logical_expr::{Expr, ExprSchemable, cast, when},
};
use sha2::{Digest, Sha256};
use tagflow_operators::expr::{can_fail, physical};

use crate::{
    spec::SqlText,
    sql::{Catalog, Fault, Program, SqlError, display, implicit, resolve},
};

/// The distinct columns that the tags of a block read, with their expressions.
pub(super) struct Columns<'a> {
    program: &'a Program,
    from: &'a str,
    /// The schema of `from` for expressions.
    schema: DFSchemaRef,
    /// The columns that accompany each value: the key and the event time.
    always: [&'a str; 2],
    known: Vec<Computed>,
}

struct Computed {
    expr: Expr,
    field: Arc<Field>,
    /// Whether it is an unchanged column of `from`.
    is_carried: bool,
    /// The value is read where one of these is true; `None` means everywhere.
    read_where: Option<Vec<Expr>>,
}

impl Computed {
    /// Records that it is read where `condition` is true; everywhere without one.
    fn read(&mut self, condition: Option<&Expr>) {
        match (&mut self.read_where, condition) {
            (Some(all), Some(condition)) => all.push(condition.clone()),
            (all, None) => *all = None,
            (None, Some(_)) => {}
        }
    }

    /// Its value and its field. Where it is not read it is null, if its computation could fail.
    fn guarded(self, schema: &DFSchema) -> (Expr, Arc<Field>) {
        let Self { expr, field, .. } = self;
        let condition = self.read_where.into_iter().flatten().reduce(Expr::or);
        let can_fail =
            || physical(&expr, schema).is_ok_and(|physical| can_fail(&physical, schema.as_arrow()));
        match condition {
            Some(condition) if can_fail() => {
                let field = field.as_ref().clone().with_nullable(true);
                (
                    when(condition, expr).end().expect("a case"),
                    Arc::new(field),
                )
            }
            _ => (expr, field),
        }
    }
}

/// The columns in their order: those of the relation first.
pub(super) struct Laid {
    pub(super) columns: Vec<(Expr, Arc<Field>)>,
    /// The number of the relation's columns.
    pub(super) carried: usize,
    /// The index of each requested column.
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
            known: Vec::new(),
        }
    }

    pub(super) fn catalog(&self) -> &'a Catalog {
        self.program.catalog()
    }

    /// The existing column `name` of the relation.
    pub(super) fn carried(&mut self, name: &str) -> usize {
        let is_it = |known: &Computed| known.is_carried && known.field.name() == name;
        if let Some(place) = self.known.iter().position(is_it) {
            return place;
        }
        let (qualifier, field) = self
            .schema
            .qualified_field_with_unqualified_name(name)
            .expect("the relation has the column");
        self.known.push(Computed {
            expr: Expr::Column(Column::new(qualifier.cloned(), name)),
            field: Arc::clone(field),
            is_carried: true,
            read_where: None,
        });
        self.known.len() - 1
    }

    /// Parts of `text` that may have another meaning than its author expects.
    pub(super) fn warnings(&self, text: &SqlText) -> Vec<SqlError> {
        let expr = resolve::parse_expression(text.text(), &self.schema, self.catalog());
        expr.map_or_else(
            |_| Vec::new(),
            |expr| implicit::of_expr(&expr, &self.schema),
        )
    }

    /// The typed expression of `text` over the relation.
    pub(super) fn expression(&self, text: &SqlText) -> Result<(Expr, DataType), Vec<SqlError>> {
        let expr = resolve::expression(text.text(), &self.schema, self.catalog())?;
        let kind = expr.get_type(&*self.schema);
        let kind = kind.map_err(|error| vec![SqlError::of_planner(&error)])?;
        Ok((expr, kind))
    }

    /// The condition in the column `place`.
    pub(super) fn condition(&self, place: usize) -> &Expr {
        &self.known[place].expr
    }

    /// The column with `expr` as a `kind`, which is read where the condition in another column is
    /// true; everywhere without one.
    pub(super) fn computed(
        &mut self,
        expr: Expr,
        kind: &DataType,
        condition: Option<usize>,
    ) -> Result<usize, SqlError> {
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
            // The definition of its columns is part of its definition.
            (_, Some(definition)) => {
                let hash = format!("{:x}", Sha256::digest(definition));
                format!("{} of {}", display::sql(&expr), &hash[..8])
            }
        };
        let is_it = |known: &Computed| !known.is_carried && *known.field.name() == name;
        let condition = condition.map(|place| self.condition(place).clone());
        if let Some(place) = self.known.iter().position(is_it) {
            self.known[place].read(condition.as_ref());
            return Ok(place);
        }
        let nullable = expr.nullable(&*self.schema).map_err(planner)?;
        self.known.push(Computed {
            field: Arc::new(Field::new(name, kind.clone(), nullable)),
            expr,
            is_carried: false,
            read_where: condition.map(|condition| vec![condition]),
        });
        Ok(self.known.len() - 1)
    }

    /// All columns, in order.
    pub(super) fn lay(self) -> Laid {
        let carried = self.known.iter().filter(|it| it.is_carried).count();
        let (mut in_front, mut behind) = (0, carried);
        let places = self.known.iter().map(|column| {
            let next = if column.is_carried {
                &mut in_front
            } else {
                &mut behind
            };
            *next += 1;
            *next - 1
        });
        let places = places.collect();
        let (front, back): (Vec<_>, Vec<_>) = self.known.into_iter().partition(|it| it.is_carried);
        let columns = front.into_iter().chain(back);
        Laid {
            columns: columns.map(|it| it.guarded(&self.schema)).collect(),
            carried,
            places,
        }
    }
}

/// The type in which a tag stores values of type `kind`; `None` if it cannot.
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
