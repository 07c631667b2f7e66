//! The tags of keys and the members of segments in a test.

use std::collections::{BTreeMap, BTreeSet};

use arrow::{
    array::{AsArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Schema},
};
use serde_json::Value;
use tagflow_engine::{Error, Result};
use tagflow_pipelines::expected;

use crate::profiles::KeyProfile;

/// The members of each segment, by all changes so far.
#[derive(Debug, Default)]
pub(super) struct Members(BTreeMap<String, BTreeSet<String>>);

impl Members {
    /// Applies rows of `segments.changes`.
    pub(super) fn take(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys = text(rows, 1)?;
        let (segments, ops) = (named(rows, "segment")?, named(rows, "op")?);
        for row in 0..rows.num_rows() {
            let members = self.0.entry(segments.value(row).to_owned()).or_default();
            let key = keys.value(row);
            if ops.value(row) == "entered" {
                members.insert(key.to_owned());
            } else {
                members.remove(key);
            }
        }
        Ok(())
    }

    /// The members of a segment.
    pub(super) fn of(&self, segment: &str) -> Vec<&str> {
        let members = self.0.get(segment).into_iter().flatten();
        members.map(String::as_str).collect()
    }
}

/// The value of `tag`, as one row of `profile`.
pub(super) fn row(known: &KeyProfile, tag: &str, profile: &Schema) -> Result<RecordBatch> {
    let unreadable = || Error::internal(format!("`{tag}` has no value of its type"));
    let known = known.tags.iter().find(|known| known.name == tag);
    let json = &known.ok_or_else(unreadable)?.json;
    let value: Value =
        serde_json::from_str(json).map_err(|error| unreadable().with_source(error))?;
    let field = profile.field_with_name(tag)?.clone().with_nullable(true);
    Ok(expected::read(&[field], &[(tag, &value)])?)
}

fn text(rows: &RecordBatch, column: usize) -> Result<StringArray> {
    let texts = cast(rows.column(column), &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().clone())
}

fn named(rows: &RecordBatch, column: &str) -> Result<StringArray> {
    text(rows, rows.schema().index_of(column)?)
}
