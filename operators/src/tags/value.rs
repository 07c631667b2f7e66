//! A value outside of Arrow.

use std::{
    cmp::Ordering,
    fmt::{self, Write},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
        Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
    },
    buffer::OffsetBuffer,
    datatypes::{
        DataType, Date32Type, Decimal128Type, DecimalType, Field, Float64Type, Int64Type, TimeUnit,
        TimestampMicrosecondType,
    },
};
use smol_str::SmolStr;
use tagflow_engine::{Error, EventTime, Result, state::canonical};
use twox_hash::XxHash3_64;

use super::codec::{Codec, put_text, take_text};

/// A value of one of the types of tags; the tag's [`DataType`] determines which. Floats
/// are equal as keys are: all zeros are equal, and all NaNs.
#[derive(Debug, Clone, Default)]
pub(crate) enum Value {
    /// Null.
    #[default]
    Null,
    /// A `Boolean`.
    Bool(bool),
    /// An `Int64`, the days of a `Date32`, the microseconds of a `Timestamp`.
    Int(i64),
    /// The digits of a `Decimal128`.
    Decimal(i128),
    /// A `Float64`.
    Float(f64),
    /// A `Utf8`.
    Text(SmolStr),
    /// A `List`.
    List(Vec<Value>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::Int(one), Self::Int(other)) => one == other,
            (Self::Decimal(one), Self::Decimal(other)) => one == other,
            (Self::Float(one), Self::Float(other)) => {
                canonical(*one).to_bits() == canonical(*other).to_bits()
            }
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::List(one), Self::List(other)) => one == other,
            _ => false,
        }
    }
}

/// Values as part of a state, which has no lists as values.
impl Codec for Value {
    fn put(&self, bytes: &mut Vec<u8>) {
        let number: u8 = match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Decimal(_) => 3,
            Self::Float(_) => 4,
            Self::Text(_) => 5,
            Self::List(_) => unreachable!("no column of lists is read"),
        };
        number.put(bytes);
        match self {
            Self::Null | Self::List(_) => {}
            Self::Bool(value) => value.put(bytes),
            Self::Int(value) => value.put(bytes),
            Self::Decimal(digits) => digits.put(bytes),
            Self::Float(value) => value.put(bytes),
            Self::Text(text) => put_text(bytes, text),
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(match u8::take(bytes)? {
            0 => Self::Null,
            1 => Self::Bool(Codec::take(bytes)?),
            2 => Self::Int(Codec::take(bytes)?),
            3 => Self::Decimal(Codec::take(bytes)?),
            4 => Self::Float(Codec::take(bytes)?),
            5 => Self::Text(take_text(bytes)?.into()),
            _ => return None,
        })
    }
}

