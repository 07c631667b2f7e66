//! The bounds on the time between two joined events.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::{
    common::{Column, DFSchema, ScalarValue},
    logical_expr::{Between, BinaryExpr, Cast, Expr, Operator},
};

use super::Lineage;

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// A side of a join, with the lineage of its columns.
#[derive(Clone, Copy)]
pub(super) struct Timed<'a> {
    pub(super) schema: &'a DFSchema,
    pub(super) lineage: &'a [Lineage],
}

impl Timed<'_> {
    /// Whether `column` belongs to this side and has this `lineage`.
    pub(super) fn has(self, column: &Column, lineage: Lineage) -> bool {
        let index = self.schema.maybe_index_of_column(column);
        index.and_then(|index| self.lineage.get(index)) == Some(&lineage)
    }

    /// The first column that has this `lineage`.
    pub(super) fn first(self, lineage: Lineage) -> Option<Column> {
        let index = self.lineage.iter().position(|it| *it == lineage)?;
        Some(Column::from(self.schema.qualified_field(index)))
    }
}

/// The bounds that conditions set on the time from the left event to the right
/// one, in microseconds.
#[derive(Debug, Default)]
pub(super) struct TimeBound {
    /// The columns that they compare.
    pub(super) columns: Option<[Column; 2]>,
    pub(super) min_us: Option<i64>,
    pub(super) max_us: Option<i64>,
}

impl TimeBound {
    /// Reads `conditions`; those that do not bound the time are ignored. The
    /// bounds may be wider than the conditions.
    pub(super) fn of<'e>(
        conditions: impl IntoIterator<Item = &'e Expr>,
        sides: [Timed<'_>; 2],
    ) -> Self {
        let mut bound = Self::default();
        for condition in conditions {
            match condition {
                Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                    bound.compare(left, *op, right, sides);
                }
                Expr::Between(Between {
                    expr,
                    negated: false,
                    low,
                    high,
                }) => {
                    bound.compare(expr, Operator::GtEq, low, sides);
                    bound.compare(expr, Operator::LtEq, high, sides);
                }
                _ => {}
            }
        }
        bound
    }

    fn compare(&mut self, one: &Expr, op: Operator, other: &Expr, sides: [Timed<'_>; 2]) {
        let (Some((one, add)), Some((other, add_other))) = (shifted(one), shifted(other)) else {
            return;
        };
        let [left, right] = sides;
        let is_pair = |a: &Column, b: &Column| {
            left.has(a, Lineage::EventTime) && right.has(b, Lineage::EventTime)
        };
        // As `right op left + by`.
        let (columns, op, by) = if is_pair(&other, &one) {
            ([other, one], op, add_other.checked_sub(add))
        } else if let (true, Some(op)) = (is_pair(&one, &other), op.swap()) {
            ([one, other], op, add.checked_sub(add_other))
        } else {
            return;
        };
        let Some(by) = by.filter(|_| *self.columns.get_or_insert(columns.clone()) == columns)
        else {
            return;
        };
        if matches!(op, Operator::GtEq | Operator::Gt | Operator::Eq) {
            self.min_us = Some(self.min_us.map_or(by, |min| min.max(by)));
        }
        if matches!(op, Operator::LtEq | Operator::Lt | Operator::Eq) {
            self.max_us = Some(self.max_us.map_or(by, |max| max.min(by)));
        }
    }
}

/// A column with a fixed time added, in microseconds.
fn shifted(expr: &Expr) -> Option<(Column, i64)> {
    match expr {
        Expr::Column(column) => Some((column.clone(), 0)),
        Expr::Alias(alias) => shifted(&alias.expr),
        Expr::Cast(Cast { expr, field }) => match field.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => shifted(expr),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Plus => {
                let (time, by) = match micros(right) {
                    Some(by) => (left, by),
                    None => (right, micros(left)?),
                };
                let (column, add) = shifted(time)?;
                Some((column, add.checked_add(by)?))
            }
            Operator::Minus => {
                let (column, add) = shifted(left)?;
                Some((column, add.checked_sub(micros(right)?)?))
            }
            _ => None,
        },
        _ => None,
    }
}

/// An interval that is always of the same length.
fn micros(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => {
            let IntervalMonthDayNano {
                months,
                days,
                nanoseconds,
            } = *interval;
            (months == 0 && nanoseconds % 1000 == 0)
                .then(|| i64::from(days) * DAY_US + nanoseconds / 1000)
        }
        Expr::Alias(alias) => micros(&alias.expr),
        Expr::Negative(expr) => micros(expr)?.checked_neg(),
        _ => None,
    }
}
