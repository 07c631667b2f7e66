//! What is known of a key, for people who ask.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, StringArray},
    datatypes::DataType,
};
use tagflow_engine::{
    Error, EventTime, Result,
    operator::{Operator, Output},
    state::{KeyHash, LaneState, Lanes, StatePart},
};

use super::{
    set::Tags,
    tagger::Tagger,
    user::{Tile, User},
};

/// The keys of a commit, all lanes together.
pub struct Known {
    tags: Arc<Tags>,
    tagger: Tagger,
}

/// All that is known of a key as of a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiled {
    /// As of when.
    pub as_of: EventTime,
    /// Its tags, in the order of their definition.
    pub tags: Vec<TagValue>,
    /// The segments that it is in, and since when.
    pub segments: Vec<(String, EventTime)>,
}

/// A tag of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct TagValue {
    /// The tag's name.
    pub name: String,
    /// Its value, in JSON.
    pub json: String,
    /// Since when it has that; none if since before any event.
    pub since: Option<EventTime>,
    /// When events leave it, or it grows old, if nothing else happens.
    pub falls_at: Option<EventTime>,
    /// From when on all its events are known, if it was added later than others.
    pub complete_since: Option<EventTime>,
    /// The tiles that it is made of; none where it is not made of tiles.
    pub tiles: Vec<TagTile>,
}

/// Events of a span of time that a value is made of.
#[derive(Debug, Clone, PartialEq)]
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
        let mut tagger = Tagger::new(Arc::clone(tags), 1)?;
        tagger.restore(LaneState {
            parts,
            lanes: Lanes::Changed,
        })?;
        Ok(Self {
            tags: Arc::clone(tags),
            tagger,
        })
    }

    /// As of when it is.
    pub fn as_of(&self) -> EventTime {
        EventTime::from_micros(self.tagger.done())
    }

    /// What is known of `key` as of `as_of`, which is not before [`Known::as_of`],
    /// if no event comes until then; none of a key that is not known.
    ///
    /// # Errors
    /// `Config` where it is before, or the key cannot be one.
    pub fn get(&mut self, key: &str, as_of: Option<EventTime>) -> Result<Option<Profiled>> {
        let now = self.as_of();
        let as_of = as_of.unwrap_or(now);
        if as_of < now {
            return Err(Error::config(format!(
                "the state is as of {now}, and what was before is gone; changes up to then are in \
                 the table of `tags.changes`"
            )));
        }
        let key = self.hash(key)?;
        let mut out = Output::default();
        self.tagger.pass(key, as_of.as_micros(), &mut out)?;
        let Some(user) = self.tagger.users.get(key)? else {
            return Ok(None);
        };
        Ok(Some(self.profiled(&user)))
    }

    /// How many keys are in the segment; none if there is no such segment.
    ///
    /// # Errors
    /// `Data` where a key's state cannot be read.
    pub fn segment_size(&mut self, name: &str) -> Result<Option<usize>> {
        let mut segments = self.tags.plan.segments.iter();
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

    fn profiled(&self, user: &User) -> Profiled {
        let plan = &self.tags.plan;
        let at = |time: i64| EventTime::from_micros(time);
        let tags = plan.tags.iter().enumerate().map(|(place, tag)| TagValue {
            name: tag.name.clone(),
            json: user.value(plan, place).json(&tag.data_type),
            since: user.since(place).map(at),
            falls_at: user.falls_at(plan, place).map(at),
            complete_since: self.tagger.layout.begun(place).map(at),
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

    fn hash(&self, key: &str) -> Result<KeyHash> {
        let field = self.tags.spec.input.field(self.tags.spec.key);
        let column: ArrayRef = match field.data_type() {
            DataType::Int64 => {
                let number: i64 = key.parse().map_err(|_| {
                    Error::config(format!("`{}` is a whole number, not `{key}`", field.name()))
                })?;
                Arc::new(Int64Array::from(vec![number]))
            }
            _ => Arc::new(StringArray::from(vec![key])),
        };
        let hashes = self.tagger.hasher.hashes(&[column])?;
        let hash = hashes.into_iter().next().flatten();
        hash.ok_or_else(|| Error::internal("a key has no hash"))
    }
}
