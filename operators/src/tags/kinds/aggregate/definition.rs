//! The definition of an aggregate.

use arrow::datatypes::{DataType, Schema};
use tagflow_engine::time::micros;

use super::{
    function::{Function, Over},
    read::Read,
    rolling::RollingPlan,
    tiled_state::TiledStateKind,
};
use crate::tags::{
    kinds::{
        context::Context,
        stateful::{CompiledState, StatefulKind},
    },
    value::{Value, checked_type, list_of},
};

/// An aggregate of the events that pass the filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The function.
    pub function: Function,
    /// The column with the argument; rows with null do not count. `None` counts rows.
    pub argument: Option<usize>,
    /// The column with the condition.
    pub filter: Option<usize>,
    /// The span of events.
    pub over: Over,
}

impl StatefulKind for Aggregate {
    type Plan = RollingPlan;

    fn columns_mut(&mut self) -> Vec<&mut usize> {
        self.argument.iter_mut().chain(&mut self.filter).collect()
    }

    fn data_type(&self, input: &Schema) -> Result<(DataType, bool), String> {
        let argument = self
            .argument
            .map(|column| checked_type(input.field(column)));
        let argument = argument.transpose()?;
        // A sum is null if its type cannot hold it; a sum of floats is infinite.
        let is_nullable = match self.function {
            Function::Count | Function::Distinct { .. } => false,
            Function::Sum => argument != Some(&DataType::Float64),
            _ => true,
        };
        let data_type = match (self.function, argument) {
            (Function::Count, _) | (Function::Distinct { .. }, Some(_)) => DataType::Int64,
            (Function::Sum, Some(DataType::Decimal128(_, scale))) => {
                DataType::Decimal128(38, *scale)
            }
            (Function::Sum, Some(kind @ (DataType::Int64 | DataType::Float64))) => kind.clone(),
            (
                Function::Avg | Function::Std,
                Some(DataType::Int64 | DataType::Float64 | DataType::Decimal128(..)),
            ) => DataType::Float64,
            (Function::Min | Function::Max | Function::First | Function::Last, Some(argument)) => {
                argument.clone()
            }
            (Function::LastK { .. }, Some(argument)) => list_of(argument),
            (function, Some(argument)) => {
                return Err(format!("there is no {function:?} of {argument}"));
            }
            (_, None) => return Err("an argument is missing".into()),
        };
        Ok((data_type, is_nullable))
    }

    fn compile(&self, context: &Context<'_>) -> CompiledState<RollingPlan> {
        let (tile, window_us) = match self.over {
            Over::Lifetime => (None, i64::MAX),
            Over::Rolling { window, tile } => (Some(micros(tile)), micros(window)),
        };
        let column = |column: Option<usize>| {
            column.map_or(String::new(), |column| {
                let field = context.input.field(column);
                format!(" {}: {}", field.name(), field.data_type())
            })
        };
        let tiles = tile.map_or("all".into(), |tile| format!("{tile}us"));
        let (argument, filter) = (column(self.argument), column(self.filter));
        let state = format!("of{argument}; where{filter}; tiles {tiles}");
        let argument = self.argument.map(|column| context.input.field(column));
        let argument_type = argument.map(|field| field.data_type().clone());
        CompiledState {
            fingerprint: format!("{:?} in {window_us}us; {state}", self.function),
            state,
            default: self.before_any(context.data_type),
            read: Some(Read {
                function: self.function,
                window_us,
                window: 0,
            }),
            plan: RollingPlan {
                filter: self.filter,
                argument: self.argument,
                parts: TiledStateKind::of(self.function, argument_type.as_ref()),
                argument_type,
                tile,
                windows: vec![window_us],
            },
        }
    }
}

impl Aggregate {
    /// The value before any event.
    fn before_any(&self, data_type: &DataType) -> Value {
        match (self.function, data_type) {
            (Function::Count | Function::Distinct { .. }, _) | (Function::Sum, DataType::Int64) => {
                Value::Int(0)
            }
            (Function::Sum, DataType::Decimal128(..)) => Value::Decimal(0),
            (Function::Sum, _) => Value::Float(0.0),
            _ => Value::Null,
        }
    }
}
