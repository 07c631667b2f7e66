//! The consumer thread of one topic.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset as ClientOffset, Statistics, Timestamp, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::BorrowedMessage,
};
use tagflow_engine::{
    Clock, Error, EventTime, Result,
    source::{Chunk, Offset, SourceEvent},
};

use super::{
    chunk::{ChunkLimits, Row},
    client::Notes,
    config::OnDataLoss,
    control::{Control, Wishes},
    edge::Edge,
    gate::{Admission, Fate, judge},
    opening::{Obstacle, Opening, describe, not_authorized},
    partition::{self, Partition},
    queue::{Refused, Report, Sender},
    reachability::{Reachability, UNREACHABLE_AFTER},
};

/// The client is polled at least this often.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a row waits for others before its chunk is sent, while messages keep
/// the thread busy.
const LINGER: Duration = Duration::from_millis(20);
/// How long it waits when the client has nothing in hand: the rest of a batch of the
/// broker's may be on its way.
const GRACE: Duration = Duration::from_millis(1);
/// How long the queue may be full before the client is told to pause, and so is polled
/// again. It throws away what it has fetched then, to fetch it once more.
const HOLD_BACK_AFTER: Duration = Duration::from_secs(5);
/// So many messages are taken at once before all else is looked after.
const BURST_MESSAGES: usize = 256;
/// How long to wait before asking again for what was refused.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How long a question to the broker may hold up the reading.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads one topic until it is told to stop.
pub(super) struct TopicReader {
    /// Told by the engine's side.
    pub(super) control: Arc<Control>,
    /// Tells the engine's side.
    pub(super) reports: Sender,
    /// What to do when rows are gone.
    pub(super) on_data_loss: OnDataLoss,
    /// How large chunks may grow.
    pub(super) limits: ChunkLimits,
    /// The time of receipt.
    pub(super) clock: Arc<dyn Clock>,
}

/// Why reading ends.
enum End {
    /// Nobody wants it any more.
    Stopped,
    /// It cannot go on.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl TopicReader {
    /// Opens the topic, waits for [`Control::begin`], and reads. The last
    /// words are an error, or silence after [`Control::stop`].
    pub(super) fn run(self, consumer: BaseConsumer<Notes>, opening: Opening) {
        let obituary = Obituary {
            topic: Arc::clone(&opening.topic),
            reports: self.reports.clone(),
        };
        let mut reading = Reading::new(self, Arc::clone(&opening.topic), opening.brokers.clone());
        let ended = match reading.open(&consumer, opening) {
            Ok(()) => reading.read(&consumer),
            Err(end) => Err(end),
        };
        if let Err(End::Failed(error)) = ended {
            reading.reader.reports.fail(error);
        }
        drop(obituary);
    }
}

/// Reports a thread that died without saying why.
struct Obituary {
    topic: Arc<str>,
    reports: Sender,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = format!("the reader of Kafka topic `{}` died", self.topic);
            self.reports.fail(Error::internal(message));
        }
    }
}

/// The state of the thread.
struct Reading {
    topic: Arc<str>,
    reader: TopicReader,
    partitions: BTreeMap<i32, Partition>,
    /// What could not be sent yet. While there is something in it, nothing is
    /// polled but what the client had in hand.
    outbox: VecDeque<Report>,
    reachability: Reachability,
    wishes: Wishes,
    /// What the client was told to pause.
    paused: BTreeSet<i32>,
    /// Since when the queue has been full.
    full_since: Option<Instant>,
    /// Whether everything is paused because the queue stays full.
    held_back: bool,
    /// Whether what is paused may differ from what should be.
    pauses_due: bool,
    /// When to look again after partitions that the broker refused to serve.
    retry_at: Option<Instant>,
}

/// How long the client is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Not at all: it had something.
    Busy,
    /// Shortly: it had nothing, and chunks may be open.
    Drained,
    /// As long as may be: no chunk is open.
    Resting,
}

impl Reading {
    fn new(reader: TopicReader, topic: Arc<str>, brokers: String) -> Self {
        Self {
            reader,
            partitions: BTreeMap::new(),
            outbox: VecDeque::new(),
            reachability: Reachability::new(Arc::clone(&topic), brokers),
            topic,
            wishes: Wishes::default(),
            paused: BTreeSet::new(),
            full_since: None,
            held_back: false,
            pauses_due: false,
            retry_at: None,
        }
    }

