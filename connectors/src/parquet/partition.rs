//! Which rows belong to which Hive folder.

use std::{collections::HashMap, fmt::Write as _};

use arrow::{
    array::{Array, ArrayRef, UInt32Array},
    compute::take_record_batch,
    datatypes::DataType,
    record_batch::RecordBatch,
    row::{RowConverter, SortField},
    util::display::{ArrayFormatter, FormatOptions},
};
use object_store::path::Path;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tagflow_engine::{Error, Result};

use super::layout::Layout;

/// The folder of rows without a value, as Hive, Spark and Trino name it.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// File systems allow no longer name.
const FOLDER_NAME_BYTES: usize = 255;

/// What Hive escapes, and what object stores advise against. All else,
/// Chinese letters too, stays readable.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'\'')
    .add(b'*')
    .add(b'/')
    .add(b':')
    .add(b'=')
    .add(b'?')
    .add(b'\\')
    .add(b'{')
    .add(b'}')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'<')
    .add(b'>')
    .add(b'~')
    .add(b'|');

/// Splits rows by their partition columns.
#[derive(Debug)]
pub(super) struct Partitioner {
    names: Vec<String>,
    /// The partition columns are the table's last ones, from here.
    first: usize,
    rows: RowConverter,
}

/// Whether values of this type can name a folder.
pub(super) fn names_a_folder(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Boolean
                | DataType::Date32
                | DataType::Timestamp(_, _)
                | DataType::Decimal128(_, _)
        )
}

impl Partitioner {
    /// For the partition columns of `layout`.
    pub(super) fn new(layout: &Layout) -> Result<Self> {
        let first = layout.file.fields().len();
        let columns = layout.table.fields().iter().skip(first);
        let sort_fields = columns
            .clone()
            .map(|field| SortField::new(field.data_type().clone()))
            .collect();
        Ok(Self {
            names: columns.map(|field| field.name().clone()).collect(),
            first,
            rows: RowConverter::new(sort_fields)?,
        })
    }

    /// The rows of each folder, in the order in which folders appear and with
    /// the rows of each in their order. A folder may come twice.
    pub(super) fn split(&self, rows: RecordBatch) -> Result<Vec<(Path, RecordBatch)>> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let Some(keys) = rows.columns().get(self.first..).filter(|k| !k.is_empty()) else {
            return Ok(vec![(Path::ROOT, rows)]);
        };
        let groups = self.groups(keys)?;
        let formatters = formatters(keys)?;
        let folder = |group: &[u32]| {
            // A group has a row.
            let row = group.first().map_or(0, |&row| row as usize);
            self.folder(keys, &formatters, row)
        };
        if let [only] = groups.as_slice() {
            return Ok(vec![(folder(only)?, rows.clone())]);
        }
        groups
            .into_iter()
            .map(|group| {
                let folder = folder(&group)?;
                Ok((folder, take_record_batch(&rows, &UInt32Array::from(group))?))
            })
            .collect()
    }

    /// The row numbers of each distinct key.
    fn groups(&self, keys: &[ArrayRef]) -> Result<Vec<Vec<u32>>> {
        let rows = self.rows.convert_columns(keys)?;
        let mut group_of = HashMap::new();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for (number, key) in (0..).zip(rows.iter()) {
            let group = *group_of.entry(key).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups
                .get_mut(group)
                .expect("the group was pushed")
                .push(number);
        }
        Ok(groups)
    }

    /// `dt=2026-01-05/country=cn`.
    fn folder(
        &self,
        keys: &[ArrayRef],
        formatters: &[ArrayFormatter<'_>],
        row: usize,
    ) -> Result<Path> {
        let mut folder = String::new();
        for ((name, key), formatter) in self.names.iter().zip(keys).zip(formatters) {
            if !folder.is_empty() {
                folder.push('/');
            }
            let start = folder.len();
            let value = if key.is_null(row) {
                String::new()
            } else {
                formatter.value(row).try_to_string()?
            };
            let value = if value.is_empty() { NO_VALUE } else { &value };
            let (name, value) = (escaped(name), escaped(value));
            write!(folder, "{name}={value}").expect("writing to a string cannot fail");
            if folder.len() - start > FOLDER_NAME_BYTES {
                return Err(Error::data(format!(
                    "the value of partition column `{name}` is too long for the name of a \
                     folder ({FOLDER_NAME_BYTES} bytes): `{value}`"
                )));
            }
        }
        Path::parse(&folder)
            .map_err(|error| Error::internal("a Hive folder has a bad name").with_source(error))
    }
}

fn formatters(keys: &[ArrayRef]) -> Result<Vec<ArrayFormatter<'_>>> {
    static OPTIONS: FormatOptions<'static> = FormatOptions::new();
    keys.iter()
        .map(|key| Ok(ArrayFormatter::try_new(key.as_ref(), &OPTIONS)?))
        .collect()
}

fn escaped(text: &str) -> String {
    // `utf8_percent_encode` would escape every letter beyond ASCII.
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(|letter: char| !letter.is_ascii()) {
        let ascii_end = piece
            .trim_end_matches(|letter: char| !letter.is_ascii())
            .len();
        let (ascii, letter) = piece.split_at(ascii_end);
        out.extend(utf8_percent_encode(ascii, ESCAPED));
        out.push_str(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_as_hive_does() {
        for (value, expected) in [
            ("2026-01-05", "2026-01-05"),
            ("a/b=c", "a%2Fb%3Dc"),
            ("100%", "100%25"),
            ("10:30", "10%3A30"),
            ("春节 sale", "春节 sale"),
            ("é/ü", "é%2Fü"),
            ("a\tb\u{7f}", "a%09b%7F"),
            ("..", ".."),
        ] {
            assert_eq!(escaped(value), expected);
        }
    }
}
