//! One million rows of a thousand campaigns through both stages of a tumbling window: a count, two
//! filtered counts and a sum for each minute and campaign.

#![allow(missing_docs, reason = "`criterion_group!` makes a public function")]

use std::{collections::BTreeSet, hint::black_box, sync::Arc, time::Duration};

use arrow::{
    array::{Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::{
    common::{DFSchema, ToDFSchema},
    functions_aggregate::expr_fn::{count, sum},
    logical_expr::{Expr, ExprFunctionExt},
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

const ROWS: u64 = 1_000_000;
const BATCH_ROWS: u64 = 8_192;
const CAMPAIGNS: u64 = 1_000;
/// Rows of one minute of event time.
const ROWS_A_MINUTE: u64 = 100_000;
const MINUTE_US: u64 = 60_000_000;

fn aggregation() -> Arc<Aggregation> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let input = Arc::new(Schema::new(vec![
        Field::new("ts", utc, false),
        Field::new("campaign", DataType::Utf8, true),
        Field::new("event_type", DataType::Utf8, false),
        Field::new("amount", DataType::Decimal128(18, 2), true),
    ]));
    let schema: DFSchema = Arc::clone(&input).to_dfschema().expect("no name repeats");
    let of_type = |aggregate: Expr, event_type: &str| {
        let filter = col("event_type").eq(lit(event_type));
        aggregate
            .filter(filter)
            .build()
            .expect("a filter is allowed")
    };
    let aggregates = [
        count(lit(1_i64)),
        of_type(count(lit(1_i64)), "impression"),
        of_type(count(lit(1_i64)), "click"),
        of_type(sum(col("amount")), "purchase"),
    ];
    Aggregation::new(AggregationSpec {
        pipeline: "bench".into(),
        query: "campaign_minute".into(),
        input,
        personal: BTreeSet::new(),
        time: 0,
        windows: Windows::Tumble(Period::Fixed(Duration::from_mins(1))),
        emission: Emission::default(),
        keys: vec![Key {
            expr: physical(&col("campaign"), &schema).expect("a column"),
            name: "campaign".into(),
        }],
        aggregates: aggregates
            .iter()
            .map(|aggregate| Aggregate::new(aggregate, &schema).expect("a plain aggregate"))
            .collect(),
        errors: RowErrors::default(),
        personal_results: BTreeSet::new(),
    })
    .expect("a valid window")
}

/// Batches of rows, each with its latest event time.
fn batches(schema: &Arc<Schema>) -> Vec<(RecordBatch, EventTime)> {
    // Weyl's sequence: spread, and the same in every run.
    let spread = |row: u64| row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let time = |row: u64| (row * (MINUTE_US / ROWS_A_MINUTE)) as i64;
    let types = [
        "impression",
        "impression",
        "impression",
        "click",
        "purchase",
    ];
    (0..ROWS)
        .step_by(BATCH_ROWS as usize)
        .map(|first| {
            let rows = first..(first + BATCH_ROWS).min(ROWS);
            let campaigns = rows
                .clone()
                .map(|row| format!("campaign-{:04}", spread(row) % CAMPAIGNS));
            let types = rows
                .clone()
                .map(|row| types[(spread(row + ROWS) % 5) as usize]);
            let amounts = rows.clone().map(|row| i128::from(spread(row) % 10_000));
            let amounts = Decimal128Array::from_iter_values(amounts);
            let times = TimestampMicrosecondArray::from_iter_values(rows.clone().map(time));
            let batch = RecordBatch::try_new(
                Arc::clone(schema),
                vec![
                    Arc::new(times.with_timezone("UTC")),
                    Arc::new(StringArray::from_iter_values(campaigns)),
                    Arc::new(StringArray::from_iter_values(types)),
                    Arc::new(
                        amounts
                            .with_precision_and_scale(18, 2)
                            .expect("18 digits do"),
                    ),
                ],
            );
            let batch = batch.expect("the columns fit the schema");
            (batch, EventTime::from_micros(time(rows.end - 1)))
        })
        .collect()
}

/// Sends everything through one lane, and returns the number of result rows.
fn run(aggregation: &Arc<Aggregation>, batches: &[(RecordBatch, EventTime)]) -> usize {
    let lane = LaneContext {
        node: "campaign_minute".into(),
        lane: 0,
        lanes: 1,
        memory_bytes: None,
    };
    let mut partial = aggregation.partial()(&lane).expect("the spec is valid");
    let mut finalize = aggregation.finalize()(&lane).expect("the spec is valid");
    let partition = Arc::new(PartitionId::new("events", "0"));
    let (mut between, mut out) = (Output::default(), Output::default());
    let mut results = 0;
    let mut exchange = |between: &mut Output, out: &mut Output, watermark| {
        for (port, batch) in between.take() {
            finalize.on_batch(port, batch, out).expect("states merge");
        }
        finalize
            .on_watermark(watermark, out)
            .expect("windows close");
        emit_all(finalize.as_mut(), out).expect("windows close");
        results += out
            .take()
            .iter()
            .map(|(_, rows)| rows.num_rows())
            .sum::<usize>();
    };
    for (rows, watermark) in batches {
        let batch = Batch::of_partition(rows.clone(), Arc::clone(&partition));
        partial
            .on_batch(Port::MAIN, batch, &mut between)
            .expect("rows aggregate");
        partial
            .on_watermark(*watermark, &mut between)
            .expect("states flush");
        exchange(&mut between, &mut out, *watermark);
    }
    partial.on_end(&mut between).expect("states flush");
    exchange(&mut between, &mut out, EventTime::MAX);
    results
}

fn window(criterion: &mut Criterion) {
    let aggregation = aggregation();
    let schema: Vec<Field> = aggregation.straggler_schema().fields()[2..]
        .iter()
        .map(|field| field.as_ref().clone())
        .collect();
    let batches = batches(&Arc::new(Schema::new(schema)));
    let mut group = criterion.benchmark_group("tumble");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    group.bench_function("1M rows, 1000 keys", |bencher| {
        bencher.iter(|| black_box(run(&aggregation, &batches)));
    });
    group.finish();
}

criterion_group!(benches, window);
criterion_main!(benches);
