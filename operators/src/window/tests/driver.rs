//! Runs both stages on some lanes, one call at a time.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::UInt8Type,
};
use tagflow_engine::{
    Batch, EventTime, Port,
    ledger::{Counts, Ledger},
    operator::{self, LaneContext, Operator, Output},
    source::PartitionId,
    state::{KEY_GROUP_COLUMN, KeyHasher, LaneState, Restore, Snapshot, StatePart, lane_of},
};

use super::rows::{PARTITIONS, Row, batch};
use crate::window::Aggregation;

/// Partial lanes ⇄ exchange ⇄ final lanes. Partition p is read on lane p modulo the number of
/// lanes. The watermark of a partition follows its latest row.
pub(super) struct Driver {
    aggregation: Arc<Aggregation>,
    delay_us: i64,
    lanes: Vec<Lane>,
    now: Progress,
    committed: Progress,
    /// The parts of each lane's stages since the last snapshot.
    store: Vec<[Parts; 2]>,
    /// The parts at the last barrier.
    committed_store: Vec<[Parts; 2]>,
    largest_part: usize,
}

type Parts = BTreeMap<String, RecordBatch>;

struct Lane {
    stages: [Box<dyn Operator>; 2],
    outs: [Output; 2],
}

/// The progress that a crash resets to the last commit.
#[derive(Clone)]
struct Progress {
    watermarks: [EventTime; PARTITIONS],
    results: Vec<RecordBatch>,
    late: Vec<RecordBatch>,
    dead_letters: Vec<RecordBatch>,
    ledger: Ledger,
    rows_in: u64,
}

impl Driver {
    pub(super) fn new(aggregation: &Arc<Aggregation>, lanes: usize, delay_us: i64) -> Self {
        let start = Progress {
            watermarks: [EventTime::MIN; PARTITIONS],
            results: Vec::new(),
            late: Vec::new(),
            dead_letters: Vec::new(),
            ledger: Ledger::default(),
            rows_in: 0,
        };
        Self {
            aggregation: Arc::clone(aggregation),
            delay_us,
            lanes: make_lanes(aggregation, lanes),
            now: start.clone(),
            committed: start,
            store: empty_store(lanes),
            committed_store: empty_store(lanes),
            largest_part: 0,
        }
    }

    /// Sets the number of bytes of groups that the final stages turn into output at a time.
    pub(super) fn in_portions(mut self, bytes: usize) -> Self {
        let mut aggregation = self.aggregation.as_ref().clone();
        aggregation.portion_bytes = bytes;
        self.aggregation = Arc::new(aggregation);
        self.lanes = make_lanes(&self.aggregation, self.lanes.len());
        self
    }

    /// Sends rows in the order of their arrival, one batch for each partition.
    pub(super) fn send(&mut self, rows: &[Row]) {
        for partition in 0..PARTITIONS {
            let rows: Vec<&Row> = rows
                .iter()
                .filter(|row| row.partition == partition)
                .collect();
            let Some(latest) = rows.iter().map(|row| row.ts).max() else {
                continue;
            };
            self.now.rows_in += rows.len() as u64;
            let id = Arc::new(PartitionId::new("s", partition.to_string()));
            let lane = partition % self.lanes.len();
            self.call(lane, 0, |stage, out| {
                stage.on_batch(Port::MAIN, Batch::of_partition(batch(rows), id), out)
            });
            let watermark = EventTime::from_micros(latest - self.delay_us);
            let known = &mut self.now.watermarks[partition];
            *known = watermark.max(*known);
            self.advance();
        }
    }

    /// The final stages' watermark.
    pub(super) fn watermark(&self) -> EventTime {
        self.now.watermarks.into_iter().min().unwrap()
    }

    pub(super) fn flush(&mut self) {
        for stage in [0, 1] {
            for lane in 0..self.lanes.len() {
                self.call(lane, stage, |stage, out| stage.flush(out));
            }
        }
    }

