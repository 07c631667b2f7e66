//! The tables of tags and segments.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A placeholder for the key's name.
pub const KEY: &str = "";

/// The columns of [`changes`], with their meaning.
pub const CHANGES: [(&str, &str); 9] = [
    (KEY, "whose tag it is"),
    ("tag", "which tag"),
    (
        "op",
        "set: it has a value, or another one; retract: a late event showed that what fired should not have; forget: its key is forgotten",
    ),
    ("old", "the value before, as text; a list is a JSON array"),
    ("new", "the value now"),
    (
        "event_time",
        "the time of the event that did it; null where none did",
    ),
    (
        "effective_at",
        "the event time since which the new value is true",
    ),
    (
        "cause",
        "event; late_event, behind the watermark; expiry: events left the window, or time brought a score past a cut; quantiles: a score goes by the new cuts of all keys; absence: something did not happen in time; ttl: the value was too old; state_ttl: the key had no event for too long",
    ),
    (
        "seq",
        "1, 2, 3, … for the rows of a key: it orders the rows of a tag with the same effective_at; 1 again when the key's state begins again",
    ),
];

/// The columns of `tags.changes`. It has one row per change of a tag.
///
/// Their meaning is in [`CHANGES`].
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
        Field::new("seq", DataType::Int64, false),
    ]))
}

/// The columns of [`profile`], with their meaning.
pub const PROFILE: [(&str, &str); 4] = [
    (KEY, "whose tags they are"),
    ("as_of", "the event time as of which they are"),
    (
        "incomplete",
        "the names of the tags that were added later than others, and go over events from before that, which they do not know",
    ),
    (
        "segments",
        "the names of the segments that the key is in, in the order of the pipeline file",
    ),
];

/// The columns of `tags.current`. It has one row per key.
///
/// Their meaning is in [`PROFILE`].
pub fn profile(key: &Field, tags: &[Field]) -> SchemaRef {
    let mut fields = vec![
        key.clone().with_nullable(false),
        Field::new("as_of", utc(), false),
    ];
    fields.extend_from_slice(tags);
    let names = |name| Field::new_list(name, Field::new_list_field(DataType::Utf8, true), false);
    fields.extend([names("incomplete"), names("segments")]);
    Arc::new(Schema::new(fields))
}

/// The columns of [`segments`], with their meaning.
pub const SEGMENTS: [(&str, &str); 5] = [
    ("segment", "which segment"),
    (KEY, "who"),
    ("op", "entered or left"),
    ("effective_at", "the event time since which it is so"),
    ("why", "the rule, with the values that it went by"),
];

/// The columns of `segments.changes`. It has one row for each time that a key enters or leaves a
/// segment.
///
/// Their meaning is in [`SEGMENTS`].
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names<'a>(columns: &[(&'a str, &str)]) -> Vec<&'a str> {
        let named = |name| if name == KEY { "user" } else { name };
        columns.iter().map(|(name, _)| named(name)).collect()
    }

    fn fields(schema: &Schema) -> Vec<&str> {
        let fields = schema.fields().iter();
        fields.map(|field| field.name().as_str()).collect()
    }

    #[test]
    fn every_column_has_a_meaning() {
        let key = Field::new("user", DataType::Utf8, true);
        assert_eq!(fields(&changes(&key)), names(&CHANGES));
        assert_eq!(fields(&profile(&key, &[])), names(&PROFILE));
        assert_eq!(fields(&segments(&key)), names(&SEGMENTS));
        assert_eq!(fields(&crate::late::schema()), names(&crate::late::COLUMNS));
        let dead_letters = &crate::dead_letter::COLUMNS;
        assert_eq!(fields(&crate::dead_letter::schema()), names(dead_letters));
    }
}
