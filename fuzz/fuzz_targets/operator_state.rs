//! Restores of operators: the snapshots of a run of a pipeline with one operator of each
//! kind, with changed cells and columns.
//!
//! No input may make an operator panic while it restores a snapshot and makes the next
//! one. Its results from numbers that it never wrote do not matter: the checksum would
//! have detected them.

#![no_main]

use std::{collections::BTreeSet, fs, sync::Arc, sync::LazyLock};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, GenericBinaryArray, Int64Array, OffsetSizeTrait, RecordBatch,
        StringArray, UInt8Array, new_null_array,
    },
    datatypes::{DataType, Field, Int64Type, Schema, UInt8Type},
};
use libfuzzer_sys::fuzz_target;
use object_store::{ObjectStore, local::LocalFileSystem, path::Path};
use tagflow_engine::{
    SystemClock,
    commit::read_state,
    graph::{NodeKind, OperatorNode},
    operator::LaneContext,
    runtime::{End, IfLive, OldFiles, Until, supervise},
    source::Reference,
    state::{LaneState, Restore, StatePart},
    testing::{Bounded, Script, ScriptedSource},
};
use tagflow_pipelines::{LoadOptions, Lowered, Pipeline};
use tagflow_service::start::{LaunchOptions, launch};

/// The end of the rows of the run, in microseconds.
const END: i64 = 1_767_657_600_000_000;

/// The operators with the stored parts of each.
struct Snapshots {
    pipeline: Pipeline,
    /// By the node's position in the graph.
    parts: Vec<(usize, Vec<StatePart>)>,
}

static SNAPSHOTS: LazyLock<Snapshots> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let text = include_str!("operator_state.yaml").replace(
        "STATE",
        folder.path().join("state").to_str().expect("a text"),
    );
    let open = || match Pipeline::open_str("p.yaml", &text, &LoadOptions::default()) {
        Ok(pipeline) => pipeline,
        Err(problems) => panic!("{}", problems.human()),
    };
    let mut running = open();
    feed(&mut running.lowered);
    let options = LaunchOptions {
        lanes: Some(1),
        until: Until::CaughtUp,
        end: End::Keep,
        reset: BTreeSet::new(),
        old_files: OldFiles::Keep,
        if_live: IfLive::Refuse,
        admin: None,
        restarts: 0,
    };
    let launched = launch(running, options, Arc::new(SystemClock)).expect("it can be launched");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ended = runtime.block_on(supervise(launched.supervised).1);
    ended.expect("it runs to its end");

    let state = fs::canonicalize(folder.path().join("state")).expect("it is there");
    let store: Arc<dyn ObjectStore> =
        Arc::new(LocalFileSystem::new_with_prefix(state).expect("it is a folder"));
    let pipeline = open();
    let mut parts = Vec::new();
    for (place, node) in pipeline.lowered.graph.nodes.iter().enumerate() {
        let root = Path::from("fuzz");
        let read = read_state(&store, &root, "main", &node.name, |_, _| true);
        let stored = runtime
            .block_on(read)
            .expect("it can be read")
            .unwrap_or_default();
        if matches!(node.kind, NodeKind::Operator(_)) && !stored.is_empty() {
            parts.push((place, stored));
        }
    }
    assert!(parts.len() > 8, "only {} nodes have state", parts.len());
    Snapshots { pipeline, parts }
});

