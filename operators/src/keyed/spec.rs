//! How a step processes the rows of a key, and the columns of its output.

use std::{collections::BTreeSet, fmt::Write, sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, StringArray},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use tagflow_engine::{Error, Result, graph::OFFSET_COLUMN, state::KeyHash, time::micros};

use super::{dedupe::Dedupe, rate::Rate, rule::KeyedRule, sessions::Sessions, timeline::Timeline};

/// A step over the rows of each key in the order of their event time.
#[derive(Debug, Clone)]
pub struct OrderedSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The step's name, for late rows and errors.
    pub step: Arc<str>,
    /// The input rows, with [`OFFSET_COLUMN`] last where the source stamps it.
    pub input: SchemaRef,
    /// The column of `input` with the event time: a `Timestamp(µs, "UTC")`
    /// without nulls.
    pub time: usize,
    /// The key columns of `input`. A row with a null in one has no key: it is emitted at
    /// once, as if it were the first of its key.
    pub key: Vec<usize>,
    /// The columns of `input` whose values late rows withhold.
    pub personal: BTreeSet<String>,
    /// The rule that is applied to the rows.
    pub rule: Rule,
}

/// The rule for the rows of a key.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Passes a row unless a row of its key passed at most `within` before it.
    ///
    /// A row behind the watermark is a duplicate if a row of its key passed at most
    /// `within` before or after it. Passed rows are remembered for `within` behind the
    /// watermark; a row from before that is late.
    Dedupe {
        /// How long a row that passed suppresses later ones.
        within: Duration,
    },
    /// Names the session of each row. Rows behind the watermark are late.
    Sessions {
        /// The gap that ends a session: no row of the key follows for this long.
        gap: Duration,
        /// The name of the new column: a string of 32 hex digits, the hash of the
        /// key and the session's start; null where there is no key.
        column: String,
    },
    /// Sets a flag where a row's key has had more than `more_than` rows in the time up to
    /// the row, including it. No row is late. A row behind the watermark is flagged by
    /// the rows that are still remembered, and does not count for other rows.
    Rate {
        /// The length of the time, which excludes its first instant.
        over: Duration,
        /// The most rows that are not flagged.
        more_than: usize,
        /// The flag: a column of `input`, boolean and without nulls. A flag that is
        /// already set stays set.
        flag: usize,
    },
}

/// A checked [`OrderedSpec`], from which the operators are built. Rows must be exchanged
/// by the hash of the key columns.
#[derive(Debug)]
pub struct Ordered {
    pub(super) spec: OrderedSpec,
    pub(super) timeline: Timeline,
    output: SchemaRef,
}

impl Ordered {
    /// Checks `spec`.
    ///
    /// # Errors
    /// `Config` if a key's type cannot be hashed; `Internal` if the event time or
    /// the flag does not have its type.
    pub fn new(spec: OrderedSpec) -> Result<Arc<Self>> {
        let timeline = Timeline {
            pipeline: Arc::clone(&spec.pipeline),
            step: Arc::clone(&spec.step),
            input: Arc::clone(&spec.input),
            time: spec.time,
            key: spec.key.clone(),
            id: None,
            shown: new_column(&spec.input),
            personal: spec.personal.clone(),
        };
        timeline.check()?;
        let mut fields = spec.input.fields().to_vec();
        match &spec.rule {
            Rule::Dedupe { .. } => {}
            Rule::Sessions { column, .. } => {
                let nullable = spec.key.iter().any(|key| fields[*key].is_nullable());
                let field = Field::new(column, DataType::Utf8, nullable);
                fields.insert(new_column(&spec.input), Arc::new(field));
            }
            Rule::Rate { flag, .. } => {
                let flag = fields.get(*flag);
                let is_flag = |field: &FieldRef| {
                    *field.data_type() == DataType::Boolean && !field.is_nullable()
                };
                if !flag.is_some_and(is_flag) {
                    return Err(Error::internal(format!("`{}` is given no flag", spec.step)));
                }
            }
        }
        let ordered = Self {
            output: Arc::new(Schema::new(fields)),
            timeline,
            spec,
        };
        ordered.timeline.hasher()?;
        Ok(Arc::new(ordered))
    }

    /// The output schema: the input's, with the new column of sessions before the offset.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// The inputs that determine the meaning of the state: the rule, the key, and all columns of
    /// the input, because whole rows are buffered.
    pub fn fingerprint(&self) -> String {
        let spec = &self.spec;
        let mut text = match &spec.rule {
            Rule::Dedupe { within } => format!("dedupe({}us)", micros(*within)),
            Rule::Sessions { gap, .. } => format!("sessions({}us)", micros(*gap)),
            Rule::Rate {
                over, more_than, ..
            } => format!("rate({}us, {more_than})", micros(*over)),
        };
        for key in &spec.key {
            let _ = write!(text, "; key {}", spec.input.field(*key).name());
        }
        let _ = write!(text, "; time {}", spec.input.field(spec.time).name());
        for field in spec.input.fields() {
            let _ = write!(text, "; {}: {}", field.name(), field.data_type());
        }
        text
    }

    pub(super) fn rule(&self) -> Box<dyn KeyedRule> {
        match self.spec.rule {
            Rule::Dedupe { within } => Box::new(Dedupe::new(micros(within))),
            Rule::Sessions { gap, .. } => Box::new(Sessions::new(micros(gap))),
            Rule::Rate {
                over, more_than, ..
            } => Box::new(Rate::new(micros(over), more_than)),
        }
    }

    /// `rows` that passed, with the result for each.
    pub(super) fn output(
        &self,
        rows: &RecordBatch,
        keys: &[Option<KeyHash>],
        found: &[Option<i64>],
    ) -> Result<RecordBatch> {
        let mut columns = rows.columns().to_vec();
        match &self.spec.rule {
            Rule::Dedupe { .. } => {}
            Rule::Sessions { .. } => {
                let ids = keys.iter().zip(found);
                let ids: StringArray = ids
                    .map(|(key, start)| Some(key.as_ref()?.with((*start)?).to_string()))
                    .collect();
                columns.insert(new_column(&self.spec.input), Arc::new(ids) as ArrayRef);
            }
            Rule::Rate { flag, .. } => {
                let flags = columns[*flag].as_boolean().values().iter().zip(found);
                let flags: Vec<bool> = flags
                    .map(|(flag, found)| flag || *found == Some(1))
                    .collect();
                columns[*flag] = Arc::new(BooleanArray::from(flags));
            }
        }
        Ok(RecordBatch::try_new(self.output_schema(), columns)?)
    }
}

/// The position of a new column: the offset stays last.
fn new_column(input: &Schema) -> usize {
    match input.fields().last() {
        Some(last) if last.name() == OFFSET_COLUMN => input.fields().len() - 1,
        _ => input.fields().len(),
    }
}