    fn open(&mut self, consumer: &BaseConsumer<Notes>, mut opening: Opening) -> Result<(), End> {
        let mut silent_since = Instant::now();
        let positions = loop {
            match opening.attempt(consumer) {
                Ok(positions) => break positions,
                Err(Obstacle::Failed(error)) => return Err(error.into()),
                Err(Obstacle::NotReady) => {
                    let report = self.reachability.up();
                    self.outbox.extend(report);
                    silent_since = Instant::now();
                }
                Err(Obstacle::Unreachable(reason)) => {
                    if silent_since.elapsed() >= UNREACHABLE_AFTER {
                        let report = self.reachability.down(&reason);
                        self.outbox.extend(report);
                    }
                }
            }
            // Nothing is assigned yet: what comes is only errors.
            let retry_at = Instant::now() + RETRY_AFTER;
            while Instant::now() < retry_at {
                self.settle(consumer)?;
                if let Some(Err(error)) = consumer.poll(RETRY_AFTER / 4) {
                    self.on_error(consumer, &error)?;
                }
            }
        };
        let report = self.reachability.up();
        self.outbox.extend(report);
        for (partition, offset) in positions {
            self.add(partition, offset);
        }
        let named = |state: &Partition| (Arc::clone(&state.name), state.gate.next());
        let opened = self.partitions.values().map(named).collect();
        self.outbox.push_back(Report::Opened(opened));
        while !self.wishes.begin || !self.outbox.is_empty() {
            self.settle(consumer)?;
            if let Some(Err(error)) = consumer.poll(Duration::from_millis(5)) {
                self.on_error(consumer, &error)?;
            }
        }
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        self.assign(consumer, &all)?;
        Ok(())
    }

    fn read(&mut self, consumer: &BaseConsumer<Notes>) -> Result<(), End> {
        let mut pace = Pace::Busy;
        loop {
            self.settle(consumer)?;
            if self.pauses_due {
                self.apply_pauses(consumer)?;
            }
            if !self.outbox.is_empty() && !self.held_back {
                continue;
            }
            pace = self.take_burst(consumer, pace)?;
            if let Some(statistics) = consumer.context().take_statistics() {
                self.on_statistics(consumer, &statistics)?;
            }
            if self.retry_at.is_some_and(|at| Instant::now() >= at) {
                self.retry_at = None;
                self.examine_losses(consumer)?;
            }
        }
    }

    /// Takes what the client has, until it has nothing more or something waits to
    /// be sent.
    fn take_burst(&mut self, consumer: &BaseConsumer<Notes>, pace: Pace) -> Result<Pace, End> {
        let mut patience = match pace {
            // What is paused may take long to come again.
            _ if self.held_back => Duration::ZERO,
            Pace::Busy => Duration::ZERO,
            Pace::Drained => GRACE,
            Pace::Resting => POLL_INTERVAL,
        };
        for _ in 0..BURST_MESSAGES {
            match consumer.poll(patience) {
                Some(Ok(message)) => self.on_message(&message)?,
                Some(Err(KafkaError::PartitionEOF(partition))) => self.on_end(partition),
                Some(Err(error)) => self.on_error(consumer, &error)?,
                None if patience.is_zero() && !self.held_back => return Ok(Pace::Drained),
                None => {
                    self.close_chunks(|_| true);
                    return Ok(Pace::Resting);
                }
            }
            if !self.outbox.is_empty() {
                break;
            }
            patience = Duration::ZERO;
        }
        let now = Instant::now();
        self.close_chunks(|opened| now.saturating_duration_since(opened) >= LINGER);
        Ok(Pace::Busy)
    }

