//! Operators on some lanes, one call at a time, with the store of their state.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray},
    compute::filter_record_batch,
    datatypes::{TimestampMicrosecondType, UInt8Type},
};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    ledger::{Counts, Ledger},
    operator::{self, LaneContext, Operator, Output},
    source::PartitionId,
    state::{KEY_GROUP_COLUMN, KeyHasher, LaneState, Restore, Snapshot, StatePart, lane_of},
};

use super::event::{Event, PARTITIONS, batch};
use crate::tags::Tags;

/// Lanes that receive rows by key group.
pub(super) struct Driver {
    pub(super) tags: Arc<Tags>,
    lanes: Vec<Lane>,
    /// The operators that count keys, if there are any.
    population: Option<Box<Driver>>,
    has_ended: bool,
    now: Progress,
    committed: Progress,
    /// The last snapshot of each lane, until it is written.
    writing: Vec<Snapshot>,
    /// The parts of each lane, at the last snapshot that was written.
    store: Vec<Parts>,
    /// The rows of the last written snapshot.
    pub(super) put_rows: usize,
    /// The bytes of the last written snapshot.
    pub(super) put_bytes: usize,
}

type Parts = BTreeMap<String, RecordBatch>;

struct Lane {
    operator: Box<dyn Operator>,
    out: Output,
}

/// The progress that a crash resets to the last commit.
#[derive(Clone)]
struct Progress {
    watermark: i64,
    /// The time of the last event.
    last: i64,
    outputs: BTreeMap<Port, Vec<RecordBatch>>,
    ledger: Ledger,
    rows_in: u64,
}

impl Driver {
    pub(super) fn new(tags: &Arc<Tags>, lanes: usize) -> Self {
        let start = Progress {
            watermark: i64::MIN,
            last: i64::MIN,
            outputs: BTreeMap::new(),
            ledger: Ledger::default(),
            rows_in: 0,
        };
        Self {
            tags: Arc::clone(tags),
            lanes: make_lanes(tags, lanes),
            population: population(tags).map(|tags| Box::new(Self::new(&tags, lanes))),
            has_ended: false,
            now: start.clone(),
            committed: start,
            writing: Vec::new(),
            store: vec![Parts::new(); lanes],
            put_rows: 0,
            put_bytes: 0,
        }
    }

    /// Sends events in the order of their arrival, one batch for each partition.
    pub(super) fn send(&mut self, events: &[Event]) {
        for partition in 0..PARTITIONS {
            let events = events.iter().filter(|it| it.partition == partition);
            let events: Vec<&Event> = events.collect();
            if !events.is_empty() {
                self.send_batch(partition, &batch(&events));
            }
        }
    }

    /// Sends rows of a partition.
    pub(super) fn send_batch(&mut self, partition: usize, rows: &RecordBatch) {
        if let Some(population) = &mut self.population {
            population.send_batch(partition, rows);
        }
        self.now.rows_in += rows.num_rows() as u64;
        let times = rows.column(self.tags.spec.time);
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let last = times.values().iter().max().copied();
        self.now.last = self.now.last.max(last.unwrap_or(i64::MIN));
        let id = Arc::new(PartitionId::new("s", partition.to_string()));
        let keys = Arc::clone(rows.column(self.tags.spec.key));
        let hasher = KeyHasher::new([keys.data_type().clone()]).unwrap();
        let groups = hasher.key_groups(&[keys]).unwrap();
        for lane in 0..self.lanes.len() {
            let owners = groups.iter().map(|group| lane_of(*group, self.lanes.len()));
            let mine: BooleanArray = owners.map(|owner| Some(owner == lane)).collect();
            let rows = filter_record_batch(rows, &mine).unwrap();
            if rows.num_rows() > 0 {
                let batch = Batch::of_partition(rows, Arc::clone(&id));
                self.call(lane, |operator, out| {
                    operator.on_batch(Port::MAIN, batch, out)
                });
            }
        }
    }

