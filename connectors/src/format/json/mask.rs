//! Masks the personal values of a JSON row.

use tagflow_schemas::personal::HIDDEN;

use super::scanner::{Scanner, Value};

/// `row` with the values of the fields masked for which `hides` is true. Nulls stay. `None` if it
/// is no JSON object.
pub(in crate::format) fn masked(row: &str, hides: impl Fn(&str) -> bool) -> Option<String> {
    let mut scanner = Scanner::new(row);
    if scanner.peek() != Some(b'{') {
        return None;
    }
    let mut masked = String::with_capacity(row.len());
    let mut copied = 0;
    let mut more = scanner.open(b'}');
    while more {
        let key = scanner.key().ok()?;
        // A name that is not text may stand for any field.
        let hidden = key.unescape().map_or(true, |key| hides(&key));
        scanner.peek();
        let begin = scanner.at();
        let value = scanner.value().ok()?;
        if hidden && value != Value::Null {
            masked.push_str(&row[copied..begin]);
            masked.extend(["\"", HIDDEN, "\""]);
            copied = scanner.at();
        }
        more = scanner.more(b'}').ok()?;
    }
    scanner.end().ok()?;
    masked.push_str(&row[copied..]);
    Some(masked)
}
