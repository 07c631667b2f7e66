//! The profile of a key at a past time, rebuilt from the emitted changes.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray},
    compute::kernels::cast_utils::Parser,
    datatypes::{DataType, Int64Type, TimestampMicrosecondType},
    util::display::array_value_to_string,
};
use serde_json::Value as Json;
use tagflow_engine::{Error, EventTime, Result};

use super::{
    key_profile::{KeyProfile, TagValue},
    set::Tags,
    value,
};

/// Rows of `tags.changes` and `segments.changes`, possibly with other rows.
#[derive(Debug, Default)]
pub struct ChangeHistory {
    /// Changes of the key, and maybe of other keys: all up to the time.
    pub changes: Vec<RecordBatch>,
    /// The same for segments.
    pub moves: Vec<RecordBatch>,
}

/// A row of `tags.changes`.
struct Change {
    tag: String,
    is_forgotten: bool,
    old: Option<String>,
    new: Option<String>,
    at: i64,
    /// Its position among the changes of the key; none in rows of older versions.
    seq: Option<i64>,
}

/// The value of a tag as text, and the time since which the tag has it.
type Value = (Option<String>, Option<i64>);

impl Tags {
    /// The profile of a key as of `as_of`; none if the rows have no change of the key, or
    /// the key was forgotten by then. It equals the result of a lookup at that time, plus
    /// the corrections by late events since. Events beyond `allowed_lateness` may cause
    /// other differences. A `time_since` tag with a `ttl` is omitted, because it emits no
    /// changes.
    ///
    /// A key whose first event was at `known_since` needs no changes to be known.
    ///
    /// # Errors
    /// `Data` if the rows do not have the columns of [`tagflow_schemas::tags`].
    pub fn told(
        &self,
        told: &ChangeHistory,
        key: &str,
        as_of: EventTime,
        known_since: Option<EventTime>,
    ) -> Result<Option<KeyProfile>> {
        let changes = self.changes_of(&told.changes, key, as_of)?;
        let forgotten = changes.iter().filter(|it| it.is_forgotten);
        let forgotten = forgotten.map(|it| it.at).max().unwrap_or(i64::MIN);
        let is_known = |it: &Change| !it.is_forgotten && it.at >= forgotten;
        let segments = self.members(&told.moves, key, as_of)?;
        // A key whose tags all have their initial values may be in a segment.
        let is_known_now = known_since.is_some_and(|since| since <= as_of);
        if !is_known_now && segments.is_empty() && !changes.iter().any(is_known) {
            return Ok(None);
        }
        let mut by_tag: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
        for change in &changes {
            by_tag.entry(&change.tag).or_default().push(change);
        }
        let mut values: Vec<Value> = Vec::new();
        let mut tags = Vec::new();
        for tag in &self.plan.tags {
            let none = tag.default.text(&tag.data_type);
            let derived = tag.source.derived();
            let value = if let Some(derived) = derived.filter(|derived| !derived.has_changes()) {
                let since = values[derived.tag()].0.as_deref();
                let of = &self.plan.tags[derived.tag()].data_type;
                let value = derived.value(&time(since), of, as_of.as_micros());
                (value.text(&tag.data_type), None)
            } else {
                let changes = by_tag.remove(tag.name.as_str()).unwrap_or_default();
                value_after(none, &changes)
            };
            if tag.has_changes() || tag.ttl_us.is_none() {
                tags.push(TagValue {
                    name: tag.name.clone(),
                    json: json(value.0.as_deref(), &tag.data_type),
                    since: value.1.map(EventTime::from_micros),
                    expires_at: None,
                    complete_since: None,
                    tiles: Vec::new(),
                });
            }
            values.push(value);
        }
        Ok(Some(KeyProfile {
            as_of,
            tags,
            segments,
            waiting_events: 0,
        }))
    }

