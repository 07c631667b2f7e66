//! Builds one column.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float64Array,
        Int64Array, ListArray, NullBufferBuilder, StringArray, TimestampMicrosecondArray,
    },
    buffer::{Buffer, OffsetBuffer, ScalarBuffer},
    datatypes::Field,
};
use chrono_tz::Tz;
use tagflow_engine::Result;
use tagflow_schemas::{ColumnType, TimeUnit};

use super::scalar::{self, TimeTextError};

/// The values of a column in Arrow's layout. Unlike Arrow's builders it can be truncated, which
/// discards the cells of a bad row.
#[derive(Debug)]
pub(super) struct ColumnBuffer {
    kind: ColumnType,
    values: Values,
    validity: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    Text {
        bytes: Vec<u8>,
        ends: Vec<i32>,
    },
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Bool(BooleanBufferBuilder),
    Decimal(Vec<i128>),
    Date(Vec<i32>),
    List {
        ends: Vec<i32>,
        items: Box<ColumnBuffer>,
    },
}

/// A value does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It does not match the column's type.
    Type,
    /// It is a time without a zone, and no zone is assumed.
    Zoneless,
    /// It is a local time that the assumed zone's clocks skip.
    SkippedTime,
}

impl Misfit {
    /// `expected int64, got …`.
    #[cold]
    pub(super) fn message(self, kind: &ColumnType, got: &str) -> String {
        match self {
            Self::Type => format!("expected {kind}, got {got}"),
            Self::Zoneless => format!(
                "expected {kind}, got {got} without a zone; set `assume_timezone` in the format if \
                 all such times are local to one"
            ),
            Self::SkippedTime => {
                format!("expected {kind}, got {got}, which the clocks of `assume_timezone` skip")
            }
        }
    }
}

impl ColumnBuffer {
    pub(super) fn new(kind: &ColumnType) -> Self {
        Self {
            kind: kind.clone(),
            values: match kind {
                ColumnType::String | ColumnType::Json => Values::Text {
                    bytes: Vec::new(),
                    ends: Vec::new(),
                },
                ColumnType::Int64 | ColumnType::Timestamp(_) => Values::Int64(Vec::new()),
                ColumnType::Float64 => Values::Float64(Vec::new()),
                ColumnType::Bool => Values::Bool(BooleanBufferBuilder::new(0)),
                ColumnType::Decimal { .. } => Values::Decimal(Vec::new()),
                ColumnType::Date => Values::Date(Vec::new()),
                ColumnType::List(item) => Values::List {
                    ends: Vec::new(),
                    items: Box::new(Self::new(item)),
                },
            },
            validity: NullBufferBuilder::new(0),
        }
    }

    pub(super) fn kind(&self) -> &ColumnType {
        &self.kind
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Text { ends, .. } | Values::List { ends, .. } => ends.len(),
            Values::Int64(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Bool(values) => values.len(),
            Values::Decimal(values) => values.len(),
            Values::Date(values) => values.len(),
        }
    }

    /// Keeps the first `len` values.
    #[inline]
    pub(super) fn truncate(&mut self, len: usize) {
        // A list that failed halfway has items but no end yet.
        if self.len() > len || matches!(self.values, Values::List { .. }) {
            self.cut(len);
        }
    }

