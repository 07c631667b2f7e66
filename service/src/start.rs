//! Prepares a job from a pipeline: its commit log, its plan and its owner.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::NonZeroUsize,
    ops::RangeInclusive,
    sync::Arc,
    thread,
};

use tagflow_connectors::storage;
use tagflow_engine::{
    Clock, Error, ErrorKind, RandomIds, Result,
    commit::{LogConfig, Owner, ProcessId, Record},
    committer::DeliveryBounds,
    files::{MARKER, STAGING, Table},
    graph::{Edge, Graph, NodeKind, Partitioning},
    memory::{MemoryGauge, MemoryLimit, ResidentMemory},
    runtime::{End, ErrorRateLimit, IfLive, JobConfig, OldFiles, Presence, Supervised, Until},
};

use crate::{
    diff::{Version, check_columns},
    state_folder::{StateFolder, TASK, host},
};
use tagflow_pipelines::{
    Pipeline, Spec,
    diagnostic::unknown,
    plan::StoredPlan,
    spec::{Name, Sink},
};

/// The minimum and the maximum capacity of a channel between two lanes.
const QUEUE_BYTES: RangeInclusive<usize> = 64 << 10..=4 << 20;

/// Queues may use one part in this many of the memory limit.
const QUEUES_PART: u64 = 4;

/// The memory for the chunk of a source that a lane decodes.
const CHUNK_BYTES: u64 = 2 << 20;

/// The number of commits that keep their state in the log.
const KEEP_COMMITS: usize = 10;

/// The options of a run, beside the pipeline file.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// The number of lanes, in place of the file's.
    pub lanes: Option<usize>,
    /// When to stop.
    pub until: Until,
    /// How to treat open windows at the stop.
    pub end: End,
    /// The nodes and sources to reset, by name.
    pub reset: BTreeSet<String>,
    /// How to treat the files of tables whose rows are read again.
    pub old_files: OldFiles,
    /// The reaction to another process that runs the pipeline.
    pub if_live: IfLive,
    /// The address of the admin endpoint.
    pub admin: Option<SocketAddr>,
    /// The most restarts after temporary failures.
    pub restarts: u32,
}

/// A pipeline that is ready to run.
pub struct Launch {
    /// The job.
    pub supervised: Supervised,
    /// The tables that it writes, including dead letters and late rows.
    pub tables: Vec<TableRef>,
    /// The pipeline file.
    pub spec: Arc<Spec>,
}

/// A table by its name and its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRef {
    /// The sink's name.
    pub name: Arc<str>,
    /// Its URL, as the pipeline file has it.
    pub url: Arc<str>,
}

/// The number of lanes: the requested one, otherwise the file's, otherwise one per core.
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
    probe(&spec, &lowered.tables)?;
    storage::sweep(&format!("{}/{name}", *spec.checkpoint.url))?;
    for table in &lowered.tables {
        storage::sweep(&format!("{}/{STAGING}/{name}", table.url))?;
        storage::sweep_file(&table.url, MARKER)?;
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
    check_limit(&spec, &lowered.graph, lanes, ResidentMemory.used_bytes())?;
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
        old_files: options.old_files,
        deliver: deliver(&spec),
        stop_when: spec.errors.stop_when.as_ref().map(|limit| ErrorRateLimit {
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
            presence: Some(Presence {
                process: ProcessId::current(),
                if_live: options.if_live,
            }),
        },
        tables,
        spec: Arc::new(spec),
    })
}

/// Finds folders that cannot be written, and stores without credentials, before
/// anything starts.
fn probe(spec: &Spec, tables: &[Table]) -> Result<()> {
    storage::probe(&spec.checkpoint.url)?;
    for table in tables {
        storage::probe(&table.url)?;
    }
    let sources = spec.sources.iter();
    let lookups = spec.tables.iter().map(|(_, table)| &**table.url);
    sources
        .flat_map(|(_, source)| source.input.component().urls())
        .chain(lookups)
        .try_for_each(storage::check_credentials)
}

/// Checks a pipeline against the state of its last run, before anything else happens: that names in
/// `reset` exist, and that no column became non-nullable while the state contains nulls.
///
/// # Errors
/// `Config` for such a name or column.
pub async fn check(pipeline: &Pipeline, reset: &BTreeSet<String>) -> Result<()> {
    let state = StateFolder::open(&pipeline.spec.checkpoint.url)?;
    if !reset.is_empty() {
        let last = state.last(&pipeline.spec.name).await?;
        check_resets(pipeline, reset, last.as_ref())?;
    }
    // If the log or the plan is unreadable, the job reports it.
    if let Ok(Some(old)) = Version::last(&state, &pipeline.spec.name).await {
        check_columns(&old, &Version::of(pipeline)?, reset)?;
    }
    Ok(())
}

/// Stores the reason of a failure for `status`, in the state folder at `state`. A run that lost its
/// log to another one stores nothing.
///
/// # Errors
/// Those of the state folder.
pub async fn keep_failure(state: &str, pipeline: &str, error: &Error) -> Result<()> {
    if error.kind() == ErrorKind::Fenced {
        return Ok(());
    }
    let state = StateFolder::open(state)?;
    state.keep_failure(pipeline, error.chain()).await
}

