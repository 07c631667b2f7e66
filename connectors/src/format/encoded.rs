//! The common part of all formats of encoded rows.

use tagflow_engine::{
    Error, Result,
    source::{EncodedRows, Rejected, Rows},
};

use super::{decode_error::DecodeError, row_builder::RowBuilder};

/// The encoded rows of a chunk, for a format that decodes only those.
pub(super) fn encoded<'a>(rows: &'a Rows, format: &str) -> Result<&'a EncodedRows> {
    match rows {
        Rows::Encoded(rows) if i32::try_from(rows.data.len()).is_ok() => Ok(rows),
        Rows::Encoded(_) => Err(Error::internal("a chunk of 2 GiB or more")),
        Rows::Columns(_) => Err(Error::internal(format!(
            "the {format} format was given columns"
        ))),
    }
}

/// Decodes each row of `rows` into `row_builder` with `read`, or rejects it with a problem.
pub(super) fn decode_rows(
    rows: &EncodedRows,
    max_row_bytes: usize,
    table: &mut RowBuilder,
    mut read: impl FnMut(&str, &mut RowBuilder) -> Result<(), DecodeError>,
) -> Vec<Rejected> {
    let mut rejected = Vec::new();
    // One UTF-8 check of the whole chunk is cheaper than one per row. If it fails, each row is
    // checked alone.
    let text = std::str::from_utf8(&rows.data).ok();
    for row in 0..rows.len() {
        let result = row_text(rows, row, max_row_bytes, text)
            .and_then(|text| read(text, table))
            .and_then(|()| table.end_row());
        if let Err(problem) = result {
            table.undo_row();
            rejected.push(problem.at(row));
        }
    }
    rejected
}

fn row_text<'a>(
    rows: &'a EncodedRows,
    row: usize,
    max_row_bytes: usize,
    chunk: Option<&'a str>,
) -> Result<&'a str, DecodeError> {
    let bytes = rows.row(row).ok_or_else(DecodeError::tombstone)?;
    if bytes.len() > max_row_bytes {
        return Err(DecodeError::too_large(max_row_bytes));
    }
    if bytes.is_empty() {
        return Err(DecodeError::empty());
    }
    let (start, end) = rows.spans[row];
    match chunk.and_then(|chunk| chunk.get(start as usize..end as usize)) {
        Some(text) => Ok(text),
        None => std::str::from_utf8(bytes)
            .map_err(|error| DecodeError::invalid_utf8(error.valid_up_to())),
    }
}
