//! W2 on one lane: events of many users by Zipf's law over 60 days, through the tags of the
//! example. Prints the cost of an event, the size of a user, and the cost of commits.
//!
//! `cargo bench --bench tags -- 10000000 1000000 [2048]`: the number of events and of users, and
//! the MiB of memory for users; the rest is spilled to disk.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, RecordBatch,
        StringArray, TimestampMicrosecondArray,
    },
    datatypes::{Schema, SchemaRef},
};
use datafusion::{
    common::{DFSchema, ScalarValue, ToDFSchema},
    logical_expr::Expr,
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
    tags::{
        Absence, Again, Aggregate, Function, Funnel, FunnelMode, Over, Profile, Rule, Segment,
        Segments, Spill, Tag, TagKind, Tags, TagsSpec, TimeSince, TopK,
    },
};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const BATCH_ROWS: u64 = 16_384;
const COMMITS: u64 = 20;
const DAY: Duration = Duration::from_hours(24);
const SPAN_US: i64 = 60 * 86_400_000_000;

fn main() {
    let numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let numbers: Vec<u64> = numbers.collect();
    let events = numbers.first().copied().unwrap_or(10_000_000);
    let users = numbers.get(1).copied().unwrap_or(1_000_000);
    let spill = numbers.get(2).map(|mib| Spill {
        folder: std::env::temp_dir().join("tagflow-bench-tags"),
        memory_bytes: (*mib as usize) << 20,
    });
    let tags = tags(spill);
    let lane = LaneContext {
        node: "tags".into(),
        lane: 0,
        lanes: 1,
        memory_bytes: None,
    };
    let mut operator = tags.factory()(&lane).expect("the spec is valid");
    let partition = Arc::new(PartitionId::new("events", "0"));
    let mut out = Output::default();
    let (mut work, mut commits) = (Duration::ZERO, Duration::ZERO);
    let (mut changes, mut written, mut last_written, mut last_commit) = (0, 0, 0, Duration::ZERO);
    let batches = events / BATCH_ROWS;
    for number in 0..batches {
        let rows = batch(number, events, users);
        let end = EventTime::from_micros(time_of((number + 1) * BATCH_ROWS, events));
        let start = Instant::now();
        let batch = Batch::of_partition(rows, Arc::clone(&partition));
        operator
            .on_batch(Port::MAIN, batch, &mut out)
            .expect("events are held");
        operator
            .on_watermark(end, &mut out)
            .expect("events are taken");
        emit_all(operator.as_mut(), &mut out).expect("events are taken");
        changes += rows_of(&mut out);
        work += start.elapsed();
        if (number + 1) % (batches / COMMITS).max(1) == 0 {
            let start = Instant::now();
            let snapshot = operator.snapshot().expect("users are stored");
            last_commit = start.elapsed();
            commits += last_commit;
            last_written = 0;
            for part in snapshot.put {
                let part = part.load().expect("rows are made");
                last_written += part.rows.get_array_memory_size();
            }
            written += last_written;
        }
    }
    let events = batches * BATCH_ROWS;
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "{events} events of {users} users: {:.2} us each, {:.0} a second, {:.2} changes each",
        work.as_secs_f64() * 1e6 / events as f64,
        events as f64 / work.as_secs_f64(),
        changes as f64 / events as f64,
    );
    println!("state: {:.0} MiB", mib(operator.state_bytes()));
    println!(
        "{COMMITS} commits: {:.0} ms each, {:.0} MiB each; the last {:.0} ms, {:.0} MiB",
        commits.as_secs_f64() * 1e3 / COMMITS as f64,
        mib(written) / COMMITS as f64,
        last_commit.as_secs_f64() * 1e3,
        mib(last_written),
    );
}

fn rows_of(out: &mut Output) -> usize {
    let emitted = out.take();
    emitted.iter().map(|(_, batch)| batch.num_rows()).sum()
}

/// The time of an event: events are evenly spread.
fn time_of(event: u64, events: u64) -> i64 {
    (i128::from(SPAN_US) * i128::from(event) / i128::from(events)) as i64
}