/// Checks the names in `--reset` against the pipeline and its last commit, which may contain state
/// of removed nodes.
fn check_resets(
    pipeline: &Pipeline,
    reset: &BTreeSet<String>,
    last: Option<&Record>,
) -> Result<()> {
    let graph = &pipeline.lowered.graph;
    let checkpoint = last.and_then(|last| last.checkpoint.as_ref());
    let mut known: BTreeSet<&str> = BTreeSet::new();
    known.extend(graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Source(_) => Some(&*node.name),
        NodeKind::Operator(operator) => operator.fingerprint.as_ref().map(|_| &*node.name),
        NodeKind::Sink(sink) => sink.fingerprint().map(|_| &*node.name),
    }));
    if let Some(checkpoint) = checkpoint {
        known.extend(checkpoint.positions.keys().map(|source| &**source));
        known.extend(checkpoint.state.iter().map(|part| part.node.as_str()));
    }
    match reset.iter().find(|name| !known.contains(name.as_str())) {
        Some(wrong) => Err(Error::config(format!(
            "there is nothing to reset that is called `{wrong}`{}",
            unknown(wrong, known.iter().copied())
        ))),
        None => Ok(()),
    }
}

/// The limits of undelivered output, by sink.
fn deliver(spec: &Spec) -> BTreeMap<String, DeliveryBounds> {
    let bounds = |(name, sink): (&Name, &Sink)| {
        let deliver = sink.deliver.as_ref()?;
        let bounds = DeliveryBounds {
            max_pending_commits: *deliver.max_pending_commits,
            max_pending_bytes: deliver.max_pending_bytes.bytes(),
        };
        Some((name.to_string(), bounds))
    };
    spec.sinks.iter().filter_map(bounds).collect()
}

/// The capacity of a channel in bytes. All channels between two stages, one from each lane to each,
/// have a 256th of the limit together. A small row can become a large state of its key, and queued
/// rows are still processed after reading has paused.
fn queue_bytes(spec: &Spec, lanes: usize) -> usize {
    let most = *QUEUE_BYTES.end();
    spec.part_of_memory(256 * lanes.pow(2), most)
        .max(*QUEUE_BYTES.start())
}

/// Checks the limit against the least that this pipeline needs. `used_bytes` is the memory of
/// the process before the start.
///
/// # Errors
/// `Config` with the limit that this pipeline needs.
fn check_limit(spec: &Spec, graph: &Graph, lanes: usize, used_bytes: Option<u64>) -> Result<()> {
    let Some(memory) = &spec.memory else {
        return Ok(());
    };
    let is_exchange = |edge: &&Edge| edge.partitioning != Partitioning::Forward;
    let exchanges = graph.edges.iter().filter(is_exchange);
    let exchanges: BTreeSet<_> = exchanges.map(|edge| (edge.from.0, edge.to.0)).collect();
    let queues = (exchanges.len() * lanes.pow(2) * *QUEUE_BYTES.start()) as u64;
    let sources = graph.nodes.iter();
    let sources = sources.filter(|node| matches!(node.kind, NodeKind::Source(_)));
    let chunks = (sources.count() * lanes) as u64 * CHUNK_BYTES;
    let tags = spec.tags.as_ref().and_then(|tags| tags.memory.as_ref());
    let tags = tags.map_or(0, |tags| tags.limit.bytes());
    let needs = [
        (used_bytes.unwrap_or_default(), "before it starts"),
        (QUEUES_PART * queues, "with its queues between lanes"),
        (chunks, "for the rows that it decodes"),
        (tags, "for `tags.memory`"),
    ];
    let needed: u64 = needs.iter().map(|(bytes, _)| bytes).sum();
    if memory.limit.bytes() >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let needs = needs.iter().filter(|(bytes, _)| *bytes > 0);
    let needs: Vec<String> = needs
        .map(|(bytes, what)| format!("{} MiB {what}", mib(*bytes)))
        .collect();
    Err(Error::config(format!(
        "`memory.limit` {} MiB is too small: on {lanes} lanes this pipeline needs {} MiB at least \
         ({}); raise the limit, or set `parallelism` lower",
        mib(memory.limit.bytes()),
        mib(needed),
        needs.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagflow_pipelines::{LoadOptions, load_str};

    #[test]
    fn queues_get_smaller_with_the_limit_and_the_lanes() {
        let bytes = |memory: &str, lanes| {
            let text = format!(
                "name: p\nsources: {{s: {{generator: {{}}}}}}\n\
                 sinks: {{o: {{from: s, console: }}}}\n{memory}"
            );
            queue_bytes(
                &load_str("p.yaml", &text, &LoadOptions::default()).unwrap(),
                lanes,
            )
        };
        assert_eq!(bytes("", 64), 4 << 20);
        assert_eq!(bytes("memory: {limit: 4GiB}", 2), 4 << 20);
        assert_eq!(bytes("memory: {limit: 2GiB}", 2), 2 << 20);
        assert_eq!(bytes("memory: {limit: 512MiB}", 2), 512 << 10);
        assert_eq!(bytes("memory: {limit: 128MiB}", 64), 64 << 10);
    }

    #[test]
    fn a_limit_below_the_least_is_refused() {
        const FILE: &str = "name: p\nsources: {s: {generator: {}}}\n\
             queries: {q: \"SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, user_id, \
             count(*) AS n FROM s GROUP BY 1, 2\"}\n\
             sinks: {o: {from: q, blackhole: {}}}\nmemory: {limit: 128MiB}\n";
        let pipeline = Pipeline::open_str("p.yaml", FILE, &LoadOptions::default()).unwrap();
        let check = |lanes, used: u64| {
            let (spec, graph) = (&pipeline.spec, &pipeline.lowered.graph);
            check_limit(spec, graph, lanes, Some(used << 20))
        };
        check(8, 20).unwrap();
        let message = check(200, 20).unwrap_err().to_string();
        assert!(
            message.contains("128 MiB is too small: on 200 lanes"),
            "{message}"
        );
        assert!(message.contains("20 MiB before it starts"), "{message}");
        let message = check(1, 150).unwrap_err().to_string();
        assert!(message.contains("needs 153 MiB at least"), "{message}");
    }
}