    pub(super) fn barrier(&mut self) {
        self.flush();
        for (lane, stored) in self.lanes.iter_mut().zip(&mut self.store) {
            for (stage, parts) in lane.stages.iter_mut().zip(stored) {
                apply(parts, stage.snapshot().unwrap());
            }
        }
        self.committed = self.now.clone();
        self.committed_store = self.store.clone();
    }

    /// Returns to the last barrier, with new operators on `lanes` lanes.
    pub(super) fn restart(&mut self, lanes: usize) {
        let old = &self.committed_store;
        let same = lanes == old.len();
        self.lanes = make_lanes(&self.aggregation, lanes);
        self.now = self.committed.clone();
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            for (stage, operator) in lane.stages.iter_mut().enumerate() {
                let parts = if same {
                    parts_of(&old[i][stage], |_| true)
                } else {
                    let of_lane = |group| lane_of(group, lanes) == i;
                    let olds = old.iter();
                    olds.flat_map(|old| parts_of(&old[stage], of_lane))
                        .collect()
                };
                let lanes = if same {
                    Restore::InPlace
                } else {
                    Restore::Rescaled
                };
                let state = LaneState { parts, lanes };
                state.restore(operator.as_mut()).unwrap();
            }
        }
        // As the runtime does: the final stages may have been ahead.
        let finals = self.lanes.iter().filter_map(|lane| lane.stages.last());
        let closed = finals.map(|stage| stage.closed_through()).max();
        for lane in &mut self.lanes {
            lane.stages[0].set_lateness_bound(closed.unwrap_or(EventTime::MIN));
        }
        self.store = if same {
            old.clone()
        } else {
            empty_store(lanes)
        };
    }

    /// As [`Driver::restart`], with the operators of another plan.
    pub(super) fn restart_as(&mut self, aggregation: &Arc<Aggregation>, lanes: usize) {
        self.aggregation = Arc::clone(aggregation);
        self.restart(lanes);
    }

    pub(super) fn end(&mut self) {
        for stage in [0, 1] {
            for lane in 0..self.lanes.len() {
                self.call(lane, stage, |stage, out| stage.on_end(out));
            }
        }
    }

    /// The bytes of the largest part that a stage has emitted after a call.
    pub(super) fn largest_part(&self) -> usize {
        self.largest_part
    }

    pub(super) fn results(&self) -> &[RecordBatch] {
        &self.now.results
    }

    pub(super) fn late(&self) -> &[RecordBatch] {
        &self.now.late
    }

    pub(super) fn dead_letters(&self) -> &[RecordBatch] {
        &self.now.dead_letters
    }

    /// The keys of the final stage's stored parts, by lane.
    pub(super) fn stored(&self, lane: usize) -> Vec<&str> {
        self.store[lane][1].keys().map(String::as_str).collect()
    }

    /// The final stage's stored parts, by lane.
    pub(super) fn stored_parts(&self, lane: usize) -> Vec<StatePart> {
        parts_of(&self.store[lane][1], |_| true)
    }

    /// Whether a final stage holds rows that are not emitted.
    pub(super) fn holds_rows(&self) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| lane.stages[1].holds_rows())
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.lanes
            .iter()
            .map(|lane| lane.stages[1].state_bytes())
            .sum()
    }

    /// The sum over partitions.
    pub(super) fn counts(&self) -> Counts {
        let mut sum = Counts {
            rows_in: self.now.rows_in,
            ..Counts::default()
        };
        for (_, counts) in self.now.ledger.iter() {
            sum += *counts;
        }
        sum
    }

    fn advance(&mut self) {
        let lanes = self.lanes.len();
        for lane in 0..lanes {
            let partitions = (lane..PARTITIONS).step_by(lanes);
            let watermarks = partitions.map(|partition| self.now.watermarks[partition]);
            let watermark = watermarks.min().unwrap_or(EventTime::MAX);
            self.call(lane, 0, |stage, out| stage.on_watermark(watermark, out));
        }
        let watermark = self.watermark();
        for lane in 0..lanes {
            self.call(lane, 1, |stage, out| stage.on_watermark(watermark, out));
        }
    }

    fn call(
        &mut self,
        lane: usize,
        stage: usize,
        call: impl FnOnce(&mut dyn Operator, &mut Output) -> tagflow_engine::Result<()>,
    ) {
        let Lane { stages, outs } = &mut self.lanes[lane];
        call(stages[stage].as_mut(), &mut outs[stage]).unwrap();
        let mut emitted = outs[stage].take();
        loop {
            let progress = stages[stage].poll_output(&mut outs[stage]).unwrap();
            let part = outs[stage].take();
            let bytes = part
                .iter()
                .map(|(_, it)| it.records.get_array_memory_size());
            self.largest_part = self.largest_part.max(bytes.sum());
            emitted.extend(part);
            if progress == operator::Progress::Done {
                break;
            }
        }
        self.now.ledger.merge(&outs[stage].ledger().take());
        for (port, batch) in emitted {
            match (stage, port) {
                (0, _) => self.exchange(port, &batch),
                (_, Port::MAIN) => self.now.results.push(batch.records),
                (_, Port::DEAD_LETTERS) => self.now.dead_letters.push(batch.records),
                _ => self.now.late.push(batch.records),
            }
        }
    }

    fn exchange(&mut self, port: Port, batch: &Batch) {
        let schema = match port {
            Port::MAIN => self.aggregation.partial_schema(),
            _ => self.aggregation.straggler_schema(),
        };
        assert_eq!(batch.records.schema(), schema);
        let columns = self.aggregation.hash_columns();
        let types = columns
            .iter()
            .map(|column| schema.field(*column).data_type().clone());
        let keys: Vec<_> = columns
            .iter()
            .map(|column| Arc::clone(batch.records.column(*column)))
            .collect();
        let groups = KeyHasher::new(types).unwrap().key_groups(&keys).unwrap();
        for lane in 0..self.lanes.len() {
            let owners = groups.iter().map(|group| lane_of(*group, self.lanes.len()));
            let mine: BooleanArray = owners.map(|owner| Some(owner == lane)).collect();
            let rows = filter_record_batch(&batch.records, &mine).unwrap();
            if rows.num_rows() > 0 {
                let batch = batch.with_records(rows);
                self.call(lane, 1, |stage, out| stage.on_batch(port, batch, out));
            }
        }
    }
}

