//! How much memory state will take: what operators say of themselves before they
//! run.

use arrow::datatypes::{DataType, Schema};

/// What is assumed of the rows that come to an operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// How many keys there are, each as frequent as any other.
    pub keys: f64,
    /// How many rows come in a second of event time.
    pub rate: f64,
    /// How far the watermark is behind the rows, in seconds.
    pub delay_s: f64,
    /// How long texts are, in bytes.
    pub text_bytes: f64,
}

/// What an operator will hold on all lanes together, when it has run for as long as
/// it remembers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StateSize {
    /// How many of what it holds most of.
    pub entries: f64,
    /// What that is.
    pub unit: &'static str,
    /// Bytes in memory.
    pub bytes: f64,
}

/// Columns that grow are larger than what is in them: by a factor of 1.1 to 1.45, as
/// measured of panes with hundreds and with tens of thousands of keys.
pub(crate) const SLACK: f64 = 1.25;

impl Load {
    /// How many keys are among `rows` rows.
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

    /// The bytes of a value, with the bit that says whether it is null.
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
            // As many values as a key has rows, at most; one is the least.
            DataType::List(item) => offset + self.value_bytes(item.data_type()),
            other => match other.primitive_width() {
                Some(width) => width as f64,
                None => offset + self.text_bytes,
            },
        }
    }
}
