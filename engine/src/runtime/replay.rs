//! Reading sources from their start again: the state to reset with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    Error, Port, Result,
    commit::Checkpoint,
    files::TableTotals,
    graph::{Graph, NodeId, NodeKind},
};

/// The state that a job resets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Replay {
    /// The sources and the nodes whose state is dropped, by name.
    pub(super) reset: BTreeSet<String>,
    /// The URLs of the tables whose files the first commit removes.
    pub(super) tables: BTreeSet<Arc<str>>,
}

/// The treatment of table files whose rows are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldFiles {
    /// They stay, so a job that would write their rows again is refused.
    Keep,
    /// The first commit removes them.
    Replace,
}

impl Replay {
    /// The reset of the nodes and sources in `asked`. A source that has been read includes
    /// everything that depends on it, because its rows would otherwise count twice.
    ///
    /// # Errors
    /// `Config` if another source that is not reset also feeds such a node, or if a table would
    /// contain rows twice. That includes the reset of a sink that replaces rows, without its sources.
    pub(super) fn of(
        graph: &Graph,
        last: Option<&Checkpoint>,
        asked: &BTreeSet<String>,
        old_files: OldFiles,
    ) -> Result<Self> {
        let mut replay = Self {
            reset: asked.clone(),
            tables: BTreeSet::new(),
        };
        let Some(last) = last else {
            return Ok(replay);
        };
        let sources: Vec<NodeId> = graph.ids().filter(|id| is_source(graph, *id)).collect();
        let was_read = |id: &NodeId| last.positions.contains_key(&graph.node(*id).name);
        let (again, others): (Vec<_>, Vec<_>) = sources
            .into_iter()
            .filter(was_read)
            .partition(|id| asked.contains(&*graph.node(*id).name));
        let mut follows = Follows::MainAlone;
        if others.is_empty() {
            // Then dead letters and late rows belong to no other source either.
            follows = Follows::AllRows;
        }
        let below = downstream(graph, &again, follows);
        for other in others {
            let too = downstream(graph, &[other], Follows::MainAlone);
            if let Some(both) = too.iter().find(|id| below.contains(id)) {
                return Err(feeds_too(graph, other, *both, asked));
            }
        }
        check_sinks_alone(graph, last, asked, &below)?;
        let mut full = BTreeMap::new();
        for id in below {
            let node = graph.node(id);
            replay.reset.insert(node.name.to_string());
            if let NodeKind::Sink(sink) = &node.kind
                && let Some(table) = sink.table()
                && let Some(files) = TableTotals::visible_files(last.past(&table.url))?
            {
                full.insert(table.name, files);
                replay.tables.insert(table.url);
            }
        }
        if old_files == OldFiles::Keep && !full.is_empty() {
            return Err(would_double(asked, &full));
        }
        Ok(replay)
    }
}

/// The rows to follow through the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// Without side outputs: their tables belong to all sources.
    MainAlone,
    AllRows,
}

fn is_source(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).kind, NodeKind::Source(_))
}

/// The nodes that rows of `from` reach.
fn downstream(graph: &Graph, from: &[NodeId], follows: Follows) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    let mut next = from.to_vec();
    while let Some(id) = next.pop() {
        for edge in graph.outputs(id) {
            let is_followed = follows == Follows::AllRows || edge.output != Port::SIDE;
            if is_followed && found.insert(edge.to) {
                next.push(edge.to);
            }
        }
    }
    found
}

/// Refuses to drop the state of a sink that replaces rows of its table, unless all of its
/// rows are read again: they are the nodes `below`.
fn check_sinks_alone(
    graph: &Graph,
    last: &Checkpoint,
    asked: &BTreeSet<String>,
    below: &BTreeSet<NodeId>,
) -> Result<()> {
    let alone = |id: &NodeId| asked.contains(&*graph.node(*id).name) && !below.contains(id);
    for id in graph.ids().filter(alone) {
        if let NodeKind::Sink(sink) = &graph.node(id).kind
            && sink.replaces()
            && let Some(table) = sink.table()
            && let Some(files) = TableTotals::visible_files(last.past(&table.url))?
        {
            return Err(Error::config(format!(
                "the state of `{}` names the files ({files}) of its table in which later rows \
                 replace earlier ones; without it these rows would be there twice. Read its \
                 sources again: {}. Or give it another `url`",
                graph.node(id).name,
                rewrite_flags(graph, id)
            )));
        }
    }
    Ok(())
}

/// The flags that rewrite the table of a sink.
pub(super) fn rewrite_flags(graph: &Graph, sink: NodeId) -> String {
    let feeds = |id: &NodeId| {
        is_source(graph, *id) && downstream(graph, &[*id], Follows::AllRows).contains(&sink)
    };
    let sources = graph.ids().filter(feeds);
    let sources = sources.map(|id| graph.node(id).name.to_string()).collect();
    format!("{} --replace-tables", flags(&sources))
}

fn feeds_too(graph: &Graph, other: NodeId, both: NodeId, asked: &BTreeSet<String>) -> Error {
    let (other, both) = (&graph.node(other).name, &graph.node(both).name);
    Error::config(format!(
        "`{both}` takes rows of `{other}` too, and they would be lost if it began anew without \
         them; read that source again as well: {} --reset {other}",
        flags(asked)
    ))
}

fn would_double(asked: &BTreeSet<String>, full: &BTreeMap<Arc<str>, u64>) -> Error {
    let tables = full
        .iter()
        .map(|(name, files)| format!("`{name}` ({files} files)"));
    let tables: Vec<String> = tables.collect();
    Error::config(format!(
        "rows that are read again would be in these tables twice: {}. Add `--replace-tables` to \
         remove those files with the first commit of this run, which cannot be undone: {} \
         --replace-tables. Or give the tables another `url`",
        tables.join(", "),
        flags(asked)
    ))
}

fn flags(asked: &BTreeSet<String>) -> String {
    let flags: Vec<String> = asked.iter().map(|name| format!("--reset {name}")).collect();
    flags.join(" ")
}
