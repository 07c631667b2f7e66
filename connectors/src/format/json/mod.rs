//! Rows of JSON, one object each.
//!
//! One pass decodes the rows straight into columns, without a tree. A [`scanner`] returns values as
//! slices of the row, and a table of [`fields`] predicts the next name. Values without a column are
//! validated too, and nesting uses no call stack. So no malformed row can do more harm than be
//! rejected.

mod decoder;
mod fields;
mod mask;
mod scanner;
mod text;
mod value;

pub use decoder::{JsonFormat, JsonOptions};
pub(super) use mask::masked;
pub(super) use value::append_json;

/// Whether `text` may be the first half of a JSON object.
pub(crate) fn is_half_json(text: &[u8]) -> bool {
    let is_whole = |text| {
        let mut scanner = scanner::Scanner::new(text);
        scanner.value().is_ok() && scanner.end().is_ok()
    };
    let begins = text.trim_ascii_start().starts_with(b"{");
    begins && !std::str::from_utf8(text).is_ok_and(is_whole)
}
