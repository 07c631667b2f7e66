//! Previews of open sessions.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch},
    datatypes::{Int64Type, Schema},
    row::{OwnedRow, RowConverter, Rows},
};
use tagflow_engine::{
    Error, EventTime, Result,
    state::{KeyHasher, Restore, Snapshot, StatePart, WholePart, with_key_groups},
    time::micros,
};

use super::bounds::Bounds;

/// The name of the stored part.
const PART: &str = "previews";
const FIRST: &str = "_first_us";
const LAST: &str = "_last_us";
const REVISION: &str = "_revision";

/// The last previews of a lane's open sessions, so that they can be retracted when the sessions
/// have grown or were joined.
pub(super) struct Previews {
    /// The interval; `None` if only previews of an earlier run remain.
    every_us: Option<i64>,
    /// The multiple of `every_us` that the watermark had reached at the last previews.
    tick: i64,
    /// The keys that changed since then; all keys after a restart, which forgets them.
    changed: Changed,
    shown: HashMap<OwnedRow, Vec<Shown>>,
    part: WholePart,
}

enum Changed {
    All,
    Some(HashSet<OwnedRow>),
}

/// A session as emitted before it was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) bounds: Bounds,
    pub(super) revision: i64,
}

impl Previews {
    /// No previews yet, with this interval in event time.
    pub(super) fn new(every: Option<Duration>) -> Self {
        Self {
            every_us: every.map(micros),
            tick: i64::MIN,
            changed: Changed::All,
            shown: HashMap::new(),
            part: WholePart::default(),
        }
    }

    /// Records that sessions of `keys` changed.
    pub(super) fn change(&mut self, keys: &Rows) {
        if let Changed::Some(changed) = &mut self.changed {
            changed.extend(keys.iter().map(|key| key.owned()));
        }
    }

    /// Whether `watermark` passes a multiple of the interval.
    pub(super) fn are_due(&self, watermark: EventTime) -> bool {
        self.every_us.is_some() && self.ticks(watermark.as_micros()) > self.tick
    }

    /// Whether each of `keys` changed since the last previews.
    pub(super) fn which_changed(&self, keys: &Rows) -> BooleanArray {
        let changed = keys.iter().map(|key| match &self.changed {
            Changed::All => Some(true),
            Changed::Some(changed) => Some(changed.contains(&key.owned())),
        });
        changed.collect()
    }

    /// Records that the previews at `watermark` are emitted.
    pub(super) fn are_out(&mut self, watermark: EventTime) {
        self.tick = self.ticks(watermark.as_micros());
        self.changed = Changed::Some(HashSet::new());
    }

    /// The number of a preview at `watermark` of a session that ends at `end`, which is later. The
    /// last preview is -2, so the number after it may retract it.
    pub(super) fn revision(&self, watermark: EventTime, end: i64) -> i64 {
        self.ticks(watermark.as_micros()) - self.ticks(end - 1) - 2
    }

    /// Whether there are no previews that may have to be retracted.
    pub(super) fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// The previews of `key` that `session` replaces, without one that has the same bounds.
    pub(super) fn supersede(&mut self, key: &OwnedRow, session: Bounds) -> Vec<Shown> {
        let Some(shown) = self.shown.get_mut(key) else {
            return Vec::new();
        };
        let is_part = |it: &mut Shown| it.bounds.with(session) == session;
        let mut parts: Vec<Shown> = shown.extract_if(.., is_part).collect();
        if shown.is_empty() {
            self.shown.remove(key);
        }
        if !parts.is_empty() {
            self.part.change();
        }
        parts.retain(|it| it.bounds != session);
        parts
    }

    /// Records a preview of `key`.
    pub(super) fn show(&mut self, key: OwnedRow, shown: Shown) {
        self.shown.entry(key).or_default().push(shown);
        self.part.change();
    }

    /// Forgets all previews: the results no longer have a column for retractions.
    pub(super) fn forget(&mut self) {
        if !self.shown.is_empty() {
            self.shown.clear();
            self.part.change();
        }
    }

    /// Adds the part to `snapshot` if it has changed. `rows` created the keys.
    pub(super) fn snapshot(
        &mut self,
        rows: &RowConverter,
        hasher: &KeyHasher,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        self.part.snapshot(PART, snapshot, || {
            if self.shown.is_empty() {
                return Ok(None);
            }
            let shown = || {
                let shown = self.shown.iter();
                shown.flat_map(|(key, shown)| shown.iter().map(move |it| (key, it)))
            };
            let keys = rows.convert_rows(shown().map(|(key, _)| key.row()))?;
            let groups = hasher.key_groups(&keys)?;
            let names = (0..keys.len()).map(|place| format!("key_{place}"));
            let numbers = |number: fn(&Shown) -> i64| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values(
                    shown().map(|(_, it)| number(it)),
                ))
            };
            let mut columns: Vec<(String, ArrayRef)> = names.zip(keys).collect();
            columns.extend([
                (FIRST.to_owned(), numbers(|it| it.bounds.first)),
                (LAST.to_owned(), numbers(|it| it.bounds.last)),
                (REVISION.to_owned(), numbers(|it| it.revision)),
            ]);
            let columns = columns.into_iter();
            let rows = RecordBatch::try_from_iter_with_nullable(
                columns.map(|(name, values)| (name, values, true)),
            )?;
            with_key_groups(&rows, groups.into()).map(Some)
        })
    }

    /// Restores a part. Returns whether it contains previews. Sessions end `gap_us` after their
    /// last rows.
    pub(super) fn restore(
        &mut self,
        part: &StatePart,
        lanes: Restore,
        rows: &RowConverter,
        gap_us: i64,
    ) -> Result<bool> {
        if part.key != PART {
            return Ok(false);
        }
        let unreadable = || Error::data(format!("the stored state `{PART}` cannot be read"));
        let at = |name: &str| Schema::index_of(&part.rows.schema(), name);
        let numbers = |name| -> Result<&Int64Array> {
            let column = part.rows.column(at(name)?).as_primitive_opt::<Int64Type>();
            column.ok_or_else(unreadable)
        };
        let keys = rows.convert_columns(&part.rows.columns()[..at(FIRST)?])?;
        let (firsts, lasts) = (numbers(FIRST)?, numbers(LAST)?);
        let revisions = numbers(REVISION)?;
        for (row, key) in keys.iter().enumerate() {
            let shown = Shown {
                bounds: Bounds {
                    first: firsts.value(row),
                    last: lasts.value(row),
                },
                revision: revisions.value(row),
            };
            // The tick of its emission, so that the next previews have higher numbers.
            let end = shown.bounds.last.saturating_add(gap_us);
            let tick = shown.revision + 2 + self.ticks(end - 1);
            self.tick = self.tick.max(tick);
            self.shown.entry(key.owned()).or_default().push(shown);
        }
        self.part.restore(&part.key, lanes);
        Ok(true)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let each = size_of::<(OwnedRow, Vec<Shown>)>() + 1;
        // A table is two thirds full on average.
        let places = self.shown.len() * each * 3 / 2;
        let shown = self.shown.iter();
        let shown = shown.map(|(key, shown)| key.as_ref().len() + size_of_val(shown.as_slice()));
        let changed = match &self.changed {
            Changed::All => 0,
            Changed::Some(changed) => changed
                .iter()
                .map(|key| size_of_val(key) + key.as_ref().len())
                .sum(),
        };
        places + shown.sum::<usize>() + changed
    }

    fn ticks(&self, time: i64) -> i64 {
        self.every_us.map_or(0, |every| time.div_euclid(every))
    }
}
