//! Groups and their accumulators.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array},
    compute::cast,
    datatypes::{DataType, Schema},
    record_batch::RecordBatch,
};
use datafusion::{
    error::DataFusionError,
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::{GroupsAccumulatorAdapter, aggregate::AggregateFunctionExpr},
    physical_plan::aggregates::{
        group_values::{GroupValues, new_group_values},
        order::GroupOrdering,
    },
};
use tagflow_engine::{Error, Result};

use super::spec::Aggregation;
use crate::{
    aggregate::DistinctCounts,
    expr::{evaluate, failed},
};

/// The groups of a set of rows, each with its accumulators. A group is a
/// pane's start and the keys.
pub(super) struct Table {
    groups: Box<dyn GroupValues>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// The group of each row of the batch at hand; kept for its allocation.
    row_groups: Vec<usize>,
}

/// What the aggregates read of a batch, evaluated: each expression once.
pub(super) struct Inputs(Vec<ArrayRef>);

impl Inputs {
    /// Evaluates what `aggregation`'s aggregates read of `rows`.
    pub(super) fn of(aggregation: &Aggregation, rows: &RecordBatch) -> Result<Self> {
        let query = &aggregation.spec.query;
        let inputs = aggregation.inputs.iter();
        inputs
            .map(|expr| evaluate(query, expr, rows))
            .collect::<Result<_>>()
            .map(Self)
    }
}

impl Table {
    pub(super) fn new(aggregation: &Aggregation) -> Result<Self> {
        let unplannable = |error: DataFusionError| {
            let query = &aggregation.spec.query;
            Error::config(format!("cannot aggregate in `{query}`")).with_source(error)
        };
        let group_fields = &aggregation.partial.fields()[..aggregation.group_width()];
        let schema = Schema::new(group_fields.to_vec());
        Ok(Self {
            groups: new_group_values(Arc::new(schema), &GroupOrdering::None)
                .map_err(unplannable)?,
            accumulators: aggregation
                .spec
                .aggregates
                .iter()
                .map(|aggregate| accumulator(&aggregate.function))
                .collect::<Result<_, _>>()
                .map_err(unplannable)?,
            row_groups: Vec::new(),
        })
    }

    /// Takes in rows: what they are grouped by, and what is aggregated.
    pub(super) fn update(
        &mut self,
        aggregation: &Aggregation,
        groups: &[ArrayRef],
        inputs: &Inputs,
    ) -> Result<()> {
        self.intern(aggregation, groups)?;
        let input = |place: &usize| Arc::clone(&inputs.0[*place]);
        for (i, accumulator) in self.accumulators.iter_mut().enumerate() {
            let reads = &aggregation.reads[i];
            let arguments: Vec<_> = reads.arguments.iter().map(input).collect();
            let filter: Option<&BooleanArray> =
                reads.filter.map(|place| inputs.0[place].as_boolean());
            accumulator
                .update_batch(&arguments, &self.row_groups, filter, self.groups.len())
                .map_err(|error| aggregate_failed(aggregation, i, error))?;
        }
        Ok(())
    }

    /// Takes in rows of states.
    pub(super) fn merge(&mut self, aggregation: &Aggregation, states: &[ArrayRef]) -> Result<()> {
        let (groups, mut states) = states.split_at(aggregation.group_width());
        self.intern(aggregation, groups)?;
        for (i, accumulator) in self.accumulators.iter_mut().enumerate() {
            let (mine, rest) = states.split_at(aggregation.state_widths[i]);
            states = rest;
            accumulator
                .merge_batch(mine, &self.row_groups, self.groups.len())
                .map_err(|error| aggregate_failed(aggregation, i, error))?;
        }
        Ok(())
    }

