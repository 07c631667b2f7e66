//! Decoding of JSON rows, next to arrow-json on the same rows.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use arrow::json::ReaderBuilder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tagflow_connectors::{
    format::{JsonFormat, JsonOptions},
    generator::{COLUMNS, Events, GeneratorConfig},
};
use tagflow_engine::source::{Decoder, EncodedRows, Rows};
use tagflow_schemas::Column;

const ROWS: u64 = 5_000;

/// The columns of the example pipeline for campaign metrics.
const USED: [&str; 6] = [
    "event_id",
    "user_id",
    "event_type",
    "campaign_id",
    "amount",
    "occurred_at",
];

fn columns() -> Vec<Column> {
    COLUMNS
        .iter()
        .filter(|(name, _)| USED.contains(name))
        .map(|(name, kind)| Column {
            name: (*name).to_owned(),
            kind: kind.trim_end_matches('?').parse().expect("a type"),
            nullable: kind.ends_with('?'),
        })
        .collect()
}

fn rows() -> EncodedRows {
    let config = GeneratorConfig::many(ROWS);
    let mut events = Events::new(config).expect("a sound configuration");
    let mut rows = EncodedRows::default();
    let mut data = Vec::new();
    let mut start = 0;
    while events.write_line(&mut data).is_some() {
        rows.spans.push((start, data.len() as u32 - 1));
        rows.offsets.push(i64::from(start));
        start = data.len() as u32;
    }
    rows.data = data.into();
    rows
}

fn decode(criterion: &mut Criterion) {
    let encoded = rows();
    let data = encoded.data.clone();
    let rows = Rows::Encoded(encoded);
    let mut group = criterion.benchmark_group("json");
    group.throughput(Throughput::Elements(ROWS));

    let mut format = JsonFormat::new(columns(), JsonOptions::default());
    group.bench_function("tagflow", |bencher| {
        bencher.iter(|| {
            let decoded = format.decode(black_box(&rows)).expect("it decodes");
            assert_eq!(decoded.records.num_rows() as u64, ROWS);
            decoded
        });
    });

    // arrow-json knows no timestamps in a unit; whole numbers are the closest type.
    let schema = Column::schema(&columns());
    let fields = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            "occurred_at" => field
                .as_ref()
                .clone()
                .with_data_type(arrow::datatypes::DataType::Int64),
            _ => field.as_ref().clone(),
        });
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
    let mut decoder = ReaderBuilder::new(schema)
        .with_batch_size(ROWS as usize)
        .build_decoder()
        .expect("a decoder");
    group.bench_function("arrow-json", |bencher| {
        bencher.iter(|| {
            decoder.decode(black_box(&data)).expect("it decodes");
            let records = decoder.flush().expect("it decodes").expect("rows");
            assert_eq!(records.num_rows() as u64, ROWS);
            records
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
