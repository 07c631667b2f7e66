//! Every metric with its name.
//!
//! Metrics are read from the job's status on each scrape: nothing is counted twice, and a scrape
//! does not slow the data path.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use tagflow_engine::{
    EventTime,
    status::{JobState, JobStatus, MemoryStatus, NodeStatus, PartitionStatus, SinkStatus},
};
use tokio::sync::watch;

/// The prefix of every name.
const PREFIX: &str = "tagflow";

/// A metric of a value of type `T`; counters get the suffix `_total`.
struct Metric<T> {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    /// `None` omits the metric.
    value: fn(&T) -> Option<f64>,
}

impl<T> Metric<T> {
    const fn counter(name: &'static str, help: &'static str, value: fn(&T) -> Option<f64>) -> Self {
        let kind = MetricType::Counter;
        Self {
            name,
            help,
            kind,
            value,
        }
    }

    const fn gauge(name: &'static str, help: &'static str, value: fn(&T) -> Option<f64>) -> Self {
        let kind = MetricType::Gauge;
        Self {
            name,
            help,
            kind,
            value,
        }
    }
}

/// Labels: `pipeline`.
const OF_JOB: &[Metric<JobStatus>] = &[
    Metric::gauge(
        "up",
        "Whether rows flow: 1 while running or draining",
        |job| {
            let up = matches!(job.state, JobState::Running | JobState::Stopping);
            Some(f64::from(u8::from(up)))
        },
    ),
    Metric::gauge(
        "start_timestamp_seconds",
        "When this process started the job",
        |job| Some(seconds(job.started_at)),
    ),
    Metric::gauge(
        "watermark_timestamp_seconds",
        "Event-time watermark of the job",
        |job| job.watermark.map(seconds),
    ),
    Metric::counter(
        "input_rows",
        "Rows read since the start of this process",
        |job| Some(job.rows_in as f64),
    ),
    Metric::counter(
        "input_bytes",
        "Bytes read since the start of this process",
        |job| Some(job.bytes_in as f64),
    ),
    Metric::counter(
        "output_rows",
        "Rows handed to sinks since the start of this process",
        |job| Some(job.rows_out as f64),
    ),
    Metric::counter(
        "committed_rows",
        "Rows that came in, up to the last commit",
        |job| Some(job.totals.rows_in as f64),
    ),
    Metric::counter(
        "contributed_rows",
        "Rows that had their effect, up to the last commit",
        |job| Some(job.totals.contributed as f64),
    ),
    Metric::counter(
        "filtered_rows",
        "Rows that a condition dropped, up to the last commit",
        |job| Some(job.totals.filtered as f64),
    ),
    Metric::counter(
        "late_rows",
        "Rows whose window had closed, up to the last commit",
        |job| Some(job.totals.late as f64),
    ),
    Metric::counter(
        "dead_letter_rows",
        "Rows that could not be read or on which an expression failed, up to the last commit",
        |job| Some((job.totals.dead_letter + job.totals.derived_dead_letter) as f64),
    ),
    Metric::counter(
        "duplicate_rows",
        "Rows that were seen before, up to the last commit",
        |job| Some(job.totals.duplicate as f64),
    ),
    Metric::gauge("commit_seq", "Number of the last commit", |job| {
        job.commit.as_ref().map(|commit| commit.seq as f64)
    }),
    Metric::gauge(
        "commit_timestamp_seconds",
        "When the last commit was decided",
        |job| job.commit.as_ref().map(|commit| seconds(commit.at)),
    ),
    Metric::gauge(
        "commit_duration_seconds",
        "From barrier to decision of the last commit",
        |job| {
            job.commit
                .as_ref()
                .map(|commit| commit.took_ms as f64 / 1e3)
        },
    ),
    Metric::gauge(
        "commit_files",
        "Files that the last commit published",
        |job| job.commit.as_ref().map(|commit| commit.files as f64),
    ),
    Metric::gauge(
        "commit_file_bytes",
        "Bytes of the files of the last commit",
        |job| job.commit.as_ref().map(|commit| commit.file_bytes as f64),
    ),
    Metric::gauge(
        "commit_state_written_bytes",
        "Bytes of state that the last commit wrote",
        |job| {
            job.commit
                .as_ref()
                .map(|commit| commit.state_written_bytes as f64)
        },
    ),
    Metric::gauge(
        "commit_state_bytes",
        "Bytes of all state that the last commit names",
        |job| job.commit.as_ref().map(|commit| commit.state_bytes as f64),
    ),
];

/// Labels: `pipeline`; only with a limit.
const OF_MEMORY: &[Metric<MemoryStatus>] = &[
    Metric::gauge("memory_bytes", "Resident memory of the process", |it| {
        Some(it.used_bytes as f64)
    }),
    Metric::gauge("memory_limit_bytes", "What the process may take", |it| {
        Some(it.limit_bytes as f64)
    }),
    Metric::gauge(
        "memory_paused",
        "Whether nothing is read because memory is short",
        |it| Some(f64::from(u8::from(it.paused))),
    ),
];

