//! Estimates of the memory for state, which operators compute before they run.

use arrow::datatypes::{DataType, Schema};

/// The assumed input of an operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// The number of keys, all equally frequent.
    pub keys: f64,
    /// The number of rows in a second of event time.
    pub rate: f64,
    /// The distance of the watermark behind the rows, in seconds.
    pub delay_s: f64,
    /// The length of texts in bytes.
    pub text_bytes: f64,
}

/// The state of an operator on all lanes together, after it has run for as long as it stores rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StateSize {
    /// The number of its most frequent entries.
    pub entries: f64,
    /// The name of these entries.
    pub unit: &'static str,
    /// Bytes in memory.
    pub bytes: f64,
}

/// The capacity of growing columns exceeds their content by a factor of 1.1 to 1.45, as measured
/// with panes of hundreds and of tens of thousands of keys.
pub(crate) const SLACK: f64 = 1.25;

impl Load {
    /// The number of distinct keys among `rows` rows.
    pub(crate) fn distinct(&self, rows: f64) -> f64 {
        self.keys * -(-rows / self.keys).exp_m1()
    }

    /// The bytes of a row in columns.
    pub(crate) fn row_bytes(&self, schema: &Schema) -> f64 {
        let fields = schema.fields().iter();
        fields
            .map(|field| self.value_bytes(field.data_type()))
            .sum()
    }

    /// The bytes of a value, with its null bit.
    fn value_bytes(&self, kind: &DataType) -> f64 {
        const NULL: f64 = 1.0 / 8.0;
        let offset = 4.0;
        NULL + match kind {
            DataType::Null => 0.0,
            DataType::Boolean => 1.0 / 8.0,
            DataType::Struct(fields) => {
                let fields = fields.iter();
                fields
                    .map(|field| self.value_bytes(field.data_type()))
                    .sum()
            }
            // At most as many values as a key has rows; the minimum is one.
            DataType::List(item) => offset + self.value_bytes(item.data_type()),
            other => match other.primitive_width() {
                Some(width) => width as f64,
                None => offset + self.text_bytes,
            },
        }
    }
}
