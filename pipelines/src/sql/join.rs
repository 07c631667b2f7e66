//! Joins: which joins can run on a stream, and how.

use std::sync::Arc;

use datafusion::{
    common::{Column, DataFusionError, ExprSchema, JoinType, NullEquality},
    logical_expr::{
        BinaryExpr, Expr, LogicalPlan, Operator, logical_plan,
        utils::{conjunction, find_valid_equijoin_key_pair, split_conjunction},
    },
};

use super::{
    Catalog, Lineage, Rows, SqlError,
    join_bounds::{TimeBound, Timed},
    stream::{Join, JoinBound, Stream},
    walk::Walk,
};

/// The conditions of ON.
pub(super) struct Conditions {
    /// Pairs of expressions over the left and the right side that must be equal.
    pub(super) equal: Vec<(Expr, Expr)>,
    /// The other conditions.
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
        self.either_join(join).map_err(|error| {
            if error.is_placed() {
                error
            } else {
                error.at_token_if(self.places.join())
            }
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
        let (left, right) = (self.node(&join.left)?, self.node(&join.right)?);
        let bound = self.bound(&left, &right, &conditions)?;
        if conditions.equal.is_empty() {
            return Err(SqlError::new(
                "a join without an equality would compare every row with every other",
            )
            .help("add to ON what is equal: `ON a.user_id = b.user_id AND …`"));
        }
        Ok(Stream::Join(Join {
            left: Box::new(left),
            right: Box::new(right),
            kind: join.join_type,
            on: conditions.equal,
            condition: conjunction(conditions.rest),
            bound,
            schema: Arc::clone(&join.schema),
        }))
    }

    /// The bound on the time between matching rows of two streams.
    fn bound(
        &self,
        left: &Stream,
        right: &Stream,
        conditions: &Conditions,
    ) -> Result<JoinBound, SqlError> {
        let lineage = [left.lineage(self.catalog), right.lineage(self.catalog)];
        let sides = [
            Timed {
                schema: left.schema(),
                lineage: &lineage[0],
            },
            Timed {
                schema: right.schema(),
                lineage: &lineage[1],
            },
        ];
        if [left, right]
            .iter()
            .any(|side| side.rows(self.catalog) >= Rows::Revisions)
        {
            return Err(SqlError::new(
                "a join with results that are corrected would keep the old ones",
            )
            .help(
                "read a query that emits each window once: without `allowed_lateness` and previews",
            ));
        }
        match [left, right].map(|side| side.is_of_windows(self.catalog)) {
            [true, true] => same_window(conditions, sides),
            [false, false] => within(conditions, sides),
            _ => Err(
                SqlError::new("one side has rows of windows, and the other has events")
                    .help("aggregate the events in a window first, then join the two on it"),
            ),
        }
    }

    /// The table that `plan` reads, if it only selects rows and columns.
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

/// How a window can follow a join of events.
pub(super) const CARRY: &str = "of a join of events only an inner join's later time can be a \
                                window's; or aggregate both sides in windows and join those";

impl Join {
    /// The lineage of the columns. Of two joined events, the later one arrived at the watermark or
    /// after it. So if the later one is always on the same side of an inner join, its time remains
    /// the event time. Outer joins lose it: they emit a row without a match only after the
    /// watermark has passed it.
    pub(super) fn lineage(&self, catalog: &Catalog) -> Vec<Lineage> {
        let mut lineage = self.left.lineage(catalog);
        let left = lineage.len();
        lineage.extend(self.right.lineage(catalog));
        if let JoinBound::Interval { min_us, max_us, .. } = self.bound {
            let later = match self.kind {
                JoinType::Inner if min_us >= 0 => left..lineage.len(),
                JoinType::Inner if max_us <= 0 => 0..left,
                _ => 0..0,
            };
            for (index, of_column) in lineage.iter_mut().enumerate() {
                if !later.contains(&index) {
                    *of_column = Lineage::Plain;
                }
            }
        }
        lineage
    }
}

/// The bound of a join of windows.
fn same_window(conditions: &Conditions, sides: [Timed<'_>; 2]) -> Result<JoinBound, SqlError> {
    let [left, right] = sides;
    for pair in &conditions.equal {
        let (Expr::Column(one), Expr::Column(other)) = pair else {
            continue;
        };
        if left.has(one, Lineage::Window) && right.has(other, Lineage::Window) {
            let nullable = |side: Timed<'_>, column: &Column| {
                let field = side.schema.field_from_column(column);
                field.is_ok_and(|field| field.is_nullable())
            };
            if nullable(left, one) || nullable(right, other) {
                return Err(SqlError::new(
                    "the window of some rows may be missing, so it is never known when to join",
                )
                .help("join on the window of the side that has all rows"));
            }
            return Ok(JoinBound::Window([one.clone(), other.clone()]));
        }
    }
    let windows = sides.map(|side| side.first(Lineage::Window));
    let error = SqlError::new(
        "a join of windows that is not on the same window would have to remember every row for ever",
    );
    Err(match windows {
        [Some(left), Some(right)] => error.help(format!(
            "add to ON: `AND {} = {}`",
            left.quoted_flat_name(),
            right.quoted_flat_name()
        )),
        _ => error.help("carry the window through on both sides, and join on it"),
    })
}

/// The bound of a join of events.
fn within(conditions: &Conditions, sides: [Timed<'_>; 2]) -> Result<JoinBound, SqlError> {
    let equal = conditions.equal.iter();
    let equal = equal.map(|(left, right)| left.clone().eq(right.clone()));
    let equal: Vec<Expr> = equal.collect();
    let bound = TimeBound::of(equal.iter().chain(&conditions.rest), sides);
    if let TimeBound {
        columns: Some(columns),
        min_us: Some(min_us),
        max_us: Some(max_us),
    } = bound
    {
        return Ok(JoinBound::Interval {
            columns,
            min_us,
            max_us,
        });
    }
    let error = SqlError::new(
        "a join of two streams without a bound of time on both sides would have to remember every \
         row for ever",
    );
    Err(match sides.map(|side| side.first(Lineage::EventTime)) {
        [Some(left), Some(right)] => {
            let (left, right) = (left.quoted_flat_name(), right.quoted_flat_name());
            error.help(format!(
                "add the bound to ON: `AND {right} BETWEEN {left} AND {left} + INTERVAL '1 day'`"
            ))
        }
        _ => error.help("carry the event time through unchanged on both sides"),
    })
}

/// A table as one side of a join.
pub(super) struct TableSide<'p> {
    /// Its name.
    pub(super) name: &'p str,
    /// The columns of its key.
    pub(super) key: Vec<String>,
    /// The filters on its rows.
    pub(super) filters: Vec<Expr>,
}
