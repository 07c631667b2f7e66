//! The problems of a row, as messages.

use tagflow_engine::source::Rejected;

/// Why a row cannot be decoded; [`DecodeError::at`] adds the row's index.
#[derive(Debug, PartialEq)]
pub(super) struct DecodeError {
    reason: &'static str,
    field: Option<String>,
    message: String,
}

impl DecodeError {
    pub(super) fn not_json(byte: usize, what: &str) -> Self {
        Self::of_row("not_json", format!("not JSON at byte {byte}: {what}"))
    }

    pub(super) fn not_csv(what: impl Into<String>) -> Self {
        Self::of_row("not_csv", what.into())
    }

    /// The row as a whole is not an object.
    pub(super) fn not_an_object(got: &str) -> Self {
        Self::of_row("wrong_type", format!("expected a JSON object, got {got}"))
    }

    /// `mismatch` names the expected type and the value.
    pub(super) fn wrong_type(field: &str, mismatch: &str) -> Self {
        Self::of_field("wrong_type", field, format!("`{field}`: {mismatch}"))
    }

    pub(super) fn missing_field(field: &str) -> Self {
        let message = format!("`{field}` is missing or null, and the column is required");
        Self::of_field("missing_field", field, message)
    }

    pub(super) fn empty_key(field: &str) -> Self {
        let message = format!("`{field}` is empty, and rows go by it");
        Self::of_field("empty_key", field, message)
    }

    pub(super) fn invalid_utf8(byte: usize) -> Self {
        Self::of_row("invalid_utf8", format!("not UTF-8 at byte {byte}"))
    }

    pub(super) fn lone_surrogate(field: &str) -> Self {
        let message = format!("`{field}` holds half of a surrogate pair, which is not text");
        Self::of_field("invalid_utf8", field, message)
    }

    pub(super) fn too_large(max_row_bytes: usize) -> Self {
        let message = format!("the row is larger than {max_row_bytes} bytes");
        Self::of_row("too_large", message)
    }

    pub(super) fn empty() -> Self {
        Self::of_row("empty", "the row is empty".to_owned())
    }

    pub(super) fn tombstone() -> Self {
        Self::of_row("tombstone", "the row has no value (a tombstone)".to_owned())
    }

    /// A rejection of the row with index `row` in its chunk.
    pub(super) fn at(self, row: usize) -> Rejected {
        Rejected {
            row: row as u32,
            reason: self.reason,
            field: self.field,
            message: self.message,
        }
    }

    #[cold]
    fn of_row(reason: &'static str, message: String) -> Self {
        Self {
            reason,
            field: None,
            message,
        }
    }

    #[cold]
    fn of_field(reason: &'static str, field: &str, message: String) -> Self {
        Self {
            reason,
            field: Some(field.to_owned()),
            message,
        }
    }
}

/// At most 64 characters of `text`, for a message.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
