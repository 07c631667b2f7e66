//! The counters of a running job for its status: relaxed atomics, written once a batch, never read
//! by the data path.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use crate::{
    EventTime,
    source::PartitionId,
    status::{NodeStatus, PartitionStatus},
};

/// The gauges of a job.
#[derive(Debug, Default)]
pub struct Gauges {
    partitions: Mutex<BTreeMap<Arc<PartitionId>, Arc<PartitionGauge>>>,
    nodes: BTreeMap<Arc<str>, Arc<NodeGauge>>,
}

impl Gauges {
    /// Creates the gauges of the nodes with these names.
    pub fn new(nodes: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            partitions: Mutex::default(),
            nodes: nodes
                .into_iter()
                .map(|name| (name, Arc::default()))
                .collect(),
        }
    }

    /// The gauge of a partition, created at the first call.
    pub(super) fn partition(&self, partition: &Arc<PartitionId>) -> Arc<PartitionGauge> {
        let mut partitions = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(partitions.entry(Arc::clone(partition)).or_default())
    }

    /// The gauge of a node.
    pub(super) fn node(&self, name: &str) -> Arc<NodeGauge> {
        self.nodes.get(name).map(Arc::clone).unwrap_or_default()
    }

    /// The current values of all partitions.
    pub fn partitions(&self) -> BTreeMap<String, PartitionStatus> {
        let partitions = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let status = |(id, gauge): (&Arc<PartitionId>, &Arc<PartitionGauge>)| {
            (id.to_string(), gauge.status())
        };
        partitions.iter().map(status).collect()
    }

    /// The current values of all nodes; `seconds` is the time since the job started.
    pub fn nodes(&self, seconds: f64) -> BTreeMap<String, NodeStatus> {
        let status =
            |(name, gauge): (&Arc<str>, &Arc<NodeGauge>)| (name.to_string(), gauge.status(seconds));
        self.nodes.iter().map(status).collect()
    }
}

/// The values of a partition.
#[derive(Debug)]
pub(super) struct PartitionGauge {
    pub(super) offset: AtomicI64,
    /// `u64::MAX` if the source does not know it.
    pub(super) lag: AtomicU64,
    pub(super) watermark: AtomicI64,
    pub(super) idle: AtomicBool,
    pub(super) finished: AtomicBool,
    pub(super) rows: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) dead_letters: AtomicU64,
}

impl Default for PartitionGauge {
    fn default() -> Self {
        Self {
            offset: AtomicI64::new(0),
            lag: AtomicU64::new(u64::MAX),
            watermark: AtomicI64::new(i64::MIN),
            idle: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
        }
    }
}

impl PartitionGauge {
    /// Its watermark.
    pub(super) fn watermark(&self) -> EventTime {
        EventTime::from_micros(self.watermark.load(Ordering::Relaxed))
    }

    fn status(&self) -> PartitionStatus {
        let lag = self.lag.load(Ordering::Relaxed);
        let watermark = self.watermark();
        PartitionStatus {
            offset: self.offset.load(Ordering::Relaxed),
            lag: (lag != u64::MAX).then_some(lag),
            watermark: (watermark != EventTime::MIN).then_some(watermark),
            idle: self.idle.load(Ordering::Relaxed),
            finished: self.finished.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            dead_letters: self.dead_letters.load(Ordering::Relaxed),
        }
    }
}

/// The values of a node, summed over lanes.
#[derive(Debug, Default)]
pub(super) struct NodeGauge {
    pub(super) rows_in: AtomicU64,
    pub(super) rows_out: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) dead_letters: AtomicU64,
    pub(super) missed: AtomicU64,
    pub(super) state_bytes: AtomicU64,
    pub(super) queue_bytes: Arc<AtomicU64>,
    pub(super) busy_ns: AtomicU64,
}

impl NodeGauge {
    fn status(&self, seconds: f64) -> NodeStatus {
        NodeStatus {
            rows_in: self.rows_in.load(Ordering::Relaxed),
            rows_out: self.rows_out.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
            dead_letters: self.dead_letters.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
            state_bytes: self.state_bytes.load(Ordering::Relaxed),
            queue_bytes: self.queue_bytes.load(Ordering::Relaxed),
            busy: self.busy_ns.load(Ordering::Relaxed) as f64 / 1e9 / seconds.max(1e-9),
        }
    }
}

/// Adds to a gauge.
pub(super) fn add(gauge: &AtomicU64, amount: usize) {
    gauge.fetch_add(amount as u64, Ordering::Relaxed);
}
