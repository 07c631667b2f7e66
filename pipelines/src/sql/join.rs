//! Joins: which of them can run on a stream, and how.

use datafusion::{
    common::{DataFusionError, JoinType, NullEquality},
    logical_expr::{
        BinaryExpr, Expr, LogicalPlan, Operator, logical_plan,
        utils::{find_valid_equijoin_key_pair, split_conjunction},
    },
};

use super::{SqlError, plan::Walk, stream::Stream};

/// What ON asks for.
pub(super) struct Conditions {
    /// Pairs of expressions over the left and the right side that must be equal.
    pub(super) equal: Vec<(Expr, Expr)>,
    /// What else must be true.
    pub(super) rest: Vec<Expr>,
}

impl Conditions {
    fn of(join: &logical_plan::Join) -> Result<Self, DataFusionError> {
        let (left, right) = (join.left.schema(), join.right.schema());
        let mut conditions = Self {
            equal: join.on.clone(),
            rest: Vec::new(),
        };
        for part in join.filter.iter().flat_map(split_conjunction) {
            let pair = match part {
                Expr::BinaryExpr(BinaryExpr {
                    left: one,
                    op: Operator::Eq,
                    right: other,
                }) => find_valid_equijoin_key_pair(one, other, left, right)?,
                _ => None,
            };
            match pair {
                Some(pair) => conditions.equal.push(pair),
                None => conditions.rest.push(part.clone()),
            }
        }
        Ok(conditions)
    }
}

impl Walk<'_> {
    /// A join of two streams, or of a stream and a table.
    pub(super) fn join(&self, join: &logical_plan::Join) -> Result<Stream, SqlError> {
        self.either_join(join)
            .map_err(|error| match error.is_placed() {
                true => error,
                false => error.at_token_if(self.places.join()),
            })
    }

    fn either_join(&self, join: &logical_plan::Join) -> Result<Stream, SqlError> {
        let is_outer = matches!(
            join.join_type,
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
        );
        if !is_outer || join.null_equality == NullEquality::NullEqualsNull {
            return Err(
                SqlError::new(format!("a {} join is not there yet", join.join_type))
                    .help("write JOIN, LEFT JOIN, RIGHT JOIN or FULL JOIN with an ON"),
            );
        }
        let conditions = Conditions::of(join).map_err(|error| SqlError::of_planner(&error))?;
        if let Some(table) = self.table_side(&join.right) {
            return self.lookup(join, table, conditions);
        }
        if let Some(table) = self.table_side(&join.left) {
            let name = table.name;
            return Err(SqlError::new(format!(
                "the table `{name}` stands on the left, but it is the stream's rows that are \
                 looked up in it"
            ))
            .help(format!(
                "write the stream first: `FROM stream JOIN {name} ON …`"
            )));
        }
        Err(SqlError::new("joins of two streams are not there yet")
            .help("UNION ALL the inputs and aggregate over both"))
    }

    /// `table` is read as if it were a stream.
    pub(super) fn no_stream(&self, table: &str) -> SqlError {
        SqlError::new(format!(
            "`{table}` is a table, and a query must read a stream"
        ))
        .help(format!(
            "join the table as it is with a stream: `FROM stream JOIN {table} ON …`"
        ))
    }

    /// The table that `plan` reads, if it does nothing but choose of its rows
    /// and columns.
    fn table_side<'p>(&self, plan: &'p LogicalPlan) -> Option<TableSide<'p>> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let name = scan.table_name.table();
                self.catalog.table_key(name).map(|key| TableSide {
                    name,
                    key: key.to_vec(),
                    filters: Vec::new(),
                })
            }
            LogicalPlan::SubqueryAlias(alias) => self.table_side(&alias.input),
            LogicalPlan::Projection(projection) => {
                let columns = projection.expr.iter();
                let only_columns = columns.clone().all(|it| matches!(it, Expr::Column(_)));
                only_columns.then(|| self.table_side(&projection.input))?
            }
            LogicalPlan::Filter(filter) => {
                let mut side = self.table_side(&filter.input)?;
                side.filters.push(filter.predicate.clone());
                Some(side)
            }
            _ => None,
        }
    }
}

/// A table as one side of a join.
pub(super) struct TableSide<'p> {
    /// Its name.
    pub(super) name: &'p str,
    /// The columns of its key.
    pub(super) key: Vec<String>,
    /// Which of its rows count.
    pub(super) filters: Vec<Expr>,
}
