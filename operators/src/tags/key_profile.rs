//! The profile of a key, for queries.

use serde::{Deserialize, Serialize};
use tagflow_engine::EventTime;

use super::{key_state::KeyState, kinds::Tile, plan::Plan, state_schema::StateSchema};

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

impl KeyProfile {
    /// The profile of a key at its clock.
    pub(super) fn new(
        plan: &Plan,
        layout: &StateSchema,
        user: &KeyState,
        waiting_events: usize,
    ) -> Self {
        let at = |time: i64| EventTime::from_micros(time);
        let tags = plan.tags.iter().enumerate().map(|(place, tag)| TagValue {
            name: tag.name.clone(),
            json: user.value(plan, place).json(&tag.data_type),
            since: user.since(place).map(at),
            expires_at: user.expires_at(plan, place).map(at),
            complete_since: layout.complete_since(plan, place, user.clock()).map(at),
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
        Self {
            as_of: at(user.clock()),
            tags: tags.collect(),
            segments: segments.collect(),
            waiting_events,
        }
    }
}
