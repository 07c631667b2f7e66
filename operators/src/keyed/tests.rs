//! Late rows and snapshots of the ordered steps. Tests of whole pipelines show that the
//! steps return the same rows as in batch.

use std::collections::BTreeSet;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::{
    array::{
        ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    compute::filter_record_batch,
    datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, UInt8Type},
};
use tagflow_engine::{
    Batch, EventTime, Port,
    graph::OFFSET_COLUMN,
    ledger::Counts,
    operator::{LaneContext, Operator, Output, emit_all},
    source::PartitionId,
    state::{KEY_GROUP_COLUMN, LaneState, Restore, StatePart, lane_of},
};

use super::{Ordered, OrderedSpec, Rule};

/// Event time and key. The place in the batch is the offset.
type Row = (i64, Option<&'static str>);

/// One lane of a step, with the store of its state.
struct Lane {
    operator: Box<dyn Operator>,
    out: Output,
    store: BTreeMap<String, RecordBatch>,
}

fn dedupe() -> Rule {
    Rule::Dedupe {
        within: Duration::from_micros(100),
    }
}

fn sessions() -> Rule {
    Rule::Sessions {
        gap: Duration::from_micros(100),
        column: "session_id".into(),
    }
}

fn rate() -> Rule {
    Rule::Rate {
        over: Duration::from_micros(100),
        more_than: 2,
        flag: 2,
    }
}

fn batch(rows: &[Row]) -> Batch {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Schema::new(vec![
        Field::new("ts", utc, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("is_bot", DataType::Boolean, false),
        Field::new(OFFSET_COLUMN, DataType::Int64, false),
    ]);
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.0));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()),
        Arc::new(BooleanArray::from(vec![false; rows.len()])),
        Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
    ];
    let records = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    Batch::of_partition(records, Arc::new(PartitionId::new("s", "p")))
}

impl Lane {
    fn new(rule: Rule) -> Self {
        let ordered = Ordered::new(OrderedSpec {
            pipeline: "test".into(),
            step: "ads".into(),
            input: batch(&[]).records.schema(),
            time: 0,
            personal: BTreeSet::new(),
            key: vec![1],
            rule,
        });
        let context = LaneContext {
            node: "ads".into(),
            lane: 0,
            lanes: 1,
            memory_bytes: None,
        };
        Self {
            operator: ordered.unwrap().factory()(&context).unwrap(),
            out: Output::default(),
            store: BTreeMap::new(),
        }
    }

    fn send(&mut self, rows: &[Row]) {
        let sent = self
            .operator
            .on_batch(Port::MAIN, batch(rows), &mut self.out);
        sent.unwrap();
    }

    fn watermark(&mut self, time: i64) {
        let time = EventTime::from_micros(time);
        self.operator.on_watermark(time, &mut self.out).unwrap();
        emit_all(self.operator.as_mut(), &mut self.out).unwrap();
    }

    fn snapshot(&mut self) {
        let snapshot = self.operator.snapshot().unwrap();
        for key in snapshot.removed {
            assert!(self.store.remove(&key).is_some(), "`{key}` was not there");
        }
        for part in snapshot.put {
            let part = part.load().unwrap();
            assert!(part.rows.num_rows() > 0);
            let before = self.store.insert(part.key.clone(), part.rows);
            assert!(before.is_none(), "`{}` was there", part.key);
        }
    }

    /// New operators on `lanes` lanes, restored from the parts that this lane stored.
    fn split(&self, rule: &Rule, lanes: usize) -> Vec<Self> {
        let of_lane = |lane: usize| {
            let parts = self.store.iter().map(|(key, rows)| {
                let groups = rows.column_by_name(KEY_GROUP_COLUMN).unwrap();
                let groups = groups.as_primitive::<UInt8Type>().iter();
                let mine = groups.map(|it| Some(it.is_none_or(|it| lane_of(it, lanes) == lane)));
                let rows = filter_record_batch(rows, &mine.collect::<BooleanArray>()).unwrap();
                let key = key.clone();
                StatePart { key, rows }
            });
            let mut new = Self::new(rule.clone());
            let state = LaneState {
                parts: parts.filter(|part| part.rows.num_rows() > 0).collect(),
                lanes: Restore::Rescaled,
            };
            new.operator.restore(state).unwrap();
            new
        };
        (0..lanes).map(of_lane).collect()
    }

    /// The event times of the rows emitted since the last call, and of the late rows.
    fn take(&mut self) -> (Vec<i64>, Vec<RecordBatch>) {
        let (main, aside): (Vec<_>, Vec<_>) = self
            .out
            .take()
            .into_iter()
            .partition(|(port, _)| *port == Port::MAIN);
        let times = main.iter().flat_map(|(_, batch)| {
            let times = batch.records.column(0);
            let times = times.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
            times.values().to_vec()
        });
        let mut times: Vec<i64> = times.collect();
        times.sort_unstable();
        let late = aside.into_iter().map(|(_, batch)| batch.records);
        (times, late.collect())
    }

    fn counts(&mut self) -> Counts {
        self.out.ledger().get(&PartitionId::new("s", "p"))
    }
}

const A: Option<&str> = Some("a");

