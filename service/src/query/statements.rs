//! Several statements in one text.

use datafusion::sql::sqlparser::{
    dialect::GenericDialect,
    tokenizer::{Token, Tokenizer, TokenizerError},
};
use tagflow_engine::{Error, Result};

/// The statements of `text`, separated by `;`.
///
/// # Errors
/// `Config` where a quotation or a comment does not end.
pub fn statements(text: &str) -> Result<Vec<String>> {
    let tokens = tokens(text).map_err(|error| Error::config(format!("not SQL: {error}")))?;
    let statements = tokens.split(|token| *token == Token::SemiColon);
    let is_some = |statement: &&[Token]| statement.iter().any(is_code);
    let written = |statement: &[Token]| {
        let text: String = statement.iter().map(Token::to_string).collect();
        text.trim().to_owned()
    };
    Ok(statements.filter(is_some).map(written).collect())
}

/// Whether `text` ends with the `;` of a statement, outside of quotations and
/// comments.
pub fn is_complete(text: &str) -> bool {
    tokens(text).is_ok_and(|tokens| {
        let last = tokens.iter().rfind(|token| is_code(token));
        last.is_none_or(|token| *token == Token::SemiColon)
    })
}

/// The tokens of `text`; together they are the same text.
fn tokens(text: &str) -> Result<Vec<Token>, TokenizerError> {
    Tokenizer::new(&GenericDialect {}, text)
        .with_unescape(false)
        .tokenize()
}

fn is_code(token: &Token) -> bool {
    !matches!(token, Token::Whitespace(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_at_what_ends_statements() {
        for (text, expected) in [
            ("select 1", vec!["select 1"]),
            ("select 1; select 2;\n", vec!["select 1", "select 2"]),
            (
                "select ';', \"a;b\" -- no; end\nfrom t; ;",
                vec!["select ';', \"a;b\" -- no; end\nfrom t"],
            ),
            (
                "select 'it''s', '\\n' /* ; */;",
                vec!["select 'it''s', '\\n' /* ; */"],
            ),
            ("-- nothing\n;", vec![]),
        ] {
            assert_eq!(statements(text).unwrap(), expected, "{text}");
        }
        let error = statements("select 'a").unwrap_err().to_string();
        assert!(error.contains("Unterminated string"), "{error}");
    }

    #[test]
    fn a_statement_is_complete_behind_its_semicolon() {
        for complete in [
            "select 1;",
            "select ';';",
            "select 1; -- done",
            "-- only this",
        ] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in ["select 1", "select 'a;", "select 1 /* ;", "select \";"] {
            assert!(!is_complete(open), "{open}");
        }
    }
}
