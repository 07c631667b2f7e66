//! An error in a SQL text, at its position in that text.

use datafusion::{
    common::{Column, DataFusionError, SchemaError, Span, TableReference},
    sql::sqlparser::{parser::ParserError, tokenizer},
};
use tagflow_config::diagnostic::closest;

/// An error in a SQL text, with its position in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// The error: lowercase, no full stop, names in backticks.
    pub message: String,
    /// A suggestion of a correct text.
    pub help: Option<String>,
    /// The line in the text, from 1.
    pub line: u32,
    /// The column in that line, in characters, from 1.
    pub column: u32,
}

impl SqlError {
    /// An error at the beginning of the text, until [`SqlError::at`] sets a position.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            line: 1,
            column: 1,
        }
    }

    /// Adds a suggestion of a correct text.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the position, if that is known.
    #[must_use]
    pub(crate) fn at(mut self, place: Option<Span>) -> Self {
        if let Some(place) = place {
            self.line = place.start.line as u32;
            self.column = place.start.column as u32;
        }
        self
    }

    /// Sets the position, if the parser knows it.
    #[must_use]
    pub(crate) fn at_token(self, place: tokenizer::Span) -> Self {
        self.at(Span::try_from_sqlparser_span(place))
    }

    /// Sets the position, if there is one.
    #[must_use]
    pub(crate) fn at_token_if(self, place: Option<tokenizer::Span>) -> Self {
        match place {
            Some(place) => self.at_token(place),
            None => self,
        }
    }

    /// Whether its position is known.
    pub fn is_placed(&self) -> bool {
        (self.line, self.column) != (1, 1)
    }

    /// An error of the parser.
    pub(crate) fn of_parser(error: ParserError) -> Self {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => "the SQL is nested too deeply".into(),
        };
        let (message, place) = split_place(&text);
        let error = Self::new(sentence(message));
        match place {
            Some((line, column)) => Self {
                line,
                column,
                ..error
            },
            None => error,
        }
    }

    /// Adds the help that the text itself suggests: a misspelt keyword at the position of the
    /// error, or a window of another dialect.
    #[must_use]
    pub fn help_for(self, text: &str) -> Self {
        if self.help.is_some() {
            return self;
        }
        if has_window_table(text) {
            return self.help(
                "windows are functions in GROUP BY: `SELECT tumble(ts, INTERVAL '1 minute') AS \
                 \"window\", count(*) FROM events GROUP BY 1`",
            );
        }
        match misspelt(text, self.line, self.column) {
            Some((_, keyword)) => self.help(format!("did you mean `{keyword}`?")),
            None => self,
        }
    }

    /// An error of DataFusion's planner.
    pub fn of_planner(error: &DataFusionError) -> Self {
        let place = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        match error.find_root() {
            DataFusionError::SchemaError(schema, _) => of_schema(schema).at(place),
            DataFusionError::SQL(parser, _) => Self::of_parser(parser.as_ref().clone()),
            DataFusionError::NotImplemented(text) => {
                let error = Self::new(format!("not there yet: {}", sentence(text))).at(place);
                if text.contains("perator ->") || text.contains("perator #>") {
                    error.help(NO_JSON)
                } else {
                    error
                }
            }
            DataFusionError::ArrowError(error, _) => Self::new(sentence(&error.to_string())),
            root => {
                let text = root.message();
                let error = reworded(&text).unwrap_or_else(|| Self::new(sentence(&text)));
                error.at(place)
            }
        }
    }
}

fn of_schema(error: &SchemaError) -> SqlError {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => unknown_column(field, valid_fields).at(field.spans.first()),
        SchemaError::AmbiguousReference { field } => SqlError::new(format!(
            "column `{}` is in more than one relation; say which: `relation.{}`",
            field.name, field.name
        ))
        .at(field.spans.first()),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::new(format!("two columns are named `{name}`"))
                .help(format!("rename one of them: `AS other_{name}`"))
        }
    }
}

/// `column revnue not found in orders (have: order_id, revenue)`.
pub(crate) fn unknown_column(wrong: &Column, have: &[Column]) -> SqlError {
    if let Some(relation) = &wrong.relation
        && !have
            .iter()
            .any(|column| column.relation.as_ref() == Some(relation))
    {
        let mut names: Vec<&str> = have
            .iter()
            .filter_map(|column| column.relation.as_ref())
            .map(TableReference::table)
            .collect();
        names.dedup();
        return SqlError::new(format!(
            "nothing is called `{relation}` here (have: {})",
            names.join(", ")
        ));
    }
    let relation = wrong
        .relation
        .as_ref()
        .or_else(|| have.first().and_then(|column| column.relation.as_ref()));
    let names: Vec<&str> = have.iter().map(Column::name).collect();
    let place = relation.map_or_else(String::new, |relation| format!(" in `{relation}`"));
    let list = if names.is_empty() {
        String::new()
    } else {
        format!(" (have: {})", names.join(", "))
    };
    let error = SqlError::new(format!("column `{}` not found{place}{list}", wrong.name));
    let other_case = names
        .iter()
        .find(|name| name.eq_ignore_ascii_case(&wrong.name));
    match other_case {
        Some(name) => error.help(format!("names fold to lower case; write `\"{name}\"`")),
        None => match closest(&wrong.name, names.iter().copied()) {
            Some(name) => error.help(format!("did you mean `{name}`?")),
            None => error,
        },
    }
}

