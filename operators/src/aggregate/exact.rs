//! Sums and means of integers and decimals that are exact.
//!
//! `DataFusion` adds in the type of the result: a sum wraps around, and a mean fails if it does not
//! fit its type. Here the type of sums is so wide that no number of rows overflows it. Sums
//! therefore depend neither on the order of rows nor on their division. Results are wide, too;
//! [`fitted`] converts them to their types.

use std::{marker::PhantomData, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray,
        Decimal128Array, Decimal256Array, Int64Array, PrimitiveArray, UInt64Array,
    },
    buffer::NullBuffer,
    compute::{cast, is_null, kernels::boolean::and_not},
    datatypes::{
        DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal32Type, Decimal64Type,
        Decimal128Type, Decimal256Type, DecimalType, Int64Type, UInt64Type, i256,
    },
};
use datafusion::{
    common::{Result, ScalarValue, internal_err, not_impl_err},
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
    physical_expr::{GroupsAccumulatorAdapter, aggregate::AggregateFunctionExpr},
};

use super::without_nulls;

/// The highest precision of narrow sums: with 18 digits a row, 10^20 rows fit 128 bits.
const MAX_NARROW_SUM: u8 = 28;

/// Sums with more digits than this, from rows with 57 digits, may overflow 256 bits.
const MAX_SUM: u8 = 67;

/// The type of the accumulated `sum`; `None` for other functions, and for sums that do not wrap
/// around.
pub(crate) fn sum_type(function: &AggregateFunctionExpr) -> Option<DataType> {
    if function.fun().name() != "sum" || function.is_distinct() {
        return None;
    }
    match *function.field().data_type() {
        DataType::Int64 | DataType::UInt64 | DataType::Duration(_) => {
            Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0))
        }
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(..=MAX_NARROW_SUM, scale) => {
            Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale))
        }
        DataType::Decimal128(_, scale) | DataType::Decimal256(..=MAX_SUM, scale) => {
            Some(DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale))
        }
        _ => None,
    }
}

/// Whether `function` is a sum or a mean that may still overflow.
pub(crate) fn may_overflow(function: &AggregateFunctionExpr) -> bool {
    let is_wide = matches!(
        function.field().data_type(),
        DataType::Decimal256(precision, _) if *precision > MAX_SUM
    );
    is_wide && ["sum", "avg"].contains(&function.fun().name())
}

/// Whether `function` is a sum of integers or decimals, or a mean of decimals. Its type may be
/// too narrow for the result.
pub(crate) fn is_exact(function: &AggregateFunctionExpr) -> bool {
    let field = function.field();
    let result = field.data_type();
    match function.fun().name() {
        "sum" => {
            result.is_integer() || result.is_decimal() || matches!(result, DataType::Duration(_))
        }
        "avg" => result.is_decimal(),
        _ => false,
    }
}

/// The accumulator of an [exact](is_exact) `function`, and `None` for others. Convert its results
/// with [`fitted`].
pub(crate) fn accumulator(
    function: &Arc<AggregateFunctionExpr>,
) -> Result<Option<Box<dyn GroupsAccumulator>>> {
    if !is_exact(function) {
        return Ok(None);
    }
    let field = function.field();
    let result = field.data_type();
    if let Some(sum) = sum_type(function) {
        return Ok(Some(sums(sum, result)));
    }
    let scale = scale_of(result);
    let divides = function.fun().name() == "avg";
    if !function.is_distinct() {
        if !divides {
            return Ok(None);
        }
        let sums = function.create_groups_accumulator()?;
        return Ok(Some(Box::new(ExactMeans { sums, scale })));
    }
    let function = Arc::clone(function);
    let accumulators = GroupsAccumulatorAdapter::new(move || {
        let accumulator = Distinct {
            values: function.create_accumulator()?,
            divides,
            scale,
        };
        Ok(Box::new(accumulator) as Box<dyn Accumulator>)
    });
    Ok(Some(Box::new(accumulators)))
}

/// The results of an [`accumulator`] in the type `result`. A mask marks results that the type
/// cannot hold, if any. They are null.
pub(crate) fn fitted(
    values: &ArrayRef,
    result: &DataType,
) -> Result<(ArrayRef, Option<BooleanArray>)> {
    let fitted = narrow(wide(values)?.iter(), result)?;
    if fitted.null_count() == values.null_count() {
        return Ok((fitted, None));
    }
    let unfit = and_not(&is_null(&fitted)?, &is_null(values)?)?;
    Ok((fitted, Some(unfit)))
}

