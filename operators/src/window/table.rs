//! Groups and their accumulators.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array},
    compute::{cast, filter, or},
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
use tagflow_engine::{Error, Result, state::key_column};

use super::spec::Aggregation;
use crate::{
    aggregate::{DistinctCounts, exact},
    expr::{Failure, evaluate, evaluate_where, failed, holds},
};

/// The groups of a set of rows, each with its accumulators. A group is a pane's start and the keys.
pub(super) struct Table {
    groups: Box<dyn GroupValues>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// The group of each row of the current batch; kept for its allocation.
    row_groups: Vec<usize>,
}

/// The results of some groups.
pub(super) struct Results {
    /// The group columns, then the aggregates.
    pub(super) columns: Vec<ArrayRef>,
    /// The indices of aggregates with results that their types cannot hold, each with a mask of
    /// the groups. These results are null.
    pub(super) unfit: Vec<(usize, BooleanArray)>,
}

impl Results {
    /// The `wanted` groups.
    pub(super) fn filtered(&self, wanted: &BooleanArray) -> Result<Self> {
        let columns = self.columns.iter().map(|column| filter(column, wanted));
        let unfit = self.unfit.iter().map(|(aggregate, groups)| {
            let groups = filter(groups, wanted)?;
            Ok((*aggregate, groups.as_boolean().clone()))
        });
        Ok(Self {
            columns: columns.collect::<Result<_, _>>()?,
            unfit: unfit.collect::<Result<_>>()?,
        })
    }
}

/// The evaluated inputs of the aggregates for a batch: each expression once.
pub(super) struct Inputs(Vec<ArrayRef>);

impl Inputs {
    /// Evaluates the inputs of `aggregation`'s aggregates for `rows`. If all aggregates of an
    /// argument have a filter, the argument is evaluated only where a filter is true.
    pub(super) fn of(aggregation: &Aggregation, rows: &RecordBatch) -> Result<Self, Failure> {
        let inputs = aggregation.inputs.iter();
        let all = inputs
            .map(|expr| evaluate(expr, rows))
            .collect::<Result<_, _>>();
        match all {
            Ok(all) => Ok(Self(all)),
            Err(Failure::Job(error)) => Err(error.into()),
            Err(Failure::Row(_)) => Self::filtered(aggregation, rows),
        }
    }

    /// The group columns of straggler rows, and the inputs of their aggregates. Rows on which an
    /// expression fails never arrive here: the partial stage rejects them.
    pub(super) fn straggler(
        aggregation: &Aggregation,
        rows: &RecordBatch,
    ) -> tagflow_engine::Result<(Vec<ArrayRef>, Self)> {
        let groups = aggregation.group_width();
        let input: Vec<usize> = (groups..rows.num_columns()).collect();
        let inputs = Self::of(aggregation, &rows.project(&input)?);
        let inputs = inputs.map_err(|failure| failure.into_error(&aggregation.spec.query))?;
        Ok((rows.columns()[..groups].to_vec(), inputs))
    }

    /// Evaluates filters first, then each argument for the rows that pass them.
    fn filtered(aggregation: &Aggregation, rows: &RecordBatch) -> Result<Self, Failure> {
        let mut values: Vec<Option<ArrayRef>> = vec![None; aggregation.inputs.len()];
        let mut wanted: Vec<Option<BooleanArray>> = vec![None; aggregation.inputs.len()];
        for reads in &aggregation.reads {
            let passes = match reads.filter {
                None => BooleanArray::from(vec![true; rows.num_rows()]),
                Some(place) => {
                    let passes = holds(&aggregation.inputs[place], rows)?;
                    values[place] = Some(Arc::new(passes.clone()));
                    passes
                }
            };
            for &place in &reads.arguments {
                wanted[place] = Some(match wanted[place].take() {
                    None => passes.clone(),
                    Some(others) => or(&others, &passes)?,
                });
            }
        }
        let inputs = aggregation.inputs.iter().enumerate();
        let values = inputs.map(
            |(place, expr)| match (values[place].take(), &wanted[place]) {
                (_, Some(wanted)) => evaluate_where(expr, rows, wanted),
                (Some(filter), None) => Ok(filter),
                (None, None) => evaluate(expr, rows),
            },
        );
        values.collect::<Result<_, _>>().map(Self)
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

    /// Adds rows, by their group columns and inputs.
    pub(super) fn update(
        &mut self,
        aggregation: &Aggregation,
        groups: &[ArrayRef],
        inputs: &Inputs,
    ) -> Result<()> {
        self.intern(aggregation, groups)?;
        for (i, accumulator) in self.accumulators.iter_mut().enumerate() {
            let reads = &aggregation.reads[i];
            let compares = aggregation.spec.aggregates[i].compares_values();
            let arguments = reads.arguments.iter().map(|place| &inputs.0[*place]);
            let arguments: Vec<_> = if compares {
                arguments.map(key_column).collect()
            } else {
                arguments.map(Arc::clone).collect()
            };
            let filter: Option<&BooleanArray> =
                reads.filter.map(|place| inputs.0[place].as_boolean());
            accumulator
                .update_batch(&arguments, &self.row_groups, filter, self.groups.len())
                .map_err(|error| aggregate_failed(aggregation, i, error))?;
        }
        Ok(())
    }

    /// Adds rows of states.
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

    /// The groups with their results.
    pub(super) fn into_results(mut self, aggregation: &Aggregation) -> Result<Results> {
        let mut columns = self.take_groups(aggregation)?;
        let mut unfit = Vec::new();
        for (i, mut accumulator) in self.accumulators.into_iter().enumerate() {
            let values = accumulator
                .evaluate(EmitTo::All)
                .map_err(|error| aggregate_failed(aggregation, i, error))?;
            let function = &aggregation.spec.aggregates[i].function;
            let field = function.field();
            if !exact::is_exact(function) {
                columns.push(of_type(values, field.data_type())?);
                continue;
            }
            let (values, are_unfit) = exact::fitted(&values, field.data_type())
                .map_err(|error| aggregate_failed(aggregation, i, error))?;
            columns.push(values);
            unfit.extend(are_unfit.map(|groups| (i, groups)));
        }
        Ok(Results { columns, unfit })
    }

    /// The number of groups.
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

    /// The states of an aggregate in `groups` empty groups.
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
        // A row of each group that does not count: without any row, an accumulator would take its
        // groups for groups with a value.
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
    if let Some(accumulator) = exact::accumulator(function)? {
        return Ok(accumulator);
    }
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || {
        function.create_accumulator()
    })))
}

/// `column` as `data_type`: some accumulators name the items of a list differently from their
/// declaration.
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
