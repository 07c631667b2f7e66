//! The sink that prints rows as a table: for a first look.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{record_batch::RecordBatch, util::pretty::pretty_format_batches};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, yaml::Node};
use tagflow_engine::{
    Batch, Error, Result,
    element::BarrierKind,
    sink::{PreparedCommit, Sink, SinkContext, SinkFactory},
};

use crate::component::{self, SinkComponent};

/// The number of rows that a sink prints for each lane and commit.
const LIMIT_ROWS: usize = 40;

/// The console has no settings.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "ConsoleSink")]
pub struct ConsoleConfig {}

impl Read for ConsoleConfig {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.fields(node)?.finish(reader);
        Some(Self {})
    }
}

impl SinkComponent for ConsoleConfig {
    fn describe(&self) -> String {
        "console".to_owned()
    }

    fn delivers(&self) -> bool {
        false
    }

    fn connect(&self, context: component::SinkContext) -> Result<Arc<dyn SinkFactory>> {
        Ok(Arc::new(ConsoleSinkFactory::new(context.name, LIMIT_ROWS)))
    }
}

/// The target of a console sink.
pub type Output = Arc<Mutex<dyn Write + Send>>;

/// A configured console sink.
///
/// Each cut prints the rows since the cut before in one piece, so that lanes do not mix. The sink
/// keeps only the first rows and counts the rest. After a crash it may print rows again.
#[derive(Clone)]
pub struct ConsoleSinkFactory {
    name: Arc<str>,
    limit_rows: usize,
    output: Output,
}

impl ConsoleSinkFactory {
    /// Prints at most `limit_rows` rows of sink `name` per cut and lane to the
    /// standard output.
    pub fn new(name: impl Into<Arc<str>>, limit_rows: usize) -> Self {
        Self::with_output(name, limit_rows, Arc::new(Mutex::new(io::stdout())))
    }

    /// Prints to `output` instead.
    pub fn with_output(name: impl Into<Arc<str>>, limit_rows: usize, output: Output) -> Self {
        Self {
            name: name.into(),
            limit_rows,
            output,
        }
    }
}

impl SinkFactory for ConsoleSinkFactory {
    fn open(&self, _context: SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(ConsoleSink {
            config: self.clone(),
            kept: Vec::new(),
            kept_rows: 0,
            more_rows: 0,
        }))
    }
}

struct ConsoleSink {
    config: ConsoleSinkFactory,
    kept: Vec<RecordBatch>,
    kept_rows: usize,
    more_rows: usize,
}

#[async_trait]
impl Sink for ConsoleSink {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let keep = batch
            .num_rows()
            .min(self.config.limit_rows - self.kept_rows);
        if keep > 0 {
            self.kept.push(batch.records.slice(0, keep));
        }
        self.kept_rows += keep;
        self.more_rows += batch.num_rows() - keep;
        Ok(())
    }

    async fn prepare_commit(&mut self, _kind: BarrierKind) -> Result<PreparedCommit> {
        let kept = mem::take(&mut self.kept);
        let kept_rows = mem::take(&mut self.kept_rows);
        let more_rows = mem::take(&mut self.more_rows);
        if kept_rows + more_rows > 0 {
            let mut lines = vec![self.config.name.to_string()];
            if !kept.is_empty() {
                lines.push(pretty_format_batches(&kept)?.to_string());
            }
            if more_rows > 0 {
                lines.push(format!("... and {more_rows} more rows"));
            }
            let text = lines.join("\n") + "\n";
            let mut output = self
                .config
                .output
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            output
                .write_all(text.as_bytes())
                .and_then(|()| output.flush())
                .map_err(|error| Error::external("cannot print").with_source(error))?;
        }
        Ok(PreparedCommit::default())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch, StringArray};

    use super::*;
    use crate::sink_conformance::{conformance, context};

    fn rows(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
        let clicks = Int64Array::from_iter_values(numbers);
        let campaigns: StringArray = clicks
            .iter()
            .map(|n| n.filter(|n| n % 2 == 1).map(|n| format!("c{n}")))
            .collect();
        RecordBatch::try_from_iter([
            ("campaign_id", Arc::new(campaigns) as _),
            ("clicks", Arc::new(clicks) as _),
        ])
        .unwrap()
    }

    async fn printed(limit_rows: usize, batches: &[RecordBatch]) -> String {
        let output = Arc::new(Mutex::new(Vec::new()));
        let factory = ConsoleSinkFactory::with_output("clicks", limit_rows, output.clone());
        let mut sink = factory.open(context()).unwrap();
        for batch in batches {
            sink.write(Batch::derived(batch.clone())).await.unwrap();
        }
        sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
        let first = mem::take(&mut *output.lock().unwrap());
        sink.prepare_commit(BarrierKind::Stop).await.unwrap();
        assert!(output.lock().unwrap().is_empty(), "nothing new to print");
        String::from_utf8(first).unwrap()
    }

    #[tokio::test]
    async fn rows_are_printed_as_one_table() {
        assert_eq!(
            printed(10, &[rows([1, 2]), rows([33])]).await,
            "clicks\n\
             +-------------+--------+\n\
             | campaign_id | clicks |\n\
             +-------------+--------+\n\
             | c1          | 1      |\n\
             |             | 2      |\n\
             | c33         | 33     |\n\
             +-------------+--------+\n"
        );
    }

    #[tokio::test]
    async fn more_rows_than_the_limit_are_counted() {
        let text = printed(3, &[rows(0..2), rows(2..5), rows(5..9)]).await;
        assert!(text.contains("|             | 2      |\n+"), "{text}");
        assert!(text.ends_with("... and 6 more rows\n"), "{text}");
        assert_eq!(
            printed(0, &[rows(0..2)]).await,
            "clicks\n... and 2 more rows\n"
        );
        assert_eq!(printed(3, &[]).await, "");
    }

    #[tokio::test]
    async fn conforms() {
        let factory =
            ConsoleSinkFactory::with_output("clicks", 5, Arc::new(Mutex::new(io::sink())));
        conformance(&factory, &rows(0..20)).await;
    }
}
