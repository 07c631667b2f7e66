//! The names of columns.

use tagflow_engine::{graph::OFFSET_COLUMN, state::KEY_GROUP_COLUMN};

use super::SqlError;

/// Checks that a column's name is allowed.
pub(crate) fn check_name(name: &str) -> Result<(), SqlError> {
    if !is_plain(name) || name.is_empty() {
        return Err(SqlError::new(format!(
            "`{name}` is no name of letters, digits and `_`"
        )));
    }
    if [OFFSET_COLUMN, KEY_GROUP_COLUMN].contains(&name) {
        return Err(SqlError::new(format!(
            "the column name `{name}` is Tagflow's own"
        )));
    }
    Ok(())
}

/// Whether a name needs no quotes: letters, digits, `_` and `-`.
pub(crate) fn is_plain(name: &str) -> bool {
    name.chars()
        .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}
