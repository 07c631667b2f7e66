//! What a step does with the rows of a key, and the shape of what comes out.

use std::{collections::BTreeSet, fmt::Write, sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, StringArray},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Error, Result, graph::OFFSET_COLUMN, operator::OperatorFactory, state::KeyHash, time::micros,
};

use super::{
    dedupe::Dedupe, judge::Judge, rate::Rate, sequencer::Sequencer, sessions::Sessions,
    timeline::Timeline,
};

/// A step over the rows of each key in the order of their event time.
#[derive(Debug, Clone)]
pub struct OrderedSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The step's name, for late rows and errors.
    pub step: Arc<str>,
    /// The rows that come in, with [`OFFSET_COLUMN`] last where the source stamps
    /// it.
    pub input: SchemaRef,
    /// The column of `input` with the event time: a `Timestamp(µs, "UTC")`
    /// without nulls.
    pub time: usize,
    /// The columns of `input` that are the key. A row where one is null has no
    /// key: it goes on at once, as the first of its kind.
    pub key: Vec<usize>,
    /// The columns of `input` whose values late rows do not show.
    pub personal: BTreeSet<String>,
    /// What happens to the rows.
    pub rule: Rule,
}

/// What happens to the rows of a key.
#[derive(Debug, Clone)]
pub enum Rule {
    /// A row passes unless one that passed lies at most `within` before it.
    ///
    /// A row behind the watermark is a duplicate where a row that passed lies at
    /// most `within` before or after it; what passed is known for `within` behind
    /// the watermark, and a row from before that is late.
    Dedupe {
        /// How long a row that passed keeps others out.
        within: Duration,
    },
    /// Names the session of each row. Rows behind the watermark are late.
    Sessions {
        /// A session ends with a row after which no other comes for this long.
        gap: Duration,
        /// The name of the new column: a string of 32 hex digits, the hash of the
        /// key and the session's start; null where there is no key.
        column: String,
    },
    /// Sets a flag where a row's key has had more than `more_than` rows in the
    /// time up to it, itself included. No row is late; one behind the watermark is
    /// flagged by what is still known, and counts for no other.
    Rate {
        /// The time, without its first moment.
        over: Duration,
        /// The most rows that are not flagged.
        more_than: usize,
        /// The flag: a column of `input`, boolean and without nulls. What is set
        /// stays set.
        flag: usize,
    },
}

/// A checked [`OrderedSpec`], from which the operators are made. Rows must come
/// to them by the hash of the key columns.
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
    /// `Config` where a key's type cannot be hashed; `Internal` where the event
    /// time is none, or the flag.
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

    /// The operator of one lane.
    pub fn factory(self: &Arc<Self>) -> OperatorFactory {
        let ordered = Arc::clone(self);
        Arc::new(move |_| Ok(Box::new(Sequencer::new(Arc::clone(&ordered))?)))
    }

    /// The rows that come out: those that come in, with the new column of
    /// sessions before the offset.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// What determines the meaning of the state: the rule, the key, and, since
    /// whole rows wait, all columns of the input.
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

    pub(super) fn judge(&self) -> Box<dyn Judge> {
        match self.spec.rule {
            Rule::Dedupe { within } => Box::new(Dedupe::new(micros(within))),
            Rule::Sessions { gap, .. } => Box::new(Sessions::new(micros(gap))),
            Rule::Rate {
                over, more_than, ..
            } => Box::new(Rate::new(micros(over), more_than)),
        }
    }

    /// `rows` that passed, with what was found of each.
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

/// Where a new column goes: the offset stays last.
fn new_column(input: &Schema) -> usize {
    match input.fields().last() {
        Some(last) if last.name() == OFFSET_COLUMN => input.fields().len() - 1,
        _ => input.fields().len(),
    }
}
