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
    statistics::Broker,
};
use tagflow_engine::{
    Clock, Error, EventTime, Result,
    source::{Chunk, Offset, SourceEvent},
};

use super::{
    chunk::{ChunkLimits, Row},
    client::EventContext,
    config::{OnDataLoss, StartAt},
    control::{Commands, Control},
    log_bounds::LogBound,
    offset_tracker::{Admit, OffsetCheck, judge},
    partition::{self, AtEnd, Generation, Partition},
    queue::{Refused, Report, Sender},
    reachability::{Reachability, UNREACHABLE_AFTER},
    startup::{Obstacle, RECREATED, Startup, TopicPositions, describe, not_authorized},
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
    pub(super) fn run(self, consumer: BaseConsumer<EventContext>, opening: Startup) {
        let obituary = PanicReport {
            topic: Arc::clone(&opening.topic),
            reports: self.reports.clone(),
        };
        let mut reading = Reading::new(self, &opening);
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
struct PanicReport {
    topic: Arc<str>,
    reports: Sender,
}

impl Drop for PanicReport {
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
    generation: Generation,
    /// The id of the cluster that the positions belong to, where it is known.
    cluster: Option<Arc<str>>,
    /// The group whose offsets are advice for lag tools.
    group_id: String,
    /// How long the topic may be unknown.
    topic_wait: Duration,
    reader: TopicReader,
    partitions: BTreeMap<i32, Partition>,
    /// The partitions of an earlier topic that are not reported as finished yet.
    retired: Vec<Arc<str>>,
    /// What could not be sent yet. While there is something in it, nothing is
    /// polled but what the client had in hand.
    outbox: VecDeque<Report>,
    reachability: Reachability,
    wishes: Commands,
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
    /// Whether the topic may be another one: all connections were lost, or the broker does
    /// not know it.
    in_doubt: bool,
    /// How many brokers the cluster has.
    brokers: usize,
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
    fn new(reader: TopicReader, opening: &Startup) -> Self {
        let topic = Arc::clone(&opening.topic);
        let brokers = opening.brokers.clone();
        Self {
            generation: opening.read.generation,
            cluster: opening.read.cluster.clone(),
            group_id: opening.group_id.clone(),
            topic_wait: opening.topic_wait,
            reader,
            partitions: BTreeMap::new(),
            retired: Vec::new(),
            outbox: VecDeque::new(),
            reachability: Reachability::new(Arc::clone(&topic), brokers),
            topic,
            wishes: Commands::default(),
            paused: BTreeSet::new(),
            full_since: None,
            held_back: false,
            pauses_due: false,
            retry_at: None,
            in_doubt: false,
            brokers: 1,
        }
    }

    fn open(&mut self, consumer: &BaseConsumer<EventContext>, opening: Startup) -> Result<(), End> {
        for (partition, offset) in self.locate(consumer, opening)? {
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
        if self.in_doubt {
            return self.verify(consumer);
        }
        self.report_cluster();
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        self.assign(consumer, &all)
    }

    /// Finds where each partition of the topic begins; repeats the question until the cluster
    /// answers. No partition is assigned during that time.
    fn locate(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
        mut opening: Startup,
    ) -> Result<BTreeMap<i32, Offset>, End> {
        let mut silent_since = Instant::now();
        loop {
            self.in_doubt = false;
            match opening.attempt(consumer) {
                Ok(positions) => {
                    let report = self.reachability.up();
                    self.outbox.extend(report);
                    self.generation = opening.read.generation;
                    self.brokers = opening.brokers_known;
                    self.cluster = opening.read.cluster;
                    return Ok(positions);
                }
                Err(Obstacle::Failed(error)) => return Err(error.into()),
                Err(Obstacle::Recreated(seen)) => {
                    self.accept_recreated(&seen)?;
                    self.finish_all();
                    opening.renew();
                    continue;
                }
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
            // Nothing is assigned: the client reports only errors.
            let retry_at = Instant::now() + RETRY_AFTER;
            while Instant::now() < retry_at {
                self.settle(consumer)?;
                if let Some(Err(error)) = consumer.poll(RETRY_AFTER / 4) {
                    self.on_error(consumer, &error)?;
                }
            }
        }
    }

    /// Looks the topic up before the next fetch. The broker behind the address may be another
    /// one, or may have lost its data. Some brokers answer a fetch of an unknown topic id with
    /// the id 0, and librdkafka 2.12 then reads a null pointer as the topic's name.
    fn reopen(&mut self, consumer: &BaseConsumer<EventContext>) -> Result<(), End> {
        self.unassign_all(consumer)?;
        self.verify(consumer)
    }

    /// Assigns all partitions, if the topic is still there.
    fn verify(&mut self, consumer: &BaseConsumer<EventContext>) -> Result<(), End> {
        let next = |(id, state): (&i32, &Partition)| (*id, state.gate.next());
        let positions = self.partitions.iter().map(next).collect();
        let opening = self.opening(positions);
        self.go_on_at(consumer, opening)
    }

    /// Reads the recreated topic from its start.
    fn renew(&mut self, consumer: &BaseConsumer<EventContext>) -> Result<(), End> {
        self.unassign_all(consumer)?;
        self.finish_all();
        let mut opening = self.opening(BTreeMap::new());
        opening.renew();
        self.go_on_at(consumer, opening)
    }

    fn opening(&self, positions: BTreeMap<i32, Offset>) -> Startup {
        Startup::new(
            Arc::clone(&self.topic),
            TopicPositions {
                generation: self.generation,
                cluster: self.cluster.clone(),
                next: positions,
            },
            StartAt::Earliest,
            self.topic_wait,
            self.reachability.brokers().to_owned(),
            self.group_id.clone(),
        )
    }

    fn go_on_at(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
        opening: Startup,
    ) -> Result<(), End> {
        let located = self.locate(consumer, opening)?;
        let is_new = |(id, _): &(&i32, &Offset)| !self.partitions.contains_key(id);
        let new: Vec<(i32, Offset)> = located
            .iter()
            .filter(is_new)
            .map(|(id, next)| (*id, *next))
            .collect();
        let assigned = new.into_iter().map(|(id, next)| (self.add(id, next), next));
        let assigned: Vec<_> = assigned.collect();
        if !assigned.is_empty() {
            let event = SourceEvent::Assigned(assigned);
            self.outbox.push_back(Report::Event(event));
        }
        self.report_cluster();
        let finished = self.retired.drain(..).map(SourceEvent::Finished);
        self.outbox.extend(finished.map(Report::Event));
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        self.assign(consumer, &all)
    }

    /// Reports which cluster the positions belong to, after the partitions that are read
    /// there: a commit between the two must not name old positions as of the new cluster.
    fn report_cluster(&mut self) {
        let event = self.cluster.clone().map(|id| SourceEvent::System {
            part: Arc::clone(&self.topic),
            id,
        });
        self.outbox.extend(event.map(Report::Event));
    }

    /// Stops reading the partitions of a topic that no longer exists. They are reported as
    /// finished after those of the new topic are assigned, so that the source is never
    /// without a partition to read.
    fn finish_all(&mut self) {
        for (_, mut state) in std::mem::take(&mut self.partitions) {
            let next = state.gate.next();
            self.outbox.extend(state.close(next).map(chunk));
            self.retired.push(state.name);
        }
        self.reader.control.forget_pauses();
        self.wishes.paused.clear();
    }

    /// Fails unless rows may be lost. `seen` describes how the topic differs, and why.
    fn accept_recreated(&self, seen: &str) -> Result<(), End> {
        if self.reader.on_data_loss == OnDataLoss::Fail {
            return Err(Error::data(format!(
                "{seen}; to read the topic from its start, set `on_data_loss: record` or \
                 run with `--reset` and the source's name"
            ))
            .into());
        }
        tracing::warn!(topic = %self.topic, "{seen}; the topic is read from its start");
        Ok(())
    }

    fn read(&mut self, consumer: &BaseConsumer<EventContext>) -> Result<(), End> {
        let mut pace = Pace::Busy;
        loop {
            self.settle(consumer)?;
            if self.in_doubt {
                self.reopen(consumer)?;
            }
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
    fn take_burst(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
        pace: Pace,
    ) -> Result<Pace, End> {
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
    fn settle(&mut self, consumer: &BaseConsumer<EventContext>) -> Result<(), End> {
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
            Admit::Drop => return Ok(()),
            Admit::Pass => {}
            Admit::PassAfterLoss(from, to) => {
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

    fn forget_confirmations(&mut self) {
        for state in self.partitions.values_mut() {
            state.at_end = state.at_end.map(|_| AtEnd::default());
        }
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
        state.at_end = Some(AtEnd::default());
        self.outbox.push_back(state.caught_up());
        let report = state.report_lag(0);
        self.outbox.extend(report);
    }

    fn on_error(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
        error: &KafkaError,
    ) -> Result<(), End> {
        // A fetch that failed confirms no end.
        self.forget_confirmations();
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
                self.in_doubt = true;
                let report = self.reachability.down(&describe(code));
                self.outbox.extend(report);
            }
            Code::BrokerTransportFailure
            | Code::Resolve
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::SSL
            | Code::OperationTimedOut => {
                // With several brokers one of them may fail at any time.
                self.in_doubt |= self.brokers == 1 && code == Code::BrokerTransportFailure;
                self.reachability.broker_failed(explained);
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                self.retry_at = Some(Instant::now());
            }
            Code::TopicAuthorizationFailed => return Err(not_authorized(topic).into()),
            Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId => self.in_doubt = true,
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
    fn examine_losses(&mut self, consumer: &BaseConsumer<EventContext>) -> Result<(), End> {
        let ids: Vec<i32> = self.partitions.keys().copied().collect();
        let ask =
            |edge: LogBound| edge.of(consumer, &self.topic, ids.iter().copied(), QUESTION_TIMEOUT);
        let (starts, ends) = match (ask(LogBound::Start), ask(LogBound::End)) {
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
        let mut beyond_end = None;
        for (partition, next) in positions {
            let (Some(&low), Some(&high)) = (starts.get(&partition), ends.get(&partition)) else {
                continue;
            };
            match judge(next, low, high) {
                OffsetCheck::Readable => {}
                OffsetCheck::Lost(low) => {
                    self.lose(partition, next, low)?;
                    cut_off.push(partition);
                }
                OffsetCheck::BeyondEnd(end) => beyond_end = Some((partition, end)),
            }
        }
        if let Some((partition, end)) = beyond_end {
            return self.on_beyond_end(consumer, partition, end);
        }
        if cut_off.is_empty() {
            // The refusal has passed; the client does not try again by itself.
            cut_off.extend(self.partitions.keys());
        }
        self.reassign(consumer, &cut_off)
    }

    /// A partition ends before the position of this reader.
    fn on_beyond_end(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
        partition: i32,
        end: Offset,
    ) -> Result<(), End> {
        let Some(state) = self.partitions.get(&partition) else {
            return Ok(());
        };
        self.accept_recreated(&format!(
            "the pipeline has read `{}` up to offset {}, but the partition ends at offset {end}: \
             {RECREATED}",
            state.name,
            state.gate.next(),
        ))?;
        self.renew(consumer)
    }

    /// Asks the leaders whether partitions end before their positions, as the last fetch
    /// suggests. Not every broker refuses such a position: some return no rows.
    fn examine_ends(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
        suspects: &[(i32, Offset)],
    ) -> Result<(), End> {
        let ids = suspects.iter().map(|(id, _)| *id);
        // A follower may be behind its leader. If the leader does not answer, the next
        // statistics repeat the question.
        let Ok(ends) = LogBound::End.of(consumer, &self.topic, ids, QUESTION_TIMEOUT) else {
            return Ok(());
        };
        for (id, end) in suspects {
            let next = self.partitions.get(id).map(|state| state.gate.next());
            let is_short = |leader: &Offset| next.is_some_and(|next| *leader < next);
            if ends.get(id).is_some_and(is_short) {
                return self.on_beyond_end(consumer, *id, *end);
            }
        }
        Ok(())
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
        consumer: &BaseConsumer<EventContext>,
        statistics: &Statistics,
    ) -> Result<(), End> {
        let connected = |broker: &Broker| broker.nodeid >= 0 && broker.state == "UP";
        if statistics.brokers.values().any(connected) {
            let report = self.reachability.connected(Instant::now());
            self.outbox.extend(report);
        }
        let Some(topic) = statistics.topics.get(&*self.topic) else {
            return Ok(());
        };
        let mut beyond_end = Vec::new();
        for (id, of_client) in &topic.partitions {
            let Some(state) = self.partitions.get_mut(id) else {
                continue;
            };
            let read_before = std::mem::replace(&mut state.read_before, state.gate.next());
            if (0..read_before).contains(&of_client.hi_offset) {
                beyond_end.push((*id, of_client.hi_offset));
            }
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
                let is_asked_for = end <= read_to && !self.paused.contains(id);
                let fetched = fetches(statistics, of_client.broker).filter(|_| is_asked_for);
                let at_end = state.at_end.as_mut();
                if at_end.is_some_and(|at_end| at_end.is_confirmed(fetched)) {
                    self.outbox.push_back(state.caught_up());
                }
            }
        }
        if !beyond_end.is_empty() {
            self.examine_ends(consumer, &beyond_end)?;
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
    fn adopt(&mut self, consumer: &BaseConsumer<EventContext>, new: &[i32]) -> Result<(), End> {
        let new = new.iter().copied();
        let Ok(starts) = LogBound::Start.of(consumer, &self.topic, new, QUESTION_TIMEOUT) else {
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
        let name = partition::name(&self.topic, partition, self.generation);
        self.partitions
            .insert(partition, Partition::new(Arc::clone(&name), offset));
        self.pauses_due = true;
        name
    }

    fn assign(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
        partitions: &[i32],
    ) -> Result<(), End> {
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
        for partition in partitions {
            if let Some(state) = self.partitions.get_mut(partition) {
                // The client reports the end anew.
                state.at_end = None;
            }
        }
        consumer
            .incremental_assign(&list)
            .map_err(|error| self.refused("assign", error))
    }

    /// Assigns partitions anew, where the gate expects them to go on.
    fn reassign(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
        partitions: &[i32],
    ) -> Result<(), End> {
        let list = self.list(partitions);
        consumer
            .incremental_unassign(&list)
            .map_err(|error| self.refused("unassign", error))?;
        // The client forgets its paused partitions.
        self.paused.retain(|paused| !partitions.contains(paused));
        self.pauses_due = true;
        self.assign(consumer, partitions)
    }

    fn unassign_all(&mut self, consumer: &BaseConsumer<EventContext>) -> Result<(), End> {
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        consumer
            .incremental_unassign(&self.list(&all))
            .map_err(|error| self.refused("unassign", error))?;
        // The client forgets what it was told to pause.
        self.paused.clear();
        self.pauses_due = true;
        Ok(())
    }

    /// Pauses the partitions that the engine wants paused, and all partitions while the queue is
    /// full.
    fn apply_pauses(&mut self, consumer: &BaseConsumer<EventContext>) -> Result<(), End> {
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
    fn commit(&self, consumer: &BaseConsumer<EventContext>, offsets: &BTreeMap<i32, Offset>) {
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
    /// The report that the partition is at its end.
    fn caught_up(&self) -> Report {
        Report::Event(SourceEvent::CaughtUp {
            partition: Arc::clone(&self.name),
            end: self.gate.next(),
        })
    }

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

/// A broker, and how many fetches have been sent to it.
fn fetches(statistics: &Statistics, node: i32) -> Option<(i32, i64)> {
    let mut brokers = statistics.brokers.values();
    let broker = brokers.find(|broker| broker.nodeid == node)?;
    Some((node, *broker.req.get("Fetch")?))
}

fn chunk(chunk: Chunk) -> Report {
    Report::Event(SourceEvent::Chunk(chunk))
}

#[cfg(test)]
mod tests;
