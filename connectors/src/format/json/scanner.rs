//! Parses JSON text into values that are slices of it (RFC 8259).

/// The greatest depth of nested containers.
const MAX_DEPTH: u32 = 128;

/// A cursor in a JSON text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// A parsed and well-formed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// The number's text.
    Number(&'a str),
    String(Text<'a>),
    /// The array's text, with its brackets.
    Array(&'a str),
    /// The object's text, with its braces.
    Object(&'a str),
}

/// The text between two quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text<'a> {
    /// It has no escapes.
    Plain(&'a str),
    /// It has escapes, each of a valid form.
    Escaped(&'a str),
}

/// The place and the reason of invalid JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) byte: usize,
    pub(super) what: &'static str,
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The number of consumed bytes.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next byte after white space, without consuming it.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Consumes the peeked `{` or `[`; returns whether the container has a first member.
    #[inline]
    pub(super) fn open(&mut self, close: u8) -> bool {
        self.at += 1;
        let empty = self.peek() == Some(close);
        self.at += usize::from(empty);
        !empty
    }

    /// Consumes the comma and returns that a member follows, or consumes `close`.
    #[inline]
    pub(super) fn more(&mut self, close: u8) -> Result<bool> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if close == b'}' => self.fail("expected `,` or `}`"),
            Some(_) => self.fail("expected `,` or `]`"),
            None => self.cut_off(),
        }
    }

    /// Consumes `expected` if it follows after white space. Its last byte is ASCII.
    #[inline]
    pub(super) fn take(&mut self, expected: &[u8]) -> bool {
        self.peek();
        let found = !expected.is_empty() && begins_with(&self.text.as_bytes()[self.at..], expected);
        self.at += if found { expected.len() } else { 0 };
        found
    }

    /// Consumes a member's name and the colon.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Text<'a>> {
        match self.peek() {
            Some(b'"') => {}
            Some(_) => return self.fail("expected a field's name in quotes"),
            None => return self.cut_off(),
        }
        let key = self.string()?;
        match self.peek() {
            Some(b':') => {
                self.at += 1;
                Ok(key)
            }
            Some(_) => self.fail("expected `:` after the field's name"),
            None => self.cut_off(),
        }
    }

    /// Consumes a value.
    #[expect(
        clippy::inline_always,
        reason = "to hand a value over in memory takes longer than to read it"
    )]
    #[inline(always)]
    pub(super) fn value(&mut self) -> Result<Value<'a>> {
        let Some(first) = self.peek() else {
            return self.cut_off();
        };
        let start = self.at;
        match first {
            b'"' => self.string().map(Value::String),
            b'-' | b'0'..=b'9' => self.number().map(Value::Number),
            b'{' => {
                self.container()?;
                Ok(Value::Object(&self.text[start..self.at]))
            }
            b'[' => {
                self.container()?;
                Ok(Value::Array(&self.text[start..self.at]))
            }
            b't' => self.literal("true").map(|()| Value::Bool(true)),
            b'f' => self.literal("false").map(|()| Value::Bool(false)),
            b'n' => self.literal("null").map(|()| Value::Null),
            _ => self.fail("expected a value"),
        }
    }

    /// Skips a value.
    #[inline]
    pub(super) fn skip(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'"') => self.string_escaped().map(drop),
            _ => self.value().map(drop),
        }
    }

    /// Only white space may follow.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fail("something follows after the end of the value"),
        }
    }

    /// At the opening quote.
    #[inline]
    fn string(&mut self) -> Result<Text<'a>> {
        let start = self.at + 1;
        let escaped = self.string_escaped()?;
        let text = &self.text[start..self.at - 1];
        Ok(if escaped {
            Text::Escaped(text)
        } else {
            Text::Plain(text)
        })
    }

    /// At the opening quote: consumes the string and returns whether it has escapes.
    fn string_escaped(&mut self) -> Result<bool> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += plain_len(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fail("a control character in a string must be escaped"),
                None => return self.cut_off(),
            }
        }
    }

    /// At a backslash.
    fn escape(&mut self) -> Result<()> {
        let rest = &self.text.as_bytes()[self.at + 1..];
        match rest.first() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = &rest[1..];
                let valid = digits
                    .iter()
                    .take(4)
                    .take_while(|it| it.is_ascii_hexdigit());
                match valid.count() {
                    4 => self.at += 6,
                    count if count == digits.len() => return self.cut_off(),
                    _ => return self.fail("`\\u` needs four hexadecimal digits"),
                }
            }
            Some(_) => return self.fail("unknown escape in a string"),
            None => return self.cut_off(),
        }
        Ok(())
    }

    /// At the sign or the first digit.
    #[inline]
    fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
            if self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
                return self.fail("a number must not begin with 0");
            }
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    #[inline]
    fn digits(&mut self) -> Result<()> {
        let digits = self.text.as_bytes()[self.at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.at += digits;
        match (digits, self.byte()) {
            (0, None) => self.cut_off(),
            (0, Some(_)) => self.fail("expected a digit"),
            _ => Ok(()),
        }
    }

    fn literal(&mut self, literal: &'static str) -> Result<()> {
        let rest = &self.text[self.at..];
        if rest.starts_with(literal) {
            self.at += literal.len();
            return Ok(());
        }
        if literal.starts_with(rest) {
            return self.cut_off();
        }
        self.fail("expected a value")
    }

    /// At a `{` or `[`: skips to the matching end. The open containers are a stack of bits, not of
    /// calls.
    fn container(&mut self) -> Result<()> {
        let mut objects = 0_u128;
        let mut depth = 0;
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if depth == MAX_DEPTH {
                        return self.fail("more than 128 levels deep");
                    }
                    let object = bracket == b'{';
                    if self.open(if object { b'}' } else { b']' }) {
                        depth += 1;
                        objects = objects << 1 | u128::from(object);
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => self.skip()?,
            }
            // A value has ended; close the containers that end with it.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                if self.more(if object { b'}' } else { b']' })? {
                    if object {
                        self.key()?;
                    }
                    break;
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[cold]
    fn fail<T>(&self, what: &'static str) -> Result<T> {
        Err(SyntaxError {
            byte: self.at,
            what,
        })
    }

    #[cold]
    fn cut_off<T>(&self) -> Result<T> {
        Err(SyntaxError {
            byte: self.text.len(),
            what: "the row ends too early",
        })
    }
}

/// Like `starts_with`, word by word: names are short, and a call would cost more than the
/// comparison.
#[inline]
fn begins_with(text: &[u8], expected: &[u8]) -> bool {
    let Some(text) = text.get(..expected.len()) else {
        return false;
    };
    let (Some(last), Some(expected_last)) = (text.last_chunk::<8>(), expected.last_chunk::<8>())
    else {
        return text.iter().eq(expected);
    };
    let words = text.as_chunks::<8>().0.iter();
    words.eq(expected.as_chunks::<8>().0) && last == expected_last
}

/// The number of bytes before the first quote, backslash or control character.
#[inline]
fn plain_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return index * 8 + stops.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest
        .iter()
        .take_while(|&&byte| !matches!(byte, b'"' | b'\\' | ..0x20));
    words.len() * 8 + plain.count()
}

/// The high bit of each of eight bytes that ends a plain string; bits above the lowest may be
/// wrong. ("Bit Twiddling Hacks", S. E. Anderson: `hasless`; no searched byte has a high bit.)
#[inline]
fn stops(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    let control = word.wrapping_sub(ONES * 0x20);
    (quote | backslash | control) & !word & (ONES << 7)
}

#[cfg(test)]
mod tests;