fn empty_store(lanes: usize) -> Vec<[Parts; 2]> {
    (0..lanes).map(|_| Default::default()).collect()
}

fn make_lanes(aggregation: &Arc<Aggregation>, lanes: usize) -> Vec<Lane> {
    (0..lanes)
        .map(|lane| {
            let context = LaneContext {
                node: "q".into(),
                lane,
                lanes,
                memory_bytes: None,
            };
            let stages = [aggregation.partial(), aggregation.finalize()];
            Lane {
                stages: stages.map(|factory| factory(&context).unwrap()),
                outs: Default::default(),
            }
        })
        .collect()
}

/// Checks the contract of a snapshot.
fn apply(parts: &mut Parts, snapshot: Snapshot) {
    for key in snapshot.removed {
        assert!(parts.remove(&key).is_some(), "`{key}` was not there");
    }
    for part in snapshot.put {
        let part = part.load().unwrap();
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c);
        assert!(part.key.chars().all(legal), "{}", part.key);
        assert!(part.rows.num_rows() > 0);
        let last = parts.insert(part.key.clone(), part.rows);
        assert!(last.is_none(), "`{}` was there", part.key);
    }
}

fn parts_of(parts: &Parts, of_lane: impl Fn(u8) -> bool) -> Vec<StatePart> {
    let parts = parts.iter().map(|(key, rows)| {
        let groups = rows.column_by_name(KEY_GROUP_COLUMN).unwrap();
        let groups = groups.as_primitive::<UInt8Type>();
        let mine = groups.iter().map(|group| Some(group.is_none_or(&of_lane)));
        let rows = filter_record_batch(rows, &mine.collect::<BooleanArray>()).unwrap();
        let key = key.clone();
        StatePart { key, rows }
    });
    // As the runtime does.
    parts.filter(|part| part.rows.num_rows() > 0).collect()
}
