//! Columns from the names of a file's folders, beside the columns of its rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, UInt32Array},
    compute::take,
    record_batch::{RecordBatch, RecordBatchOptions},
};
use tagflow_engine::{
    Result,
    source::{Decoded, Decoder, Rows},
};
use tagflow_schemas::Column;

use super::{Tz, buffer::ColumnBuffer, csv::append_text, decode_error::DecodeError};

/// Makes a decoder of the rows' own columns, given the names of the folder columns.
pub type RowsDecoder =
    Arc<dyn Fn(Vec<Column>, &[String]) -> Result<Box<dyn Decoder>> + Send + Sync>;

/// Rows in Hive folders. A column that a folder names has the folder's value in each row, parsed as
/// in CSV; it replaces the row's own value. All other columns are the rows' own.
pub struct FoldersFormat {
    columns: Vec<Column>,
    assume_timezone: Option<Tz>,
    of_rows: RowsDecoder,
    /// The decoder of the last rows.
    own: OwnColumns,
}

/// The columns that the rows contain themselves.
struct OwnColumns {
    /// The names of the folder columns.
    folders: Vec<String>,
    decoder: Box<dyn Decoder>,
}

impl FoldersFormat {
    /// Decodes `columns`; `of_rows` decodes those that no folder names.
    ///
    /// # Errors
    /// As `of_rows`.
    pub fn new(
        columns: Vec<Column>,
        assume_timezone: Option<Tz>,
        of_rows: RowsDecoder,
    ) -> Result<Self> {
        let own = OwnColumns {
            decoder: of_rows(columns.clone(), &[])?,
            folders: Vec::new(),
        };
        Ok(Self {
            columns,
            assume_timezone,
            of_rows,
            own,
        })
    }

    /// Switches to rows of other folders.
    fn enter(&mut self, folders: Vec<String>) -> Result<()> {
        if self.own.folders != folders {
            let columns = self.columns.iter();
            let own = columns.filter(|column| !folders.contains(&column.name));
            self.own = OwnColumns {
                decoder: (self.of_rows)(own.cloned().collect(), &folders)?,
                folders,
            };
        }
        Ok(())
    }

    /// The constant value of `column`, or the reason why it has none.
    fn value(&self, column: &Column, text: Option<&str>) -> Result<Result<ArrayRef, DecodeError>> {
        let mut value = ColumnBuffer::new(&column.kind);
        match text {
            Some(text) => {
                if let Err(problem) =
                    append_text(text, &mut value, &column.name, self.assume_timezone)
                {
                    return Ok(Err(problem));
                }
            }
            None if column.nullable => value.append_null(),
            None => return Ok(Err(DecodeError::missing_field(&column.name))),
        }
        value.finish().map(Ok)
    }
}

impl Decoder for FoldersFormat {
    fn decode(&mut self, rows: &Rows) -> Result<Decoded> {
        let said = |column: &Column| {
            let mut folders = rows.folders().iter();
            let folder = folders.find(|(name, _)| **name == *column.name)?;
            Some(folder.1.as_deref())
        };
        let named = self.columns.iter().filter(|column| said(column).is_some());
        self.enter(named.map(|column| column.name.clone()).collect())?;
        let decoded = self.own.decoder.decode(rows)?;
        if self.own.folders.is_empty() {
            return Ok(decoded);
        }

        let count = decoded.records.num_rows();
        let all_the_first = UInt32Array::from(vec![0; count]);
        let mut own = decoded.records.columns().iter();
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let Some(text) = said(column) else {
                columns.extend(own.next().cloned());
                continue;
            };
            match self.value(column, text)? {
                Ok(value) => columns.push(take(&value, &all_the_first, None)?),
                Err(problem) => return Ok(self.none(rows, problem)),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Column::schema(&self.columns);
        Ok(Decoded {
            records: RecordBatch::try_new_with_options(schema, columns, &options)?,
            rejected: decoded.rejected,
        })
    }
}

impl FoldersFormat {
    /// Rejects every row, because a folder's value does not fit its column.
    fn none(&self, rows: &Rows, problem: DecodeError) -> Decoded {
        let mut rejected = vec![problem.at(0)];
        let first = rejected[0].clone();
        rejected.extend(
            (1..rows.len() as u32).map(|row| tagflow_engine::source::Rejected {
                row,
                ..first.clone()
            }),
        );
        Decoded {
            records: RecordBatch::new_empty(Column::schema(&self.columns)),
            rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use tagflow_engine::source::EncodedRows;
    use tagflow_schemas::ColumnType;

    use super::*;
    use crate::format::{JsonFormat, JsonOptions};

    fn column(name: &str, kind: ColumnType, nullable: bool) -> Column {
        Column {
            name: name.to_owned(),
            kind,
            nullable,
        }
    }

    fn rows(folders: &[(&str, Option<&str>)]) -> Rows {
        let mut rows = Rows::Encoded(EncodedRows {
            data: "{\"id\":1,\"dt\":\"own\"}[]{\"id\":2}".into(),
            spans: vec![(0, 19), (19, 21), (21, 29)],
            offsets: vec![0, 19, 21],
            ..EncodedRows::default()
        });
        let folders = folders.iter().map(|(name, value)| {
            let value = value.map(Box::from);
            (Box::from(*name), value)
        });
        rows.in_folders(Some(folders.collect()));
        rows
    }

    fn cells(decoded: &Decoded) -> Vec<String> {
        let records = &decoded.records;
        let cell = |column, row| {
            arrow::util::display::array_value_to_string(records.column(column), row).unwrap()
        };
        (0..records.num_rows())
            .map(|row| {
                let cells = (0..records.num_columns()).map(|column| cell(column, row));
                cells.collect::<Vec<_>>().join(",")
            })
            .collect()
    }

    #[test]
    fn regression_a_folder_is_a_column_of_its_rows() {
        let columns = vec![
            column("dt", ColumnType::String, true),
            column("id", ColumnType::Int64, false),
            column("hour", ColumnType::Int64, false),
        ];
        let of_rows: RowsDecoder =
            Arc::new(|columns, _| Ok(Box::new(JsonFormat::new(columns, JsonOptions::default()))));
        let mut format = FoldersFormat::new(columns, None, of_rows).unwrap();
        for (folders, expected, reasons) in [
            (
                &[("dt", Some("2026")), ("hour", Some("7")), ("other", None)][..],
                &["2026,1,7", "2026,2,7"][..],
                &["wrong_type"][..],
            ),
            (
                &[("dt", None), ("hour", Some("8"))],
                &[",1,8", ",2,8"],
                &["wrong_type"],
            ),
            // Not a number, and null in a required column.
            (&[("hour", Some("x"))], &[], &["wrong_type"; 3]),
            (&[("hour", None)], &[], &["missing_field"; 3]),
            // The rows themselves lack it.
            (&[], &[], &["missing_field", "wrong_type", "missing_field"]),
            (
                &[("dt", Some("")), ("hour", Some("7"))],
                &[",1,7", ",2,7"],
                &["wrong_type"],
            ),
        ] {
            let decoded = format.decode(&rows(folders)).unwrap();
            assert_eq!(cells(&decoded), expected, "{folders:?}");
            let found: Vec<_> = decoded.rejected.iter().map(|it| it.reason).collect();
            assert_eq!(found, reasons, "{folders:?}");
        }
    }
}
