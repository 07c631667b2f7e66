//! Changes in windows that have been emitted before.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int64Array},
    datatypes::{DataType, Int64Type},
    row::{OwnedRow, RowConverter, SortField},
};
use tagflow_engine::{
    Error, EventTime, Result,
    state::{Restore, Snapshot, StatePart, WholePart, rows_for_all},
};

/// The keys of each pane that changed since the last emission of some windows.
pub(super) struct Changes {
    rows: RowConverter,
    by_pane: BTreeMap<i64, HashSet<OwnedRow>>,
}

impl Changes {
    /// No changes yet, for keys of these types.
    pub(super) fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        let fields = types.into_iter().map(SortField::new).collect();
        Ok(Self {
            rows: RowConverter::new(fields)?,
            by_pane: BTreeMap::new(),
        })
    }

    /// `keys` changed in the pane that starts at `start`.
    pub(super) fn add(&mut self, start: i64, keys: &[ArrayRef]) -> Result<()> {
        let rows = self.rows.convert_columns(keys)?;
        let changed = self.by_pane.entry(start).or_default();
        changed.extend(rows.iter().map(|row| row.owned()));
        Ok(())
    }

    /// The starts of the panes in which something changed.
    pub(super) fn panes(&self) -> Vec<i64> {
        self.by_pane.keys().copied().collect()
    }

    /// Whether a key changed in a pane that starts in `start..end`.
    pub(super) fn any(&self, start: i64, end: i64) -> bool {
        self.by_pane.range(start..end).next().is_some()
    }

    /// Whether each of `keys` changed in a pane that starts in `start..end`. Without key columns
    /// there is one group, and it changed.
    pub(super) fn among(&self, start: i64, end: i64, keys: &[ArrayRef]) -> Result<BooleanArray> {
        let rows = self.rows.convert_columns(keys)?;
        let panes: Vec<_> = self.by_pane.range(start..end).collect();
        let changed = |row: OwnedRow| panes.iter().any(|(_, keys)| keys.contains(&row));
        Ok(rows.iter().map(|row| Some(changed(row.owned()))).collect())
    }

    /// Forgets the changes, after the windows are emitted.
    pub(super) fn clear(&mut self) {
        self.by_pane.clear();
    }
}

/// The key of the part that holds them.
const PART: &str = "revisions";
const END: &str = "window_end_us";
const REVISION: &str = "revision";

/// The number of corrections of each window, by its end. All lanes need it, so its part has no key
/// group.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    by_end: BTreeMap<i64, i64>,
    part: WholePart,
}

impl Revisions {
    /// The number of the next correction of the window that ends at `end`.
    pub(super) fn next(&mut self, end: i64) -> i64 {
        self.part.change();
        let revision = self.by_end.entry(end).or_default();
        *revision += 1;
        *revision
    }

    /// Forgets windows that end at `through` or before.
    pub(super) fn retire(&mut self, through: EventTime) {
        while let Some(first) = self.by_end.first_entry()
            && *first.key() <= through.as_micros()
        {
            first.remove();
            self.part.change();
        }
    }

    /// Adds the part to `snapshot` if it has changed.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        self.part.snapshot(PART, snapshot, || {
            if self.by_end.is_empty() {
                return Ok(None);
            }
            let ends = Int64Array::from_iter_values(self.by_end.keys().copied());
            let revisions = Int64Array::from_iter_values(self.by_end.values().copied());
            rows_for_all([(END, Arc::new(ends)), (REVISION, Arc::new(revisions))]).map(Some)
        })
    }

    /// Restores the highest of the stored numbers. Returns whether `part` contained some.
    pub(super) fn restore(&mut self, part: &StatePart, lanes: Restore) -> Result<bool> {
        if part.key != PART {
            return Ok(false);
        }
        let column = |name| {
            let column = part.rows.column_by_name(name);
            column
                .and_then(|column| column.as_primitive_opt::<Int64Type>())
                .ok_or_else(|| Error::data("the stored revisions cannot be read"))
        };
        for (end, revision) in column(END)?.values().iter().zip(column(REVISION)?.values()) {
            let known = self.by_end.entry(*end).or_default();
            *known = (*known).max(*revision);
        }
        self.part.restore(&part.key, lanes);
        Ok(true)
    }
}
