//! From a pipeline to a job that can be supervised: where it commits,
//! under which plan, and as whom.

use std::{
    collections::BTreeSet, net::SocketAddr, num::NonZeroUsize, ops::RangeInclusive, sync::Arc,
    thread,
};

use tagflow_connectors::storage;
use tagflow_engine::{
    Clock, RandomIds, Result,
    commit::{LogConfig, Owner, STAGING},
    memory::{MemoryLimit, ResidentMemory},
    runtime::{End, JobConfig, StopWhen, Supervised, Until},
    sink::Table,
};

use crate::{Pipeline, Spec, inspect::TASK, plan::StoredPlan};

/// What each channel between two lanes may hold, at least and at most.
const QUEUE_BYTES: RangeInclusive<usize> = 64 << 10..=4 << 20;

/// How many commits stay in the log with their state, to look back at.
const KEEP_COMMITS: usize = 10;

/// How a pipeline is run, beside what its file says.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// How many lanes, instead of the file's.
    pub lanes: Option<usize>,
    /// When to stop.
    pub until: Until,
    /// What becomes of open windows at the stop.
    pub end: End,
    /// Nodes and sources to begin anew, by name.
    pub reset: BTreeSet<String>,
    /// Where the admin endpoint listens.
    pub admin: Option<SocketAddr>,
    /// How often to start again after a failure that may pass.
    pub restarts: u32,
}

/// A pipeline that is ready to run.
pub struct Launch {
    /// The job.
    pub supervised: Supervised,
    /// The tables that it writes, dead letters and late rows among them.
    pub tables: Vec<TableRef>,
    /// The pipeline file.
    pub spec: Arc<Spec>,
}

/// A table by its name and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRef {
    /// The sink's name.
    pub name: Arc<str>,
    /// Its URL, as the pipeline file has it.
    pub url: Arc<str>,
}

/// How many lanes a pipeline runs on: as asked for, else as its file says, else
/// one a core.
pub fn lanes(spec: &Spec, asked: Option<usize>) -> usize {
    let written = spec
        .parallelism
        .as_ref()
        .and_then(|lanes| usize::try_from(*lanes.value()).ok());
    asked
        .or(written)
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get))
        .max(1)
}

/// Prepares to run a pipeline.
///
/// # Errors
/// `Config` where the URL of the state is wrong; `External` where its folder
/// cannot be created.
pub fn launch(pipeline: Pipeline, options: LaunchOptions, clock: Arc<dyn Clock>) -> Result<Launch> {
    let plan = StoredPlan::of(&pipeline)?.encode()?;
    let Pipeline { spec, lowered } = pipeline;
    let name = spec.name.value();
    let (store, root) = storage::open_log(&spec.checkpoint.url)?;
    storage::sweep(&format!("{}/{name}", *spec.checkpoint.url))?;
    for table in &lowered.tables {
        storage::sweep(&format!("{}/{STAGING}/{name}", table.url))?;
    }
    let table = |table: Table| TableRef {
        name: table.name,
        url: table.url,
    };
    let tables = lowered.tables.into_iter().map(table).collect();
    let log = LogConfig {
        store,
        root: root.join(name.as_str()),
        task: TASK.to_owned(),
        owner: Owner {
            host: host(),
            pid: std::process::id(),
            admin: options.admin.map(|address| address.to_string()),
            started_at: clock.now(),
        },
        plan,
        keep_commits: KEEP_COMMITS,
        ids: Arc::new(RandomIds),
    };
    let lanes = lanes(&spec, options.lanes);
    let memory = spec.memory.as_ref().map(|memory| MemoryLimit {
        bytes: memory.limit.bytes(),
        gauge: Arc::new(ResidentMemory),
    });
    let config = JobConfig {
        pipeline: name.clone(),
        lanes,
        checkpoint_every: *spec.checkpoint.every.value(),
        queue_bytes: queue_bytes(&spec, lanes),
        until: options.until,
        end: options.end,
        reset: options.reset,
        stop_when: spec.errors.stop_when.as_ref().map(|limit| StopWhen {
            ratio: limit.ratio.value().get(),
            over: *limit.over.value(),
            at_least: *limit.at_least.value(),
        }),
        memory,
    };
    Ok(Launch {
        supervised: Supervised {
            graph: lowered.graph,
            config,
            log,
            clock,
            restarts: options.restarts,
        },
        tables,
        spec: Arc::new(spec),
    })
}

/// What a channel may hold: all that there are between two stages, one from each
/// lane to each, a sixteenth of the limit.
fn queue_bytes(spec: &Spec, lanes: usize) -> usize {
    let most = *QUEUE_BYTES.end();
    spec.part_of_memory(16 * lanes.pow(2), most)
        .max(*QUEUE_BYTES.start())
}

/// The name of this machine.
fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::spec;

    #[test]
    fn queues_get_smaller_with_the_limit_and_the_lanes() {
        let bytes = |memory: &str, lanes| {
            let text = format!(
                "name: p\nsources: {{s: {{generator: {{}}}}}}\n\
                 sinks: {{o: {{from: s, console: }}}}\n{memory}"
            );
            queue_bytes(&spec(&text), lanes)
        };
        assert_eq!(bytes("", 64), 4 << 20);
        assert_eq!(bytes("memory: {limit: 2GiB}", 2), 4 << 20);
        assert_eq!(bytes("memory: {limit: 2GiB}", 8), 2 << 20);
        assert_eq!(bytes("memory: {limit: 128MiB}", 64), 64 << 10);
    }
}
