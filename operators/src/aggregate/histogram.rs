//! Histograms of frequencies.

use std::{collections::HashMap, iter::repeat, mem::size_of_val, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array},
    compute::{filter, is_not_null},
    datatypes::{DataType, Field, FieldRef, Int64Type},
    row::{RowConverter, SortField},
};
use datafusion::{
    common::{Result, ScalarValue, plan_err, utils::SingleRowListArrayBuilder},
    logical_expr::{
        Accumulator, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::format_state_name,
    },
};

use tagflow_engine::state::key_column;

use super::constant::constant;

/// `frequency_histogram(x, '1,2,5')`: the number of distinct `x` that occur 1 to below 2 times, 2
/// to below 5 times, and 5 times or more, as a list. Nulls do not count.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct FrequencyHistogram {
    signature: Signature,
}

impl FrequencyHistogram {
    /// The function.
    pub fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl Default for FrequencyHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl AggregateUDFImpl for FrequencyHistogram {
    fn name(&self) -> &'static str {
        "frequency_histogram"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value, bounds] if !value.is_nested() && bounds.is_string() => {
                Ok(vec![value.clone(), DataType::Utf8])
            }
            _ => plan_err!("`frequency_histogram` is written `frequency_histogram(x, '1,2,5')`"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::new_list(DataType::Int64, true))
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let bounds = match constant(&args)? {
            ScalarValue::Utf8(Some(text)) => bounds(&text),
            _ => None,
        };
        let Some(bounds) = bounds else {
            return plan_err!(
                "the bounds of `{}` are numbers from 1 that go up: '1,2,5'",
                args.name
            );
        };
        let values = args.expr_fields[0].data_type().clone();
        Ok(Box::new(HistogramAccumulator {
            bounds,
            values: RowConverter::new(vec![SortField::new(values)])?,
            counts: HashMap::new(),
            key_bytes: 0,
        }))
    }

    /// The values, and the frequency of each.
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let values = args.input_fields[0].data_type().clone();
        let field = |name, items| {
            let name = format_state_name(args.name, name);
            Arc::new(Field::new_list(
                name,
                Field::new_list_field(items, true),
                false,
            ))
        };
        Ok(vec![
            field("values", values),
            field("counts", DataType::Int64),
        ])
    }
}

/// The bounds, if they ascend from 1 or more.
fn bounds(text: &str) -> Option<Vec<i64>> {
    let bounds: Vec<i64> = text
        .split(',')
        .map(|bound| bound.trim().parse().ok())
        .collect::<Option<_>>()?;
    (bounds[0] >= 1 && bounds.is_sorted_by(|a, b| a < b)).then_some(bounds)
}

#[derive(Debug)]
struct HistogramAccumulator {
    bounds: Vec<i64>,
    /// Converts values to bytes and back.
    values: RowConverter,
    /// The frequency of each value.
    counts: HashMap<Box<[u8]>, i64>,
    key_bytes: usize,
}

impl HistogramAccumulator {
    /// Adds values that are not null, each with its frequency.
    fn add(&mut self, values: ArrayRef, counts: impl Iterator<Item = i64>) -> Result<()> {
        let rows = self.values.convert_columns(&[key_column(&values)])?;
        for (row, count) in rows.iter().zip(counts) {
            if let Some(before) = self.counts.get_mut(row.as_ref()) {
                *before += count;
            } else {
                self.key_bytes += row.as_ref().len();
                self.counts.insert(row.as_ref().into(), count);
            }
        }
        Ok(())
    }
}

impl Accumulator for HistogramAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = filter(&values[0], &is_not_null(&values[0])?)?;
        self.add(values, repeat(1))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (values, counts) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        for row in 0..values.len() {
            let counts = counts.value(row);
            let counts = counts.as_primitive::<Int64Type>().values().iter();
            self.add(values.value(row), counts.copied())?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let parser = self.values.parser();
        let rows = self.counts.keys().map(|row| parser.parse(row));
        let values = self.values.convert_rows(rows)?.swap_remove(0);
        let counts: Int64Array = self.counts.values().copied().collect();
        let list = |items| SingleRowListArrayBuilder::new(items).build_list_scalar();
        Ok(vec![list(values), list(Arc::new(counts))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut histogram = vec![0; self.bounds.len()];
        for count in self.counts.values() {
            let reached = self.bounds.partition_point(|bound| bound <= count);
            if let Some(bucket) = reached.checked_sub(1) {
                histogram[bucket] += 1;
            }
        }
        let histogram: ArrayRef = Arc::new(Int64Array::from(histogram));
        Ok(SingleRowListArrayBuilder::new(histogram).build_list_scalar())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.key_bytes + self.counts.capacity() * size_of::<(Box<[u8]>, i64)>()
    }
}