/// The tags of `tags.md`.
fn tags(spill: Option<Spill>) -> Arc<Tags> {
    let input = batch(0, 1, 1).schema();
    let column = |name: &str| input.index_of(name).expect("a column of the bench");
    let over = |days: u32| Over::Rolling {
        window: DAY * days,
        tile: Duration::from_hours(1),
    };
    let aggregate =
        |name: &str, function, argument: Option<&str>, filter: Option<&str>, over| Tag {
            name: name.into(),
            kind: TagKind::Aggregate(Aggregate {
                function,
                argument: argument.map(column),
                filter: filter.map(column),
                over,
            }),
            ttl: None,
        };
    let purchase = Some("is_purchase");
    let kind = |name: &str, kind, ttl| Tag {
        name: name.into(),
        kind,
        ttl,
    };
    let tags = vec![
        aggregate("orders_1d", Function::Count, None, purchase, over(1)),
        aggregate("orders_7d", Function::Count, None, purchase, over(7)),
        aggregate("orders_30d", Function::Count, None, purchase, over(30)),
        aggregate(
            "orders_lifetime",
            Function::Count,
            None,
            purchase,
            Over::Lifetime,
        ),
        aggregate(
            "spend_30d",
            Function::Sum,
            Some("amount"),
            purchase,
            over(30),
        ),
        aggregate(
            "spend_lifetime",
            Function::Sum,
            Some("amount"),
            purchase,
            Over::Lifetime,
        ),
        aggregate(
            "active_days_28d",
            Function::Distinct { exact_up_to: 1000 },
            Some("day"),
            None,
            over(28),
        ),
        aggregate(
            "last_order_at",
            Function::Last,
            Some("ts"),
            purchase,
            Over::Lifetime,
        ),
        kind(
            "days_since_order",
            TagKind::TimeSince(TimeSince { tag: 7, unit: DAY }),
            None,
        ),
        aggregate(
            "first_channel",
            Function::First,
            Some("channel"),
            None,
            Over::Lifetime,
        ),
        aggregate(
            "recent_items",
            Function::LastK { k: 20 },
            Some("product"),
            Some("is_view"),
            Over::Lifetime,
        ),
        kind(
            "interests",
            TagKind::TopK(TopK {
                argument: column("category"),
                weight: Some(column("weight")),
                filter: None,
                k: 5,
                half_life: DAY * 14,
            }),
            None,
        ),
        kind(
            "checkout_stage",
            TagKind::Funnel(Funnel {
                within: DAY,
                mode: FunnelMode::StrictOrder,
                steps: vec![
                    ("viewed".into(), column("is_view")),
                    ("cart".into(), column("is_cart")),
                    ("paid".into(), column("is_purchase")),
                ],
            }),
            None,
        ),
        kind(
            "cart_abandoned",
            TagKind::Absence(Absence {
                after: column("is_cart"),
                expect: column("is_purchase"),
                same: vec![column("category")],
                within: Duration::from_mins(30),
                again: Again::Each,
            }),
            Some(DAY * 3),
        ),
    ];
    let segments = segments(&tags, &input);
    Tags::new(TagsSpec {
        pipeline: "bench".into(),
        node: "tags".into(),
        key: column("user"),
        time: column("ts"),
        id: None,
        shown: input.fields().len(),
        personal: BTreeSet::new(),
        lateness: Duration::ZERO,
        state_ttl: Some(DAY * 400),
        spill,
        profile: Profile::default(),
        rescore_every: Duration::from_hours(24),
        counted: Vec::new(),
        input,
        tags,
        segments,
    })
    .expect("a valid set of tags")
}

