//! Follows the kind of rows through a plan.

use std::time::Duration;

use super::{Catalog, Rows, Stream};

impl Stream {
    /// The kind of its rows; of a mixture, the most special.
    pub(super) fn rows(&self, catalog: &Catalog) -> Rows {
        let mut rows = self.own_rows();
        self.scans(Duration::ZERO, &mut |scan, _| {
            if let Some(relation) = catalog.relation(&scan.relation) {
                rows = rows.max(relation.rows);
            }
        });
        rows
    }

    fn own_rows(&self) -> Rows {
        match self {
            Self::Windowed(windowed) => windowed.rows(),
            other => {
                let inputs = other.inputs().into_iter().map(Self::own_rows);
                let rows = inputs.max().unwrap_or(Rows::Events);
                match other {
                    Self::Join(_) => rows.max(Rows::Pairs),
                    _ => rows,
                }
            }
        }
    }

    /// Whether any of its rows are results of a window.
    pub(super) fn is_of_windows(&self, catalog: &Catalog) -> bool {
        self.rows(catalog) >= Rows::Windows
    }

    /// Whether any of its rows are results of a join of events.
    pub(super) fn is_of_pairs(&self, catalog: &Catalog) -> bool {
        let is_pairs = |name: &str| {
            let relation = catalog.relation(name);
            relation.is_some_and(|relation| relation.rows == Rows::Pairs)
        };
        match self {
            Self::Join(_) => true,
            Self::Scan(scan) => is_pairs(&scan.relation),
            _ => self.inputs().iter().any(|it| it.is_of_pairs(catalog)),
        }
    }
}
