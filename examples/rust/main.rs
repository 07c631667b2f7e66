//! A job with a source, an operator and a sink of your own.
//!
//! ```text
//! cargo run --example custom
//! ```
//!
//! It numbers the visits of each user: [`visits`] makes them up, [`number`] counts, and [`print`]
//! writes lines. A pipeline file lowers to a graph like this one.

mod number;
mod print;
mod visits;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use object_store::{memory::InMemory, path::Path};
use tagflow_engine::{
    EventTime, Port, RandomIds, Result, SystemClock,
    commit::{LogConfig, Owner, Plan},
    graph::{
        Graph, NodeKind, OnError, OperatorNode, Partitioning, SourceNode, TimePolicy, WhenIdle,
        WithOffsets,
    },
    runtime::{End, JobConfig, OldFiles, Supervised, Until, supervise},
};

use crate::{
    number::Number,
    print::Print,
    visits::{DropLetters, VisitDecoder, Visits},
};

#[tokio::main]
async fn main() -> Result<()> {
    let (_control, job) = supervise(Supervised {
        graph: graph(),
        config: config(),
        log: log(),
        clock: Arc::new(SystemClock),
        restarts: 0,
        presence: None,
    });
    let outcome = Box::pin(job).await?;
    let rows = outcome.status.totals.rows_in;
    println!(
        "{rows} rows in {} commits",
        outcome.committed.map_or(0, |it| it.seq)
    );
    Ok(())
}

/// Source, operator, sink. Rows of one user always reach the same lane of the operator.
fn graph() -> Graph {
    let mut graph = Graph::default();
    let visits = NodeKind::Source(SourceNode {
        source: Arc::new(Visits { count: 9 }),
        decoder: Arc::new(|| Ok(Box::new(VisitDecoder))),
        dead_letters: Arc::new(|| Ok(Box::new(DropLetters))),
        time: TimePolicy {
            column: 0,
            delay: Duration::ZERO,
            idle_after: Duration::from_mins(1),
            when_idle: WhenIdle::Hold,
            max_future: Duration::from_hours(1),
            earliest: EventTime::from_micros(0),
            max_drift: None,
            granularity: Duration::from_micros(1),
            on_error: OnError::DeadLetter,
            offsets: WithOffsets::No,
        },
    });
    let visits = graph.add("visits", "visits of three users", visits);
    let number = NodeKind::Operator(OperatorNode {
        factory: Arc::new(|_| Ok(Box::new(Number::new()?))),
        fingerprint: Some("number of visits by user, version 1".to_owned()),
    });
    let number = graph.add("number", "number of each visit", number);
    let print = graph.add("print", "lines", NodeKind::Sink(Arc::new(Print)));
    let by_user = Partitioning::Hash(vec![visits::USER]);
    graph.connect((visits, Port::MAIN), (number, Port::MAIN), by_user);
    graph.connect(
        (number, Port::MAIN),
        (print, Port::MAIN),
        Partitioning::Forward,
    );
    graph
}

fn config() -> JobConfig {
    JobConfig {
        pipeline: "custom".to_owned(),
        lanes: 2,
        checkpoint_every: Duration::from_secs(1),
        queue_bytes: 1 << 20,
        until: Until::Stopped,
        end: End::Keep,
        reset: [].into(),
        old_files: OldFiles::Keep,
        deliver: BTreeMap::new(),
        stop_when: None,
        memory: None,
    }
}

/// The commit log. This one is in memory; with a folder or a bucket, the next run continues here.
fn log() -> LogConfig {
    LogConfig {
        store: Arc::new(InMemory::new()),
        root: Path::from("state/custom"),
        task: "main".to_owned(),
        owner: Owner {
            host: "localhost".to_owned(),
            pid: std::process::id(),
            admin: None,
            started_at: EventTime::from_micros(0),
        },
        plan: Plan {
            hash: "custom".to_owned(),
            json: "{}".into(),
        },
        keep_commits: 2,
        ids: Arc::new(RandomIds),
    }
}
