//! The treatment of rows on which an expression fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use arrow::{
    array::AsArray,
    datatypes::{DataType, Int64Type},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, Clock, Error, Origin, Port, Result,
    graph::{OFFSET_COLUMN, OnError},
    operator::Output,
};
use tagflow_schemas::{
    dead_letter::{self, DeadLetter, FailedExpression},
    personal,
};

use crate::expr::{FailedExpr, Failure, Reason};

/// The treatment of rows on which an expression of a node fails. By default they stop the job.
/// Otherwise they are emitted to [`Port::DEAD_LETTERS`] as rows of
/// [`tagflow_schemas::dead_letter::schema`].
///
/// It reads the clock, for the time of the failure; no result depends on that time.
#[derive(Clone, Default)]
pub struct RowErrors {
    /// The policy for dead letters; without it a row stops the job.
    pub dead_letters: Option<DeadLetterPolicy>,
    /// The columns of the node's input whose values messages must mask.
    pub personal: BTreeSet<String>,
}

/// The policy for dead letters.
#[derive(Clone)]
pub struct DeadLetterPolicy {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// The clock for the time of the failure.
    pub clock: Arc<dyn Clock>,
    /// The sources that the node reads, and the treatment of a bad row of each. A derived row stops
    /// the job if a row of any source does.
    pub on_error: BTreeMap<Arc<str>, OnError>,
}

/// The results of an attempt, and the rows without a result.
pub(crate) struct Attempt<T> {
    /// By consecutive parts of the rows, without those that failed.
    pub(crate) parts: Vec<T>,
    pub(crate) failed: Vec<FailedRow>,
}

/// A row on which an expression fails.
pub(crate) struct FailedRow {
    /// Its index among the rows of the attempt.
    pub(crate) place: usize,
    row: RecordBatch,
    failure: FailedExpr,
}

/// Results of groups that are null because their type cannot hold them.
pub(crate) struct UnfitResults<'a> {
    /// The aggregate as SQL, or the name of its measure.
    pub(crate) expression: String,
    pub(crate) data_type: &'a DataType,
    /// The rows with these results.
    pub(crate) rows: RecordBatch,
    /// The columns of `rows` whose values messages must mask.
    pub(crate) personal: &'a BTreeSet<String>,
}

/// Tries `compute` with all of `rows`; where that fails, with halves of them, and so on
/// down to single rows. A row that fails is left out.
///
/// # Errors
/// Those that do not depend on a row.
pub(crate) fn attempt<T>(
    rows: &RecordBatch,
    mut compute: impl FnMut(&RecordBatch) -> Result<T, Failure>,
) -> Result<Attempt<T>> {
    let mut attempt = Attempt {
        parts: Vec::with_capacity(1),
        failed: Vec::new(),
    };
    // The remaining parts, the first on top.
    let mut parts = vec![(0, rows.clone())];
    while let Some((first, part)) = parts.pop() {
        match (compute(&part), part.num_rows()) {
            (Ok(result), _) => attempt.parts.push(result),
            (Err(Failure::Job(error)), _) => return Err(error),
            (Err(Failure::Row(failure)), 0 | 1) => attempt.failed.push(FailedRow {
                place: first,
                row: part,
                failure,
            }),
            (Err(Failure::Row(_)), count) => {
                let half = count / 2;
                parts.push((first + half, part.slice(half, count - half)));
                parts.push((first, part.slice(0, half)));
            }
        }
    }
    Ok(attempt)
}

impl RowErrors {
    /// Sends `failed` rows of `origin` to the dead letters of `node`.
    ///
    /// # Errors
    /// `Data` if such a row stops the job.
    pub(crate) fn set_aside(
        &self,
        node: &str,
        origin: &Origin,
        failed: &[FailedRow],
        out: &mut Output,
    ) -> Result<()> {
        let Some(first) = failed.first() else {
            return Ok(());
        };
        let policy = self.dead_letters.as_ref();
        let Some(policy) = policy.filter(|policy| policy.on_error(origin) != OnError::Fail) else {
            return Err(self.refusal(node, origin, first));
        };
        let mut letters = dead_letter::Builder::default();
        for failed in failed {
            let error = self.message(node, failed);
            let text = failed.failure.text();
            let reason = failed.failure.reason();
            let payload = payload(&failed.row, &self.personal);
            letters.push(&DeadLetter {
                origin: match origin {
                    Origin::Partition(id) => Some((&id.source, &id.partition, failed.offset())),
                    Origin::Derived => None,
                },
                reason: reason.name(),
                field: None,
                error: &error,
                payload: payload.as_deref(),
                expression: Some(FailedExpression {
                    node,
                    text: &text,
                    hint: reason.hint(),
                }),
            });
        }
        policy.send(letters, origin, failed.len(), out)
    }