/// Labels: `pipeline`, `source`, `partition`.
const OF_PARTITION: &[Metric<PartitionStatus>] = &[
    Metric::counter(
        "partition_input_rows",
        "Rows read since the start of this process",
        |it| Some(it.rows as f64),
    ),
    Metric::counter(
        "partition_input_bytes",
        "Bytes read since the start of this process",
        |it| Some(it.bytes as f64),
    ),
    Metric::counter(
        "partition_dead_letter_rows",
        "Rows that could not be read",
        |it| Some(it.dead_letters as f64),
    ),
    Metric::gauge(
        "partition_lag_rows",
        "Rows to the end, where the source can tell",
        |it| it.lag.map(|lag| lag as f64),
    ),
    Metric::gauge("partition_position", "The next offset to read", |it| {
        Some(it.offset as f64)
    }),
    Metric::gauge(
        "partition_watermark_timestamp_seconds",
        "Event-time watermark",
        |it| it.watermark.map(seconds),
    ),
    Metric::gauge(
        "partition_idle",
        "Whether the job's watermark goes on without it",
        |it| Some(f64::from(u8::from(it.idle))),
    ),
];

/// Labels: `pipeline`, `node`.
const OF_NODE: &[Metric<NodeStatus>] = &[
    Metric::counter(
        "node_input_rows",
        "Rows taken in since the start of this process",
        |it| Some(it.rows_in as f64),
    ),
    Metric::counter(
        "node_output_rows",
        "Rows emitted since the start of this process",
        |it| Some(it.rows_out as f64),
    ),
    Metric::counter(
        "node_late_rows",
        "Rows that came late since the start of this process",
        |it| Some(it.late as f64),
    ),
    Metric::counter(
        "node_dead_letter_rows",
        "Rows on which an expression failed since the start of this process",
        |it| Some(it.dead_letters as f64),
    ),
    Metric::counter(
        "node_missed_rows",
        "Rows that found nothing in a table since the start of this process",
        |it| Some(it.missed as f64),
    ),
    Metric::gauge("node_state_bytes", "Bytes of state in memory", |it| {
        Some(it.state_bytes as f64)
    }),
    Metric::gauge(
        "node_queue_bytes",
        "Bytes waiting in the queues before it",
        |it| Some(it.queue_bytes as f64),
    ),
    Metric::gauge(
        "node_busy_ratio",
        "Share of time that its lanes were busy",
        |it| Some(it.busy),
    ),
];

/// Labels: `pipeline`, `sink`.
const OF_SINK: &[Metric<SinkStatus>] = &[
    Metric::gauge(
        "sink_delivered_seq",
        "The target has every commit up to this one",
        |it| Some(it.delivered_seq as f64),
    ),
    Metric::gauge(
        "sink_pending_commits",
        "Commits whose output is not delivered",
        |it| Some(it.pending_commits as f64),
    ),
    Metric::gauge(
        "sink_pending_rows",
        "Rows of the commits that are not delivered",
        |it| Some(it.pending_rows as f64),
    ),
    Metric::gauge(
        "sink_pending_bytes",
        "Staged bytes of the commits that are not delivered",
        |it| Some(it.pending_bytes as f64),
    ),
    Metric::gauge(
        "sink_pending_since_timestamp_seconds",
        "Time of the first commit that is not delivered",
        |it| it.pending_since.map(seconds),
    ),
    Metric::counter(
        "sink_delivery_failures",
        "Failed attempts to deliver since the start of this process",
        |it| Some(it.failures as f64),
    ),
];

fn seconds(at: EventTime) -> f64 {
    at.as_micros() as f64 / 1e6
}

/// The metrics of a job, as text for Prometheus.
pub struct Metrics(Registry);

impl Metrics {
    /// The metrics of the job with this status.
    pub fn of(status: watch::Receiver<JobStatus>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(StatusCollector(status)));
        Self(registry)
    }

    /// The current values.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0)?;
        Ok(out)
    }
}

#[derive(Debug)]
struct StatusCollector(watch::Receiver<JobStatus>);

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let status = self.0.borrow().clone();
        let pipeline = status.pipeline.as_str();
        let job = (vec![("pipeline", pipeline)], &status);
        write_all(&mut encoder, OF_JOB, &[job])?;
        if let Some(memory) = &status.memory {
            let memory = (vec![("pipeline", pipeline)], memory);
            write_all(&mut encoder, OF_MEMORY, &[memory])?;
        }
        let partitions: Vec<_> = status
            .partitions
            .iter()
            .map(|(id, partition)| {
                let (source, name) = id.split_once(':').unwrap_or(("", id));
                let labels = vec![
                    ("pipeline", pipeline),
                    ("source", source),
                    ("partition", name),
                ];
                (labels, partition)
            })
            .collect();
        write_all(&mut encoder, OF_PARTITION, &partitions)?;
        let nodes: Vec<_> = status
            .nodes
            .iter()
            .map(|(name, node)| (vec![("pipeline", pipeline), ("node", name)], node))
            .collect();
        write_all(&mut encoder, OF_NODE, &nodes)?;
        let sinks: Vec<_> = status
            .sinks
            .iter()
            .map(|(name, sink)| (vec![("pipeline", pipeline), ("sink", name)], sink))
            .collect();
        write_all(&mut encoder, OF_SINK, &sinks)
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// A label's value in `OpenMetrics` notation; the encoder does not escape it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

