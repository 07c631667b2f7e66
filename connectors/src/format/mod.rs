//! How the bytes of a row become columns.
//!
//! A format is a [`Decoder`](tagflow_engine::source::Decoder): a chunk of rows
//! goes in, the good rows come out as one record batch, and each bad row comes
//! out with its reason. One bad row costs that row and nothing else.
//!
//! | format | rows | a row |
//! | --- | --- | --- |
//! | [`JsonFormat`] | encoded | one JSON object |
//! | [`CsvFormat`] | encoded | one line of separated values |
//! | [`ColumnsFormat`] | columns | a row of a columnar file |
//!
//! All of them read the same types by the same rules; only what stands for
//! "no value" differs.

mod buffer;
mod columns;
mod csv;
mod encoded;
mod json;
mod key;
mod mask;
mod problem;
mod scalar;
mod table;
#[cfg(test)]
mod testing;

pub use chrono_tz::Tz;
pub use columns::ColumnsFormat;
pub use csv::{CsvFormat, CsvHeader, CsvOptions};
pub use json::{JsonFormat, JsonOptions};
pub use key::not_empty;
pub use mask::Mask;

/// The largest row that is decoded if nothing else is said: 1 MiB.
pub const DEFAULT_MAX_ROW_BYTES: usize = 1 << 20;