    /// Reports `unfit` results of `node` as dead letters. Their rows remain.
    ///
    /// # Errors
    /// `Data` where such a result stops the job.
    pub(crate) fn report(
        &self,
        node: &str,
        unfit: &UnfitResults<'_>,
        out: &mut Output,
    ) -> Result<()> {
        const HINT: &str = "`sum(CAST(x AS DECIMAL(38, 0)))` holds larger sums; for a decimal, \
                            cast to fewer digits after the point";
        let UnfitResults {
            expression,
            data_type,
            rows,
            personal,
        } = unfit;
        let error = format!("`{node}` cannot compute `{expression}`: `{data_type}` cannot hold it");
        let policy = self.dead_letters.as_ref();
        let policy = policy.filter(|policy| policy.on_error(&Origin::Derived) != OnError::Fail);
        let Some(policy) = policy else {
            let payload = payload(&rows.slice(0, 1), personal).unwrap_or_default();
            let row = String::from_utf8_lossy(&payload).into_owned();
            return Err(Error::data(format!("{error}, on the row {row}; {HINT}")));
        };
        let mut letters = dead_letter::Builder::default();
        for place in 0..rows.num_rows() {
            letters.push(&DeadLetter {
                origin: None,
                reason: Reason::Overflow.name(),
                field: None,
                error: &error,
                payload: payload(&rows.slice(place, 1), personal).as_deref(),
                expression: Some(FailedExpression {
                    node,
                    text: expression,
                    hint: HINT,
                }),
            });
        }
        policy.send(letters, &Origin::Derived, rows.num_rows(), out)
    }

    /// The error if a row stops the job.
    fn refusal(&self, node: &str, origin: &Origin, failed: &FailedRow) -> Error {
        let row = match (origin, failed.offset()) {
            (Origin::Partition(id), Some(offset)) => format!("row {offset} of `{id}`"),
            (Origin::Partition(id), None) => format!("a row of `{id}`"),
            (Origin::Derived, _) => {
                let payload = payload(&failed.row, &self.personal).unwrap_or_default();
                format!("the row {}", String::from_utf8_lossy(&payload))
            }
        };
        Error::data(format!(
            "{}, on {row}; {}",
            self.message(node, failed),
            failed.failure.reason().hint()
        ))
    }

    fn message(&self, node: &str, failed: &FailedRow) -> String {
        let failure = &failed.failure;
        let schema = failed.row.schema_ref();
        let message = failure.message(schema, |name| self.personal.contains(name));
        format!("`{node}` cannot compute `{}`: {message}", failure.text())
    }
}

/// The row as a JSON object with masked `personal` columns; `None` if it has a value that JSON
/// cannot represent.
fn payload(row: &RecordBatch, personal: &BTreeSet<String>) -> Option<Vec<u8>> {
    let fields = row.schema_ref().fields().iter().enumerate();
    let shown = fields.filter(|(_, field)| field.name() != OFFSET_COLUMN);
    let shown: Vec<usize> = shown.map(|(place, _)| place).collect();
    let row = row.project(&shown).ok()?;
    let row = personal::masked(&row, |name| personal.contains(name)).ok()?;
    dead_letter::json_objects(&row).ok()?.pop()
}

impl DeadLetterPolicy {
    /// Emits `letters` for `count` rows of `origin`.
    fn send(
        &self,
        letters: dead_letter::Builder,
        origin: &Origin,
        count: usize,
        out: &mut Output,
    ) -> Result<()> {
        out.dead_letters(origin, count);
        let letters = letters.finish(&self.pipeline, self.clock.now().as_micros())?;
        out.emit_to(Port::DEAD_LETTERS, Batch::derived(letters));
        Ok(())
    }

    fn on_error(&self, origin: &Origin) -> OnError {
        let of_source = match origin {
            Origin::Partition(id) => self.on_error.get(&id.source).copied(),
            Origin::Derived => None,
        };
        of_source.unwrap_or_else(|| {
            let mut all = self.on_error.values();
            if all.any(|on_error| *on_error == OnError::Fail) {
                OnError::Fail
            } else {
                OnError::DeadLetter
            }
        })
    }
}

impl FailedRow {
    fn offset(&self) -> Option<i64> {
        let offsets = self.row.column_by_name(OFFSET_COLUMN)?;
        let offsets = offsets.as_primitive_opt::<Int64Type>()?;
        (!offsets.is_empty()).then(|| offsets.value(0))
    }
}

impl fmt::Debug for RowErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_error = self.dead_letters.as_ref().map(|policy| &policy.on_error);
        f.debug_struct("RowErrors")
            .field("on_error", &on_error)
            .field("personal", &self.personal)
            .finish_non_exhaustive()
    }
}
