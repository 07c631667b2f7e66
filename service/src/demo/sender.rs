//! Sends the demo's events, and keeps their expected totals.

use std::{collections::BTreeMap, time::Duration};

use tagflow_connectors::{
    generator::{Event, EventCounts, Events, RowKind},
    kafka::Producer,
};
use tagflow_engine::{Result, status::JobStatus};
use tokio::sync::watch;

use super::account::Account;

/// The most events that the sender may be ahead of the reader. The mock broker keeps 5 MiB of a
/// partition and then drops the oldest silently. An event has less than 400 bytes, so this is safe
/// even with all events in one partition.
const MOST_AHEAD: u64 = 12_000;

/// How often to check the reader's progress while it is behind.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Sends events no faster than they are read.
pub struct Sender {
    producer: Producer,
    topic: String,
    events: Events,
}

/// The sent events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Their counts by intended kind.
    pub kinds: EventCounts,
    /// The totals of the readable events.
    pub account: Account,
}

impl Sender {
    pub(super) fn new(brokers: &str, topic: &str, events: Events) -> Result<Self> {
        Ok(Self {
            producer: Producer::new(brokers, &BTreeMap::new())?,
            topic: topic.to_owned(),
            events,
        })
    }

    /// Sends everything, and returns when all jobs with these statuses have read it; `None` if one
    /// ended before.
    ///
    /// # Errors
    /// `External` where an event cannot be delivered.
    pub async fn run(self, mut jobs: Vec<watch::Receiver<JobStatus>>) -> Result<Option<Sent>> {
        let Self {
            producer,
            topic,
            mut events,
        } = self;
        let mut sent = Sent::default();
        let mut rows = 0;
        for Event {
            kind, key, payload, ..
        } in events.by_ref()
        {
            if rows >= MOST_AHEAD && !all_read(&mut jobs, rows - MOST_AHEAD + 1).await {
                return Ok(None);
            }
            let key = Some(key.as_bytes());
            producer.send(&topic, key, Some(&payload)).await?;
            rows += 1;
            if kind != RowKind::Broken {
                sent.account.add_event(&payload)?;
            }
        }
        producer.flush().await?;
        sent.kinds = events.counts();
        Ok(all_read(&mut jobs, rows).await.then_some(sent))
    }
}

/// Waits until each job has read `rows` rows; `false` if one ended before.
async fn all_read(jobs: &mut [watch::Receiver<JobStatus>], rows: u64) -> bool {
    for job in jobs {
        if !reads(job, rows).await {
            return false;
        }
    }
    true
}

/// Waits until the job has read `rows` rows; `false` if it ended before.
async fn reads(job: &mut watch::Receiver<JobStatus>, rows: u64) -> bool {
    loop {
        if job.borrow_and_update().rows_in >= rows {
            return true;
        }
        // The pause keeps the events in groups.
        tokio::time::sleep(LOOK_EVERY).await;
        if job.changed().await.is_err() {
            return false;
        }
    }
}