fn segments(tags: &[Tag], input: &SchemaRef) -> Segments {
    let fields = Tags::fields(tags, input).expect("valid tags");
    let read = [2, 3, 4, 8];
    let schema = Schema::new(read.map(|tag: usize| fields[tag].clone()).to_vec());
    let schema: DFSchema = Arc::new(schema).to_dfschema().expect("no name repeats");
    let rule = |condition: Expr, time_triggers| Rule {
        text: condition.to_string().into(),
        condition: physical(&condition, &schema).expect("a condition"),
        time_triggers,
    };
    let thousand = lit(ScalarValue::Decimal128(Some(100_000), 38, 2));
    let eight_hundred = lit(ScalarValue::Decimal128(Some(80_000), 38, 2));
    Segments {
        errors: RowErrors::default(),
        tags: read.to_vec(),
        segments: vec![
            Segment {
                name: "high_value".into(),
                enter: rule(
                    col("spend_30d")
                        .gt_eq(thousand)
                        .and(col("orders_30d").gt_eq(lit(3_i64))),
                    Vec::new(),
                ),
                exit: Some(rule(col("spend_30d").lt(eight_hundred), Vec::new())),
                hold_at_least: DAY,
            },
            Segment {
                name: "lapsing".into(),
                enter: rule(
                    col("orders_lifetime")
                        .gt_eq(lit(2_i64))
                        .and(col("days_since_order").between(lit(30_i64), lit(90_i64))),
                    vec![(3, vec![30, 90])],
                ),
                exit: None,
                hold_at_least: Duration::ZERO,
            },
        ],
    }
}

/// The rows of a batch, as the projection before the operator produces them.
fn batch(number: u64, events: u64, users: u64) -> RecordBatch {
    let rows = number * BATCH_ROWS..(number + 1) * BATCH_ROWS;
    // SplitMix64: spread, and the same in every run.
    let random = |row: u64, salt: u64| {
        let mut z = (row + salt * 0x1_0000_0000).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let share = |row: u64, salt: u64| random(row, salt) as f64 / u64::MAX as f64;
    // Zipf's law with exponent 1: the logarithm of the rank is even.
    let user = |row: u64| (users as f64).powf(share(row, 1)) as u64;
    let kinds: Vec<u64> = rows.clone().map(|row| random(row, 2) % 100).collect();
    let is = |from: u64, to: u64| -> ArrayRef {
        let is = kinds.iter().map(|kind| Some((from..to).contains(kind)));
        Arc::new(is.collect::<BooleanArray>())
    };
    let texts = |name: &str, salt: u64, count: u64| -> ArrayRef {
        let texts = rows.clone().map(|row| {
            let place = (count as f64).powf(share(row, salt)) as u64;
            Some(format!("{name}-{place}"))
        });
        Arc::new(texts.collect::<StringArray>())
    };
    let times = rows.clone().map(|row| time_of(row, events));
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let days = rows
        .clone()
        .map(|row| (time_of(row, events) / 86_400_000_000) as i32);
    let amounts = rows
        .clone()
        .zip(&kinds)
        .map(|(row, kind)| (*kind >= 95).then(|| i128::from(random(row, 3) % 20_000)));
    let amounts: Decimal128Array = amounts.collect();
    let weights = kinds.iter().map(|kind| match kind {
        0..60 => Some(1.0),
        85..95 => Some(3.0),
        95.. => Some(5.0),
        _ => None,
    });
    let columns: [(&str, ArrayRef, bool); 11] = [
        (
            "user",
            Arc::new(
                rows.clone()
                    .map(|row| Some(format!("user-{}", user(row))))
                    .collect::<StringArray>(),
            ),
            false,
        ),
        ("ts", Arc::new(times), false),
        ("is_view", is(0, 60), true),
        ("is_cart", is(85, 95), true),
        ("is_purchase", is(95, 100), true),
        (
            "amount",
            Arc::new(
                amounts
                    .with_precision_and_scale(18, 2)
                    .expect("small amounts"),
            ),
            true,
        ),
        (
            "day",
            Arc::new(days.map(Some).collect::<Date32Array>()),
            true,
        ),
        ("channel", texts("channel", 4, 10), true),
        ("product", texts("product", 5, 10_000), true),
        ("category", texts("category", 6, 50), true),
        ("weight", Arc::new(weights.collect::<Float64Array>()), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}
