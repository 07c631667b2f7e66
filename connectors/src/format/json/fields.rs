//! Maps field names to columns.

use std::collections::HashMap;

/// The most names without a column that are remembered, so that ever new names do not grow memory.
const MAX_NAMES: usize = 1024;

/// Field names, with a prediction of the next one.
///
/// Rows of a source mostly have the same fields in the same order, so each name remembers its
/// last successor. A correct prediction costs one comparison with the row's bytes, a wrong one a
/// map lookup.
#[derive(Debug)]
pub(super) struct Fields {
    names: Vec<Name>,
    by_name: HashMap<Box<str>, usize>,
    last: usize,
}

#[derive(Debug)]
struct Name {
    /// The name as a row contains it, with its quotes and the colon. Empty if it needs escapes.
    written: Box<[u8]>,
    column: Option<usize>,
    /// The last name that followed this one.
    next: usize,
}

/// The entry before the first field of a row.
const START: usize = 0;

impl Fields {
    /// `columns` are the names of the columns, in order.
    pub(super) fn new<'a>(columns: impl Iterator<Item = &'a str>) -> Self {
        let mut fields = Self {
            names: Vec::new(),
            by_name: HashMap::new(),
            last: START,
        };
        fields.names.push(Name {
            written: Box::default(),
            column: None,
            next: START,
        });
        for (index, column) in columns.enumerate() {
            fields.add(column, Some(index));
        }
        fields
    }

    /// Begins a row.
    pub(super) fn start_row(&mut self) {
        self.last = START;
    }

    /// The predicted beginning of the row's next field; empty without a prediction.
    #[inline]
    pub(super) fn guess(&self) -> &[u8] {
        &self.names[self.names[self.last].next].written
    }

    /// The column of the row's next field if the prediction is correct; `None` if the field has no
    /// column.
    #[inline]
    pub(super) fn guessed(&mut self) -> Option<usize> {
        self.last = self.names[self.last].next;
        self.names[self.last].column
    }

    /// The column of the row's next field, if it has one.
    pub(super) fn column(&mut self, name: &str) -> Option<usize> {
        let found = match self.by_name.get(name) {
            Some(&found) => found,
            None if self.names.len() < MAX_NAMES => self.add(name, None),
            None => return None,
        };
        self.names[self.last].next = found;
        self.last = found;
        self.names[found].column
    }

    fn add(&mut self, name: &str, column: Option<usize>) -> usize {
        let index = self.names.len();
        let escaped = |byte: u8| matches!(byte, b'"' | b'\\' | ..0x20);
        let written = if name.bytes().any(escaped) {
            String::new()
        } else {
            format!("\"{name}\":")
        };
        self.names.push(Name {
            written: written.into_bytes().into(),
            column,
            next: START,
        });
        self.by_name.insert(Box::from(name), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_columns_in_any_order() {
        let mut fields = Fields::new(["a", "b", "c"].into_iter());
        for row in [
            &["a", "b", "c"][..],
            &["a", "b", "c"],
            &["c", "x", "b", "", "a"],
            &["c", "b", "a", "a"],
            &["x", "y"],
        ] {
            fields.start_row();
            for &name in row {
                let expected = ["a", "b", "c"].iter().position(|&column| column == name);
                let found = if fields.guess() == format!("\"{name}\":").as_bytes() {
                    fields.guessed()
                } else {
                    fields.column(name)
                };
                assert_eq!(found, expected, "{name} in {row:?}");
            }
        }
    }

    #[test]
    fn what_followed_is_guessed_unless_it_takes_escapes() {
        let mut fields = Fields::new(["a", "b\"", "c"].into_iter());
        for guesses in [["", "", "", ""], ["\"a\":", "", "\"c\":", "\"x\":"]] {
            fields.start_row();
            for (name, guess) in ["a", "b\"", "c", "x"].into_iter().zip(guesses) {
                assert_eq!(fields.guess(), guess.as_bytes(), "{name}");
                fields.column(name);
            }
        }
    }

    #[test]
    fn unknown_names_are_bounded() {
        let mut fields = Fields::new(["a"].into_iter());
        for name in 0..10_000 {
            fields.start_row();
            assert_eq!(fields.column(&format!("field_{name}")), None);
            assert_eq!(fields.column("a"), Some(0));
        }
        assert_eq!(fields.names.len(), MAX_NAMES);
    }
}