    /// Sends what waits to be sent and takes the engine's wishes. Waits for
    /// room in the queue no longer than the client may go without a poll.
    fn settle(&mut self, consumer: &BaseConsumer<Notes>) -> Result<(), End> {
        if let Some(wishes) = self.reader.control.take() {
            self.commit(consumer, &wishes.commit);
            self.wishes = wishes;
            self.pauses_due = true;
        }
        if self.wishes.stop {
            return Err(End::Stopped);
        }
        if self.outbox.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + POLL_INTERVAL;
        while let Some(report) = self.outbox.pop_front() {
            let patience = deadline.saturating_duration_since(Instant::now());
            match self.reader.reports.send(report, patience) {
                Ok(()) => {}
                Err(Refused::Closed) => return Err(End::Stopped),
                Err(Refused::Full(report)) => {
                    self.outbox.push_front(*report);
                    let since = *self.full_since.get_or_insert_with(Instant::now);
                    self.hold_back(since.elapsed() >= HOLD_BACK_AFTER);
                    return Ok(());
                }
            }
        }
        self.full_since = None;
        self.hold_back(false);
        Ok(())
    }

    fn hold_back(&mut self, held_back: bool) {
        self.pauses_due |= self.held_back != held_back;
        self.held_back = held_back;
    }

    fn on_message(&mut self, message: &BorrowedMessage<'_>) -> Result<(), End> {
        let report = self.reachability.up();
        self.outbox.extend(report);
        let (partition, offset) = (message.partition(), message.offset());
        let Some(mut state) = self.partitions.get_mut(&partition) else {
            return Ok(());
        };
        match state.gate.admit(offset) {
            Admission::Drop => return Ok(()),
            Admission::Pass => {}
            Admission::PassAfterLoss(from, to) => {
                self.lose(partition, from, to)?;
                let found = self.partitions.get_mut(&partition);
                state = found.expect("it was there before the loss");
            }
        }
        let row = Row {
            offset,
            value: message.payload(),
            appended: match message.timestamp() {
                Timestamp::LogAppendTime(ms) => {
                    Some(EventTime::from_micros(ms.saturating_mul(1000)))
                }
                _ => None,
            },
        };
        let clock = &self.reader.clock;
        let full = state.push(&row, self.reader.limits, || clock.now());
        self.outbox.extend(full.map(chunk));
        Ok(())
    }

    /// Sends the open chunks whose opening time is `due`.
    fn close_chunks(&mut self, due: impl Fn(Instant) -> bool) {
        for state in self.partitions.values_mut() {
            if state.open().is_some_and(|open| due(open.opened())) {
                let next = state.gate.next();
                self.outbox.extend(state.close(next).map(chunk));
            }
        }
    }

    fn on_end(&mut self, partition: i32) {
        let report = self.reachability.up();
        self.outbox.extend(report);
        let Some(state) = self.partitions.get_mut(&partition) else {
            return;
        };
        let end = state.gate.next();
        self.outbox.extend(state.close(end).map(chunk));
        self.outbox.push_back(Report::Event(SourceEvent::CaughtUp {
            partition: Arc::clone(&state.name),
            end,
        }));
        let report = state.report_lag(0);
        self.outbox.extend(report);
    }

