//! Decodes a source's chunks ahead of the lane that processes their rows.

use std::{
    collections::VecDeque,
    panic::resume_unwind,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Schema, TimestampMicrosecondType},
};
use tokio::task::{JoinError, JoinHandle};

use super::{
    channel::Receiver,
    decoded_chunk::DecodedChunk,
    gauges::{NodeGauge, add},
    message::Message,
};
use crate::{
    Error, EventTime, Result,
    graph::{DecoderFactory, OFFSET_COLUMN, TimePolicy, WithOffsets},
    source::{Chunk, Decoded, Decoder, Rejected, Rows},
};

/// The decoders of a source on a lane.
///
/// Decoding is most of the work for a row, and rows are independent. A source with one partition
/// would do all its work on one lane. Separate tasks therefore decode several chunks at a time.
/// The rows leave in the order of the chunks, with all other messages of the reader in between.
///
/// A row that cannot be decoded, has no plausible event time or is before the earliest one becomes
/// a dead letter.
pub(super) struct Decoding {
    decoder: DecoderFactory,
    time: Arc<TimePolicy>,
    gauge: Arc<NodeGauge>,
    most: Ahead,
    now: Ahead,
    waiting: VecDeque<Waiting>,
    resting: Vec<Box<dyn Decoder>>,
    closed: bool,
}

/// An amount of chunks that wait for their lane, decoded or not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    pub(super) chunks: usize,
    /// Their size before they are decoded.
    pub(super) bytes: usize,
}

/// A message of the reader that waits, in order.
enum Waiting {
    Message(Message),
    /// With its size in bytes.
    Chunk(Task, usize),
}

/// Decodes a chunk, and returns the decoder.
type Task = JoinHandle<(Box<dyn Decoder>, Result<Box<DecodedChunk>>)>;

impl Decoding {
    /// Decodes up to `most` ahead, and one chunk in any case.
    pub(super) fn new(
        decoder: DecoderFactory,
        time: TimePolicy,
        gauge: Arc<NodeGauge>,
        most: Ahead,
    ) -> Self {
        Self {
            decoder,
            time: Arc::new(time),
            gauge,
            most,
            now: Ahead::default(),
            waiting: VecDeque::new(),
            resting: Vec::new(),
            closed: false,
        }
    }

    /// The next message of `receiver`, with rows in place of chunks; `None` once all senders are
    /// dropped.
    pub(super) fn poll_recv(
        &mut self,
        receiver: &mut Receiver<Message>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Message>> {
        while self.has_room() && !self.closed {
            match receiver.poll_recv(context) {
                Poll::Ready(Some(Message::Chunk(chunk))) => {
                    let bytes = chunk.rows.bytes();
                    match self.decode(chunk) {
                        Ok(task) => {
                            self.now.chunks += 1;
                            self.now.bytes += bytes;
                            self.waiting.push_back(Waiting::Chunk(task, bytes));
                        }
                        Err(error) => return Poll::Ready(Some(Message::Rows(Err(error)))),
                    }
                }
                Poll::Ready(Some(message)) => self.waiting.push_back(Waiting::Message(message)),
                Poll::Ready(None) => self.closed = true,
                Poll::Pending => break,
            }
        }
        match self.waiting.pop_front() {
            None if self.closed => Poll::Ready(None),
            None => Poll::Pending,
            Some(Waiting::Message(message)) => Poll::Ready(Some(message)),
            Some(Waiting::Chunk(mut task, bytes)) => {
                let Poll::Ready(decoded) = Pin::new(&mut task).poll(context) else {
                    self.waiting.push_front(Waiting::Chunk(task, bytes));
                    return Poll::Pending;
                };
                self.now.chunks -= 1;
                self.now.bytes -= bytes;
                let (decoder, rows) = match decoded.map_err(JoinError::try_into_panic) {
                    Ok(decoded) => decoded,
                    Err(Ok(panic)) => resume_unwind(panic),
                    // Cancelled: the runtime shuts down, and this task with it.
                    Err(Err(_)) => return Poll::Pending,
                };
                self.resting.push(decoder);
                Poll::Ready(Some(Message::Rows(rows)))
            }
        }
    }

    /// Whether another chunk may be decoded ahead.
    fn has_room(&self) -> bool {
        let Ahead { chunks, bytes } = self.now;
        chunks == 0 || chunks < self.most.chunks && bytes < self.most.bytes
    }

    /// Starts to decode `chunk`.
    fn decode(&mut self, chunk: Chunk) -> Result<Task> {
        let mut decoder = match self.resting.pop() {
            Some(decoder) => decoder,
            None => (self.decoder)()?,
        };
        let time = Arc::clone(&self.time);
        let gauge = Arc::clone(&self.gauge);
        Ok(tokio::spawn(async move {
            let begun = Instant::now();
            let decoded = decoder
                .decode(&chunk.rows)
                .and_then(|decoded| validate_times(&time, chunk, decoded).map(Box::new));
            add(&gauge.busy_ns, begun.elapsed().as_nanos() as usize);
            (decoder, decoded)
        }))
    }
}

/// Rejects the rows whose event time is missing or not plausible, and adds the offsets if the
/// policy requires them.
fn validate_times(time: &TimePolicy, chunk: Chunk, decoded: Decoded) -> Result<DecodedChunk> {
    let rows = &chunk.rows;
    let Decoded {
        records,
        mut rejected,
    } = decoded;
    let field = records.schema_ref().field(time.column).name().clone();
    for letter in &mut rejected {
        if letter.reason == "missing_field" && letter.field.as_ref() == Some(&field) {
            letter.reason = "no_event_time";
        }
    }

    let mut bad = rejected.iter().map(|letter| letter.row).peekable();
    let accepted = (0..rows.len() as u32).filter(|row| bad.next_if_eq(row).is_none());
    let accepted: Vec<u32> = accepted.collect();
    if accepted.len() != records.num_rows() {
        return Err(Error::internal(format!(
            "of {} rows the decoder gave {} and rejected {}",
            rows.len(),
            records.num_rows(),
            rejected.len()
        )));
    }

    let column = records.column(time.column);
    let times = column
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| {
            Error::internal(format!("event time `{field}` is a {}", column.data_type()))
        })?;
    let mut implausible = Vec::new();
    for (index, &row) in accepted.iter().enumerate() {
        let event_time = times
            .is_valid(index)
            .then(|| EventTime::from_micros(times.value(index)));
        if let Some((reason, message)) = objection(time, event_time, rows.reference(row as usize)) {
            let field = Some(field.clone());
            implausible.push((
                index,
                Rejected {
                    row,
                    reason,
                    field,
                    message,
                },
            ));
        }
    }

