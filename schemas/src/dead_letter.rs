//! The table of rejected rows: rows that could not be read, or on which an expression fails.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryBuilder, Date32Array, Int64Builder, RecordBatch, StringBuilder,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
    json::{WriterBuilder, writer::LineDelimited},
};

/// The columns of [`schema`], with their meaning.
pub const COLUMNS: [(&str, &str); 13] = [
    ("pipeline", "the pipeline's name"),
    (
        "source",
        "the source's name; null for a row that an operator made of many: a window's result, a pair, a key's tags",
    ),
    (
        "partition",
        "the partition: topic/3, a file's path; null where source is",
    ),
    ("offset", "the row's offset in it; null where source is"),
    (
        "reason",
        "a stable name: not_json, wrong_type, …; division_by_zero, cast_failed, overflow or expression_failed of an expression",
    ),
    ("field", "the field where it happened, if there is one"),
    ("error", "the whole message"),
    (
        "payload",
        "the row's original bytes, or where an expression fails the row in front of it as a JSON object; personal values masked; null for a tombstone",
    ),
    ("failed_at", "when it was set aside, processing time"),
    (
        "node",
        "the node whose expression fails on the row: a step, a query, tags, or a sink with .columns",
    ),
    ("expression", "the expression that fails on the row"),
    ("hint", "how the expression could be written instead"),
    ("dt", "the day of failed_at, which is the folder"),
];

/// The columns of the dead-letter table. It has one row per bad input row and failing step.
///
/// Their meaning is in [`COLUMNS`].
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pipeline", DataType::Utf8, false),
        Field::new("source", DataType::Utf8, true),
        Field::new("partition", DataType::Utf8, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("reason", DataType::Utf8, false),
        Field::new("field", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, false),
        Field::new("payload", DataType::Binary, true),
        Field::new("failed_at", utc(), false),
        Field::new("node", DataType::Utf8, true),
        Field::new("expression", DataType::Utf8, true),
        Field::new("hint", DataType::Utf8, true),
        Field::new("dt", DataType::Date32, true),
    ]))
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}

/// A rejected row.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// Its origin: source, partition, offset. `None` for a row that an operator made from several.
    pub origin: Option<(&'a str, &'a str, Option<i64>)>,
    /// A stable name of the reason.
    pub reason: &'a str,
    /// The field with the problem.
    pub field: Option<&'a str>,
    /// The whole message.
    pub error: &'a str,
    /// The row, without personal values.
    pub payload: Option<&'a [u8]>,
    /// The expression that failed; `None` if the row could not be read.
    pub expression: Option<FailedExpression<'a>>,
}

/// An expression that failed on a row.
#[derive(Debug, Clone, Copy)]
pub struct FailedExpression<'a> {
    /// The node that computes it.
    pub node: &'a str,
    /// The expression.
    pub text: &'a str,
    /// How to rewrite it.
    pub hint: &'a str,
}

/// Makes rows of [`schema`].
#[derive(Default)]
pub struct Builder {
    sources: StringBuilder,
    partitions: StringBuilder,
    offsets: Int64Builder,
    reasons: StringBuilder,
    fields: StringBuilder,
    errors: StringBuilder,
    payloads: BinaryBuilder,
    nodes: StringBuilder,
    expressions: StringBuilder,
    hints: StringBuilder,
    rows: usize,
}

impl Builder {
    /// Adds a row.
    pub fn push(&mut self, letter: &DeadLetter<'_>) {
        let origin = letter.origin;
        self.sources.append_option(origin.map(|it| it.0));
        self.partitions.append_option(origin.map(|it| it.1));
        self.offsets.append_option(origin.and_then(|it| it.2));
        self.reasons.append_value(letter.reason);
        self.fields.append_option(letter.field);
        self.errors.append_value(letter.error);
        self.payloads.append_option(letter.payload);
        let expression = letter.expression;
        self.nodes.append_option(expression.map(|it| it.node));
        self.expressions.append_option(expression.map(|it| it.text));
        self.hints.append_option(expression.map(|it| it.hint));
        self.rows += 1;
    }

    /// The rows of `pipeline`, rejected at `failed_at_us`, microseconds since 1970.
    ///
    /// # Errors
    /// None that a correct builder could cause.
    pub fn finish(mut self, pipeline: &str, failed_at_us: i64) -> Result<RecordBatch, ArrowError> {
        const DAY_US: i64 = 86_400_000_000;
        let rows = self.rows;
        let mut pipelines = StringBuilder::new();
        (0..rows).for_each(|_| pipelines.append_value(pipeline));
        let day = i32::try_from(failed_at_us.div_euclid(DAY_US))
            .map_err(|error| ArrowError::CastError(error.to_string()))?;
        let failed_at = TimestampMicrosecondArray::from_value(failed_at_us, rows);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(pipelines.finish()),
            Arc::new(self.sources.finish()),
            Arc::new(self.partitions.finish()),
            Arc::new(self.offsets.finish()),
            Arc::new(self.reasons.finish()),
            Arc::new(self.fields.finish()),
            Arc::new(self.errors.finish()),
            Arc::new(self.payloads.finish()),
            Arc::new(failed_at.with_timezone("UTC")),
            Arc::new(self.nodes.finish()),
            Arc::new(self.expressions.finish()),
            Arc::new(self.hints.finish()),
            Arc::new(Date32Array::from_value(day, rows)),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}

/// Each row as a JSON object with its nulls.
///
/// # Errors
/// A column of a type that JSON does not support.
pub fn json_objects(rows: &RecordBatch) -> Result<Vec<Vec<u8>>, ArrowError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(Vec::new());
    writer.write(rows)?;
    writer.finish()?;
    // JSON escapes the line feeds within strings.
    let json = writer.into_inner();
    let objects = json.split(|&byte| byte == b'\n').take(rows.num_rows());
    Ok(objects.map(<[u8]>::to_vec).collect())
}
