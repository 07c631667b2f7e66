//! The sink that counts rows and drops them: for benchmarks and tests.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, yaml::Node};
use tagflow_engine::{
    Batch, Result,
    element::BarrierKind,
    sink::{PreparedCommit, Sink, SinkContext, SinkFactory},
};

use crate::component::{self, SinkComponent};

/// A black hole has no settings.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "BlackholeSink")]
pub struct BlackholeConfig {}

impl Read for BlackholeConfig {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.fields(node)?.finish(reader);
        Some(Self {})
    }
}

impl SinkComponent for BlackholeConfig {
    fn describe(&self) -> String {
        "blackhole".to_owned()
    }

    fn delivers(&self) -> bool {
        false
    }

    fn connect(&self, _context: component::SinkContext) -> Result<Arc<dyn SinkFactory>> {
        Ok(Arc::new(BlackholeSinkFactory::default()))
    }
}

/// A configured blackhole. Clones share one count.
#[derive(Debug, Clone, Default)]
pub struct BlackholeSinkFactory {
    rows: Arc<AtomicU64>,
}

impl BlackholeSinkFactory {
    /// The rows that all lanes have dropped. After a crash, rows that are read
    /// again count again.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

impl SinkFactory for BlackholeSinkFactory {
    fn open(&self, _context: SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Sink for BlackholeSinkFactory {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        self.rows
            .fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn prepare_commit(&mut self, _kind: BarrierKind) -> Result<PreparedCommit> {
        Ok(PreparedCommit::default())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};

    use super::*;
    use crate::sink_conformance::{conformance, context};

    #[tokio::test]
    async fn lanes_count_together() {
        let rows =
            RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..7)) as _)])
                .unwrap();
        let factory = BlackholeSinkFactory::default();
        for _lane in 0..2 {
            let mut sink = factory.open(context()).unwrap();
            sink.write(Batch::derived(rows.clone())).await.unwrap();
        }
        assert_eq!(factory.rows(), 14);
        conformance(&factory, &rows).await;
    }
}
