//! Which column a field's name means.

use std::collections::HashMap;

/// Names that no column has are remembered up to this many, so that rows with
/// ever new names cost no memory.
const MAX_NAMES: usize = 1024;

/// Field names, with a guess at which one comes next.
///
/// Rows of one source mostly have the same fields in the same order, so each
/// name remembers what followed it the last time. A right guess costs one
/// comparison; a wrong one a look into a map.
#[derive(Debug)]
pub(super) struct Fields {
    names: Vec<Name>,
    by_name: HashMap<Box<str>, usize>,
    last: usize,
}

#[derive(Debug)]
struct Name {
    text: Box<str>,
    column: Option<usize>,
    /// The name that came after this one the last time.
    next: usize,
}

/// Stands before the first field of a row.
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
            text: Box::from(""),
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

    /// The column of the row's next field, if it has one.
    #[inline]
    pub(super) fn column(&mut self, name: &str) -> Option<usize> {
        let guess = self.names[self.last].next;
        if *self.names[guess].text == *name {
            self.last = guess;
            return self.names[guess].column;
        }
        self.look_up(name)
    }

    fn look_up(&mut self, name: &str) -> Option<usize> {
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
        self.names.push(Name {
            text: Box::from(name),
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
                assert_eq!(fields.column(name), expected, "{name} in {row:?}");
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