    fn on_error(&mut self, consumer: &BaseConsumer<Notes>, error: &KafkaError) -> Result<(), End> {
        let reason = consumer.context().take_reason();
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let explained = reason.unwrap_or_else(|| describe(code));
        let topic = &self.topic;
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(Error::external(format!(
                "the Kafka client that reads topic `{topic}` failed: {explained}"
            ))
            .into());
        }
        match code {
            Code::AllBrokersDown => {
                let report = self.reachability.down(&describe(code));
                self.outbox.extend(report);
            }
            Code::BrokerTransportFailure
            | Code::Resolve
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::SSL
            | Code::OperationTimedOut => self.reachability.broker_failed(explained),
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                self.retry_at = Some(Instant::now());
            }
            Code::TopicAuthorizationFailed => return Err(not_authorized(topic).into()),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                return Err(Error::external(format!(
                    "Kafka at `{}` has no topic `{topic}` any more, or fewer partitions of it",
                    self.reachability.brokers()
                ))
                .into());
            }
            _ => {
                tracing::warn!(%topic, %code, "Kafka reports: {explained}");
                let report = self.reachability.refused(explained, Instant::now());
                self.outbox.extend(report);
            }
        }
        Ok(())
    }

    /// The broker has refused to serve a position. It is not said of which
    /// partition, so each is compared with its log.
    fn examine_losses(&mut self, consumer: &BaseConsumer<Notes>) -> Result<(), End> {
        let ids: Vec<i32> = self.partitions.keys().copied().collect();
        let ask =
            |edge: Edge| edge.of(consumer, &self.topic, ids.iter().copied(), QUESTION_TIMEOUT);
        let (starts, ends) = match (ask(Edge::Start), ask(Edge::End)) {
            (Ok(starts), Ok(ends)) => (starts, ends),
            (Err(error), _) | (_, Err(error)) => {
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                return self.on_error(consumer, &error);
            }
        };
        let positions: Vec<(i32, Offset)> = self
            .partitions
            .iter()
            .map(|(id, state)| (*id, state.gate.next()))
            .collect();
        let mut cut_off = Vec::new();
        for (partition, next) in positions {
            let (Some(&low), Some(&high)) = (starts.get(&partition), ends.get(&partition)) else {
                continue;
            };
            match judge(next, low, high) {
                Fate::Readable => {}
                Fate::Lost(low) => {
                    self.lose(partition, next, low)?;
                    cut_off.push(partition);
                }
                Fate::BeyondEnd(end) => {
                    return Err(Error::data(format!(
                        "the pipeline has read `{}` up to offset {next}, but the partition ends \
                         at offset {end}: the topic was deleted and created again, or the \
                         cluster has lost rows; run the pipeline under another name, or with \
                         another state url, to read the topic anew",
                        partition::name(&self.topic, partition),
                    ))
                    .into());
                }
            }
        }
        if cut_off.is_empty() {
            // The refusal has passed; the client does not try again by itself.
            cut_off.extend(self.partitions.keys());
        }
        self.reassign(consumer, &cut_off)
    }

    /// Rows `from..to` are gone.
    fn lose(&mut self, partition: i32, from: Offset, to: Offset) -> Result<(), End> {
        let Some(state) = self.partitions.get_mut(&partition) else {
            return Ok(());
        };
        if self.reader.on_data_loss == OnDataLoss::Fail {
            return Err(Error::data(format!(
                "offsets {from} to {} of Kafka partition `{}` were deleted before they were \
                 read; keep rows longer (`retention.ms`, `retention.bytes` of topic `{}`), or \
                 set `on_data_loss: record` to go on without them",
                to - 1,
                state.name,
                self.topic,
            ))
            .into());
        }
        self.outbox.extend(state.close(from).map(chunk));
        self.outbox.push_back(Report::Event(SourceEvent::Lost {
            partition: Arc::clone(&state.name),
            from,
            to,
        }));
        state.gate.skip_to(to);
        Ok(())
    }

    fn on_statistics(
        &mut self,
        consumer: &BaseConsumer<Notes>,
        statistics: &Statistics,
    ) -> Result<(), End> {
        let connected =
            |broker: &rdkafka::statistics::Broker| broker.nodeid >= 0 && broker.state == "UP";
        if statistics.brokers.values().any(connected) {
            let report = self.reachability.connected(Instant::now());
            self.outbox.extend(report);
        }
        let Some(topic) = statistics.topics.get(&*self.topic) else {
            return Ok(());
        };
        for (id, of_client) in &topic.partitions {
            let Some(state) = self.partitions.get_mut(id) else {
                continue;
            };
            state.gate.log_starts_at(of_client.lo_offset);
            // Both are from the last fetch; negative where there was none.
            let end = if of_client.ls_offset >= 0 {
                of_client.ls_offset
            } else {
                of_client.hi_offset
            };
            if end >= 0 {
                // The markers of transactions lie between the last row and
                // the end, and are not rows that are waiting.
                let read_to = state.gate.next().max(of_client.eof_offset);
                let report = state.report_lag(u64::try_from(end - read_to).unwrap_or(0));
                self.outbox.extend(report);
            }
        }
        let new: Vec<i32> = topic
            .partitions
            .iter()
            .filter(|(id, of_client)| {
                **id >= 0 && !of_client.unknown && !self.partitions.contains_key(id)
            })
            .map(|(id, _)| *id)
            .collect();
        self.adopt(consumer, &new)
    }

    /// Reads partitions that were added to the topic, from their beginning.
    /// The next statistics name those again that could not be asked for.
    fn adopt(&mut self, consumer: &BaseConsumer<Notes>, new: &[i32]) -> Result<(), End> {
        let new = new.iter().copied();
        let Ok(starts) = Edge::Start.of(consumer, &self.topic, new, QUESTION_TIMEOUT) else {
            return Ok(());
        };
        for (partition, low) in starts {
            let name = self.add(partition, low);
            self.outbox
                .push_back(Report::Event(SourceEvent::Assigned(vec![(name, low)])));
            self.assign(consumer, &[partition])?;
        }
        Ok(())
    }

    fn add(&mut self, partition: i32, offset: Offset) -> Arc<str> {
        let name = partition::name(&self.topic, partition);
        self.partitions
            .insert(partition, Partition::new(Arc::clone(&name), offset));
        self.pauses_due = true;
        name
    }

    fn assign(&mut self, consumer: &BaseConsumer<Notes>, partitions: &[i32]) -> Result<(), End> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            if let Some(state) = self.partitions.get(partition) {
                list.add_partition_offset(
                    &self.topic,
                    *partition,
                    ClientOffset::Offset(state.gate.next()),
                )
                .map_err(|error| self.refused("assign", error))?;
            }
        }
        consumer
            .incremental_assign(&list)
            .map_err(|error| self.refused("assign", error))
    }

    /// Assigns partitions anew, where the gate expects them to go on.
    fn reassign(&mut self, consumer: &BaseConsumer<Notes>, partitions: &[i32]) -> Result<(), End> {
        let list = self.list(partitions);
        consumer
            .incremental_unassign(&list)
            .map_err(|error| self.refused("unassign", error))?;
        // The client forgets what it was told to pause.
        self.paused.retain(|paused| !partitions.contains(paused));
        self.pauses_due = true;
        self.assign(consumer, partitions)
    }

    /// Pauses what the engine wants paused, and everything while the queue is
    /// full.
    fn apply_pauses(&mut self, consumer: &BaseConsumer<Notes>) -> Result<(), End> {
        self.pauses_due = false;
        let wanted = |id: &i32| self.held_back || self.wishes.paused.contains(id);
        let differs = |id: &i32| wanted(id) != self.paused.contains(id);
        let (pause, resume): (Vec<i32>, Vec<i32>) = self
            .partitions
            .keys()
            .copied()
            .filter(differs)
            .partition(|id| wanted(id));
        if !pause.is_empty() {
            consumer
                .pause(&self.list(&pause))
                .map_err(|error| self.refused("pause", error))?;
            self.paused.extend(pause);
        }
        if !resume.is_empty() {
            consumer
                .resume(&self.list(&resume))
                .map_err(|error| self.refused("resume", error))?;
            self.paused.retain(|id| !resume.contains(id));
        }
        Ok(())
    }

    /// Tells the group how far the pipeline has committed. Only advice.
    fn commit(&self, consumer: &BaseConsumer<Notes>, offsets: &BTreeMap<i32, Offset>) {
        if offsets.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        let added = offsets.iter().try_for_each(|(partition, offset)| {
            list.add_partition_offset(&self.topic, *partition, ClientOffset::Offset(*offset))
        });
        if let Err(error) = added.and_then(|()| consumer.commit(&list, CommitMode::Async)) {
            tracing::warn!(topic = %self.topic, %error, "cannot commit offsets to the consumer group");
        }
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }

    fn refused(&self, what: &str, error: KafkaError) -> End {
        End::Failed(
            Error::external(format!(
                "cannot {what} partitions of Kafka topic `{}`",
                self.topic
            ))
            .with_source(error),
        )
    }
}

impl Partition {
    /// The lag, if it has changed.
    fn report_lag(&mut self, rows: u64) -> Option<Report> {
        if self.lag.replace(rows) == Some(rows) {
            return None;
        }
        Some(Report::Event(SourceEvent::Lag {
            partition: Arc::clone(&self.name),
            rows,
        }))
    }
}

fn chunk(chunk: Chunk) -> Report {
    Report::Event(SourceEvent::Chunk(chunk))
}

#[cfg(test)]
mod tests;
