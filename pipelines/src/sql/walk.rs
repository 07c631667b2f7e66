//! Translates a typed plan, node by node.

use std::sync::Arc;

use datafusion::{common::Column, logical_expr::LogicalPlan};

use super::{
    Catalog, SqlError,
    places::Places,
    stream::{Map, Scan, Stream, Union},
};

/// The translation of one plan. `windowed`, `join`, `lookup` and `top_n` contain that of their nodes.
pub(super) struct Walk<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) places: Places<'a>,
}

impl Walk<'_> {
    pub(super) fn node(&self, plan: &LogicalPlan) -> Result<Stream, SqlError> {
        match plan {
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Window(window) => self.top(window),
            LogicalPlan::TableScan(scan)
                if self.catalog.table_key(scan.table_name.table()).is_some() =>
            {
                Err(no_stream(scan.table_name.table()))
            }
            LogicalPlan::TableScan(scan) => Ok(Stream::Scan(Scan {
                relation: scan.table_name.table().to_owned(),
                columns: names(&scan.projected_schema.columns()),
                schema: Arc::clone(&scan.projected_schema),
            })),
            LogicalPlan::SubqueryAlias(alias) => {
                let mut stream = self.node(&alias.input)?;
                *stream.schema_mut() = Arc::clone(&alias.schema);
                Ok(stream)
            }
            LogicalPlan::Projection(projection) => {
                self.no_window(&projection.expr)?;
                let (input, filter) = match projection.input.as_ref() {
                    LogicalPlan::Filter(filter) => {
                        self.no_window([&filter.predicate])?;
                        (&filter.input, Some(filter.predicate.clone()))
                    }
                    _ => (&projection.input, None),
                };
                Ok(Stream::Map(Map {
                    input: Box::new(self.node(input)?),
                    filter,
                    columns: Some(projection.expr.clone()),
                    schema: Arc::clone(&projection.schema),
                }))
            }
            LogicalPlan::Filter(filter) => {
                self.no_window([&filter.predicate])?;
                let input = self.node(&filter.input)?;
                Ok(Stream::Map(Map {
                    schema: Arc::clone(input.schema()),
                    input: Box::new(input),
                    filter: Some(filter.predicate.clone()),
                    columns: None,
                }))
            }
            LogicalPlan::Union(union) => Ok(Stream::Union(Union {
                inputs: union
                    .inputs
                    .iter()
                    .map(|input| self.node(input))
                    .collect::<Result<_, _>>()?,
                schema: Arc::clone(&union.schema),
            })),
            LogicalPlan::Aggregate(aggregate) => self.windowed(aggregate),
            other => Err(SqlError::new(format!(
                "`{}` cannot run on a stream",
                other
                    .display()
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
            ))
            .help("a query is made of SELECT, WHERE, UNION ALL, GROUP BY with a window, HAVING")),
        }
    }
}

fn names(columns: &[Column]) -> Vec<String> {
    columns.iter().map(|column| column.name.clone()).collect()
}

/// A query reads `table` as if it were a stream.
fn no_stream(table: &str) -> SqlError {
    SqlError::new(format!(
        "`{table}` is a table, and a query must read a stream"
    ))
    .help(format!(
        "join the table as it is with a stream: `FROM stream JOIN {table} ON …`"
    ))
}
