//! Conformance tests that every source must pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::FutureExt;
use tagflow_engine::source::{Offset, Positions, Rows, Source, SourceEvent};

/// The events of a bounded source, from its opening to its end.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    /// The partitions in the order of their assignment, with their first offset.
    pub(crate) assigned: Vec<(Arc<str>, Offset)>,
    /// The rows of each partition: offset and text.
    pub(crate) rows: BTreeMap<Arc<str>, Vec<(Offset, String)>>,
    /// The position after the last row of each partition.
    pub(crate) ends: BTreeMap<Arc<str>, Offset>,
    /// The number of chunks.
    pub(crate) chunks: usize,
}

/// Reads `source` until `partitions` have finished, or, if it is endless, until all assigned
/// partitions are at their ends. Checks the rules of [`tagflow_engine::source::SourceReader`]
/// meanwhile.
pub(crate) async fn read_all(
    source: &dyn Source,
    positions: &Positions,
    partitions: usize,
) -> Transcript {
    let mut reader = source.open(positions).await.unwrap();
    let mut transcript = Transcript::default();
    let mut open = BTreeMap::new();
    let mut finished = BTreeSet::new();
    let mut caught_up = BTreeSet::new();
    let mut first = true;
    while first || finished.len() < partitions {
        if !caught_up.is_empty() && caught_up.len() == transcript.assigned.len() {
            return transcript;
        }
        match reader.next().await.unwrap() {
            SourceEvent::Assigned(assigned) => {
                for (partition, offset) in assigned {
                    let start = positions.get(&partition).copied().unwrap_or(0);
                    assert_eq!(offset, start, "`{partition}` starts elsewhere");
                    open.insert(Arc::clone(&partition), offset);
                    transcript.assigned.push((partition, offset));
                }
            }
            SourceEvent::Unassigned(_) if first => continue,
            event if first => panic!("the first event is {event:?}"),
            SourceEvent::Chunk(chunk) => {
                let position = open.get_mut(&chunk.partition).expect("it is assigned");
                assert!(!chunk.rows.is_empty(), "an empty chunk");
                assert_eq!(chunk.first, chunk.rows.offset(0));
                let rows = transcript
                    .rows
                    .entry(Arc::clone(&chunk.partition))
                    .or_default();
                for row in 0..chunk.rows.len() {
                    let offset = chunk.rows.offset(row);
                    assert!(
                        offset >= *position,
                        "offset {offset} comes after {position}"
                    );
                    *position = offset + 1;
                    rows.push((offset, text(&chunk.rows, row)));
                }
                assert!(chunk.next >= *position);
                *position = chunk.next;
                transcript
                    .ends
                    .insert(Arc::clone(&chunk.partition), chunk.next);
                transcript.chunks += 1;
            }
            SourceEvent::Finished(partition) => {
                assert!(
                    open.remove(&partition).is_some(),
                    "`{partition}` is not open"
                );
                finished.insert(partition);
            }
            SourceEvent::CaughtUp { partition, end } => {
                assert_eq!(
                    open.get(&partition),
                    Some(&end),
                    "`{partition}` has its end elsewhere"
                );
                caught_up.insert(partition);
            }
            SourceEvent::Lag { .. } | SourceEvent::Unassigned(_) | SourceEvent::System { .. } => {}
            event => panic!("unexpected: {event:?}"),
        }
        first = false;
    }
    let last = loop {
        match reader.next().await.unwrap() {
            SourceEvent::Unassigned(_) | SourceEvent::System { .. } => {}
            last => break last,
        }
    };
    if matches!(last, SourceEvent::CaughtUp { .. } | SourceEvent::Lag { .. }) {
        // An endless source that was read to its end before.
        return transcript;
    }
    assert!(
        matches!(last, SourceEvent::Exhausted(_)),
        "unexpected: {last:?}"
    );
    assert!(
        reader.next().now_or_never().is_none(),
        "something comes after the end"
    );
    transcript
}

/// Checks that a reader opened at any position returns the rows from there on.
pub(crate) async fn check_resume(source: &dyn Source, whole: &Transcript) {
    let order: Vec<_> = whole
        .assigned
        .iter()
        .map(|(partition, _)| partition)
        .collect();
    for (partition, rows) in &whole.rows {
        let before = order.iter().take_while(|other| **other != partition);
        let read: Positions = before
            .filter_map(|before| Some((Arc::clone(before), *whole.ends.get(*before)?)))
            .collect();
        let ends = rows.iter().skip(1).map(|(offset, _)| *offset);
        for position in ends.chain(Some(whole.ends[partition])) {
            let mut positions = read.clone();
            positions.insert(Arc::clone(partition), position);
            let done = positions
                .iter()
                .filter(|(name, at)| whole.ends[*name] == **at);
            let remaining = order.len() - done.count();
            let rest = read_all(source, &positions, remaining).await;
            for (other, rows) in &whole.rows {
                let from = positions.get(other).copied().unwrap_or(0);
                let expected: Vec<_> = rows.iter().filter(|(at, _)| *at >= from).collect();
                let actual: Vec<_> = rest.rows.get(other).into_iter().flatten().collect();
                assert_eq!(actual, expected, "`{other}` from {from}");
            }
        }
    }
}

fn text(rows: &Rows, row: usize) -> String {
    match rows {
        Rows::Encoded(rows) => String::from_utf8_lossy(rows.row(row).unwrap()).into_owned(),
        Rows::Columns(rows) => {
            let cell = |column: &arrow::array::ArrayRef| {
                arrow::util::display::array_value_to_string(column, row).unwrap()
            };
            let cells: Vec<_> = rows.records.columns().iter().map(cell).collect();
            cells.join("|")
        }
    }
}