#[test]
fn a_row_waits_for_the_watermark_and_is_accounted_for() {
    let mut lane = Lane::new(dedupe());
    lane.send(&[(30, A), (10, A), (20, Some("b")), (5, None)]);
    assert_eq!(lane.take().0, [5], "a row without a key waits for nobody");
    assert_eq!(lane.counts().held, 3);
    lane.watermark(20);
    assert_eq!(lane.take().0, [10]);
    lane.watermark(31);
    assert_eq!(lane.take().0, [20]);
    let counts = lane.counts();
    assert_eq!(
        (counts.held, counts.released, counts.duplicate, counts.late),
        (3, 3, 1, 0)
    );
}

#[test]
fn the_end_releases_all() {
    let mut lane = Lane::new(dedupe());
    lane.send(&[(i64::MAX - 1, A), (10, A)]);
    assert!(lane.operator.holds_rows());
    lane.operator.on_end(&mut lane.out).unwrap();
    emit_all(lane.operator.as_mut(), &mut lane.out).unwrap();
    assert_eq!(lane.take().0, [10, i64::MAX - 1]);
    assert!(!lane.operator.holds_rows());
}

#[test]
fn dedupe_judges_rows_behind_the_watermark_as_far_as_it_remembers() {
    let mut lane = Lane::new(dedupe());
    lane.send(&[(500, A)]);
    lane.watermark(550);
    lane.take();
    // A duplicate; a row from before the first; an unknown one; the earliest row that can
    // still be judged; the latest that cannot.
    lane.send(&[(500, A), (451, A), (451, Some("b")), (450, Some("c"))]);
    lane.send(&[(449, Some("d"))]);
    let (passed, late) = lane.take();
    assert_eq!(passed, [450, 451]);
    let counts = lane.counts();
    assert_eq!((counts.duplicate, counts.late), (2, 1));
    let [late] = &late[..] else { panic!() };
    assert_eq!(late.schema(), tagflow_schemas::late::schema());
    let text = |name: &str| late.column_by_name(name).unwrap().as_string::<i32>();
    assert_eq!(text("query").value(0), "ads");
    assert_eq!(text("reason").value(0), "behind_watermark");
    assert_eq!(
        text("row").value(0),
        r#"{"ts":"1970-01-01T00:00:00.000449Z","key":"d","is_bot":false}"#
    );
    let delay = late.column_by_name("delay_us").unwrap();
    assert_eq!(delay.as_primitive::<Int64Type>().value(0), 1);
    // A row that passed late is remembered from then on.
    lane.send(&[(450, Some("c"))]);
    assert_eq!(lane.counts().duplicate, 3);
}

#[test]
fn sessions_set_late_rows_aside_and_rates_let_them_pass() {
    let mut lane = Lane::new(sessions());
    lane.watermark(100);
    lane.send(&[(99, A), (100, A), (50, None)]);
    assert_eq!(lane.counts().late, 1);
    assert_eq!(lane.take().0, [50]);

    let mut lane = Lane::new(rate());
    lane.send(&[(10, A), (20, A), (30, A)]);
    lane.watermark(100);
    lane.out.take();
    lane.send(&[(31, A), (29, A)]);
    let (_, batch) = &lane.out.take()[0];
    let flags = batch.records.column(2).as_boolean();
    // Both remembered rows are from before the first row here.
    assert_eq!(flags, &BooleanArray::from(vec![true, false]));
    assert_eq!(lane.counts().late, 0);
}

#[test]
fn a_session_has_the_same_name_for_ever() {
    let mut lane = Lane::new(sessions());
    lane.send(&[(0, A), (100, A), (201, A)]);
    lane.watermark(300);
    let (_, batch) = &lane.out.take()[0];
    let names = batch.records.column(3).as_string::<i32>();
    assert_eq!(names.value(0), "abe0269be014f6bdc71b3ce1118e7354");
    assert_eq!(names.value(0), names.value(1));
    assert_ne!(names.value(0), names.value(2));
}

#[test]
fn a_snapshot_writes_only_what_changed() {
    for (rule, keys) in [(dedupe(), 3), (sessions(), 3), (rate(), 3)] {
        let mut lane = Lane::new(rule);
        lane.send(&[(10, A), (1_000, A)]);
        lane.watermark(20);
        lane.snapshot();
        let stored: Vec<String> = lane.store.keys().cloned().collect();
        assert_eq!(stored.len(), keys, "{stored:?}");
        lane.snapshot();
        assert!(stored.iter().eq(lane.store.keys()));
        // Buffered rows stay stored while they are buffered, and nothing remains at the
        // end.
        lane.watermark(999);
        lane.snapshot();
        assert!(lane.store.contains_key("held-1"), "{:?}", lane.store.keys());
        lane.watermark(5_000);
        lane.snapshot();
        let left: Vec<&str> = lane.store.keys().map(String::as_str).collect();
        assert_eq!(left, ["watermark"]);
    }
}

#[test]
fn a_row_that_has_gone_on_is_not_restored() {
    let rule = dedupe();
    let mut lane = Lane::new(rule.clone());
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let rows: Vec<Row> = (0..40)
        .map(|at| (at, Some(keys[at as usize % 8])))
        .collect();
    lane.send(&rows);
    lane.snapshot();
    lane.watermark(5);
    assert_eq!(lane.take().0, [0, 1, 2, 3, 4]);
    lane.snapshot();
    let mut times = Vec::new();
    for mut lane in lane.split(&rule, 3) {
        lane.watermark(100);
        times.extend(lane.take().0);
    }
    times.sort_unstable();
    assert_eq!(times, [5, 6, 7], "the others are copies");
}