fn write_all<T>(
    encoder: &mut DescriptorEncoder,
    metrics: &[Metric<T>],
    things: &[(Labels<'_>, &T)],
) -> fmt::Result {
    for metric in metrics {
        let known: Vec<_> = things
            .iter()
            .filter_map(|(labels, thing)| Some((labels, (metric.value)(thing)?)))
            .collect();
        if known.is_empty() {
            continue;
        }
        let mut family = encoder.encode_descriptor(metric.name, metric.help, None, metric.kind)?;
        for (labels, value) in known {
            let labels: Vec<(&str, String)> = labels
                .iter()
                .map(|(name, value)| (*name, escaped(value)))
                .collect();
            let mut one = family.encode_family(&labels)?;
            match metric.kind {
                MetricType::Counter => one.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                _ => one.encode_gauge(&value)?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn status() -> JobStatus {
        let mut status = JobStatus::starting("clicks", EventTime::from_micros(1_000_000));
        status.state = JobState::Running;
        status.rows_in = 12;
        status.totals.late = 3;
        let partition = PartitionStatus {
            lag: Some(7),
            ..PartitionStatus::default()
        };
        status.partitions.insert("events:topic/0".into(), partition);
        let unknown = PartitionStatus::default();
        status.partitions.insert("events:topic/1".into(), unknown);
        let node = NodeStatus {
            busy: 0.5,
            ..NodeStatus::default()
        };
        status.nodes.insert("minute".into(), node);
        let sink = SinkStatus {
            pending_commits: 2,
            failures: 4,
            ..SinkStatus::default()
        };
        status.sinks.insert("spend".into(), sink);
        status.memory = Some(MemoryStatus {
            used_bytes: 5,
            limit_bytes: 6,
            paused: true,
        });
        status
    }

    #[test]
    fn metrics_are_prometheus_text() {
        let (_sender, receiver) = watch::channel(status());
        let text = Metrics::of(receiver).render().unwrap();
        for line in [
            "# TYPE tagflow_input_rows counter",
            "tagflow_input_rows_total{pipeline=\"clicks\"} 12.0",
            "tagflow_up{pipeline=\"clicks\"} 1.0",
            "tagflow_late_rows_total{pipeline=\"clicks\"} 3.0",
            "tagflow_partition_lag_rows{pipeline=\"clicks\",source=\"events\",partition=\"topic/0\"} 7.0",
            "tagflow_node_busy_ratio{pipeline=\"clicks\",node=\"minute\"} 0.5",
            "tagflow_sink_pending_commits{pipeline=\"clicks\",sink=\"spend\"} 2.0",
            "tagflow_sink_delivery_failures_total{pipeline=\"clicks\",sink=\"spend\"} 4.0",
            "tagflow_memory_bytes{pipeline=\"clicks\"} 5.0",
            "tagflow_memory_limit_bytes{pipeline=\"clicks\"} 6.0",
            "tagflow_memory_paused{pipeline=\"clicks\"} 1.0",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "no `{line}` in\n{text}"
            );
        }
        let unknown = "tagflow_partition_lag_rows{pipeline=\"clicks\",source=\"events\",partition=\"topic/1\"}";
        assert!(!text.contains(unknown), "an unknown lag is no number");
        assert!(!text.contains("commit_seq"), "there was no commit");
    }

    #[test]
    fn regression_labels_are_escaped() {
        let mut status = status();
        let name = "events:in/a\",source=\"other\\\n# EOF";
        status
            .partitions
            .insert(name.into(), PartitionStatus::default());
        let (_sender, receiver) = watch::channel(status);
        let text = Metrics::of(receiver).render().unwrap();
        let line = r#"tagflow_partition_position{pipeline="clicks",source="events",partition="in/a\",source=\"other\\\n# EOF"} 0.0"#;
        assert!(
            text.lines().any(|found| found == line),
            "no `{line}` in\n{text}"
        );
        assert_eq!(text.lines().filter(|line| *line == "# EOF").count(), 1);
    }

    #[test]
    fn each_metric_is_named_once() {
        let names = OF_JOB.iter().map(|metric| metric.name);
        let names = names.chain(OF_PARTITION.iter().map(|metric| metric.name));
        let names = names.chain(OF_MEMORY.iter().map(|metric| metric.name));
        let names: Vec<_> = names
            .chain(OF_NODE.iter().map(|metric| metric.name))
            .collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }
}
