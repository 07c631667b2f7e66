//! The escapes of JSON strings.

use std::{borrow::Cow, iter::Peekable, str::Chars};

use super::scanner::Text;

/// An escape of half a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoneSurrogate;

impl<'a> Text<'a> {
    /// The text with its escapes decoded.
    #[inline]
    pub(super) fn unescape(self) -> Result<Cow<'a, str>, LoneSurrogate> {
        match self {
            Self::Plain(text) => Ok(Cow::Borrowed(text)),
            Self::Escaped(text) => unescape(text).map(Cow::Owned),
        }
    }

    /// The text as the row contains it, for messages.
    pub(super) fn raw(self) -> &'a str {
        match self {
            Self::Plain(text) | Self::Escaped(text) => text,
        }
    }
}

fn unescape(text: &str) -> Result<String, LoneSurrogate> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '\\' {
            plain.push(char);
            continue;
        }
        // The scanner guarantees that the escape is complete.
        plain.push(match chars.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => unicode(&mut chars)?,
            Some(itself) => itself,
            None => break,
        });
    }
    Ok(plain)
}

/// After `\u`: a character from one escape or from a pair.
fn unicode(chars: &mut Peekable<Chars<'_>>) -> Result<char, LoneSurrogate> {
    let high = code_unit(chars);
    if !(0xd800..0xe000).contains(&high) {
        return char::from_u32(high).ok_or(LoneSurrogate);
    }
    if high >= 0xdc00 || chars.next_if_eq(&'\\').is_none() || chars.next_if_eq(&'u').is_none() {
        return Err(LoneSurrogate);
    }
    let low = code_unit(chars);
    if !(0xdc00..0xe000).contains(&low) {
        return Err(LoneSurrogate);
    }
    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(LoneSurrogate)
}

fn code_unit(chars: &mut Peekable<Chars<'_>>) -> u32 {
    chars
        .by_ref()
        .take(4)
        .fold(0, |unit, digit| unit << 4 | digit.to_digit(16).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_mean_their_characters() {
        for (text, expected) in [
            (r"a\nb", Ok("a\nb")),
            (r#"\"\\\/\b\f\r\t"#, Ok("\"\\/\u{8}\u{c}\r\t")),
            (r"\u00e9\u4F60", Ok("é你")),
            (r"\ud83d\ude00!", Ok("😀!")),
            (r"\u0000", Ok("\0")),
            (r"\ud83d", Err(LoneSurrogate)),
            (r"\ud83dx", Err(LoneSurrogate)),
            (r"\ud83d\n", Err(LoneSurrogate)),
            (r"\ud83d\u0041", Err(LoneSurrogate)),
            (r"\ude00\ud83d", Err(LoneSurrogate)),
        ] {
            let text = Text::Escaped(text).unescape();
            assert_eq!(text.as_deref(), expected.as_deref());
        }
    }
}
