//! Parses text: one query, or one expression.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{
        self, Ident, ObjectName, ObjectNamePart, Query, Spanned, Statement, Visit, Visitor,
        WildcardAdditionalOptions,
    },
    parser::Parser,
    tokenizer::{Span, Token},
};

use super::{SqlError, limits};

/// A parsed query with the relations that it reads.
#[derive(Debug)]
pub(crate) struct ParsedQuery {
    /// The query.
    pub(crate) query: Box<Query>,
    /// The relations, with the position where each is first named. Its own common table expressions
    /// are excluded.
    pub(crate) reads: Vec<(String, Span)>,
}

/// Parses a text that must be one query.
pub(crate) fn query(text: &str) -> Result<ParsedQuery, SqlError> {
    let mut statements = limits::parser(text)
        .and_then(|mut parser| parser.parse_statements().map_err(SqlError::of_parser))
        .map_err(|error| error.help_for(text))?;
    if let Some(second) = statements.get(1) {
        return Err(
            SqlError::new("a query is one statement, and here begins a second")
                .help("give each query a name of its own under `queries`")
                .at_token(second.span()),
        );
    }
    match statements.pop() {
        None => Err(SqlError::new("the query is empty").help("write `SELECT … FROM …`")),
        Some(Statement::Query(query)) => {
            let reads = reads(&query);
            Ok(ParsedQuery { query, reads })
        }
        Some(other) => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or_default();
            Err(
                SqlError::new(format!("`{verb}` is not a query: a pipeline only reads"))
                    .help("write `SELECT … FROM …`; where results go is said under `sinks`"),
            )
        }
    }
}

/// Parses a text that must be one expression.
pub(crate) fn expression(text: &str) -> Result<ast::Expr, SqlError> {
    let mut parser = limits::parser(text)?;
    let expression = parser.parse_expr().map_err(SqlError::of_parser)?;
    end(&parser)?;
    Ok(expression)
}

/// An item of a step's `select`.
pub(crate) enum Selected {
    /// `*`.
    All,
    /// An expression and its name.
    Named(ast::Expr, String),
    /// An expression that names itself, if it is a column.
    Unnamed(ast::Expr),
}

/// Parses a text that must be one item of a select list.
pub(crate) fn select_item(text: &str) -> Result<Selected, SqlError> {
    let mut parser = limits::parser(text)?;
    let item = parser.parse_select_item().map_err(SqlError::of_parser)?;
    end(&parser)?;
    match item {
        ast::SelectItem::UnnamedExpr(expr) => Ok(Selected::Unnamed(expr)),
        ast::SelectItem::ExprWithAlias { expr, alias } => Ok(Selected::Named(expr, fold(&alias))),
        ast::SelectItem::Wildcard(options) if options == WildcardAdditionalOptions::default() => {
            Ok(Selected::All)
        }
        other => Err(SqlError::new(format!("`{other}` is not there yet"))
            .help("list the columns, or write `*` for all of them")),
    }
}

fn end(parser: &Parser<'_>) -> Result<(), SqlError> {
    let next = parser.peek_token();
    if next.token == Token::EOF {
        return Ok(());
    }
    Err(SqlError::new(format!(
        "expected the end of the expression, found `{next}`"
    ))
    .at_token(next.span))
}

/// The name in SQL's meaning: without quotes it folds to lower case.
pub(crate) fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The name of an object, its parts joined by dots.
pub(crate) fn fold_name(name: &ObjectName) -> String {
    let parts: Vec<String> = name
        .0
        .iter()
        .filter_map(ObjectNamePart::as_ident)
        .map(fold)
        .collect();
    parts.join(".")
}

/// The position of the first call of a function whose folded name is `wanted`.
pub(crate) fn first_call(syntax: &impl Visit, wanted: impl Fn(&str) -> bool) -> Option<Span> {
    struct FirstCall<F>(F);

    impl<F: Fn(&str) -> bool> Visitor for FirstCall<F> {
        type Break = Span;

        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Span> {
            match expr {
                ast::Expr::Function(call) if (self.0)(&fold_name(&call.name)) => {
                    ControlFlow::Break(call.name.span())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }

    syntax.visit(&mut FirstCall(wanted)).break_value()
}

/// The position of the first function with an OVER.
pub(crate) fn first_over(syntax: &impl Visit) -> Option<Span> {
    struct FirstOver;

    impl Visitor for FirstOver {
        type Break = Span;

        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Span> {
            match expr {
                ast::Expr::Function(call) if call.over.is_some() => {
                    ControlFlow::Break(call.name.span())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }

    syntax.visit(&mut FirstOver).break_value()
}

/// The position of the first relation that is joined to another.
pub(crate) fn first_join(syntax: &impl Visit) -> Option<Span> {
    struct FirstJoin;

    impl Visitor for FirstJoin {
        type Break = Span;

        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Span> {
            match select.from.iter().find_map(|table| table.joins.first()) {
                Some(join) => ControlFlow::Break(join.relation.span()),
                None => ControlFlow::Continue(()),
            }
        }
    }

    syntax.visit(&mut FirstJoin).break_value()
}

/// The position of the first function, column or string that `message` mentions.
pub(crate) fn first_mentioned(syntax: &impl Visit, message: &str) -> Option<Span> {
    struct FirstMentioned<'a> {
        message: &'a str,
        words: Vec<&'a str>,
    }

    impl Visitor for FirstMentioned<'_> {
        type Break = Span;

        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Span> {
            let name = match expr {
                ast::Expr::Identifier(ident) => fold(ident),
                ast::Expr::CompoundIdentifier(idents) => {
                    idents.last().map(fold).unwrap_or_default()
                }
                ast::Expr::Function(call) => fold_name(&call.name),
                ast::Expr::Value(ast::ValueWithSpan {
                    value: text @ ast::Value::SingleQuotedString(_),
                    ..
                }) if self.message.contains(&text.to_string()) => {
                    return ControlFlow::Break(expr.span());
                }
                _ => return ControlFlow::Continue(()),
            };
            if self.words.contains(&name.as_str()) {
                ControlFlow::Break(expr.span())
            } else {
                ControlFlow::Continue(())
            }
        }
    }

    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = message.split(|c| !is_word(c)).collect();
    syntax
        .visit(&mut FirstMentioned { message, words })
        .break_value()
}

/// The position where the column at `index` of a query's result is computed, if the query lists its
/// columns.
pub(crate) fn result_column(query: &Query, index: usize) -> Option<Span> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let listed = |item: &ast::SelectItem| {
        !matches!(
            item,
            ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..)
        )
    };
    let items = select.projection.get(..=index)?;
    (items.iter().all(listed)).then(|| items[index].span())
}

fn reads(query: &Query) -> Vec<(String, Span)> {
    #[derive(Default)]
    struct Reads {
        relations: Vec<(String, Span)>,
        own: Vec<String>,
    }

    impl Visitor for Reads {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let tables = query.with.iter().flat_map(|with| &with.cte_tables);
            self.own.extend(tables.map(|table| fold(&table.alias.name)));
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, table: &ast::TableFactor) -> ControlFlow<()> {
            let ast::TableFactor::Table {
                name, args: None, ..
            } = table
            else {
                return ControlFlow::Continue(());
            };
            let folded = fold_name(name);
            if !self.relations.iter().any(|(known, _)| *known == folded) {
                self.relations.push((folded, name.span()));
            }
            ControlFlow::Continue(())
        }
    }

    let mut visitor = Reads::default();
    let _ = query.visit(&mut visitor);
    let Reads { mut relations, own } = visitor;
    relations.retain(|(name, _)| !own.contains(name));
    relations
}
