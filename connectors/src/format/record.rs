//! Finds the end of a row of separated values: a line break between quotes belongs to its value.

use memchr::{memchr, memchr2};

/// The characters that determine where rows of separated values end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Separators {
    /// Separates two values.
    pub delimiter: u8,
    /// Surrounds a value that contains a delimiter or a line break; doubled inside.
    pub quote: u8,
    /// Ends a row.
    pub line_end: u8,
}

/// The result of the search for the end of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordEnd {
    /// The row ends before the line end at this byte.
    At(usize),
    /// The bytes end within the row.
    Beyond(Within),
}

/// The state of the parser at the end of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// Between quotes, or directly after a quote.
    Quotes,
    /// In a value without quotes.
    Plain,
}

impl Separators {
    /// Finds the end of the row that begins with `bytes`. A quote within an unquoted value, and
    /// text after a closing quote, end with the line: only this row is malformed.
    pub(crate) fn record_end(self, bytes: &[u8]) -> RecordEnd {
        let mut begin = 0;
        loop {
            let plain = match bytes.get(begin) {
                Some(byte) if *byte == self.quote => match self.behind_quotes(bytes, begin + 1) {
                    Some(plain) => plain,
                    None => return RecordEnd::Beyond(Within::Quotes),
                },
                _ => begin,
            };
            match memchr2(self.delimiter, self.line_end, &bytes[plain..]) {
                None => return RecordEnd::Beyond(Within::Plain),
                Some(at) if bytes[plain + at] == self.line_end => {
                    return RecordEnd::At(plain + at);
                }
                Some(at) => begin = plain + at + 1,
            }
        }
    }

    /// The byte after the quote that closes the value that begins at `at`.
    fn behind_quotes(self, bytes: &[u8], mut at: usize) -> Option<usize> {
        loop {
            at += memchr(self.quote, &bytes[at..])? + 1;
            match bytes.get(at) {
                // More bytes may double the quote.
                None => return None,
                Some(byte) if *byte == self.quote => at += 1,
                Some(_) => return Some(at),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_ends_at_a_line_end_outside_quotes() {
        let separators = Separators {
            delimiter: b',',
            quote: b'"',
            line_end: b'\n',
        };
        let beyond = RecordEnd::Beyond;
        for (bytes, expected) in [
            ("a,b\nc", RecordEnd::At(3)),
            ("\n", RecordEnd::At(0)),
            ("a,\"b\nc\",d\ne", RecordEnd::At(9)),
            ("\"a\"\"\n\"\"b\"\r\nc", RecordEnd::At(10)),
            // A quote inside an unquoted value.
            ("5\" pipe,x\ny", RecordEnd::At(9)),
            // Text after the closing quote.
            ("\"a\"b,c\nd", RecordEnd::At(6)),
            ("\"\"\n", RecordEnd::At(2)),
            ("", beyond(Within::Plain)),
            ("a,b", beyond(Within::Plain)),
            ("a,\"b\nc", beyond(Within::Quotes)),
            ("a,\"b\"", beyond(Within::Quotes)),
            ("a,\"", beyond(Within::Quotes)),
        ] {
            assert_eq!(
                separators.record_end(bytes.as_bytes()),
                expected,
                "{bytes:?}"
            );
        }
    }
}