/// Lets the pipeline read rows that span some days.
fn feed(lowered: &mut Lowered) {
    let script = Arc::new(Script::default());
    let kinds = ["click", "cart", "purchase", "click"];
    let rows = (0..400_i64).map(|row| {
        let at = END / 1000 - 400 * 600_000 + row * 600_000;
        let (visitor, item) = (row * 7 % 23, row % 5);
        let kind = kinds[(row * 5 % 4) as usize];
        format!(
            r#"{{"id":"e{}","visitor":"v{visitor}","kind":"{kind}","item":"i{item}","amount":{row},"at":{at}}}"#,
            row / 2 * 2
        )
    });
    script.push("p0", rows);
    for node in &mut lowered.graph.nodes {
        if let NodeKind::Source(source) = &mut node.kind {
            source.source = Arc::new(ScriptedSource {
                script: Arc::clone(&script),
                chunk: 50,
                bounded: Bounded::No,
                reference: Reference::None,
            });
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Snapshots { pipeline, parts } = &*SNAPSHOTS;
    let mut input = Input(data);
    let (place, stored) = &parts[input.below(parts.len())];
    let node = &pipeline.lowered.graph.nodes[*place];
    let NodeKind::Operator(operator) = &node.kind else {
        unreachable!("only operators are looked at");
    };
    let lanes = if input.byte() % 2 == 0 {
        Restore::InPlace
    } else {
        Restore::Rescaled
    };
    let mut changed = stored.clone();
    while !input.0.is_empty() {
        let part = input.below(changed.len());
        change(&mut changed[part], &mut input);
    }
    let context = LaneContext {
        node: Arc::clone(&node.name),
        lane: 0,
        lanes: 1,
        memory_bytes: None,
    };
    // Any error is acceptable.
    let _ = take_back(
        operator,
        &context,
        LaneState {
            parts: changed,
            lanes,
        },
    );
});

fn take_back(
    node: &OperatorNode,
    context: &LaneContext,
    state: LaneState,
) -> tagflow_engine::Result<()> {
    let mut operator = (node.factory)(context)?;
    state.restore(operator.as_mut())?;
    for part in operator.snapshot()?.put {
        part.load()?;
    }
    assert!(operator.state_bytes() < 1 << 30, "what it read was small");
    Ok(())
}

/// Changes one thing in a part. The log determines which parts exist, and their names.
fn change(part: &mut StatePart, input: &mut Input<'_>) {
    let rows = &part.rows;
    match input.byte() % 8 {
        0 => part.rows = rows.slice(0, rows.num_rows() / 2),
        1 if rows.num_columns() > 1 => {
            let column = input.below(rows.num_columns());
            part.rows.remove_column(column);
        }
        _ if rows.num_rows() > 0 && rows.num_columns() > 0 => {
            let column = input.below(rows.num_columns());
            let row = input.below(rows.num_rows());
            let values = changed_cell(rows.column(column), row, input);
            let schema = rows.schema();
            let fields = schema.fields().iter().enumerate().map(|(index, field)| {
                let kind = rows.column(index).data_type();
                Field::new(field.name(), kind.clone(), true)
            });
            let mut columns = rows.columns().to_vec();
            columns[column] = values;
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            if let Ok(rows) = RecordBatch::try_new(schema, columns) {
                part.rows = rows;
            }
        }
        _ => {}
    }
}

/// The column with another value in `row`, of the same type.
fn changed_cell(column: &ArrayRef, row: usize, input: &mut Input<'_>) -> ArrayRef {
    let set = |index: usize| index == row;
    match column.data_type() {
        DataType::Binary => changed_bytes::<i32>(column, row, input),
        DataType::LargeBinary => changed_bytes::<i64>(column, row, input),
        DataType::Utf8 => {
            let cells = column.as_string::<i32>();
            let text = String::from_utf8_lossy(input.bytes()).into_owned();
            let cells = (0..cells.len()).map(|index| {
                if set(index) {
                    Some(text.as_str())
                } else {
                    cells.is_valid(index).then(|| cells.value(index))
                }
            });
            Arc::new(cells.collect::<StringArray>())
        }
        DataType::Int64 => {
            let cells = column.as_primitive::<Int64Type>();
            let number = input.number();
            let cells = cells.iter().enumerate();
            Arc::new(
                cells
                    .map(|(index, cell)| if set(index) { Some(number) } else { cell })
                    .collect::<Int64Array>(),
            )
        }
        DataType::UInt8 => {
            let cells = column.as_primitive::<UInt8Type>();
            let byte = input.byte();
            let cells = cells.iter().enumerate();
            Arc::new(
                cells
                    .map(|(index, cell)| if set(index) { Some(byte) } else { cell })
                    .collect::<UInt8Array>(),
            )
        }
        other => new_null_array(other, column.len()),
    }
}

/// The same for bytes.
fn changed_bytes<O: OffsetSizeTrait>(
    column: &ArrayRef,
    row: usize,
    input: &mut Input<'_>,
) -> ArrayRef {
    let cells = column.as_binary::<O>();
    let mut cell = cells.iter().nth(row).flatten().unwrap_or(&[]).to_vec();
    if input.byte() % 4 == 0 {
        cell = input.bytes().to_vec();
    } else if !cell.is_empty() {
        // Most bytes do not change.
        let at = input.number() as usize % cell.len();
        for (byte, new) in cell[at..].iter_mut().zip(input.bytes()) {
            *byte = *new;
        }
    }
    let cells = cells.iter().enumerate();
    let cells = cells.map(|(index, old)| {
        if index == row {
            Some(cell.as_slice())
        } else {
            old
        }
    });
    Arc::new(cells.collect::<GenericBinaryArray<O>>())
}

/// The fuzzer's input, read piece by piece.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % end
    }

    fn number(&mut self) -> i64 {
        let mut bytes = [0; 8];
        let (first, rest) = self.0.split_at(self.0.len().min(8));
        bytes[..first.len()].copy_from_slice(first);
        self.0 = rest;
        i64::from_le_bytes(bytes)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()) % 32;
        let (first, rest) = self.0.split_at(self.0.len().min(length));
        self.0 = rest;
        first
    }
}
