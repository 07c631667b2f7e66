//! Reads the profiles of keys, for queries.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, StringArray},
    datatypes::DataType,
};
use serde::{Deserialize, Serialize};
use tagflow_engine::{
    Error, EventTime, Result,
    operator::LaneContext,
    state::{KeyGroup, KeyHash, LaneState, Restore, StatePart},
};

use super::{
    key_state::{KeyState, Tile},
    key_store,
    set::Tags,
    tagger::Tagger,
};
use crate::keyed::SortedBuffer;

/// The keys of a commit, for all lanes together.
pub struct SnapshotReader {
    tagger: Tagger,
}

/// A query of a running job: the key, and a time other than now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lookup {
    /// The key, as text.
    pub key: String,
    /// The time, under the assumption that no further event happens; not in the past. The earliest
    /// time means the watermark.
    pub as_of: Option<EventTime>,
}

/// The profile of a key at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyProfile {
    /// The time.
    pub as_of: EventTime,
    /// Its tags, in the order of their definition.
    pub tags: Vec<TagValue>,
    /// The segments that contain it, and since when.
    pub segments: Vec<(String, EventTime)>,
    /// The number of its events that wait for the watermark. The tags include these events, but an
    /// older event may still change the values.
    pub waiting_events: usize,
}

/// A tag of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TagValue {
    /// The tag's name.
    pub name: String,
    /// Its value, in JSON.
    pub json: String,
    /// Since when it has the value; `None` if since before any event.
    pub since: Option<EventTime>,
    /// When the value changes without further events.
    pub expires_at: Option<EventTime>,
    /// If the tag was added later than others: from when on all its events are known. `None` if its
    /// span no longer includes earlier events.
    pub complete_since: Option<EventTime>,
    /// The tiles of its value; empty if it has none.
    pub tiles: Vec<TagTile>,
}

/// Events of a span of time that contribute to a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TagTile {
    /// The start of the span.
    pub start: EventTime,
    /// The end of the span, exclusive.
    pub end: EventTime,
    /// The value of the tag over these events alone, in JSON.
    pub json: String,
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

impl Tagger {
    /// The [`KeyProfile`] of a [`Lookup`], or null, if this lane owns the key. Both are JSON.
    pub(super) fn look_up(&mut self, question: &str) -> Result<Option<String>> {
        let lookup = serde_json::from_str(question);
        let Lookup { key, as_of } = lookup
            .map_err(|error| Error::internal("no question about a key").with_source(error))?;
        let key = hash(&self.tags, &key)?;
        if !self.owns(key) {
            return Ok(None);
        }
        let answer = serde_json::to_string(&self.known(key, as_of)?);
        let answer = answer
            .map_err(|error| Error::internal("a key's tags are no JSON").with_source(error))?;
        Ok(Some(answer))
    }

    fn known(&mut self, key: KeyHash, as_of: Option<EventTime>) -> Result<Option<KeyProfile>> {
        let now = EventTime::from_micros(self.done());
        let as_of = as_of.map(|as_of| if as_of == EventTime::MIN { now } else { as_of });
        if as_of.is_some_and(|as_of| as_of < now) {
            return Err(Error::config(format!(
                "the state is as of {now}, and what was before is gone; changes up to then are in \
                 the table of `tags.changes`"
            )));
        }
        self.look(key, as_of.map(EventTime::as_micros))
    }

    pub(super) fn profiled(&self, user: &KeyState, waiting_events: usize) -> KeyProfile {
        let plan = &self.plan;
        let at = |time: i64| EventTime::from_micros(time);
        let tags = plan.tags.iter().enumerate().map(|(place, tag)| TagValue {
            name: tag.name.clone(),
            json: user.value(plan, place).json(&tag.data_type),
            since: user.since(place).map(at),
            expires_at: user.expires_at(plan, place).map(at),
            complete_since: self
                .layout
                .complete_since(plan, place, user.clock())
                .map(at),
            tiles: user
                .tiles(plan, place)
                .into_iter()
                .map(|Tile { start, end, value }| TagTile {
                    start: at(start),
                    end: at(end),
                    json: value.json(&tag.data_type),
                })
                .collect(),
        });
        let members = user.members().iter().zip(&plan.segments);
        let segments = members.filter_map(|(member, name)| Some((name.clone(), at(member.since?))));
        KeyProfile {
            as_of: at(user.clock()),
            tags: tags.collect(),
            segments: segments.collect(),
            waiting_events,
        }
    }
}

fn hash(tags: &Tags, key: &str) -> Result<KeyHash> {
    let field = tags.spec.input.field(tags.spec.key);
    let column: ArrayRef = match field.data_type() {
        DataType::Int64 => {
            let number: i64 = key.parse().map_err(|_| {
                Error::config(format!("`{}` is a whole number, not `{key}`", field.name()))
            })?;
            Arc::new(Int64Array::from(vec![number]))
        }
        _ => Arc::new(StringArray::from(vec![key])),
    };
    let hashes = tags.timeline.hasher()?.hashes(&[column])?;
    let hash = hashes.into_iter().next().flatten();
    hash.ok_or_else(|| Error::internal("a key has no hash"))
}
