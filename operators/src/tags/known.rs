//! What is known of a key, for people who ask.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, StringArray},
    datatypes::DataType,
};
use serde::{Deserialize, Serialize};
use tagflow_engine::{
    Error, EventTime, Result,
    state::{KeyGroup, KeyHash, LaneState, Lanes, StatePart},
};

use super::{
    set::Tags,
    tagger::Tagger,
    user::{Tile, User},
    users,
};
use crate::ordered::Held;

/// The keys of a commit, all lanes together.
pub struct Known {
    tagger: Tagger,
}

/// What is asked of a running job: the key, and as of when if not of now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lookup {
    /// The key, as text.
    pub key: String,
    /// As of when, if nothing else happens until then; not in the past.
    pub as_of: Option<EventTime>,
}

/// All that is known of a key as of a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profiled {
    /// As of when.
    pub as_of: EventTime,
    /// Its tags, in the order of their definition.
    pub tags: Vec<TagValue>,
    /// The segments that it is in, and since when.
    pub segments: Vec<(String, EventTime)>,
}

/// A tag of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TagValue {
    /// The tag's name.
    pub name: String,
    /// Its value, in JSON.
    pub json: String,
    /// Since when it has that; none if since before any event.
    pub since: Option<EventTime>,
    /// When events leave it, or it grows old, if nothing else happens.
    pub falls_at: Option<EventTime>,
    /// From when on all its events are known, if it was added later than others and
    /// still goes over events from before that.
    pub complete_since: Option<EventTime>,
    /// The tiles that it is made of; none where it is not made of tiles.
    pub tiles: Vec<TagTile>,
}

/// Events of a span of time that a value is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TagTile {
    /// Where the span begins.
    pub start: EventTime,
    /// Where it ends, itself outside.
    pub end: EventTime,
    /// The value of the tag over them alone, in JSON.
    pub json: String,
}

impl Known {
    /// From the parts that a node with these tags has stored.
    ///
    /// # Errors
    /// `Data` where a part cannot be read.
    pub fn new(tags: &Arc<Tags>, parts: Vec<StatePart>) -> Result<Self> {
        let mut tagger = Tagger::new(Arc::clone(tags), 0, 1)?;
        let lanes = Lanes::Changed;
        LaneState { parts, lanes }.restore(&mut tagger)?;
        Ok(Self { tagger })
    }

    /// As of when it is.
    pub fn as_of(&self) -> EventTime {
        EventTime::from_micros(self.tagger.done())
    }

    /// What is known of a key; none of one that is not known.
    ///
    /// # Errors
    /// `Config` where the time is before [`Known::as_of`], or the key cannot be one.
    pub fn get(&mut self, lookup: &Lookup) -> Result<Option<Profiled>> {
        let key = hash(&self.tagger.tags, &lookup.key)?;
        self.tagger.known(key, lookup.as_of)
    }

    /// How many keys are in the segment; none if there is no such segment.
    ///
    /// # Errors
    /// `Data` where a key's state cannot be read.
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
    /// `Config` where it cannot be one.
    pub fn key_group(&self, key: &str) -> Result<KeyGroup> {
        hash(self, key).map(KeyHash::key_group)
    }

    /// Whether a stored part is one of keys, each of which one lane has.
    pub fn is_of_keys(part: &str) -> bool {
        users::is_part(part) || Held::is_part(part)
    }

    /// What there is of one key, and of the tags themselves, in stored parts.
    ///
    /// # Errors
    /// `Config` where the key cannot be one; `Data` where a part cannot be read.
    pub fn of_key(&self, key: &str, parts: Vec<StatePart>) -> Result<Vec<StatePart>> {
        let key = hash(self, key)?;
        let parts = parts.into_iter().filter_map(|part| {
            if users::is_part(&part.key) {
                users::of_key(part, key).transpose()
            } else {
                (!Held::is_part(&part.key)).then_some(Ok(part))
            }
        });
        parts.collect()
    }
}

impl Tagger {
    /// The [`Profiled`] of a [`Lookup`], or null, where this lane has the key; both
    /// are JSON.
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

    fn known(&mut self, key: KeyHash, as_of: Option<EventTime>) -> Result<Option<Profiled>> {
        let now = EventTime::from_micros(self.done());
        let as_of = as_of.unwrap_or(now);
        if as_of < now {
            return Err(Error::config(format!(
                "the state is as of {now}, and what was before is gone; changes up to then are in \
                 the table of `tags.changes`"
            )));
        }
        self.look(key, as_of.as_micros())
    }

    pub(super) fn profiled(&self, user: &User) -> Profiled {
        let plan = &self.plan;
        let at = |time: i64| EventTime::from_micros(time);
        let tags = plan.tags.iter().enumerate().map(|(place, tag)| TagValue {
            name: tag.name.clone(),
            json: user.value(plan, place).json(&tag.data_type),
            since: user.since(place).map(at),
            falls_at: user.falls_at(plan, place).map(at),
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
        Profiled {
            as_of: at(user.clock()),
            tags: tags.collect(),
            segments: segments.collect(),
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
