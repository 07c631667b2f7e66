//! Limits of SQL texts. Beyond them the planner takes minutes or overflows the stack.

use datafusion::sql::sqlparser::{
    dialect::GenericDialect,
    keywords::Keyword,
    parser::Parser,
    tokenizer::{Span, Token, TokenWithSpan, Tokenizer},
};

use super::SqlError;

/// The longest SQL text, in bytes.
pub(crate) const MAX_BYTES: usize = 128 << 10;

/// The most operators in a row in one expression, including those of the expressions around it.
const MAX_OPERATORS: usize = 250;

/// The most SELECTs and JOINs in one text.
const MAX_RELATIONS: usize = 100;

/// A parser of `text`, if it is within the limits.
pub(super) fn parser(text: &str) -> Result<Parser<'static>, SqlError> {
    if text.len() > MAX_BYTES {
        let message = format!(
            "the SQL is {} KiB long, and at most {} KiB are read",
            text.len() >> 10,
            MAX_BYTES >> 10
        );
        return Err(SqlError::new(message).help("join a table of the values that it lists"));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize_with_location()
        .map_err(|error| SqlError::of_parser(error.into()))?;
    check(&tokens)?;
    Ok(Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens))
}

fn check(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut depth = Depth::default();
    let mut relations = 0;
    for TokenWithSpan { token, span } in tokens {
        if let Token::Word(word) = token
            && matches!(word.keyword, Keyword::SELECT | Keyword::JOIN)
        {
            relations += 1;
        }
        depth.read(token);
        if depth.operators > MAX_OPERATORS {
            return Err(too_deep(*span));
        }
        if relations > MAX_RELATIONS {
            let message = format!("the SQL has more than {MAX_RELATIONS} SELECTs and JOINs");
            return Err(SqlError::new(message)
                .help("split it into several queries")
                .at_token(*span));
        }
    }
    Ok(())
}

fn too_deep(span: Span) -> SqlError {
    let message = format!("the expression has more than {MAX_OPERATORS} operators in a row");
    SqlError::new(message)
        .help("write `x IN (…)` for many comparisons, or compute parts of it in another query")
        .at_token(span)
}

/// The greatest depth of the syntax tree at a token. Operators of equal precedence nest to the
/// left, so the depth of a chain is its length.
struct Depth {
    /// The number of operators so far in each bracket or CASE around the token.
    levels: Vec<usize>,
    /// Their sum.
    operators: usize,
    /// The dots of the name that the token is in: a name has a few, a path of fields many.
    dots: usize,
}

/// The most dots of a name.
const NAME_DOTS: usize = 3;

impl Default for Depth {
    fn default() -> Self {
        Self {
            levels: vec![0],
            operators: 0,
            dots: 0,
        }
    }
}

impl Depth {
    fn read(&mut self, token: &Token) {
        match token {
            Token::Period => self.dots += 1,
            Token::Word(_) | Token::DoubleQuotedString(_) => {}
            _ => self.dots = 0,
        }
        match token {
            Token::Period if self.dots <= NAME_DOTS => {}
            Token::LParen | Token::LBracket | Token::LBrace => self.open(),
            Token::RParen | Token::RBracket | Token::RBrace => self.close(),
            Token::Comma => self.restart(),
            Token::Word(word) => match word.keyword {
                Keyword::CASE => self.open(),
                Keyword::END => self.close(),
                Keyword::WHEN
                | Keyword::THEN
                | Keyword::ELSE
                | Keyword::SELECT
                | Keyword::WHERE
                | Keyword::HAVING
                | Keyword::ON => self.restart(),
                Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::DIV
                | Keyword::XOR
                | Keyword::OVERLAPS => self.operator(),
                _ => {}
            },
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Whitespace(_)
            | Token::SemiColon
            | Token::EOF => {}
            _ => self.operator(),
        }
    }

    fn open(&mut self) {
        // The bracket may be one of many that follow an expression.
        self.operator();
        self.levels.push(0);
    }

    fn close(&mut self) {
        if self.levels.len() > 1
            && let Some(level) = self.levels.pop()
        {
            self.operators -= level;
        }
    }

    /// A part begins that is beside the one before, not in it.
    fn restart(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            self.operators -= *level;
            *level = 0;
        }
    }

    fn operator(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            *level += 1;
            self.operators += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::{expression, query};

    fn refused(text: &str) -> String {
        match query(text) {
            Ok(_) => String::new(),
            Err(error) => error.message,
        }
    }

    #[test]
    fn regression_chains_too_deep_for_the_stack_are_refused() {
        let operators = "the expression has more than 250 operators in a row";
        let nested = "the SQL is nested too deeply";
        let chain = |part: &str, by: &str| format!("SELECT {} FROM t", vec![part; 2000].join(by));
        for by in [
            "+",
            "||",
            " OR ",
            " AND ",
            "=",
            "::int + ",
            " IS DISTINCT FROM ",
            "[1]+",
            ".",
        ] {
            assert_eq!(refused(&chain("a", by)), operators, "{by}");
        }
        let case = "CASE WHEN a THEN b ELSE c END";
        assert_eq!(refused(&chain(case, "+")), operators);
        for (open, close) in [
            ("(", ")"),
            ("abs(", ")"),
            ("CASE WHEN a THEN ", " END"),
            ("[", "]"),
        ] {
            let deep = format!("SELECT {}a{} FROM t", open.repeat(2000), close.repeat(2000));
            let message = refused(&deep);
            assert!(message == operators || message == nested, "{message}");
        }
        let casts = format!("a{}", "::int".repeat(2000));
        assert_eq!(expression(&casts).unwrap_err().message, operators);
        let subscripts = format!("a{}", "[1]".repeat(2000));
        assert_eq!(expression(&subscripts).unwrap_err().message, operators);
        let many = "the SQL has more than 100 SELECTs and JOINs";
        assert_eq!(
            refused(&vec!["SELECT a FROM t"; 2000].join(" UNION ALL ")),
            many
        );
        let joins = format!("SELECT a FROM t{}", " JOIN t USING (a)".repeat(2000));
        assert_eq!(refused(&joins), many);
        let long = format!("SELECT '{}' AS a FROM t", "x".repeat(10 << 20));
        assert_eq!(
            refused(&long),
            "the SQL is 10240 KiB long, and at most 128 KiB are read"
        );
    }

    #[test]
    fn long_lists_are_no_chains() {
        let list = |part: &str| vec![part; 1000].join(", ");
        let branches = "WHEN a = 'x' AND b > 1 THEN 'y' ".repeat(300);
        for text in [
            format!("SELECT * FROM t WHERE a IN ({})", list("'abc'")),
            format!("SELECT {} FROM t", list("a + b * c - d")),
            format!("SELECT CASE {branches} ELSE 'z' END AS a FROM t"),
            format!(
                "SELECT a FROM t WHERE {}",
                vec!["t.a = 1"; 100].join(" OR ")
            ),
        ] {
            assert_eq!(refused(&text), "");
        }
    }
}
