//! Reads the profiles of keys, for queries.

use std::sync::Arc;

use tagflow_engine::{
    EventTime, Result,
    operator::LaneContext,
    state::{KeyGroup, KeyHash, LaneState, Restore, StatePart},
};

use super::{
    key_profile::KeyProfile,
    key_store,
    lookup::{Lookup, hash},
    set::Tags,
    tagger::Tagger,
};
use crate::keyed::SortedBuffer;

/// The keys of a commit, for all lanes together.
pub struct SnapshotReader {
    tagger: Tagger,
}

impl SnapshotReader {
    /// Reads the stored parts of a node with these tags.
    ///
    /// # Errors
    /// `Data` if a part cannot be read.
    pub fn new(tags: &Arc<Tags>, parts: Vec<StatePart>) -> Result<Self> {
        let context = LaneContext {
            node: Arc::clone(&tags.spec.node),
            lane: 0,
            lanes: 1,
            memory_bytes: None,
        };
        let mut tagger = Tagger::new(Arc::clone(tags), &context)?;
        let lanes = Restore::Rescaled;
        LaneState { parts, lanes }.restore(&mut tagger)?;
        Ok(Self { tagger })
    }

    /// The time of the commit's watermark.
    pub fn as_of(&self) -> EventTime {
        EventTime::from_micros(self.tagger.done())
    }

    /// The profile of a key; `None` if the key is unknown.
    ///
    /// # Errors
    /// `Config` if the time is before [`SnapshotReader::as_of`], or if the key has the wrong type.
    pub fn get(&mut self, lookup: &Lookup) -> Result<Option<KeyProfile>> {
        let key = hash(&self.tagger.tags, &lookup.key)?;
        self.tagger.known(key, lookup.as_of)
    }

    /// The time since which a key is known; none for an unknown key.
    ///
    /// # Errors
    /// As [`SnapshotReader::get`].
    pub fn known_since(&mut self, key: &str) -> Result<Option<EventTime>> {
        let key = hash(&self.tagger.tags, key)?;
        let user = self.tagger.users.get(key)?;
        Ok(user
            .and_then(|user| user.first())
            .map(EventTime::from_micros))
    }

    /// The number of keys in the segment; `None` if there is no such segment.
    ///
    /// # Errors
    /// `Data` if a key's state cannot be read.
    pub fn segment_size(&mut self, name: &str) -> Result<Option<usize>> {
        let mut segments = self.tagger.plan.segments.iter();
        let Some(segment) = segments.position(|segment| segment == name) else {
            return Ok(None);
        };
        let mut size = 0;
        for key in self.tagger.users.keys() {
            let user = self.tagger.users.get(key)?;
            size += usize::from(user.is_some_and(|user| user.members()[segment].since.is_some()));
        }
        Ok(Some(size))
    }
}

impl Tags {
    /// The group of a key.
    ///
    /// # Errors
    /// `Config` if the key has the wrong type.
    pub fn key_group(&self, key: &str) -> Result<KeyGroup> {
        hash(self, key).map(KeyHash::key_group)
    }

    /// Whether a stored part contains keys. Each of its keys belongs to a single lane.
    pub fn is_of_keys(part: &str) -> bool {
        key_store::is_part(part) || SortedBuffer::is_part(part)
    }

    /// The state of a key, and of the tags themselves, in stored parts.
    ///
    /// # Errors
    /// `Config` if the key has the wrong type; `Data` if a part cannot be read.
    pub fn of_key(&self, key: &str, parts: Vec<StatePart>) -> Result<Vec<StatePart>> {
        let key = hash(self, key)?;
        let parts = parts.into_iter().filter_map(|part| {
            if key_store::is_part(&part.key) {
                key_store::of_key(part, key).transpose()
            } else {
                Some(Ok(part))
            }
        });
        parts.collect()
    }
}
