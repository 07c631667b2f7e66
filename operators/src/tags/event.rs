//! An event, and what pieces take of it.

use std::cmp::Ordering;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float64Type,
};

use super::{piece::PieceKind, value::Value};

/// An event of a key: a row of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'a> {
    pub(super) time: i64,
    pub(super) tie: u64,
    pub(super) rows: &'a RecordBatch,
    pub(super) row: usize,
}

/// What a piece needs to know of an event.
pub(super) enum EventPart {
    Value(Value),
    Weighted(Value, f64),
    Steps(u32),
}

impl Event<'_> {
    /// What a piece takes of it; none if nothing.
    pub(super) fn part(&self, kind: &PieceKind) -> Option<EventPart> {
        match kind {
            PieceKind::Series(of) => {
                if !self.passes(of.filter) {
                    return None;
                }
                let value = of.argument.map(|column| self.value(column));
                let is_null = value.as_ref().is_some_and(Value::is_null);
                (!is_null).then(|| EventPart::Value(value.unwrap_or_default()))
            }
            PieceKind::Ranking(of) => {
                let weight = self.weight(of.weight);
                let has_weight = weight.partial_cmp(&0.0) == Some(Ordering::Greater);
                if !has_weight || !self.passes(of.filter) {
                    return None;
                }
                let item = self.value(of.argument);
                (!item.is_null()).then_some(EventPart::Weighted(item, weight))
            }
            PieceKind::Funnel(of) => {
                let steps = of.steps.iter().enumerate();
                let steps = steps.filter(|(_, (_, column))| self.passes(Some(*column)));
                let steps = steps.fold(0, |steps, (step, _)| steps | (1 << step));
                of.counts(steps).then_some(EventPart::Steps(steps))
            }
            PieceKind::Absence(_) => None,
        }
    }

    pub(super) fn value(&self, column: usize) -> Value {
        Value::at(self.rows.column(column), self.row)
    }

    pub(super) fn passes(&self, column: Option<usize>) -> bool {
        column.is_none_or(|column| {
            let column = self.rows.column(column).as_boolean();
            column.is_valid(self.row) && column.value(self.row)
        })
    }

    fn weight(&self, column: Option<usize>) -> f64 {
        column.map_or(1.0, |column| {
            let column = self.rows.column(column).as_primitive::<Float64Type>();
            if column.is_valid(self.row) {
                column.value(self.row)
            } else {
                0.0
            }
        })
    }
}