/// A stored state in the type that `sum_type` returns, if it is a sum in the type of its result.
pub(crate) fn widened(state: &ArrayRef, sum: &DataType) -> Option<ArrayRef> {
    let scale = |data_type: &DataType| match data_type {
        DataType::Int64 | DataType::UInt64 | DataType::Duration(_) => Some(0),
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    };
    let is_wider = match sum {
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, _) => {
            !matches!(state.data_type(), DataType::Decimal256(..))
        }
        DataType::Decimal256(DECIMAL256_MAX_PRECISION, _) => state.data_type().is_decimal(),
        _ => false,
    };
    if !is_wider || scale(state.data_type())? != scale(sum)? {
        return None;
    }
    cast(&as_integers(state).ok()?, sum).ok()
}

fn sums(sum: DataType, result: &DataType) -> Box<dyn GroupsAccumulator> {
    match (&sum, result) {
        (DataType::Decimal256(..), DataType::Decimal256(..)) => {
            Box::new(ExactSums::<Decimal256Type, Decimal256Type>::new(sum))
        }
        (DataType::Decimal256(..), _) => {
            Box::new(ExactSums::<Decimal128Type, Decimal256Type>::new(sum))
        }
        (_, DataType::Decimal128(..)) => {
            Box::new(ExactSums::<Decimal128Type, Decimal128Type>::new(sum))
        }
        (_, DataType::Decimal64(..)) => {
            Box::new(ExactSums::<Decimal64Type, Decimal128Type>::new(sum))
        }
        (_, DataType::Decimal32(..)) => {
            Box::new(ExactSums::<Decimal32Type, Decimal128Type>::new(sum))
        }
        (_, DataType::UInt64) => Box::new(ExactSums::<UInt64Type, Decimal128Type>::new(sum)),
        _ => Box::new(ExactSums::<Int64Type, Decimal128Type>::new(sum)),
    }
}

/// `sum(x)` with `x` of type `I`, added up in the wider type `S`.
struct ExactSums<I: ArrowPrimitiveType, S: DecimalType> {
    sums: Vec<S::Native>,
    /// Whether a row of the group counts.
    is_any: Vec<bool>,
    /// The type of the state, with the digits after the point.
    sum: DataType,
    of: PhantomData<fn() -> I>,
}

impl<I: ArrowPrimitiveType, S: DecimalType> ExactSums<I, S> {
    fn new(sum: DataType) -> Self {
        Self {
            sums: Vec::new(),
            is_any: Vec::new(),
            sum,
            of: PhantomData,
        }
    }

    /// Adds the `values` that are not null, and `wanted`, to the sums of their groups.
    fn add<T: ArrowPrimitiveType>(
        &mut self,
        values: &PrimitiveArray<T>,
        widen: impl Fn(T::Native) -> S::Native,
        groups: &[usize],
        wanted: Option<&BooleanArray>,
        total_groups: usize,
    ) {
        self.sums.resize(total_groups, S::Native::ZERO);
        self.is_any.resize(total_groups, false);
        let wanted = wanted.map(|it| NullBuffer::new(without_nulls(it).values().clone()));
        let counts = NullBuffer::union(values.nulls(), wanted.as_ref());
        let mut add = |group: usize, value: T::Native| {
            self.sums[group] = self.sums[group].add_wrapping(widen(value));
            self.is_any[group] = true;
        };
        match counts {
            None => {
                for (group, value) in groups.iter().zip(values.values()) {
                    add(*group, *value);
                }
            }
            Some(counts) => {
                for row in counts.valid_indices() {
                    add(groups[row], values.value(row));
                }
            }
        }
    }

    /// Returns the sums of all groups; windows never request fewer.
    fn take(&mut self, emit_to: EmitTo) -> Result<PrimitiveArray<S>> {
        if emit_to != EmitTo::All {
            return not_impl_err!("sums of some of the groups");
        }
        let sums = std::mem::take(&mut self.sums);
        let is_any = std::mem::take(&mut self.is_any);
        let sums = PrimitiveArray::new(sums.into(), Some(NullBuffer::from(is_any)));
        Ok(sums.with_data_type(self.sum.clone()))
    }
}

impl<I: ArrowPrimitiveType, S: DecimalType> GroupsAccumulator for ExactSums<I, S>
where
    S::Native: From<I::Native>,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let values = as_integers(&values[0])?;
        let values = values.as_primitive::<I>();
        self.add(
            values,
            Into::into,
            group_indices,
            opt_filter,
            total_num_groups,
        );
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let sums = values[0].as_primitive::<S>();
        self.add(sums, |sum| sum, group_indices, None, total_num_groups);
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.take(emit_to)?)])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(self.take(emit_to)?))
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("sums row by row")
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<S::Native>() + self.is_any.capacity()
    }
}