    fn cut(&mut self, len: usize) {
        self.validity.truncate(len);
        match &mut self.values {
            Values::Text { bytes, ends } => {
                ends.truncate(len);
                bytes.truncate(end(ends));
            }
            Values::Int64(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Bool(values) => values.truncate(len),
            Values::Decimal(values) => values.truncate(len),
            Values::Date(values) => values.truncate(len),
            Values::List { ends, items } => {
                ends.truncate(len);
                items.truncate(end(ends));
            }
        }
    }

    pub(super) fn append_null(&mut self) {
        self.validity.append_null();
        match &mut self.values {
            Values::Text { bytes, ends } => ends.push(bytes.len() as i32),
            Values::Int64(values) => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::Bool(values) => values.append(false),
            Values::Decimal(values) => values.push(0),
            Values::Date(values) => values.push(0),
            Values::List { ends, items } => ends.push(items.len() as i32),
        }
    }

    /// A JSON or CSV boolean.
    pub(super) fn append_bool(&mut self, value: bool) -> Result<(), Misfit> {
        let Values::Bool(values) = &mut self.values else {
            return Err(Misfit::Type);
        };
        values.append(value);
        self.validity.append_non_null();
        Ok(())
    }

    /// A number, from its text.
    #[inline]
    pub(super) fn append_number(&mut self, text: &str) -> Result<(), Misfit> {
        match (&mut self.values, &self.kind) {
            (Values::Int64(values), ColumnType::Timestamp(unit)) => {
                values.push(scalar::timestamp_number(text, *unit).ok_or(Misfit::Type)?);
            }
            (Values::Int64(values), _) => values.push(text.parse().map_err(|_| Misfit::Type)?),
            (Values::Float64(values), _) => {
                values.push(scalar::float64(text).ok_or(Misfit::Type)?);
            }
            (Values::Decimal(values), ColumnType::Decimal { precision, scale }) => {
                values.push(scalar::fixed(text, *precision, *scale).ok_or(Misfit::Type)?);
            }
            _ => return Err(Misfit::Type),
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// A quoted text. Quoted numbers are not numbers, except for decimals, which many systems quote
    /// to keep them exact.
    #[inline]
    pub(super) fn append_string(&mut self, text: &str, zone: Option<Tz>) -> Result<(), Misfit> {
        match (&mut self.values, &self.kind) {
            (Values::Text { bytes, ends }, ColumnType::String) => {
                bytes.extend_from_slice(text.as_bytes());
                ends.push(bytes.len() as i32);
            }
            (Values::Decimal(values), ColumnType::Decimal { precision, scale }) => {
                values.push(scalar::fixed(text, *precision, *scale).ok_or(Misfit::Type)?);
            }
            (Values::Int64(values), ColumnType::Timestamp(TimeUnit::Rfc3339)) => {
                let time = scalar::timestamp_text(text, zone).map_err(|error| match error {
                    TimeTextError::Malformed => Misfit::Type,
                    TimeTextError::Zoneless => Misfit::Zoneless,
                    TimeTextError::Skipped => Misfit::SkippedTime,
                })?;
                values.push(time);
            }
            (Values::Date(values), _) => values.push(scalar::date(text).ok_or(Misfit::Type)?),
            _ => return Err(Misfit::Type),
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// The text of a JSON value, into a `json` column.
    pub(super) fn append_json_text(&mut self, json: &str) -> Result<(), Misfit> {
        let (Values::Text { bytes, ends }, ColumnType::Json) = (&mut self.values, &self.kind)
        else {
            return Err(Misfit::Type);
        };
        bytes.extend_from_slice(json.as_bytes());
        ends.push(bytes.len() as i32);
        self.validity.append_non_null();
        Ok(())
    }

    /// The buffer of a list's items, to be filled before [`Self::end_list`].
    pub(super) fn items(&mut self) -> Option<&mut Self> {
        match &mut self.values {
            Values::List { items, .. } => Some(items),
            _ => None,
        }
    }

    /// Makes one list of the items since the last one.
    pub(super) fn end_list(&mut self) {
        if let Values::List { ends, items } = &mut self.values {
            ends.push(items.len() as i32);
            self.validity.append_non_null();
        }
    }

    /// Returns the values as an array and leaves an empty buffer.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.validity.finish().filter(|it| it.null_count() > 0);
        Ok(match &mut self.values {
            Values::Text { bytes, ends } => {
                let data = Buffer::from_vec(take(bytes));
                Arc::new(StringArray::try_new(offsets(ends), data, nulls)?)
            }
            Values::Int64(values) => match &self.kind {
                ColumnType::Timestamp(_) => {
                    let times = TimestampMicrosecondArray::try_new(take(values).into(), nulls)?;
                    Arc::new(times.with_timezone("UTC"))
                }
                _ => Arc::new(Int64Array::try_new(take(values).into(), nulls)?),
            },
            Values::Float64(values) => Arc::new(Float64Array::try_new(take(values).into(), nulls)?),
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Decimal(values) => {
                let array = Decimal128Array::try_new(take(values).into(), nulls)?;
                Arc::new(array.with_data_type(self.kind.arrow()))
            }
            Values::Date(values) => Arc::new(Date32Array::try_new(take(values).into(), nulls)?),
            Values::List { ends, items } => {
                let field = Arc::new(Field::new_list_field(items.kind.arrow(), true));
                let ends = offsets(ends);
                Arc::new(ListArray::try_new(field, ends, items.finish()?, nulls)?)
            }
        })
    }
}

/// Takes a vector and leaves an empty one of equal capacity.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.capacity();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

fn end(ends: &[i32]) -> usize {
    ends.last().map_or(0, |&end| end as usize)
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    // Ascending, because each end is a length that only grew.
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}
