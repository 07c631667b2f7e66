//! The layout of a stored key, so that tags can be added and removed.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use serde::{Deserialize, Serialize};
use tagflow_engine::{
    Error, Result,
    state::{Snapshot, StatePart, WholePart, rows_for_all},
};

use super::{
    aggregator::Aggregator,
    key_state::KeyState,
    kinds::{Components, TiledStateKind},
    member::Member,
    plan::Plan,
    value::Value,
};

/// The key of the part that contains the layout.
const PART: &str = "layout";
const COLUMN: &str = "layout";

/// The format of stored keys. It increases with each change of the format, so that an
/// older version refuses the state. Format 3 stores the weights of rankings instead of
/// their logarithms. Format 4 stores the first event and the number of changes.
const FORMAT: u32 = 4;

/// The oldest format that can be read. Keys of several formats may lie side by side,
/// because a key is stored again only when it changes.
const OLDEST_FORMAT: u32 = 2;

/// The components of a stored key, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateSchema {
    #[serde(default)]
    format: u32,
    pieces: Vec<AggregatorSchema>,
    tags: Vec<TagSchema>,
    segments: Vec<SegmentSchema>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AggregatorSchema {
    fingerprint: String,
    /// The components of a state that tags share.
    windows: Vec<i64>,
    parts: Vec<TiledStateKind>,
}

/// A tag, with the time since which its state covers all events; none if since the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TagSchema {
    fingerprint: String,
    begun: Option<i64>,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SegmentSchema {
    name: String,
    rules: String,
}

impl StateSchema {
    /// The layout of `plan`, with tags that begin with the first event.
    pub(super) fn new(plan: &Plan) -> Self {
        let pieces = plan.pieces.iter().map(|piece| {
            let Components { windows, parts } = piece.kind.components();
            AggregatorSchema {
                fingerprint: piece.fingerprint.clone(),
                windows,
                parts,
            }
        });
        let tags = plan.tags.iter().map(|tag| TagSchema {
            fingerprint: tag.fingerprint.clone(),
            begun: None,
        });
        let segments = plan.segments.iter().zip(&plan.rules);
        let segments = segments.map(|(name, rules)| SegmentSchema {
            name: name.clone(),
            rules: rules.clone(),
        });
        Self {
            format: FORMAT,
            pieces: pieces.collect(),
            tags: tags.collect(),
            segments: segments.collect(),
        }
    }

    /// This layout as the successor of `earlier`: new tags begin at `now`.
    pub(super) fn after(mut self, earlier: &Self, now: i64) -> Self {
        for tag in &mut self.tags {
            let known = earlier.tag(&tag.fingerprint);
            tag.begun = known.map_or(Some(now), |known| earlier.tags[known].begun);
        }
        self
    }

    /// The time since which a tag covers all events, if as of `as_of` its definition also
    /// covers earlier events.
    pub(super) fn complete_since(&self, plan: &Plan, tag: usize, as_of: i64) -> Option<i64> {
        let begun = self.tags[tag].begun?;
        let covers = plan.covers_us(tag);
        let is_incomplete = covers.is_none_or(|covers| begun.saturating_add(covers) > as_of);
        is_incomplete.then_some(begun)
    }

    /// The names of the tags that, as of `as_of`, cover events from before the tags
    /// existed: a list.
    pub(super) fn incomplete(&self, plan: &Plan, as_of: i64) -> Value {
        let tags = 0..plan.tags.len();
        let tags = tags.filter(|tag| self.complete_since(plan, *tag, as_of).is_some());
        Value::List(
            tags.map(|tag| Value::Text(plan.tags[tag].name.as_str().into()))
                .collect(),
        )
    }

    /// Whether keys of both layouts have the same components. Each format that can be read
    /// is read as it is.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let tags = |layout: &Self| -> Vec<String> {
            let tags = layout.tags.iter();
            tags.map(|tag| tag.fingerprint.clone()).collect()
        };
        (&self.pieces, &self.segments, tags(self)) == (&other.pieces, &other.segments, tags(other))
    }

    /// Converts a key from this layout to `plan`: known states stay, new ones begin at
    /// `now`.
    pub(super) fn adapt(&self, plan: &Plan, mut user: KeyState, now: i64) -> KeyState {
        let clock = user.clock();
        let known = user.take_states();
        let pieces = plan.pieces.iter().map(|of| {
            let mut places = self.pieces.iter();
            let place = places.position(|it| it.fingerprint == of.fingerprint);
            let state = place.map(|place| known[place].clone());
            Aggregator::new(match state {
                Some(state) => of.kind.adapt(state, clock),
                None => of.kind.new_state(),
            })
        });
        let pieces = pieces.collect();
        let since = |since: &[Option<i64>]| {
            let tags = plan.tags.iter();
            tags.map(|tag| since[self.tag(&tag.fingerprint)?]).collect()
        };
        let members = |members: &[Member]| {
            let place = |name: &String| self.segments.iter().position(|it| it.name == *name);
            let segments = plan.segments.iter();
            let known = segments.map(|name| place(name).map(|place| members[place].clone()));
            known.map(Option::unwrap_or_default).collect()
        };
        user.adapted(plan, pieces, since, members, now)
    }

    /// The position of the tag with this fingerprint.
    fn tag(&self, fingerprint: &str) -> Option<usize> {
        let mut tags = self.tags.iter();
        tags.position(|tag| tag.fingerprint == fingerprint)
    }

    /// Adds the part to `snapshot` if it has changed.
    pub(super) fn snapshot(&self, part: &mut WholePart, snapshot: &mut Snapshot) -> Result<()> {
        part.snapshot(PART, snapshot, || {
            let text = serde_json::to_string(self).map_err(|error| {
                Error::internal("a layout cannot be written").with_source(error)
            })?;
            rows_for_all([(COLUMN, Arc::new(StringArray::from(vec![text])) as _)]).map(Some)
        })
    }

    /// Reads the layout from a stored part of a node; none if the part is another.
    pub(super) fn read(part: &StatePart, node: &str) -> Result<Option<Self>> {
        if part.key != PART {
            return Ok(None);
        }
        let unreadable = || Error::data("the stored layout of tags cannot be read");
        let texts = part.rows.column_by_name(COLUMN);
        let texts = texts.and_then(|column| column.as_string_opt::<i32>());
        let text = texts.and_then(|texts| texts.iter().flatten().next());
        let layout: Self = serde_json::from_str(text.ok_or_else(unreadable)?)
            .map_err(|error| unreadable().with_source(error))?;
        if !(OLDEST_FORMAT..=FORMAT).contains(&layout.format) {
            return Err(Error::data(format!(
                "the stored state of `{node}` is of another version of Tagflow; `run --reset {node}` \
                 begins it anew"
            )));
        }
        Ok(Some(layout))
    }
}
