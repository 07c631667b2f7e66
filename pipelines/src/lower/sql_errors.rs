//! Errors of SQL at their positions in the file.

use tagflow_config::diagnostic::{Diagnostics, Position};

use crate::{spec::SqlText, sql::SqlError};

/// Adds an error of a SQL text, at its position in the file.
pub(super) fn sql(text: &SqlText, path: String, error: &SqlError, diagnostics: &mut Diagnostics) {
    let at = text.position(error.line.into(), error.column.into());
    add(at, path, error, diagnostics);
}

/// Adds an error at a position in the file.
pub(super) fn add(at: Position, path: String, error: &SqlError, diagnostics: &mut Diagnostics) {
    let diagnostic = diagnostics.error(at, path, error.message.as_str());
    if let Some(help) = &error.help {
        diagnostic.help(help.as_str());
    }
}
