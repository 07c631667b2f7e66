//! The events one by one, for producers and file writers.

use tagflow_engine::Result;

use super::{
    config::GeneratorConfig,
    model::{Model, RowKind},
};

/// A generated row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its partition, from 0.
    pub partition: u32,
    /// Its number in the partition, from 0.
    pub row: u64,
    /// Its kind.
    pub kind: RowKind,
    /// The user's id, the key of such events.
    pub key: String,
    /// JSON without a line break, or a damaged remainder.
    pub payload: Vec<u8>,
}

/// The number of rows of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Rows of [`RowKind::Good`].
    pub good: u64,
    /// Rows of [`RowKind::Late`].
    pub late: u64,
    /// Rows of [`RowKind::Duplicate`].
    pub duplicate: u64,
    /// Rows of [`RowKind::Broken`].
    pub broken: u64,
}

impl EventCounts {
    /// All rows.
    pub fn rows(&self) -> u64 {
        self.good + self.late + self.duplicate + self.broken
    }

    fn add(&mut self, kind: RowKind) {
        match kind {
            RowKind::Good => self.good += 1,
            RowKind::Late => self.late += 1,
            RowKind::Duplicate => self.duplicate += 1,
            RowKind::Broken => self.broken += 1,
        }
    }
}

/// All rows; the partitions receive them in turn. The caller enforces the `rate`. Endless without a
/// `count`.
#[derive(Debug, Clone)]
pub struct Events {
    model: Model,
    next: u64,
    counts: EventCounts,
}

impl Events {
    /// The events of `config`, from the first on.
    ///
    /// # Errors
    /// `Config` where `config` is invalid.
    pub fn new(config: GeneratorConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            model: Model::new(config),
            next: 0,
            counts: EventCounts::default(),
        })
    }

    /// The counts so far.
    pub fn counts(&self) -> EventCounts {
        self.counts
    }

    /// Appends the next row and a line break to `out`, without an allocation per row. `None` at the
    /// end.
    pub fn write_line(&mut self, out: &mut Vec<u8>) -> Option<RowKind> {
        let (partition, row) = self.advance()?;
        let (kind, _) = self.model.write(partition, row, out);
        self.counts.add(kind);
        out.push(b'\n');
        Some(kind)
    }

    fn advance(&mut self) -> Option<(u32, u64)> {
        let config = self.model.config();
        if config
            .count
            .as_ref()
            .is_some_and(|count| self.next >= **count)
        {
            return None;
        }
        let partitions = u64::from(*config.partitions);
        let place = ((self.next % partitions) as u32, self.next / partitions);
        self.next += 1;
        Some(place)
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (partition, row) = self.advance()?;
        let mut payload = Vec::with_capacity(256);
        let (kind, user) = self.model.write(partition, row, &mut payload);
        self.counts.add(kind);
        Some(Event {
            partition,
            row,
            kind,
            key: format!("u{user:07}"),
            payload,
        })
    }
}
