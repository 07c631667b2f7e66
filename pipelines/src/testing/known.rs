//! What is known of users in a test, by all changes so far.

use std::collections::{BTreeMap, BTreeSet};

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Field, Schema},
};
use serde_json::Value;
use tagflow_engine::{Error, Result};

use super::table;

/// The tags of all keys, and who is in which segment.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// As text, by key and tag; none is null.
    values: BTreeMap<String, BTreeMap<String, Option<String>>>,
    members: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    /// Takes rows of `tags.changes`.
    pub(super) fn change(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys = text(rows, 0)?;
        let (tags, news) = (named(rows, "tag")?, named(rows, "new")?);
        for row in 0..rows.num_rows() {
            let known = self.values.entry(keys.value(row).to_owned()).or_default();
            let new = news.is_valid(row).then(|| news.value(row).to_owned());
            known.insert(tags.value(row).to_owned(), new);
        }
        Ok(())
    }

    /// Takes rows of `segments.changes`.
    pub(super) fn move_members(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys = text(rows, 1)?;
        let (segments, ops) = (named(rows, "segment")?, named(rows, "op")?);
        for row in 0..rows.num_rows() {
            let members = self
                .members
                .entry(segments.value(row).to_owned())
                .or_default();
            let key = keys.value(row);
            if ops.value(row) == "entered" {
                members.insert(key.to_owned());
            } else {
                members.remove(key);
            }
        }
        Ok(())
    }

    /// Who is in a segment.
    pub(super) fn members(&self, segment: &str) -> Vec<&str> {
        let members = self.members.get(segment).into_iter().flatten();
        members.map(String::as_str).collect()
    }

    /// Some tags of a key, as one row of `profile`; none if it is not known. A tag
    /// that never changed is what it is without an event.
    pub(super) fn row(
        &self,
        key: &str,
        tags: &[&str],
        profile: &Schema,
    ) -> Result<Option<RecordBatch>> {
        let Some(known) = self.values.get(key) else {
            return Ok(None);
        };
        let mut fields = Vec::with_capacity(tags.len());
        let mut values = Vec::with_capacity(tags.len());
        for tag in tags {
            let field = profile.field_with_name(tag)?;
            let value = match known.get(*tag) {
                Some(text) => text
                    .as_ref()
                    .map_or(Ok(Value::Null), |text| value(text, field)),
                None => Ok(without_event(field)),
            };
            let value = value.map_err(|error| {
                Error::internal(format!("`{tag}` has no value of its type")).with_source(error)
            })?;
            fields.push(field.clone().with_nullable(true));
            values.push((*tag, value));
        }
        let values: Vec<_> = values.iter().map(|(tag, value)| (*tag, value)).collect();
        Ok(Some(table::read(&fields, &values)?))
    }
}

/// The value of a tag that is written so in `tags.changes`.
fn value(text: &str, field: &Field) -> serde_json::Result<Value> {
    match field.data_type() {
        DataType::Boolean | DataType::Int64 | DataType::Float64 | DataType::List(_) => {
            serde_json::from_str(text)
        }
        _ => Ok(Value::from(text)),
    }
}

fn without_event(field: &Field) -> Value {
    match field.data_type() {
        _ if field.is_nullable() => Value::Null,
        DataType::Boolean => false.into(),
        _ => 0.into(),
    }
}

fn text(rows: &RecordBatch, column: usize) -> Result<StringArray> {
    let texts = cast(rows.column(column), &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().clone())
}

fn named(rows: &RecordBatch, column: &str) -> Result<StringArray> {
    text(rows, rows.schema().index_of(column)?)
}
