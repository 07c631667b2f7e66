//! Scalars, and their types in YAML 1.2's core schema.

use std::ops::Range;

/// A scalar as written.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// Its text, after YAML's own escapes.
    pub text: String,
    /// Its notation.
    pub style: Style,
    /// Its bytes in the file, with its quotes, without a block's header.
    pub source: Range<usize>,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// `'…'`.
    SingleQuoted,
    /// `"…"`.
    DoubleQuoted,
    /// `|` or `>`.
    Block,
}

/// The type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No value, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// Any other number.
    Float,
    /// Anything else.
    String,
}

impl Scalar {
    /// Its type, by YAML 1.2's core schema.
    pub fn kind(&self) -> Kind {
        match self.style {
            Style::Plain => Kind::of_plain(&self.text),
            _ => Kind::String,
        }
    }

    /// Its description, for "got …".
    pub fn describe(&self) -> String {
        let text = shorten(&self.text);
        match self.kind() {
            Kind::Null => "nothing".into(),
            Kind::Bool => format!("the boolean `{text}`"),
            Kind::Integer | Kind::Float => format!("the number `{text}`"),
            Kind::String => format!("the string `{text}`"),
        }
    }
}

impl Kind {
    /// The type of a plain scalar.
    pub fn of_plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Self::Bool,
            _ if is_integer(text) => Self::Integer,
            _ if is_float(text) => Self::Float,
            _ => Self::String,
        }
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Rust parses a superset (`inf`, `nan`, `infinity`) that begins with a letter.
fn is_float(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && text.parse::<f64>().is_ok()
}

/// A short form of a text to recognize it by, on one line.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 40;
    let line = text.trim().lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(LONGEST).collect();
    if short.len() < text.trim().len() {
        short.push('…');
    }
    short
}
