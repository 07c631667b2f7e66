//! Appends a JSON value to a column.

use chrono_tz::Tz;
use tagflow_schemas::ColumnType;

use super::scanner::{Scanner, Value};
use crate::format::{
    buffer::{ColumnBuffer, Misfit},
    decode_error::{DecodeError, shortened},
};

/// Appends `value` to the column `name`. The caller handles null.
#[inline]
pub(super) fn append(
    value: Value<'_>,
    column: &mut ColumnBuffer,
    name: &str,
    zone: Option<Tz>,
) -> Result<(), DecodeError> {
    match try_append(value, column, zone) {
        Ok(()) => Ok(()),
        Err(Refused::Misfit(misfit)) => {
            let mismatch = misfit.message(column.kind(), &describe(value));
            Err(DecodeError::wrong_type(name, &mismatch))
        }
        Err(Refused::Item(mismatch)) => Err(DecodeError::wrong_type(name, &mismatch)),
        Err(Refused::LoneSurrogate) => Err(DecodeError::lone_surrogate(name)),
    }
}

/// Appends the value of the text `json`; `null` becomes null. `None` if the text is not JSON.
pub(in crate::format) fn append_json(
    json: &str,
    column: &mut ColumnBuffer,
    name: &str,
    zone: Option<Tz>,
) -> Option<Result<(), DecodeError>> {
    let mut scanner = Scanner::new(json);
    let value = scanner.value().ok()?;
    scanner.end().ok()?;
    Some(append(value, column, name, zone))
}

enum Refused {
    Misfit(Misfit),
    /// The problem of a list's item.
    Item(String),
    LoneSurrogate,
}

#[inline]
fn try_append(
    value: Value<'_>,
    column: &mut ColumnBuffer,
    zone: Option<Tz>,
) -> Result<(), Refused> {
    if matches!(column.kind(), ColumnType::Json) {
        return json_text(value, column).map_err(Refused::Misfit);
    }
    match value {
        Value::String(text) => {
            let text = text.unescape().map_err(|_| Refused::LoneSurrogate)?;
            column.append_string(&text, zone)
        }
        Value::Number(text) => column.append_number(text),
        Value::Bool(value) => column.append_bool(value),
        Value::Array(json) => return append_list(json, column, zone),
        Value::Null | Value::Object(_) => Err(Misfit::Type),
    }
    .map_err(Refused::Misfit)
}

fn json_text(value: Value<'_>, column: &mut ColumnBuffer) -> Result<(), Misfit> {
    match value {
        Value::Null => column.append_json_text("null"),
        Value::Bool(true) => column.append_json_text("true"),
        Value::Bool(false) => column.append_json_text("false"),
        Value::Number(json) | Value::Array(json) | Value::Object(json) => {
            column.append_json_text(json)
        }
        Value::String(text) => column.append_json_text(&format!("\"{}\"", text.raw())),
    }
}

fn append_list(json: &str, column: &mut ColumnBuffer, zone: Option<Tz>) -> Result<(), Refused> {
    let items = column.items().ok_or(Refused::Misfit(Misfit::Type))?;
    let mut scanner = Scanner::new(json);
    let mut more = scanner.open(b']');
    let mut index = 0;
    while more {
        // The scanner has validated this array before.
        let Ok(item) = scanner.value() else { break };
        if item == Value::Null {
            items.append_null();
        } else {
            try_append(item, items, zone).map_err(|refused| match refused {
                Refused::Misfit(misfit) => {
                    let mismatch = misfit.message(items.kind(), &describe(item));
                    Refused::Item(format!("item {index}: {mismatch}"))
                }
                Refused::Item(inner) => Refused::Item(format!("item {index}: {inner}")),
                Refused::LoneSurrogate => Refused::LoneSurrogate,
            })?;
        }
        index += 1;
        more = scanner.more(b']').unwrap_or(false);
    }
    column.end_list();
    Ok(())
}

/// Describes a value for a message.
#[cold]
pub(super) fn describe(value: Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("bool {value}"),
        Value::Number(text) => format!("number {}", shortened(text)),
        Value::String(text) => format!("string \"{}\"", shortened(text.raw())),
        Value::Array(json) => format!("array {}", shortened(json)),
        Value::Object(json) => format!("object {}", shortened(json)),
    }
}
