//! Columns that must not be empty.

use std::collections::BTreeSet;

use arrow::{
    array::{Array, AsArray, BooleanArray},
    compute::filter_record_batch,
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Result,
    source::{Decoded, Decoder, Rejected, Rows},
};

use super::decode_error::DecodeError;

/// Wraps `decoder` and rejects rows in which one of the string columns `keys` is empty. A null is
/// not empty.
pub fn not_empty(decoder: Box<dyn Decoder>, keys: BTreeSet<String>) -> Box<dyn Decoder> {
    if keys.is_empty() {
        return decoder;
    }
    Box::new(NotEmpty { decoder, keys })
}

struct NotEmpty {
    decoder: Box<dyn Decoder>,
    keys: BTreeSet<String>,
}

impl Decoder for NotEmpty {
    fn decode(&mut self, rows: &Rows) -> Result<Decoded> {
        let Decoded {
            records,
            mut rejected,
        } = self.decoder.decode(rows)?;
        let keys = self.keys.iter().map(String::as_str);
        let empty: Vec<(usize, &str)> = keys
            .flat_map(|key| empty(&records, key).map(move |row| (row, key)))
            .collect();
        if empty.is_empty() {
            return Ok(Decoded { records, rejected });
        }
        let mut stays = vec![true; records.num_rows()];
        let places = places(&rejected, records.num_rows());
        for (row, key) in empty {
            if std::mem::take(&mut stays[row]) {
                rejected.push(DecodeError::empty_key(key).at(places[row] as usize));
            }
        }
        rejected.sort_by_key(|rejected| rejected.row);
        Ok(Decoded {
            records: filter_record_batch(&records, &BooleanArray::from(stays))?,
            rejected,
        })
    }
}

/// The rows where the string column `key` is empty.
fn empty<'a>(records: &'a RecordBatch, key: &str) -> impl Iterator<Item = usize> + use<'a> {
    let column = records.column_by_name(key);
    let values = column.and_then(|column| column.as_string_opt::<i32>());
    values.into_iter().flat_map(|values| {
        (0..values.len()).filter(|row| values.is_valid(*row) && values.value_length(*row) == 0)
    })
}

/// The index of each good row in its chunk.
fn places(rejected: &[Rejected], good: usize) -> Vec<u32> {
    let mut rejected = rejected.iter().map(|rejected| rejected.row).peekable();
    let rows = (0..).filter(|row| rejected.next_if_eq(row).is_none());
    rows.take(good).collect()
}

#[cfg(test)]
mod tests {
    use tagflow_engine::source::EncodedRows;
    use tagflow_schemas::Column;

    use super::*;
    use crate::format::{JsonFormat, JsonOptions};

    fn decode(lines: &[&str], keys: &[&str]) -> Decoded {
        let mut rows = EncodedRows::default();
        let mut data = String::new();
        for (offset, line) in lines.iter().enumerate() {
            let start = data.len() as u32;
            data.push_str(line);
            rows.spans.push((start, data.len() as u32));
            rows.offsets.push(offset as i64);
        }
        rows.data = data.into();
        let column = |name: &str, kind: &str| Column {
            name: name.into(),
            kind: kind.parse().unwrap(),
            nullable: true,
        };
        let columns = vec![
            column("user", "string"),
            column("n", "int64"),
            column("team", "string"),
        ];
        let json = Box::new(JsonFormat::new(columns, JsonOptions::default()));
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        not_empty(json, keys).decode(&Rows::Encoded(rows)).unwrap()
    }

    #[test]
    fn rows_without_a_name_are_rejected_in_their_places() {
        let lines = [
            r#"{"user":"a","n":1}"#,
            "broken",
            r#"{"user":"","n":2,"team":""}"#,
            r#"{"n":3}"#,
            r#"{"user":"b","team":""}"#,
            "{",
        ];
        let decoded = decode(&lines, &["team", "user"]);
        let rejected: Vec<_> = decoded
            .rejected
            .iter()
            .map(|it| (it.row, it.reason, it.field.as_deref()))
            .collect();
        assert_eq!(
            rejected,
            [
                (1, "not_json", None),
                (2, "empty_key", Some("team")),
                (4, "empty_key", Some("team")),
                (5, "not_json", None),
            ]
        );
        let users = decoded.records["user"].as_string::<i32>();
        assert_eq!(users.iter().collect::<Vec<_>>(), [Some("a"), None]);
        assert_eq!(
            decoded.rejected[1].message,
            "`team` is empty, and rows go by it"
        );
        // Other columns, and columns of other types, are not checked.
        assert_eq!(decode(&lines, &["n"]).rejected.len(), 2);
        assert_eq!(decode(&lines, &[]).rejected.len(), 2);
    }
}
