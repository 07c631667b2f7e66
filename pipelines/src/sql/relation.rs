//! A relation: its columns, their lineage, and how its rows are revised.

use std::time::Duration;

use arrow::datatypes::SchemaRef;

/// A relation with the lineage of its columns.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The lineage of each column.
    pub lineage: Vec<Lineage>,
    /// The kind of its rows.
    pub rows: Rows,
    /// How to match revisions, if rows have them and they can be matched.
    pub upsert: Option<Upsert>,
}

impl Relation {
    /// The lineage of the column `name`.
    pub fn lineage_of(&self, name: &str) -> Lineage {
        self.schema
            .index_of(name)
            .ok()
            .and_then(|index| self.lineage.get(index).copied())
            .unwrap_or(Lineage::Plain)
    }
}

/// The meaning of a column. Only a column that is passed on unchanged keeps it; computed columns
/// are [`Lineage::Plain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lineage {
    /// The event time of the row's source, which watermarks refer to.
    EventTime,
    /// The window of the aggregate that emitted the row.
    Window,
    /// Like [`Lineage::Window`], for a session, which is emitted some time after its end.
    Session,
    /// A value.
    Plain,
}

/// The kind of a relation's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rows {
    /// One row per source row.
    Events,
    /// Pairs of events from two streams.
    Pairs,
    /// One row per window and key.
    Windows,
    /// One row per window, key and revision.
    Revisions,
    /// One row per change of a key without a window.
    Changes,
}

/// The columns, by index, that identify a row's revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upsert {
    /// The window.
    pub window: usize,
    /// The other columns that all revisions of a row share and no other row has: the keys.
    pub keys: Vec<usize>,
    /// Their number.
    pub revision: usize,
    /// Whether a row is retracted; without it, rows stay.
    pub retracted: Option<usize>,
    /// How long after its end a window may be emitted again.
    pub lateness: Duration,
}

impl Upsert {
    /// The same with its columns elsewhere; `None` if a column is missing.
    pub(super) fn moved(&self, to: impl Fn(usize) -> Option<usize>) -> Option<Self> {
        Some(Self {
            window: to(self.window)?,
            keys: self
                .keys
                .iter()
                .map(|&key| to(key))
                .collect::<Option<_>>()?,
            revision: to(self.revision)?,
            retracted: match self.retracted {
                Some(retracted) => Some(to(retracted)?),
                None => None,
            },
            lateness: self.lateness,
        })
    }
}