    let mut records = with_offsets(time, records, rows, &accepted)?;
    if !implausible.is_empty() {
        let mut keep = vec![true; accepted.len()];
        for (index, _) in &implausible {
            keep[*index] = false;
        }
        records = filter_record_batch(&records, &BooleanArray::from(keep))?;
        rejected.extend(implausible.into_iter().map(|(_, letter)| letter));
        rejected.sort_by_key(|letter| letter.row);
    }
    Ok(DecodedChunk {
        chunk,
        records,
        rejected,
    })
}

/// The reason why an event time is not plausible, if it is not.
fn objection(
    policy: &TimePolicy,
    event_time: Option<EventTime>,
    reference: Option<EventTime>,
) -> Option<(&'static str, String)> {
    let Some(event_time) = event_time else {
        return Some(("no_event_time", "the event time is null".to_owned()));
    };
    if event_time < policy.earliest {
        let message = format!("event time {event_time} is before {}", policy.earliest);
        return Some(("implausible_time", message));
    }
    let reference = reference?;
    (event_time > reference.saturating_add(policy.max_future)).then(|| {
        let ahead = event_time.since(reference).as_secs();
        let allowed = policy.max_future.as_secs();
        let message = format!(
            "event time {event_time} is {ahead} s ahead of {reference}; at most {allowed} s are allowed"
        );
        ("implausible_time", message)
    })
}

/// Appends [`OFFSET_COLUMN`] if the policy requires it.
fn with_offsets(
    time: &TimePolicy,
    records: RecordBatch,
    rows: &Rows,
    accepted: &[u32],
) -> Result<RecordBatch> {
    if time.offsets == WithOffsets::No {
        return Ok(records);
    }
    let offsets: Int64Array = accepted
        .iter()
        .map(|&row| rows.offset(row as usize))
        .collect();
    let mut fields = records.schema_ref().fields().to_vec();
    fields.push(Arc::new(Field::new(OFFSET_COLUMN, DataType::Int64, false)));
    let mut columns = records.columns().to_vec();
    columns.push(Arc::new(offsets) as ArrayRef);
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{Mutex, PoisonError, mpsc},
        time::Duration,
    };

    use super::*;
    use crate::{
        graph::{OnError, WhenIdle},
        runtime::channel::bounded,
        source::EncodedRows,
        testing::ScriptDecoder,
    };

    /// Finishes the first of two chunks only after the second.
    struct Crossed {
        done: mpsc::Sender<()>,
        second: Arc<Mutex<mpsc::Receiver<()>>>,
    }

    impl Decoder for Crossed {
        fn decode(&mut self, rows: &Rows) -> Result<Decoded> {
            if rows.offset(0) == 0 {
                let second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
                let done = second.recv_timeout(Duration::from_mins(1));
                done.expect("the second is decoded meanwhile");
            } else {
                self.done.send(()).expect("the first waits");
            }
            ScriptDecoder.decode(rows)
        }
    }

    fn chunk(offset: i64) -> Message {
        let row = format!("{offset},k,0");
        Message::Chunk(Chunk {
            partition: "p".into(),
            first: offset,
            next: offset + 1,
            rows: Rows::Encoded(EncodedRows {
                spans: vec![(0, row.len() as u32)],
                offsets: vec![offset],
                data: row.into(),
                ..EncodedRows::default()
            }),
        })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn chunks_are_decoded_side_by_side_and_come_in_order() {
        let (done, second) = mpsc::channel();
        let second = Arc::new(Mutex::new(second));
        let crossed = move || -> Result<Box<dyn Decoder>> {
            let (done, second) = (done.clone(), Arc::clone(&second));
            Ok(Box::new(Crossed { done, second }))
        };
        let time = TimePolicy {
            column: 0,
            delay: Duration::ZERO,
            idle_after: Duration::from_mins(1),
            when_idle: WhenIdle::Hold,
            max_future: Duration::ZERO,
            earliest: EventTime::from_micros(0),
            max_drift: None,
            granularity: Duration::from_micros(1),
            on_error: OnError::DeadLetter,
            offsets: WithOffsets::No,
        };
        let most = Ahead {
            chunks: 2,
            bytes: usize::MAX,
        };
        let mut decoding = Decoding::new(Arc::new(crossed), time, Arc::default(), most);
        let (sender, mut receiver) = bounded(1 << 20, Arc::default());
        for message in [chunk(0), Message::Sleep, chunk(1)] {
            sender.send(message).await.unwrap();
        }
        drop(sender);
        let mut seen = Vec::new();
        while let Some(message) =
            poll_fn(|context| decoding.poll_recv(&mut receiver, context)).await
        {
            seen.push(match message {
                Message::Rows(rows) => rows.unwrap().chunk.first.to_string(),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(seen, ["0", "Sleep", "1"]);
    }
}
