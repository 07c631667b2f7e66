//! A sink: lines on standard output.

use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use tagflow_engine::{
    Batch, Result,
    element::BarrierKind,
    sink::{PreparedCommit, Sink, SinkContext, SinkFactory},
};

/// Prints the rows of each commit.
///
/// A line cannot be taken back, so rows after the last commit are printed again after a crash. A
/// sink that takes part in the commit stages them instead, and its committer delivers them.
pub(crate) struct Print;

impl SinkFactory for Print {
    fn open(&self, _context: SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Lines(Vec::new())))
    }
}

/// The rows since the last barrier.
struct Lines(Vec<Batch>);

#[async_trait]
impl Sink for Lines {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        self.0.push(batch);
        Ok(())
    }

    async fn prepare_commit(&mut self, _kind: BarrierKind) -> Result<PreparedCommit> {
        let rows: Vec<_> = self.0.drain(..).map(|batch| batch.records).collect();
        if !rows.is_empty() {
            println!("{}", pretty_format_batches(&rows)?);
        }
        Ok(PreparedCommit::default())
    }
}
