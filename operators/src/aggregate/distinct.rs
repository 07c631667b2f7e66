//! Exact counts of distinct texts in many groups.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array, UInt64Array,
    },
    buffer::OffsetBuffer,
    compute::{and, filter, is_not_null, take},
    datatypes::{DataType, Field, Schema, UInt64Type},
};
use datafusion::{
    common::{Result, not_impl_err},
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::aggregate::AggregateFunctionExpr,
    physical_plan::aggregates::{
        group_values::{GroupValues, new_group_values},
        order::GroupOrdering,
    },
};

use super::without_nulls;

/// `count(DISTINCT x)` of texts, with one table of the pairs of group and value. `DataFusion` has a
/// table for each group, which costs several times as much for small groups. The states are the
/// same: a list of values for each group.
pub(crate) struct DistinctCounts {
    pairs: Box<dyn GroupValues>,
    /// The number of pairs of each group.
    counts: Vec<i64>,
    /// The pair of each row of the current batch; kept for its allocation.
    row_pairs: Vec<usize>,
}

impl DistinctCounts {
    /// Whether `function` is such a count.
    pub(crate) fn is(function: &AggregateFunctionExpr) -> Result<bool> {
        let of_texts = |state: &Field| match state.data_type() {
            DataType::List(item) => *item.data_type() == DataType::Utf8,
            _ => false,
        };
        Ok(function.fun().name() == "count"
            && function.is_distinct()
            && function.state_fields()?.iter().all(|state| of_texts(state)))
    }

    pub(crate) fn new() -> Result<Self> {
        let schema = Schema::new(vec![
            Field::new("group", DataType::UInt64, false),
            Field::new("value", DataType::Utf8, false),
        ]);
        Ok(Self {
            pairs: new_group_values(Arc::new(schema), &GroupOrdering::None)?,
            counts: Vec::new(),
            row_pairs: Vec::new(),
        })
    }

    fn add(&mut self, groups: ArrayRef, values: ArrayRef, total_groups: usize) -> Result<()> {
        self.counts.resize(total_groups, 0);
        let known = self.pairs.len();
        self.pairs
            .intern(&[Arc::clone(&groups), values], &mut self.row_pairs)?;
        let mut counted = vec![false; self.pairs.len() - known];
        let groups = groups.as_primitive::<UInt64Type>().values();
        for (&pair, &group) in self.row_pairs.iter().zip(groups) {
            if pair >= known && !counted[pair - known] {
                counted[pair - known] = true;
                self.counts[group as usize] += 1;
            }
        }
        Ok(())
    }
}

impl GroupsAccumulator for DistinctCounts {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let mut values = Arc::clone(&values[0]);
        let groups = group_indices.iter().map(|&group| group as u64);
        let mut groups: ArrayRef = Arc::new(UInt64Array::from_iter_values(groups));
        let present = values
            .is_nullable()
            .then(|| is_not_null(&values))
            .transpose()?;
        let kept = match (opt_filter.map(without_nulls), present) {
            (Some(wanted), Some(present)) => Some(and(&wanted, &present)?),
            (wanted, present) => wanted.or(present),
        };
        if let Some(kept) = kept {
            values = filter(&values, &kept)?;
            groups = filter(&groups, &kept)?;
        }
        self.add(groups, values, total_num_groups)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let lists = values[0].as_list::<i32>();
        let offsets = lists.offsets();
        let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
        let values = lists.values().slice(first, last - first);
        let groups = group_indices.iter().zip(offsets.lengths());
        let groups = groups.flat_map(|(&group, length)| std::iter::repeat_n(group as u64, length));
        let groups = Arc::new(UInt64Array::from_iter_values(groups));
        self.add(groups, values, total_num_groups)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let pairs = self.pairs.emit(emit_to)?;
        let counts = all(emit_to, &mut self.counts)?;
        let offsets = OffsetBuffer::from_lengths(counts.iter().map(|&count| count as usize));
        // The pairs, sorted by group.
        let mut next: Vec<i32> = offsets[..counts.len()].to_vec();
        let mut order = vec![0; pairs[1].len()];
        for (pair, &group) in pairs[0]
            .as_primitive::<UInt64Type>()
            .values()
            .iter()
            .enumerate()
        {
            let place = &mut next[group as usize];
            order[*place as usize] = pair as u32;
            *place += 1;
        }
        let values = take(&pairs[1], &UInt32Array::from(order), None)?;
        let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
        Ok(vec![Arc::new(ListArray::try_new(
            field, offsets, values, None,
        )?)])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.pairs.clear_shrink(0);
        Ok(Arc::new(Int64Array::from(all(emit_to, &mut self.counts)?)))
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("distinct counts row by row")
    }

    fn size(&self) -> usize {
        self.pairs.size()
            + self.counts.capacity() * size_of::<i64>()
            + self.row_pairs.capacity() * size_of::<usize>()
    }
}

/// Returns and resets the counts of all groups; windows never request fewer.
fn all(emit_to: EmitTo, counts: &mut Vec<i64>) -> Result<Vec<i64>> {
    match emit_to {
        EmitTo::All => Ok(std::mem::take(counts)),
        EmitTo::First(_) => not_impl_err!("distinct counts of some of the groups"),
    }
}
