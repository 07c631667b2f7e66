//! Events, and their inputs for pieces.

use std::cmp::Ordering;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float64Type,
};

use super::{aggregator::AggregatorKind, value::Value};

/// An event of a key: a row of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'a> {
    pub(super) time: i64,
    pub(super) tiebreak: u64,
    pub(super) rows: &'a RecordBatch,
    pub(super) row: usize,
}

/// The input of a piece from an event.
pub(super) enum EventPart {
    Value(Value),
    Weighted(Value, f64),
    Steps(u32),
}

impl Event<'_> {
    /// The input of a piece; `None` if the event does not concern it.
    pub(super) fn part(&self, kind: &AggregatorKind) -> Option<EventPart> {
        match kind {
            AggregatorKind::RollingAggregate(of) => {
                if !self.passes(of.filter) {
                    return None;
                }
                let value = of.argument.map(|column| self.value(column));
                let is_null = value.as_ref().is_some_and(Value::is_null);
                (!is_null).then(|| EventPart::Value(value.unwrap_or_default()))
            }
            AggregatorKind::Ranking(of) => {
                let weight = self.weight(of.weight);
                let has_weight = weight.partial_cmp(&0.0) == Some(Ordering::Greater);
                if !has_weight || !self.passes(of.filter) {
                    return None;
                }
                let item = self.value(of.argument);
                (!item.is_null()).then_some(EventPart::Weighted(item, weight))
            }
            AggregatorKind::Funnel(of) => {
                let steps = of.steps.iter().enumerate();
                let steps = steps.filter(|(_, (_, column))| self.passes(Some(*column)));
                let steps = steps.fold(0, |steps, (step, _)| steps | (1 << step));
                of.counts(steps).then_some(EventPart::Steps(steps))
            }
            AggregatorKind::Absence(_) => None,
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
