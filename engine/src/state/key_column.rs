//! Columns whose values are compared as keys.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, ListArray, PrimitiveArray,
        StructArray,
    },
    datatypes::{DataType, Float16Type, Float32Type, Float64Type},
};

type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// `column` with one zero and one NaN, so that keys are equal under the rules of SQL: −0.0 equals
/// 0.0, and NaN equals NaN with any bits. Floats in structs and lists change too. A column without
/// floats, or without a float to change, is not copied.
pub fn key_column(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => floats::<Float64Type>(column, canonical),
        DataType::Float32 => floats::<Float32Type>(column, |value| match value {
            value if value.is_nan() => f32::NAN,
            value => value + 0.0,
        }),
        DataType::Float16 => floats::<Float16Type>(column, |value| match value {
            value if value.is_nan() => Half::NAN,
            value => value + Half::ZERO,
        }),
        DataType::Struct(fields) => {
            let rows = column.as_struct();
            let columns: Vec<ArrayRef> = rows.columns().iter().map(key_column).collect();
            if all_same(&columns, rows.columns()) {
                return Arc::clone(column);
            }
            let nulls = rows.nulls().cloned();
            Arc::new(StructArray::new(fields.clone(), columns, nulls))
        }
        DataType::List(item) => {
            let lists = column.as_list::<i32>();
            let values = key_column(lists.values());
            if Arc::ptr_eq(&values, lists.values()) {
                return Arc::clone(column);
            }
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            Arc::new(ListArray::new(Arc::clone(item), offsets, values, nulls))
        }
        _ => Arc::clone(column),
    }
}

/// `value` as a key: one zero and one NaN.
pub fn canonical(value: f64) -> f64 {
    // The sum of −0.0 and 0.0 is 0.0.
    if value.is_nan() {
        f64::NAN
    } else {
        value + 0.0
    }
}

/// Compares floats by all their bits.
fn floats<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    canonical: impl Fn(T::Native) -> T::Native,
) -> ArrayRef {
    let values = column.as_primitive::<T>();
    let is_same = |value: &T::Native| canonical(*value).is_eq(*value);
    if values.values().iter().all(is_same) {
        return Arc::clone(column);
    }
    let keys: PrimitiveArray<T> = values.unary(canonical);
    Arc::new(keys)
}

fn all_same(one: &[ArrayRef], other: &[ArrayRef]) -> bool {
    one.iter()
        .zip(other)
        .all(|(one, other)| Arc::ptr_eq(one, other))
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Float32Array, Float64Array, Int64Array},
        buffer::OffsetBuffer,
        datatypes::Field,
    };

    use super::*;

    const OTHER_NAN: u64 = 0xfff8_0000_0000_0001;

    fn bits(column: &ArrayRef) -> Vec<u64> {
        let column = key_column(column);
        let values = column.as_primitive::<Float64Type>().values();
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn there_is_one_zero_and_one_nan() {
        let values = vec![-0.0, 0.0, f64::from_bits(OTHER_NAN), f64::NAN, -1.5];
        let column: ArrayRef = Arc::new(Float64Array::from(values));
        let expected = [0.0, 0.0, f64::NAN, f64::NAN, -1.5].map(f64::to_bits);
        assert_eq!(bits(&column), expected);
    }

    #[test]
    fn floats_inside_of_structs_and_lists_change_too() {
        let of = |zero: f32| -> ArrayRef {
            let floats: ArrayRef = Arc::new(Float32Array::from(vec![zero, 1.0]));
            let item = Arc::new(Field::new_list_field(DataType::Float32, true));
            let offsets = OffsetBuffer::from_lengths([2]);
            let list: ArrayRef = Arc::new(ListArray::new(item, offsets, floats, None));
            let field = Arc::new(Field::new("list", list.data_type().clone(), true));
            Arc::new(StructArray::from(vec![(field, list)]))
        };
        assert_ne!(&of(-0.0), &of(0.0));
        assert_eq!(&key_column(&of(-0.0)), &of(0.0));
    }

    #[test]
    fn what_need_not_change_is_not_copied() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, f64::NAN]));
        for column in [numbers, floats] {
            assert!(Arc::ptr_eq(&key_column(&column), &column));
        }
    }
}