    /// The changes of a key up to a time, in order, except within one time.
    fn changes_of(&self, rows: &[RecordBatch], key: &str, as_of: EventTime) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for rows in rows {
            let text = |name| texts(rows, name);
            let (tags, ops) = (text("tag")?, text("op")?);
            let (olds, news) = (text("old")?, text("new")?);
            let seqs = rows.column_by_name("seq");
            let seqs = seqs.and_then(|seqs| seqs.as_primitive_opt::<Int64Type>());
            let value =
                |texts: &StringArray, row| texts.is_valid(row).then(|| texts.value(row).to_owned());
            for (row, at) in self.rows_of(rows, key, as_of)? {
                changes.push(Change {
                    tag: tags.value(row).to_owned(),
                    is_forgotten: ops.value(row) == "forget",
                    old: value(olds, row),
                    new: value(news, row),
                    at,
                    seq: seqs.filter(|it| it.is_valid(row)).map(|it| it.value(row)),
                });
            }
        }
        changes.sort_by_key(|change| (change.at, change.seq));
        Ok(changes)
    }

    /// The segments that contain the key, with the time since when, in their order.
    fn members(
        &self,
        rows: &[RecordBatch],
        key: &str,
        as_of: EventTime,
    ) -> Result<Vec<(String, EventTime)>> {
        // Entries minus exits, and the last entry.
        let mut entered: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for rows in rows {
            let (segments, ops) = (texts(rows, "segment")?, texts(rows, "op")?);
            for (row, at) in self.rows_of(rows, key, as_of)? {
                let (times, last) = entered.entry(segments.value(row)).or_default();
                if ops.value(row) == "entered" {
                    (*times, *last) = (*times + 1, at.max(*last));
                } else {
                    *times -= 1;
                }
            }
        }
        let since = |name: &String| {
            let (_, since) = entered.get(name.as_str()).filter(|(times, _)| *times > 0)?;
            Some((name.clone(), EventTime::from_micros(*since)))
        };
        Ok(self.plan.segments.iter().filter_map(since).collect())
    }

    /// The rows of a key up to a time, with the time at which each is effective.
    fn rows_of(
        &self,
        rows: &RecordBatch,
        key: &str,
        as_of: EventTime,
    ) -> Result<Vec<(usize, i64)>> {
        let keys = column(rows, self.key_name())?;
        let times: &TimestampMicrosecondArray = column(rows, "effective_at")?
            .as_primitive_opt()
            .ok_or_else(|| unreadable("effective_at"))?;
        let mut found = Vec::new();
        for (row, at) in times.values().iter().enumerate() {
            if *at <= as_of.as_micros() && array_value_to_string(keys, row)? == key {
                found.push((row, *at));
            }
        }
        Ok(found)
    }
}

/// The value of a tag that was `none` before `changes`, which are in order except within
/// one time. Each change replaces an old value by a new one. So the last change of a
/// time is the one whose new value no other change replaces.
fn value_after(none: Option<String>, changes: &[&Change]) -> Value {
    let (mut value, mut since) = (none.clone(), None);
    for changes in changes.chunk_by(|one, other| one.at == other.at) {
        let new = |it: &&Change| {
            if it.is_forgotten {
                none.clone()
            } else {
                it.new.clone()
            }
        };
        since = changes.first().map(|it| it.at);
        if let (Some(last), true) = (changes.last(), changes.iter().all(|it| it.seq.is_some())) {
            value = new(last);
            continue;
        }
        let mut values: Vec<Option<String>> = changes.iter().map(new).collect();
        values.insert(0, value);
        for change in changes {
            if let Some(place) = values.iter().position(|value| *value == change.old) {
                values.remove(place);
            }
        }
        value = values.pop().flatten();
    }
    (value, since)
}

/// A time in a table. Tags without changes are computed from times alone.
fn time(text: Option<&str>) -> value::Value {
    let time = text.and_then(TimestampMicrosecondType::parse);
    time.map_or(value::Value::Null, value::Value::Int)
}

fn json(text: Option<&str>, data_type: &DataType) -> String {
    match (text, data_type) {
        (None, _) => "null".to_owned(),
        (
            Some(text),
            DataType::Int64 | DataType::Float64 | DataType::Boolean | DataType::List(_),
        ) => text.to_owned(),
        (Some(text), _) => Json::from(text).to_string(),
    }
}

fn texts<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    let column = column(rows, name)?.as_string_opt();
    column.ok_or_else(|| unreadable(name))
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    let column = rows.column_by_name(name);
    Ok(column.ok_or_else(|| unreadable(name))?.as_ref())
}

fn unreadable(column: &str) -> Error {
    Error::data(format!(
        "a table of changes has no such `{column}` as it should"
    ))
}
