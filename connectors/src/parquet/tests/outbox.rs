//! The table takes part in the commit: the suite for every sink with a committer.

use std::ops::Range;

use arrow::{array::Int64Array, datatypes::Int64Type};
use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use tagflow_engine::testing::{
    committer::{Connection, Outside, Shape, conformance},
    store::{Fault, FaultyStore},
};

use super::*;

/// A table in memory.
struct Table {
    store: Arc<dyn ObjectStore>,
    by: &'static [&'static str],
}

struct ToTable {
    sink: Arc<ParquetSinkFactory>,
    store: FaultyStore,
}

#[async_trait]
impl Outside for Table {
    fn connect(&self, shape: Shape, shared: bool) -> Box<dyn Connection> {
        let store = FaultyStore::new(Arc::clone(&self.store));
        let config = ParquetSinkConfig {
            store: Arc::new(store.clone()),
            shared,
            ..partitioned(&self.rows(shape, 0..0), self.by)
        };
        let sink = Arc::new(ParquetSinkFactory::new(config).unwrap());
        Box::new(ToTable { sink, store })
    }

    fn rows(&self, shape: Shape, numbers: Range<u64>) -> RecordBatch {
        let ids = numbers.clone().map(|number| number as i64);
        let rows = numbered(ids);
        if shape == Shape::First {
            return rows;
        }
        let more = Int64Array::from_iter_values(numbers.map(|number| number as i64));
        let names = rows.schema();
        let names = names.fields().iter().map(|field| field.name().clone());
        let columns = names.zip(rows.columns().to_vec());
        let more = ("more".to_owned(), Arc::new(more) as ArrayRef);
        RecordBatch::try_from_iter(columns.chain([more])).unwrap()
    }

    async fn visible(&self) -> Vec<u64> {
        let listed: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        let files = listed.into_iter().map(|object| object.location);
        let mut numbers = Vec::new();
        for file in files.filter(|file| file.extension() == Some("parquet")) {
            let bytes = self.store.get(&file).await.unwrap().bytes().await.unwrap();
            for rows in decode(bytes) {
                let ids = rows.column_by_name("id").unwrap();
                let ids = ids.as_primitive::<Int64Type>().values();
                numbers.extend(ids.iter().map(|id| *id as u64));
            }
        }
        numbers
    }
}

impl Connection for ToTable {
    fn sink(&self) -> Arc<dyn SinkFactory> {
        self.sink.clone()
    }

    fn fail_after(&self, writes: u64) {
        let mut left = writes;
        self.store.direct(move |operation, _| {
            if left == 0 {
                return Some(Fault::ErrorBefore);
            }
            left -= u64::from(operation.writes());
            None
        });
    }

    fn repair(&self) {
        self.store.direct(|_, _| None);
    }
}

#[tokio::test]
async fn a_table_takes_part_in_the_commit() {
    for by in [&[][..], &["dt"]] {
        conformance(|| Table {
            store: Arc::new(InMemory::new()),
            by,
        })
        .await;
    }
}