/// `avg(x)` of decimals. `DataFusion` also adds them up in a wider type.
struct ExactMeans {
    sums: Box<dyn GroupsAccumulator>,
    /// How many digits the result has after the point.
    scale: i8,
}

impl GroupsAccumulator for ExactMeans {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.sums
            .update_batch(values, group_indices, opt_filter, total_num_groups)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.sums
            .merge_batch(values, group_indices, total_num_groups)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.sums.state(emit_to)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let state = self.sums.state(emit_to)?;
        let [counts, sums] = state.as_slice() else {
            return internal_err!("a mean is made of a count and a sum");
        };
        let counts = counts.as_primitive::<UInt64Type>().iter();
        let scale = scale_of(sums.data_type());
        let sums = wide(sums)?;
        let means = sums.iter().zip(counts).map(|(sum, count)| {
            let count = count.filter(|count| *count > 0)?;
            mean(sum?, count, self.scale - scale)
        });
        let means: Decimal256Array = means.collect();
        let precision = DECIMAL256_MAX_PRECISION;
        Ok(Arc::new(
            means.with_precision_and_scale(precision, self.scale)?,
        ))
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("means row by row")
    }

    fn size(&self) -> usize {
        self.sums.size()
    }
}

/// `sum(DISTINCT x)` and `avg(DISTINCT x)`.
#[derive(Debug)]
struct Distinct {
    /// The state of this accumulator is the list of the values.
    values: Box<dyn Accumulator>,
    /// Whether it is a mean.
    divides: bool,
    /// How many digits the result has after the point.
    scale: i8,
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.values.state()?;
        let [ScalarValue::List(values)] = state.as_slice() else {
            return internal_err!("distinct values are a list");
        };
        let values = values.value(0);
        let scale = scale_of(values.data_type());
        let values = wide(&values)?;
        let mut sums = values.iter().flatten();
        let first = sums.next();
        let sum = first.and_then(|first| sums.try_fold(first, |sum, it| sum.add_checked(it).ok()));
        let count = (values.len() - values.null_count()) as u64;
        let result = match sum {
            Some(sum) if self.divides => mean(sum, count, self.scale - scale),
            sum => sum,
        };
        let precision = DECIMAL256_MAX_PRECISION;
        Ok(ScalarValue::Decimal256(result, precision, self.scale))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.values.size()
    }
}

/// `sum` divided by `count`, with `more` further digits after the point. The last digit is
/// truncated, not rounded.
fn mean(sum: i256, count: u64, more: i8) -> Option<i256> {
    let more = u32::try_from(more).ok()?;
    let sum = sum.checked_mul(i256::from_i128(10).checked_pow(more)?)?;
    sum.checked_div(i256::from_i128(count.into()))
}

fn scale_of(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    }
}

/// Durations as their integers.
fn as_integers(values: &ArrayRef) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Duration(_) => Ok(cast(values, &DataType::Int64)?),
        _ => Ok(Arc::clone(values)),
    }
}

fn wide(values: &ArrayRef) -> Result<Decimal256Array> {
    let wide = DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale_of(values.data_type()));
    let values = cast(&as_integers(values)?, &wide)?;
    Ok(values.as_primitive::<Decimal256Type>().clone())
}

/// The digits of numbers as a column of the type `result`; null if the type cannot hold a number.
fn narrow(digits: impl Iterator<Item = Option<i256>>, result: &DataType) -> Result<ArrayRef> {
    let digits_128 = |it: Option<i256>| it?.to_i128();
    let fits =
        |it: &i128, precision: u8| Decimal128Type::is_valid_decimal_precision(*it, precision);
    let numbers: ArrayRef = match *result {
        DataType::UInt64 => {
            let numbers = digits.map(|it| u64::try_from(digits_128(it)?).ok());
            Arc::new(numbers.collect::<UInt64Array>())
        }
        DataType::Decimal256(precision, scale) => {
            let fits = |it: &i256| Decimal256Type::is_valid_decimal_precision(*it, precision);
            let numbers: Decimal256Array = digits.map(|it| it.filter(fits)).collect();
            Arc::new(numbers.with_precision_and_scale(precision, scale)?)
        }
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            let numbers = digits.map(|it| digits_128(it).filter(|it| fits(it, precision)));
            let numbers: Decimal128Array = numbers.collect();
            Arc::new(numbers.with_precision_and_scale(precision, scale)?)
        }
        _ => {
            let numbers = digits.map(|it| i64::try_from(digits_128(it)?).ok());
            Arc::new(numbers.collect::<Int64Array>())
        }
    };
    if numbers.data_type() == result {
        return Ok(numbers);
    }
    Ok(cast(&numbers, result)?)
}
