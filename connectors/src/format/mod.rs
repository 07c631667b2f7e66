//! Decodes the bytes of rows into columns.
//!
//! A format is a [`Decoder`](tagflow_engine::source::Decoder). It decodes a chunk of rows into one
//! record batch of the good rows, and a reason for each bad row. A bad row costs only itself.
//!
//! | format | rows | a row |
//! | --- | --- | --- |
//! | [`JsonFormat`] | encoded | one JSON object |
//! | [`CsvFormat`] | encoded | one record of separated values |
//! | [`ColumnsFormat`] | columns | a row of a columnar file |
//!
//! All formats parse the same types by the same rules; only their null values differ.

mod buffer;
mod columns;
mod csv;
mod decode_error;
mod encoded;
mod folders;
mod json;
mod key;
mod mask;
mod record;
mod row_builder;
mod scalar;
#[cfg(test)]
mod testing;

pub use chrono_tz::{TZ_VARIANTS, Tz};
pub use columns::ColumnsFormat;
pub use csv::{CsvFormat, CsvHeader, CsvOptions};
pub use folders::{FoldersFormat, RowsDecoder};
pub(crate) use json::is_half_json;
pub use json::{JsonFormat, JsonOptions};
pub use key::not_empty;
pub use mask::Mask;
pub(crate) use record::{RecordEnd, Separators, Within};

/// The default limit of a row: 1 MiB.
pub const DEFAULT_MAX_ROW_BYTES: usize = 1 << 20;