    pub(super) fn watermark(&mut self, to: i64) {
        if to > self.now.watermark {
            self.now.watermark = to;
            if let Some(population) = &mut self.population {
                population.watermark(to);
                let counts = population.now.outputs.remove(&Tags::PROFILE);
                for counts in counts.into_iter().flatten() {
                    let batch = Batch::derived(counts);
                    self.each(|operator, out| {
                        operator.on_batch(Tags::POPULATION, batch.clone(), out)
                    });
                }
            }
            self.each(|operator, out| {
                operator.on_watermark(EventTime::from_micros(to), out)?;
                while operator.poll_output(out)? == operator::Progress::More {}
                Ok(())
            });
        }
    }

    /// How far all lanes agree to have come: at the end, past the last event.
    pub(super) fn agreed(&self) -> i64 {
        let end = if self.has_ended {
            self.now.last.saturating_add(1)
        } else {
            i64::MIN
        };
        self.now.watermark.max(end)
    }

    /// Whether the next barrier emits profiles, with periods of `every`.
    pub(super) fn is_newest_due(&self, every: i64) -> bool {
        let place = |watermark: i64| (watermark - 1).div_euclid(every);
        let (before, now) = (self.committed.watermark, self.now.watermark);
        self.has_ended || now > before && (before == i64::MIN || place(now) > place(before))
    }

    pub(super) fn flush(&mut self) {
        if let Some(population) = &mut self.population {
            population.flush();
        }
        self.each(|operator, out| operator.flush(out));
    }

    pub(super) fn end(&mut self) {
        self.has_ended = true;
        if let Some(population) = &mut self.population {
            population.end();
        }
        self.each(|operator, out| operator.on_end(out));
    }

    /// Ends an epoch. Snapshots of lanes are written when the next epoch ends, or before a restart:
    /// rows continue meanwhile.
    pub(super) fn barrier(&mut self) {
        self.write();
        if let Some(population) = &mut self.population {
            population.barrier();
        }
        let agreed = Some(self.agreed()).filter(|it| *it > i64::MIN);
        self.each(|operator, out| {
            operator.on_barrier(agreed.map(EventTime::from_micros), out)?;
            while operator.poll_output(out)? == operator::Progress::More {}
            Ok(())
        });
        let lanes = self.lanes.iter_mut();
        let snapshots = lanes.map(|lane| lane.operator.snapshot().unwrap());
        self.writing = snapshots.collect();
        self.committed = self.now.clone();
    }

    /// Writes the snapshots of the lanes.
    pub(super) fn write(&mut self) {
        if self.writing.is_empty() {
            return;
        }
        (self.put_rows, self.put_bytes) = (0, 0);
        let snapshots = std::mem::take(&mut self.writing);
        if self.store.len() != snapshots.len() {
            // These lanes have stored the parts of other lanes again.
            self.store = vec![Parts::new(); snapshots.len()];
        }
        for (snapshot, parts) in snapshots.into_iter().zip(&mut self.store) {
            for part in apply(parts, snapshot) {
                self.put_rows += part.num_rows();
                self.put_bytes += part.get_array_memory_size();
            }
        }
    }

    /// Returns to the last barrier, with new operators on `lanes` lanes.
    pub(super) fn restart(&mut self, lanes: usize) {
        let tags = Arc::clone(&self.tags);
        self.restart_as(&tags, lanes);
    }