/// The help for operators on JSON.
const NO_JSON: &str = "a `json` column is text: `regexp_match(properties, '\"revenue\": \
                       *([0-9.]+)')[1]` takes one value out";

/// Whether the text has a window as a function in FROM, as in Flink's
/// `TABLE(TUMBLE(TABLE …))`.
fn has_window_table(text: &str) -> bool {
    let words: String = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join("")
        .to_lowercase();
    ["tumble(", "hop(", "cumulate(", "session("]
        .iter()
        .any(|window| {
            words.contains(&format!("table({window}"))
                || words.contains(&format!("from{window}table"))
        })
}

/// The keywords that begin a part of a query.
const KEYWORDS: [&str; 14] = [
    "SELECT", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "BY", "JOIN", "UNION", "WITH", "LEFT",
    "INNER", "FILTER", "INTERVAL",
];

/// The word at a position, or the one before it, that is similar to a keyword; and that keyword.
fn misspelt(text: &str, line: u32, column: u32) -> Option<(String, &'static str)> {
    let words = words(text);
    let at = words
        .iter()
        .rposition(|(_, place)| *place <= (line, column))?;
    let near = [Some(at), at.checked_sub(1)].into_iter().flatten();
    near.map(|place| words[place].0.to_uppercase())
        .find_map(|word| {
            if word.len() < 3 || KEYWORDS.contains(&word.as_str()) {
                return None;
            }
            let is_like = |keyword: &&&str| strsim::damerau_levenshtein(&word, keyword) == 1;
            KEYWORDS
                .iter()
                .find(is_like)
                .map(|keyword| (word.clone(), *keyword))
        })
}

/// The words of the text with their lines and columns.
fn words(text: &str) -> Vec<(String, (u32, u32))> {
    let mut words: Vec<(String, (u32, u32))> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let mut is_inside = false;
        for (column, c) in (1..).zip(content.chars()) {
            let is_letter = c.is_alphanumeric() || c == '_';
            match words.last_mut() {
                Some((word, _)) if is_letter && is_inside => word.push(c),
                _ if is_letter => words.push((c.to_string(), (line, column))),
                _ => {}
            }
            is_inside = is_letter;
        }
    }
    words
}

/// Splits `… at Line: 3, Column: 7` off a message of the parser.
fn split_place(text: &str) -> (&str, Option<(u32, u32)>) {
    let place = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, (line.parse().ok()?, column.parse().ok()?)))
    });
    match place {
        Some((message, place)) => (message, Some(place)),
        None => (text, None),
    }
}

/// The first line of a message in our form: without DataFusion's prefix for the kind of error, and
/// without its suggestion at the end.
fn sentence(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = match line.rsplit_once("Error during planning: ") {
        Some((_, cause)) => cause,
        None => KINDS
            .iter()
            .find_map(|kind| line.strip_prefix(kind))
            .unwrap_or(line),
    };
    let line = ENDINGS
        .iter()
        .filter_map(|ending| line.find(ending))
        .min()
        .map_or(line, |end| &line[..end]);
    let line = line.trim().trim_end_matches('.');
    let mut chars = line.chars();
    match (chars.next(), chars.next()) {
        // `Cannot …` is a word; `LIMIT …` is a keyword.
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(line.chars().skip(1)).collect()
        }
        _ => line.to_owned(),
    }
}

/// The prefixes that name the kind of an error.
const KINDS: [&str; 3] = ["sql parser error: ", "Cast error: ", "Execution error: "];

/// The texts at which DataFusion's message turns into advice or a debug print.
const ENDINGS: [&str; 5] = [
    " No function matches",
    " Candidate functions",
    ". Consider ",
    " Substring {",
    ": While expanding wildcard",
];

/// Clearer errors for some of DataFusion's messages.
fn reworded(text: &str) -> Option<SqlError> {
    let quoted = |mark: char| text.split(mark).nth(1).unwrap_or_default();
    let unqualified = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    if text.starts_with("Projections require unique expression names") {
        let name = unqualified(quoted('"'));
        return Some(
            SqlError::new(format!("two columns are named `{name}`"))
                .help(format!("rename one of them: `AS other_{name}`")),
        );
    }
    if text.starts_with("Column in SELECT must be in GROUP BY") {
        let name = unqualified(quoted('"'));
        return Some(
            SqlError::new(format!(
                "column `{name}` is neither in GROUP BY nor in an aggregate"
            ))
            .help(format!(
                "add it to GROUP BY, or take one of its values: `min({name})`"
            )),
        );
    }
    if text.starts_with("Cannot create filter with non-boolean predicate") {
        let condition = unqualified(quoted('\''));
        let kind = text.rsplit(" returning ").next().unwrap_or_default();
        return Some(SqlError::new(format!(
            "the condition `{condition}` is a {kind}, neither true nor false"
        )));
    }
    None
}
