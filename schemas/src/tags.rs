//! The tables of tags and segments.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The columns of `tags.changes`. One row a change of a tag:
///
/// | column | meaning |
/// | --- | --- |
/// | the key's name | whose tag it is |
/// | `tag` | which tag |
/// | `op` | `set`: it has a value, or another one; `retract`: a late event showed that what fired should not have; `forget`: its key is forgotten |
/// | `old` | the value before, as text; a list is a JSON array |
/// | `new` | the value now |
/// | `event_time` | the time of the event that did it; null where none did |
/// | `effective_at` | the event time since which the new value is true |
/// | `cause` | `event`; `late_event`, behind the watermark; `expiry`: events left the window; `absence`: something did not happen in time; `ttl`: the value was too old; `state_ttl`: the key had no event for too long |
pub fn changes(key: &Field) -> SchemaRef {
    Arc::new(Schema::new(vec![
        key.clone().with_nullable(false),
        Field::new("tag", DataType::Utf8, false),
        Field::new("op", DataType::Utf8, false),
        Field::new("old", DataType::Utf8, true),
        Field::new("new", DataType::Utf8, true),
        Field::new("event_time", utc(), true),
        Field::new("effective_at", utc(), false),
        Field::new("cause", DataType::Utf8, false),
    ]))
}

/// The columns of `tags.current`. One row a key:
///
/// | column | meaning |
/// | --- | --- |
/// | the key's name | whose tags they are |
/// | `as_of` | the event time as of which they are |
/// | a column a tag | its value |
/// | `segments` | the names of the segments that the key is in, in the order of the pipeline file |
pub fn profile(key: &Field, tags: &[Field]) -> SchemaRef {
    let mut fields = vec![
        key.clone().with_nullable(false),
        Field::new("as_of", utc(), false),
    ];
    fields.extend_from_slice(tags);
    fields.push(Field::new_list(
        "segments",
        Field::new_list_field(DataType::Utf8, true),
        false,
    ));
    Arc::new(Schema::new(fields))
}

/// The columns of `segments.changes`. One row for each time that a key enters or
/// leaves a segment:
///
/// | column | meaning |
/// | --- | --- |
/// | `segment` | which segment |
/// | the key's name | who |
/// | `op` | `entered` or `left` |
/// | `effective_at` | the event time since which it is so |
/// | `why` | the rule, with the values that it went by |
pub fn segments(key: &Field) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("segment", DataType::Utf8, false),
        key.clone().with_nullable(false),
        Field::new("op", DataType::Utf8, false),
        Field::new("effective_at", utc(), false),
        Field::new("why", DataType::Utf8, false),
    ]))
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}