    /// Returns to the last barrier, with other tags.
    pub(super) fn restart_as(&mut self, tags: &Arc<Tags>, lanes: usize) {
        self.tags = Arc::clone(tags);
        match (population(tags), &mut self.population) {
            (Some(tags), Some(population)) => population.restart_as(&tags, lanes),
            (tags, population) => {
                *population = tags.map(|tags| Box::new(Self::new(&tags, lanes)));
            }
        }
        self.write();
        let old = &self.store;
        let is_same = lanes == old.len();
        self.lanes = make_lanes(tags, lanes);
        self.now = self.committed.clone();
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            let parts = if is_same {
                parts_of(&old[place], |_| true)
            } else {
                let of_lane = |group| lane_of(group, lanes) == place;
                old.iter().flat_map(|old| parts_of(old, of_lane)).collect()
            };
            let lanes = if is_same {
                Restore::InPlace
            } else {
                Restore::Rescaled
            };
            if !parts.is_empty() {
                let state = LaneState { parts, lanes };
                state.restore(lane.operator.as_mut()).unwrap();
            }
        }
    }

    /// Replaces a text in the stored layouts of keys.
    pub(super) fn edit_layouts(&mut self, from: &str, to: &str) {
        self.write();
        for part in self
            .store
            .iter_mut()
            .filter_map(|parts| parts.get_mut("layout"))
        {
            let texts = part.column(0).as_string::<i32>();
            assert!(texts.value(0).contains(from), "{}", texts.value(0));
            let texts = StringArray::from(vec![texts.value(0).replace(from, to)]);
            let columns = vec![Arc::new(texts) as ArrayRef, Arc::clone(part.column(1))];
            *part = RecordBatch::try_new(part.schema(), columns).unwrap();
        }
    }

    /// The stored layouts of keys.
    pub(super) fn layouts(&mut self) -> Vec<StatePart> {
        let mut parts = self.stored();
        parts.retain(|part| part.key == "layout");
        parts
    }

    /// The stored parts of all lanes.
    pub(super) fn stored(&mut self) -> Vec<StatePart> {
        self.write();
        let parts = self.store.iter();
        parts.flat_map(|parts| parts_of(parts, |_| true)).collect()
    }

    /// The batches of `port`.
    pub(super) fn output(&self, port: Port) -> &[RecordBatch] {
        self.now.outputs.get(&port).map_or(&[], Vec::as_slice)
    }

    /// Rows in the store.
    pub(super) fn stored_rows(&mut self) -> usize {
        self.write();
        let parts = self.store.iter().flat_map(Parts::values);
        parts.map(RecordBatch::num_rows).sum()
    }

    /// Discards the output.
    pub(super) fn clear_outputs(&mut self) {
        self.now.outputs.clear();
    }

    /// The number of rows of `port`.
    pub(super) fn rows(&self, port: Port) -> usize {
        self.output(port).iter().map(RecordBatch::num_rows).sum()
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

    fn each(&mut self, mut call: impl FnMut(&mut dyn Operator, &mut Output) -> Result<()>) {
        for lane in 0..self.lanes.len() {
            self.call(lane, &mut call);
        }
    }

    fn call(
        &mut self,
        lane: usize,
        call: impl FnOnce(&mut dyn Operator, &mut Output) -> Result<()>,
    ) {
        let Lane { operator, out } = &mut self.lanes[lane];
        call(operator.as_mut(), out).unwrap();
        self.now.ledger.merge(&out.ledger().take());
        for (port, batch) in out.take() {
            let outputs = self.now.outputs.entry(port).or_default();
            outputs.push(batch.records);
        }
    }
}

fn population(tags: &Tags) -> Option<Arc<Tags>> {
    tags.population().map(|spec| Tags::new(spec).unwrap())
}

fn make_lanes(tags: &Arc<Tags>, lanes: usize) -> Vec<Lane> {
    let lane = |lane| {
        let context = LaneContext {
            node: "tags".into(),
            lane,
            lanes,
            memory_bytes: None,
        };
        Lane {
            operator: tags.factory()(&context).unwrap(),
            out: Output::default(),
        }
    };
    (0..lanes).map(lane).collect()
}

/// Checks the contract of a snapshot, and returns its rows.
fn apply(parts: &mut Parts, snapshot: Snapshot) -> Vec<RecordBatch> {
    let mut put = Vec::new();
    for key in snapshot.removed {
        assert!(parts.remove(&key).is_some(), "`{key}` was not there");
    }
    for part in snapshot.put {
        let part = part.load().unwrap();
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c);
        assert!(part.key.chars().all(legal), "{}", part.key);
        assert!(part.rows.num_rows() > 0);
        put.push(part.rows.clone());
        let last = parts.insert(part.key.clone(), part.rows);
        assert!(last.is_none(), "`{}` was there", part.key);
    }
    put
}

fn parts_of(parts: &Parts, of_lane: impl Fn(u8) -> bool) -> Vec<StatePart> {
    let parts = parts.iter().map(|(key, rows)| {
        let groups = rows.column_by_name(KEY_GROUP_COLUMN).unwrap();
        let groups = groups.as_primitive::<UInt8Type>();
        let mine = groups.iter().map(|group| Some(group.is_none_or(&of_lane)));
        let rows = filter_record_batch(rows, &mine.collect::<BooleanArray>()).unwrap();
        StatePart {
            key: key.clone(),
            rows,
        }
    });
    parts.filter(|part| part.rows.num_rows() > 0).collect()
}
