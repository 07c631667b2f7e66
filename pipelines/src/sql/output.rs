//! The form in which a sink reads a relation: windows as two columns, and only
//! types that every reader of Parquet knows.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::{
    common::{
        Column, DFSchema, DFSchemaRef,
        tree_node::{Transformed, TreeNode},
    },
    functions::core::expr_fn::get_field,
    logical_expr::{Expr, ExprSchemable, cast},
};

use super::{Catalog, Lineage, Relation, SqlError, resolve};

/// The columns that a sink writes.
#[derive(Debug, Clone)]
pub struct Output {
    columns: Vec<OutputColumn>,
    schema: SchemaRef,
}

/// A column that a sink writes.
#[derive(Debug, Clone)]
pub struct OutputColumn {
    /// Its name and type.
    pub field: Arc<Field>,
    /// Its value, from a row of the relation.
    pub expr: Expr,
}

impl Output {
    /// The columns of `relation` for a sink.
    ///
    /// # Errors
    /// A column whose type no table supports, or two columns with one name.
    pub fn of(relation: &Relation) -> Result<Self, SqlError> {
        let mut columns = Vec::new();
        for (field, lineage) in relation.schema.fields().iter().zip(&relation.lineage) {
            let column = Expr::Column(Column::new_unqualified(field.name()));
            match (lineage, field.data_type()) {
                (Lineage::Window | Lineage::Session, DataType::Struct(bounds)) => {
                    for bound in bounds {
                        let name = format!("{}_{}", field.name(), bound.name());
                        let nullable = field.is_nullable() || bound.is_nullable();
                        columns.push(OutputColumn {
                            field: Arc::new(Field::new(name, bound.data_type().clone(), nullable)),
                            expr: get_field(column.clone(), bound.name().as_str()),
                        });
                    }
                }
                (_, from) => {
                    let to = storable(field.name(), from)?;
                    let expr = if to == *from {
                        column
                    } else {
                        cast(column, to.clone())
                    };
                    columns.push(OutputColumn {
                        field: Arc::new(Field::new(field.name(), to, field.is_nullable())),
                        expr,
                    });
                }
            }
        }
        Self::new(columns)
    }

    fn new(columns: Vec<OutputColumn>) -> Result<Self, SqlError> {
        for (index, column) in columns.iter().enumerate() {
            let name = column.field.name();
            if columns[..index]
                .iter()
                .any(|other| other.field.name() == name)
            {
                return Err(SqlError::new(format!("two columns are named `{name}`"))
                    .help("a window gives `…_start` and `…_end`; rename the other column"));
            }
        }
        let fields: Fields = columns
            .iter()
            .map(|column| Arc::clone(&column.field))
            .collect();
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            columns,
        })
    }

    /// The columns.
    pub fn columns(&self) -> &[OutputColumn] {
        &self.columns
    }

    /// Their names and types.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The value of the expression `text` over these columns, as an additional column: a
    /// partition's value.
    pub fn compute(
        &self,
        name: &str,
        text: &str,
        catalog: &Catalog,
    ) -> Result<OutputColumn, Vec<SqlError>> {
        let one = |error| vec![SqlError::of_planner(&error)];
        let schema: DFSchemaRef =
            Arc::new(DFSchema::try_from(Arc::clone(&self.schema)).map_err(one)?);
        let expr = resolve::expression(text, &schema, catalog)?;
        let from = expr.get_type(&schema).map_err(one)?;
        let nullable = expr.nullable(&schema).map_err(one)?;
        let to = storable(name, &from).map_err(|error| vec![error])?;
        let expr = if to == from {
            expr
        } else {
            cast(expr, to.clone())
        };
        Ok(OutputColumn {
            field: Arc::new(Field::new(name, to, nullable)),
            expr: self.over_relation(expr).map_err(one)?,
        })
    }

    /// Rewrites `expr` over these columns as an expression over the relation's.
    fn over_relation(&self, expr: Expr) -> datafusion::common::Result<Expr> {
        let values: HashMap<&str, &Expr> = self
            .columns
            .iter()
            .map(|column| (column.field.name().as_str(), &column.expr))
            .collect();
        let replaced = expr.transform_up(|part| match &part {
            Expr::Column(column) => match values.get(column.name.as_str()) {
                Some(value) => Ok(Transformed::yes((*value).clone())),
                None => Ok(Transformed::no(part)),
            },
            _ => Ok(Transformed::no(part)),
        })?;
        Ok(replaced.data)
    }
}

/// The type of `kind` in a table: no unsigned integers, times in microseconds UTC, one kind of
/// string.
fn storable(name: &str, kind: &DataType) -> Result<DataType, SqlError> {
    Ok(match kind {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Timestamp(..) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
        }
        DataType::Date64 => DataType::Date32,
        DataType::Dictionary(_, value) => storable(name, value)?,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => DataType::List(Arc::new(Field::new_list_field(
            storable(name, item.data_type())?,
            item.is_nullable(),
        ))),
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| {
                    let kind = storable(name, field.data_type())?;
                    Ok(Arc::new(field.as_ref().clone().with_data_type(kind)))
                })
                .collect::<Result<Fields, SqlError>>()?,
        ),
        DataType::Null => {
            return Err(SqlError::new(format!("column `{name}` is always null"))
                .help("give it a type: `CAST(NULL AS text)`"));
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            return Err(SqlError::new(format!(
                "column `{name}` is an interval, which tables cannot hold"
            ))
            .help("write it as a number of seconds: `extract(epoch FROM …)`"));
        }
        other => other.clone(),
    })
}
