//! Positions in the text of a query.

use datafusion::sql::sqlparser::{ast::Query, tokenizer::Span};

use super::{Catalog, functions::WindowKind, parse};

/// The text of a plan, for positions that the plan has lost.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places<'a>(Option<&'a Query>);

impl<'a> Places<'a> {
    pub(super) fn new(query: &'a Query) -> Self {
        Self(Some(query))
    }

    /// The first aggregate.
    pub(super) fn aggregate(self, catalog: &Catalog) -> Option<Span> {
        let functions = catalog.functions();
        parse::first_call(self.0?, |name| functions.aggregate(name).is_some())
    }

    /// The first window.
    pub(super) fn window(self) -> Option<Span> {
        parse::first_call(self.0?, |name| WindowKind::named(name).is_some())
    }

    /// The first joined relation.
    pub(super) fn join(self) -> Option<Span> {
        parse::first_join(self.0?)
    }

    /// The first function with OVER.
    pub(super) fn over(self) -> Option<Span> {
        parse::first_over(self.0?)
    }

    /// The column of the result at `index`.
    pub(super) fn result_column(self, index: usize) -> Option<Span> {
        parse::result_column(self.0?, index)
    }

    /// The part that `message` mentions.
    pub(super) fn mentioned(self, message: &str) -> Option<Span> {
        parse::first_mentioned(self.0?, message)
    }
}
