//! Which states a stored user has, so that tags can come and go.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use serde::{Deserialize, Serialize};
use tagflow_engine::{
    Error, Result,
    state::{Snapshot, StatePart},
};

use super::{
    part::PartKind,
    piece::{Piece, PieceKind, State},
    plan::Plan,
    segments::Member,
    user::User,
    value::Value,
};

/// The key of the part that holds it.
const PART: &str = "layout";
const COLUMN: &str = "layout";

/// How users are written. It goes up when that changes.
const FORMAT: u32 = 2;

/// What a stored user consists of, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    #[serde(default)]
    format: u32,
    pieces: Vec<PieceLayout>,
    tags: Vec<TagLayout>,
    segments: Vec<SegmentLayout>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PieceLayout {
    fingerprint: String,
    /// Of a series.
    windows: Vec<i64>,
    parts: Vec<PartKind>,
}

/// A tag, with the time from which on it knows all events; none if from the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TagLayout {
    fingerprint: String,
    begun: Option<i64>,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SegmentLayout {
    name: String,
    rules: String,
}

impl Layout {
    /// Of `plan`, with tags that begin with the first event.
    pub(super) fn new(plan: &Plan) -> Self {
        let pieces = plan.pieces.iter().map(|piece| {
            let (windows, parts) = match &piece.kind {
                PieceKind::Series(series) => (series.windows.clone(), series.parts.clone()),
                _ => (Vec::new(), Vec::new()),
            };
            PieceLayout {
                fingerprint: piece.fingerprint.clone(),
                windows,
                parts,
            }
        });
        let tags = plan.tags.iter().map(|tag| TagLayout {
            fingerprint: tag.fingerprint.clone(),
            begun: None,
        });
        let segments = plan.segments.iter().zip(&plan.rules);
        let segments = segments.map(|(name, rules)| SegmentLayout {
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

    /// This layout after `earlier`: tags that are new begin at `now`.
    pub(super) fn after(mut self, earlier: &Self, now: i64) -> Self {
        for tag in &mut self.tags {
            let known = earlier.tag(&tag.fingerprint);
            tag.begun = known.map_or(Some(now), |known| earlier.tags[known].begun);
        }
        self
    }

    /// From when on a tag knows all events, if as of `as_of` it goes over events from
    /// before that too.
    pub(super) fn complete_since(&self, plan: &Plan, tag: usize, as_of: i64) -> Option<i64> {
        let begun = self.tags[tag].begun?;
        let covers = plan.covers_us(tag);
        let is_incomplete = covers.is_none_or(|covers| begun.saturating_add(covers) > as_of);
        is_incomplete.then_some(begun)
    }

    /// The names of the tags that, as of `as_of`, go over events from before they were
    /// there: a list.
    pub(super) fn incomplete(&self, plan: &Plan, as_of: i64) -> Value {
        let tags = 0..plan.tags.len();
        let tags = tags.filter(|tag| self.complete_since(plan, *tag, as_of).is_some());
        Value::List(
            tags.map(|tag| Value::Text(plan.tags[tag].name.as_str().into()))
                .collect(),
        )
    }

    /// Whether users of one are users of the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let tags = |layout: &Self| -> Vec<String> {
            let tags = layout.tags.iter();
            tags.map(|tag| tag.fingerprint.clone()).collect()
        };
        (&self.pieces, &self.segments, tags(self)) == (&other.pieces, &other.segments, tags(other))
    }

    /// A user of this layout as `plan` has it: what is known stays, the rest begins at
    /// `now`.
    pub(super) fn adapt(&self, plan: &Plan, mut user: User, now: i64) -> User {
        let clock = user.clock();
        let known = user.take_states();
        let pieces = plan.pieces.iter().map(|of| {
            let mut places = self.pieces.iter();
            let place = places.position(|it| it.fingerprint == of.fingerprint);
            let state = place.map(|place| known[place].clone());
            Piece::new(match (state, &of.kind) {
                (Some(State::Series(series)), PieceKind::Series(of)) => {
                    State::Series(series.adapted(of, clock))
                }
                (Some(state), _) => state,
                (None, _) => State::new(of),
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

    /// The place of the tag with this fingerprint.
    fn tag(&self, fingerprint: &str) -> Option<usize> {
        let mut tags = self.tags.iter();
        tags.position(|tag| tag.fingerprint == fingerprint)
    }

    /// Adds the part to `snapshot`.
    pub(super) fn put(&self, is_stored: bool, snapshot: &mut Snapshot) -> Result<()> {
        let text = serde_json::to_string(self);
        let text =
            text.map_err(|error| Error::internal("a layout cannot be written").with_source(error))?;
        let text = Arc::new(StringArray::from(vec![text]));
        snapshot.put_for_all(PART, is_stored, COLUMN, text)
    }

    /// The layout in a stored part of a node, if it is one.
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
        if layout.format != FORMAT {
            return Err(Error::data(format!(
                "the stored state of `{node}` is of another version of Tagflow; `run --reset {node}` \
                 begins it anew"
            )));
        }
        Ok(Some(layout))
    }
}
