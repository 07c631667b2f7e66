//! W5, a day by the minute: 26 hours of rows of 10,000 keys through both stages of two windows. One
//! has 24 hours and begins every minute; the other has a minute. Prints the cost of a row and of an
//! emission, and the size of the state.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use datafusion::{
    common::{DFSchema, ToDFSchema},
    functions_aggregate::expr_fn::{count, sum},
    prelude::{col, lit},
};
use tagflow_engine::{
    Batch, EventTime, Port,
    operator::{LaneContext, Output, emit_all},
    source::PartitionId,
};
use tagflow_operators::{
    expr::physical,
    row_errors::RowErrors,
    window::{Aggregate, Aggregation, AggregationSpec, Emission, Key, Period, Windows},
};

const KEYS: u64 = 10_000;
const ROWS_A_MINUTE: u64 = 10_000;
const MINUTES: u64 = 26 * 60;
/// From here on every window is full.
const FULL: u64 = 24 * 60;
const MINUTE_US: i64 = 60_000_000;

fn main() {
    let minute = Duration::from_mins(1);
    let tumble = run("tumble", Windows::Tumble(Period::Fixed(minute)));
    let size = Duration::from_hours(24);
    let slide = minute;
    let hop = run("hop", Windows::Hop { slide, size });
    println!("a row of hop / tumble: {:.2}", hop / tumble);
}

/// The cost of a row in nanoseconds.
fn run(name: &str, windows: Windows) -> f64 {
    let aggregation = aggregation(windows);
    let lane = LaneContext {
        node: "day_by_minute".into(),
        lane: 0,
        lanes: 1,
        memory_bytes: None,
    };
    let mut partial = aggregation.partial()(&lane).expect("the spec is valid");
    let mut finalize = aggregation.finalize()(&lane).expect("the spec is valid");
    let partition = Arc::new(PartitionId::new("events", "0"));
    let (mut between, mut out) = (Output::default(), Output::default());
    let (mut rows, mut emissions, mut emitted) = (Duration::ZERO, Duration::ZERO, 0);
    for minute in 0..MINUTES {
        let batch = Batch::of_partition(batch(minute), Arc::clone(&partition));
        let watermark = EventTime::from_micros((minute as i64 + 1) * MINUTE_US);
        let start = Instant::now();
        partial
            .on_batch(Port::MAIN, batch, &mut between)
            .expect("rows aggregate");
        partial
            .on_watermark(watermark, &mut between)
            .expect("states flush");
        for (port, batch) in between.take() {
            finalize
                .on_batch(port, batch, &mut out)
                .expect("states merge");
        }
        rows += start.elapsed();
        let start = Instant::now();
        finalize
            .on_watermark(watermark, &mut out)
            .expect("windows close");
        emit_all(finalize.as_mut(), &mut out).expect("windows close");
        let results = out.take();
        if minute >= FULL {
            emissions += start.elapsed();
            emitted += results
                .iter()
                .map(|(_, rows)| rows.num_rows())
                .sum::<usize>();
        }
    }
    let full = MINUTES - FULL;
    let row = rows.as_nanos() as f64 / (MINUTES * ROWS_A_MINUTE) as f64;
    println!("{name}\nrows: {row:.0} ns each");
    println!(
        "emissions: {:.1} ms each, {} rows each",
        emissions.as_secs_f64() * 1e3 / full as f64,
        emitted as u64 / full
    );
    println!(
        "state: {:.0} MiB, {:.0} bytes a pane and key",
        finalize.state_bytes() as f64 / f64::from(1 << 20),
        finalize.state_bytes() as f64 / (FULL * ROWS_A_MINUTE) as f64
    );
    row
}

fn aggregation(windows: Windows) -> Arc<Aggregation> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let input = Arc::new(Schema::new(vec![
        Field::new("ts", utc, false),
        Field::new("user", DataType::Int64, false),
        Field::new("amount", DataType::Int64, false),
    ]));
    let schema: DFSchema = Arc::clone(&input).to_dfschema().expect("no name repeats");
    let aggregates = [count(lit(1_i64)), sum(col("amount"))];
    let aggregates = aggregates.iter();
    Aggregation::new(AggregationSpec {
        pipeline: "bench".into(),
        query: "day_by_minute".into(),
        input,
        personal: BTreeSet::new(),
        time: 0,
        windows,
        emission: Emission::default(),
        keys: vec![Key {
            expr: physical(&col("user"), &schema).expect("a column"),
            name: "user".into(),
        }],
        aggregates: aggregates
            .map(|aggregate| Aggregate::new(aggregate, &schema).expect("a plain aggregate"))
            .collect(),
        errors: RowErrors::default(),
        personal_results: BTreeSet::new(),
    })
    .expect("a valid window")
}

/// The rows of a minute.
fn batch(minute: u64) -> RecordBatch {
    // Weyl's sequence: spread, and the same in every run.
    let spread = |row: u64| row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let rows = minute * ROWS_A_MINUTE..(minute + 1) * ROWS_A_MINUTE;
    let start = minute as i64 * MINUTE_US;
    let times = rows
        .clone()
        .map(|row| start + (row % 60) as i64 * 1_000_000);
    let users = rows.clone().map(|row| (spread(row) % KEYS) as i64);
    let amounts = rows.map(|row| (spread(row + KEYS) % 100) as i64);
    let columns: [(&str, ArrayRef); 3] = [
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
        ),
        ("user", Arc::new(Int64Array::from_iter_values(users))),
        ("amount", Arc::new(Int64Array::from_iter_values(amounts))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}
