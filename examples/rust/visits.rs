//! A source: visits of three users, one a second.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
    record_batch::RecordBatch,
};
use async_trait::async_trait;
use tagflow_engine::{
    Error, Result,
    source::{
        Chunk, DeadLetters, Decoded, Decoder, EncodedRows, Growth, Offset, Positions, Rejected,
        Rows, Source, SourceEvent, SourceReader,
    },
};

/// The column of the user.
pub(crate) const USER: usize = 1;

const PARTITION: &str = "all";
const USERS: [&str; 3] = ["ada", "bob", "cy"];

/// Makes up `count` visits.
pub(crate) struct Visits {
    pub(crate) count: Offset,
}

#[async_trait]
impl Source for Visits {
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(Reader {
            next: positions.get(PARTITION).copied().unwrap_or(0),
            count: self.count,
            step: Step::Assign,
        }))
    }
}

/// The next event of a reader.
enum Step {
    Assign,
    Read,
    Exhausted,
    Over,
}

struct Reader {
    next: Offset,
    count: Offset,
    step: Step,
}

#[async_trait]
impl SourceReader for Reader {
    async fn next(&mut self) -> Result<SourceEvent> {
        match self.step {
            Step::Assign => {
                self.step = Step::Read;
                Ok(SourceEvent::Assigned(vec![(PARTITION.into(), self.next)]))
            }
            Step::Read if self.next < self.count => {
                let first = self.next;
                self.next = self.count.min(first + 4);
                Ok(SourceEvent::Chunk(chunk(first, self.next)))
            }
            Step::Read => {
                self.step = Step::Exhausted;
                Ok(SourceEvent::Finished(PARTITION.into()))
            }
            Step::Exhausted => {
                self.step = Step::Over;
                Ok(SourceEvent::Exhausted(Growth::Complete))
            }
            Step::Over => std::future::pending().await,
        }
    }

    fn pause(&mut self, _partition: &str) {}

    fn resume(&mut self, _partition: &str) {}

    fn committed(&mut self, _positions: &Positions) {}
}

/// The visits `first..next`, each as `seconds,user` of its own.
fn chunk(first: Offset, next: Offset) -> Chunk {
    let mut rows = EncodedRows::default();
    let mut data = String::new();
    for offset in first..next {
        let start = data.len() as u32;
        let user = USERS[offset as usize % USERS.len()];
        let _ = write!(data, "{offset},{user}");
        rows.spans.push((start, data.len() as u32));
        rows.offsets.push(offset);
    }
    rows.data = data.into();
    Chunk {
        partition: PARTITION.into(),
        first,
        next,
        rows: Rows::Encoded(rows),
    }
}

/// Turns the text of visits into columns.
pub(crate) struct VisitDecoder;

impl Decoder for VisitDecoder {
    fn decode(&mut self, rows: &Rows) -> Result<Decoded> {
        let Rows::Encoded(rows) = rows else {
            return Err(Error::internal("visits are text"));
        };
        let (mut times, mut users, mut rejected) = (vec![], vec![], vec![]);
        for row in 0..rows.len() {
            match rows.row(row).and_then(visit) {
                Some((seconds, user)) => {
                    times.push(seconds * 1_000_000);
                    users.push(user);
                }
                None => rejected.push(Rejected {
                    row: row as u32,
                    reason: "wrong_type",
                    field: None,
                    message: "expected `seconds,user`".to_owned(),
                }),
            }
        }
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![
            Field::new("time", time, false),
            Field::new("user", DataType::Utf8, false),
        ]);
        let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
        let users = StringArray::from(users);
        let columns = vec![Arc::new(times) as _, Arc::new(users) as _];
        Ok(Decoded {
            records: RecordBatch::try_new(Arc::new(schema), columns)?,
            rejected,
        })
    }
}

fn visit(row: &[u8]) -> Option<(i64, &str)> {
    let (seconds, user) = std::str::from_utf8(row).ok()?.split_once(',')?;
    Some((seconds.parse().ok()?, user))
}

/// Writes no dead letters, because this source has no bad rows.
pub(crate) struct DropLetters;

impl DeadLetters for DropLetters {
    fn batch(&mut self, _: &str, _: &Chunk, _: &[Rejected]) -> Result<RecordBatch> {
        Ok(RecordBatch::new_empty(Arc::new(Schema::empty())))
    }
}