impl Value {
    /// The value in a row of a column.
    pub(super) fn at(column: &dyn Array, row: usize) -> Self {
        if column.is_null(row) {
            return Self::Null;
        }
        match column.data_type() {
            DataType::Boolean => Self::Bool(column.as_boolean().value(row)),
            DataType::Int64 => Self::Int(column.as_primitive::<Int64Type>().value(row)),
            DataType::Date32 => {
                Self::Int(i64::from(column.as_primitive::<Date32Type>().value(row)))
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let column = column.as_primitive::<TimestampMicrosecondType>();
                Self::Int(column.value(row))
            }
            DataType::Decimal128(..) => {
                Self::Decimal(column.as_primitive::<Decimal128Type>().value(row))
            }
            DataType::Float64 => Self::Float(column.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => Self::Text(column.as_string::<i32>().value(row).into()),
            _ => Self::Null,
        }
    }

    /// Whether values of this type can be read.
    fn can_be(data_type: &DataType) -> bool {
        match data_type {
            DataType::Boolean
            | DataType::Int64
            | DataType::Date32
            | DataType::Decimal128(..)
            | DataType::Float64
            | DataType::Utf8 => true,
            DataType::Timestamp(TimeUnit::Microsecond, zone) => zone.as_deref() == Some("UTC"),
            _ => false,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The order of values of one type; null is the lowest.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (Self::Int(one), Self::Int(other)) => one.cmp(other),
            (Self::Decimal(one), Self::Decimal(other)) => one.cmp(other),
            (Self::Float(one), Self::Float(other)) => canonical(*one).total_cmp(&canonical(*other)),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (one, other) => other.is_null().cmp(&one.is_null()),
        }
    }

    /// A hash of 64 bits, the same on every machine.
    pub(super) fn hash(&self) -> u64 {
        match self {
            Self::Null => XxHash3_64::oneshot(&[]),
            Self::Bool(value) => XxHash3_64::oneshot(&[u8::from(*value)]),
            Self::Int(value) => XxHash3_64::oneshot(&value.to_le_bytes()),
            Self::Decimal(value) => XxHash3_64::oneshot(&value.to_le_bytes()),
            Self::Float(value) => XxHash3_64::oneshot(&canonical(*value).to_bits().to_le_bytes()),
            Self::Text(value) => XxHash3_64::oneshot(value.as_bytes()),
            Self::List(values) => {
                let hashes = values
                    .iter()
                    .flat_map(|value| value.item_hash().to_le_bytes());
                XxHash3_64::oneshot(&hashes.collect::<Vec<u8>>())
            }
        }
    }

    /// Like [`Self::hash`], but null differs from the empty text. Counted values are
    /// never null, and their stored hashes do not change.
    fn item_hash(&self) -> u64 {
        /// No text contains this byte.
        const EMPTY_TEXT: &[u8] = &[0xff];
        match self {
            Self::Text(text) if text.is_empty() => XxHash3_64::oneshot(EMPTY_TEXT),
            value => value.hash(),
        }
    }

    /// The value as a number, if it is one.
    pub(super) fn number(&self, data_type: &DataType) -> Option<f64> {
        match (self, data_type) {
            (Self::Decimal(digits), DataType::Decimal128(_, scale)) => {
                Some(*digits as f64 / 10f64.powi(i32::from(*scale)))
            }
            (Self::Int(value), _) => Some(*value as f64),
            (Self::Float(value), _) => Some(*value),
            _ => None,
        }
    }

    /// The value as readable text; none for null. A list is a JSON array.
    pub(crate) fn text(&self, data_type: &DataType) -> Option<String> {
        let mut text = String::new();
        self.write_text(data_type, &mut text).then_some(text)
    }

    /// Writes the value as readable text; false for null.
    pub(super) fn write_text(&self, data_type: &DataType, out: &mut impl Write) -> bool {
        let written = match self {
            Self::Null => return false,
            Self::List(_) => self.write_json(data_type, out),
            _ => self.write(data_type, out),
        };
        written.expect("memory takes what is written");
        true
    }

    /// The value as JSON: a number where JSON has one, text for times, decimals and NaN.
    pub(super) fn json(&self, data_type: &DataType) -> String {
        let mut json = String::new();
        let written = self.write_json(data_type, &mut json);
        written.expect("memory takes what is written");
        json
    }

    fn write_json(&self, data_type: &DataType, out: &mut impl Write) -> fmt::Result {
        match (self, data_type) {
            (Self::Null, _) => out.write_str("null"),
            (Self::List(values), DataType::List(item)) => {
                out.write_char('[')?;
                for (place, value) in values.iter().enumerate() {
                    if place > 0 {
                        out.write_char(',')?;
                    }
                    value.write_json(item.data_type(), out)?;
                }
                out.write_char(']')
            }
            // JSON has no NaN and no infinity.
            (Self::Float(value), _) if value.is_finite() => self.write(data_type, out),
            (Self::Bool(_), _) | (Self::Int(_), DataType::Int64) => self.write(data_type, out),
            (Self::Text(text), _) if !must_be_escaped(text) => {
                out.write_char('"')?;
                out.write_str(text)?;
                out.write_char('"')
            }
            _ => {
                let mut text = String::new();
                self.write(data_type, &mut text)?;
                out.write_str(&serde_json::Value::from(text).to_string())
            }
        }
    }

    fn write(&self, data_type: &DataType, out: &mut impl Write) -> fmt::Result {
        match (self, data_type) {
            (Self::Null | Self::List(_), _) => Ok(()),
            (Self::Bool(value), _) => write!(out, "{value}"),
            (Self::Int(micros), DataType::Timestamp(..)) => {
                write!(out, "{}", EventTime::from_micros(*micros))
            }
            (Self::Int(days), DataType::Date32) => {
                match Date32Type::to_naive_date_opt(*days as i32) {
                    Some(date) => write!(out, "{date}"),
                    None => write!(out, "{days}"),
                }
            }
            (Self::Int(value), _) => write!(out, "{value}"),
            (Self::Decimal(digits), DataType::Decimal128(precision, scale)) => {
                let text = Decimal128Type::format_decimal(*digits, *precision, *scale);
                out.write_str(&text)
            }
            (Self::Decimal(digits), _) => write!(out, "{digits}"),
            (Self::Float(value), _) => write!(out, "{value}"),
            (Self::Text(value), _) => out.write_str(value),
        }
    }
}

/// The type of a column, if its values can be read.
///
/// # Errors
/// The mistake.
pub(super) fn checked_type(field: &Field) -> Result<&DataType, String> {
    match field.data_type() {
        data_type if Value::can_be(data_type) => Ok(data_type),
        data_type => Err(format!("a value cannot be of type {data_type}")),
    }
}

/// The type of a list.
pub(super) fn list_of(item: &DataType) -> DataType {
    DataType::new_list(item.clone(), true)
}

/// Whether JSON escapes a byte of this text. It examines all bytes, which processors do
/// in parallel.
fn must_be_escaped(text: &str) -> bool {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    text.bytes().fold(false, |any, byte| any | is_special(byte))
}

/// The column of `values`.
///
/// # Errors
/// `Internal` if a value does not have the type.
pub(super) fn array(
    values: &mut dyn Iterator<Item = &'_ Value>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let int = |value: &Value| match value {
        Value::Int(value) => Some(*value),
        _ => None,
    };
    Ok(match data_type {
        DataType::Boolean => {
            let values = values.map(|value| match value {
                Value::Bool(value) => Some(*value),
                _ => None,
            });
            Arc::new(values.collect::<BooleanArray>())
        }
        DataType::Int64 => Arc::new(values.map(int).collect::<Int64Array>()),
        DataType::Date32 => {
            let values = values.map(|value| int(value).map(|days| days as i32));
            Arc::new(values.collect::<Date32Array>())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values: TimestampMicrosecondArray = values.map(int).collect();
            Arc::new(values.with_timezone("UTC"))
        }
        DataType::Decimal128(precision, scale) => {
            let values = values.map(|value| match value {
                Value::Decimal(value) => Some(*value),
                _ => None,
            });
            let values: Decimal128Array = values.collect();
            Arc::new(values.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Float64 => {
            let values = values.map(|value| match value {
                Value::Float(value) => Some(*value),
                _ => None,
            });
            Arc::new(values.collect::<Float64Array>())
        }
        DataType::Utf8 => {
            let values = values.map(|value| match value {
                Value::Text(value) => Some(value.as_str()),
                _ => None,
            });
            Arc::new(values.collect::<StringArray>())
        }
        DataType::List(item) => list(values, item.data_type())?,
        other => return Err(Error::internal(format!("tags have no values of {other}"))),
    })
}

/// A column of lists of `item`.
fn list(values: &mut dyn Iterator<Item = &'_ Value>, item: &DataType) -> Result<ArrayRef> {
    let values: Vec<&Value> = values.collect();
    let mut items = values.iter().flat_map(|value| match value {
        Value::List(items) => items.as_slice(),
        _ => &[],
    });
    let items = array(&mut items, item)?;
    let lengths = values.iter().map(|value| match value {
        Value::List(items) => items.len(),
        _ => 0,
    });
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls = values.iter().map(|value| !value.is_null()).collect();
    let field = Field::new_list_field(item.clone(), true);
    let list = ListArray::try_new(Arc::new(field), offsets, items, Some(nulls))?;
    Ok(Arc::new(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_null_is_not_the_empty_text() {
        let text = |text: &str| Value::Text(text.into());
        let hash = |values: &[Value]| Value::List(values.to_vec()).hash();
        let lists = [
            hash(&[Value::Null]),
            hash(&[text("")]),
            hash(&[Value::Null, text("")]),
            hash(&[text(""), Value::Null]),
        ];
        for (place, list) in lists.iter().enumerate() {
            assert!(!lists[place + 1..].contains(list), "{place}");
        }
    }

    #[test]
    fn regression_there_is_one_zero_and_one_nan() {
        let float = |bits: u64| Value::Float(f64::from_bits(bits));
        let nans = [float(0x7ff8_0000_0000_0000), float(0xfff8_0000_0000_0001)];
        for [one, other] in [[Value::Float(0.0), Value::Float(-0.0)], nans] {
            assert_eq!(one, other);
            assert_eq!(one.hash(), other.hash());
            assert_eq!(one.compare(&other), Ordering::Equal);
        }
        assert_ne!(Value::Float(0.0), Value::Float(f64::NAN));
        assert_ne!(Value::Float(0.0), Value::Null);
    }

    #[test]
    fn stored_hashes_stay_what_they_are() {
        let empty = Value::Text("".into());
        assert_eq!(empty.hash(), XxHash3_64::oneshot(&[]));
        assert_eq!(
            Value::Float(1.5).hash(),
            XxHash3_64::oneshot(&1.5_f64.to_le_bytes())
        );
    }
}