    /// The groups with their states: a batch of `aggregation`'s partial schema.
    pub(super) fn into_states(mut self, aggregation: &Aggregation) -> Result<RecordBatch> {
        let mut columns = self.take_groups(aggregation)?;
        for (i, mut accumulator) in self.accumulators.into_iter().enumerate() {
            let states = accumulator
                .state(EmitTo::All)
                .map_err(|error| aggregate_failed(aggregation, i, error))?;
            columns.extend(states);
        }
        let columns = columns
            .into_iter()
            .zip(aggregation.partial.fields())
            .map(|(column, field)| of_type(column, field.data_type()))
            .collect::<Result<_>>()?;
        Ok(RecordBatch::try_new(
            Arc::clone(&aggregation.partial),
            columns,
        )?)
    }

    /// The groups with their results: the group columns, then the aggregates.
    pub(super) fn into_results(mut self, aggregation: &Aggregation) -> Result<Vec<ArrayRef>> {
        let mut columns = self.take_groups(aggregation)?;
        for (i, mut accumulator) in self.accumulators.into_iter().enumerate() {
            let values = accumulator
                .evaluate(EmitTo::All)
                .map_err(|error| aggregate_failed(aggregation, i, error))?;
            let field = aggregation.spec.aggregates[i].function.field();
            columns.push(of_type(values, field.data_type())?);
        }
        Ok(columns)
    }

    /// How many groups.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let accumulators = self.accumulators.iter();
        self.groups.size()
            + accumulators
                .map(|accumulator| accumulator.size())
                .sum::<usize>()
    }

    /// The states of an aggregate in so many groups of which no row counts.
    pub(super) fn empty_states(
        aggregation: &Aggregation,
        aggregate: usize,
        groups: usize,
    ) -> Result<Vec<ArrayRef>> {
        let spec = &aggregation.spec;
        let fields = &aggregation.partial.fields()[aggregation.states(aggregate)];
        let failed = |error| aggregate_failed(aggregation, aggregate, error);
        let arguments = aggregation.reads[aggregate].arguments.iter();
        let arguments = arguments.map(|place| {
            let kind = aggregation.inputs[*place].data_type(&spec.input);
            Ok(new_null_array(&kind.map_err(failed)?, groups))
        });
        let arguments: Vec<_> = arguments.collect::<Result<_>>()?;
        let mut accumulator = accumulator(&spec.aggregates[aggregate].function).map_err(failed)?;
        // A row of each group that does not count: without any row, an accumulator
        // would take its groups for ones that have a value.
        let rows: Vec<usize> = (0..groups).collect();
        let counts = BooleanArray::from(vec![false; groups]);
        accumulator
            .update_batch(&arguments, &rows, Some(&counts), groups)
            .map_err(failed)?;
        let states = accumulator.state(EmitTo::All).map_err(failed)?;
        let states = states.into_iter().zip(fields);
        states
            .map(|(state, field)| of_type(state, field.data_type()))
            .collect()
    }

    fn intern(&mut self, aggregation: &Aggregation, groups: &[ArrayRef]) -> Result<()> {
        self.groups
            .intern(groups, &mut self.row_groups)
            .map_err(|error| failed(&aggregation.spec.query, "GROUP BY", error))
    }

    fn take_groups(&mut self, aggregation: &Aggregation) -> Result<Vec<ArrayRef>> {
        self.groups
            .emit(EmitTo::All)
            .map_err(|error| failed(&aggregation.spec.query, "GROUP BY", error))
    }
}

fn accumulator(
    function: &Arc<AggregateFunctionExpr>,
) -> Result<Box<dyn GroupsAccumulator>, DataFusionError> {
    if DistinctCounts::is(function)? {
        return Ok(Box::new(DistinctCounts::new()?));
    }
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || {
        function.create_accumulator()
    })))
}

/// `column` as `data_type`: some accumulators name the items of a list
/// otherwise than they declare.
fn of_type(column: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if column.data_type() == data_type {
        return Ok(column);
    }
    Ok(cast(&column, data_type)?)
}

fn aggregate_failed(aggregation: &Aggregation, place: usize, error: DataFusionError) -> Error {
    let name = aggregation
        .spec
        .aggregates
        .get(place)
        .map_or("", |it| &it.name);
    failed(&aggregation.spec.query, name, error)
}
