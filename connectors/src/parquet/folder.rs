//! The names of Hive folders.
//!
//! | value | folder |
//! | --- | --- |
//! | null | `c=__HIVE_DEFAULT_PARTITION__`, as Hive, Spark and Trino name it |
//! | the empty text | `c=` |
//! | any other | `c=` and the value, with some characters percent-encoded |
//! | too long for a name | `c=`, its beginning, `~`, and a hash; the files in it hold the value |
//!
//! Encoded values have no `~`, so it marks shortened values.

use std::borrow::Cow;

use object_store::path::Path;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// The folder of rows without a value.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// A text that older versions of `DuckDB` read as null, in any case.
const DUCKDB_NULL: &str = "NULL";

/// Precedes the hash of a shortened value.
const SHORTENED: char = '~';

/// The number of digits of that hash.
const HASH_DIGITS: usize = 16;

/// The longest name that file systems allow.
const NAME_BYTES: usize = 255;

/// The limit for all levels together: object stores allow 1,024 bytes for the whole path of a file.
const ALL_NAMES_BYTES: usize = 765;

/// The characters that Hive escapes, and those that object stores discourage. All others stay
/// readable, Chinese letters too.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'\'')
    .add(b'*')
    .add(b'/')
    .add(b':')
    .add(b'=')
    .add(b'?')
    .add(b'\\')
    .add(b'{')
    .add(b'}')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'<')
    .add(b'>')
    .add(b'~')
    .add(b'|');

/// The value in the name of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderValue {
    /// No value.
    Null,
    /// This value.
    Text(String),
    /// A value that is too long for a name. The files in the folder contain it.
    Shortened,
}

impl FolderValue {
    /// Parses the part after `=` in the name of a folder.
    pub fn read(name: &str) -> Self {
        if name == NO_VALUE {
            return Self::Null;
        }
        if name.contains(SHORTENED) {
            return Self::Shortened;
        }
        let text = percent_decode_str(name).decode_utf8();
        Self::Text(text.map_or_else(|_| name.to_owned(), Cow::into_owned))
    }
}

/// Whether a value in the names of `folder` is shortened.
pub(super) fn has_shortened(folder: &Path) -> bool {
    folder.as_ref().contains(SHORTENED)
}

/// The longest name of a folder in a table with this number of levels.
pub(super) fn name_bytes(levels: usize) -> usize {
    NAME_BYTES.min(ALL_NAMES_BYTES / levels.max(1))
}

/// Whether the names of the folders of `column` have room for a value.
pub(super) fn leaves_room(column: &str, levels: usize) -> bool {
    // Room for the hash, its separator and some letters of the value.
    escaped(column).len() + 4 * HASH_DIGITS <= name_bytes(levels)
}

/// The name of the folder of rows with this value of `column`: `dt=2026-01-05`, in at most `limit`
/// bytes.
pub(super) fn name(column: &str, value: Option<&str>, limit: usize) -> String {
    let mut name = format!("{}=", escaped(column));
    let Some(value) = value else {
        return name + NO_VALUE;
    };
    let mut encoded = escaped(value);
    if value == NO_VALUE || value.eq_ignore_ascii_case(DUCKDB_NULL) {
        // It is that text, and not null.
        let (first, rest) = value.split_at(1);
        encoded = format!("%{:02X}{rest}", first.as_bytes()[0]);
    }
    let room = limit.saturating_sub(name.len());
    if encoded.len() <= room {
        return name + &encoded;
    }
    let hash = format!("{:x}", Sha256::digest(value));
    name.push_str(beginning(&encoded, room.saturating_sub(1 + HASH_DIGITS)));
    name.push(SHORTENED);
    name.push_str(&hash[..HASH_DIGITS]);
    name
}

/// The longest prefix of an encoded value that fits in `bytes` and ends with a whole letter.
fn beginning(encoded: &str, bytes: usize) -> &str {
    let mut end = encoded.floor_char_boundary(bytes);
    let tail = &encoded.as_bytes()[end.saturating_sub(2)..end];
    if let Some(escape) = tail.iter().position(|byte| *byte == b'%') {
        end -= tail.len() - escape;
    }
    &encoded[..end]
}

fn escaped(text: &str) -> String {
    // `utf8_percent_encode` would escape every letter beyond ASCII.
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(|letter: char| !letter.is_ascii()) {
        let ascii_end = piece
            .trim_end_matches(|letter: char| !letter.is_ascii())
            .len();
        let (ascii, letter) = piece.split_at(ascii_end);
        out.extend(utf8_percent_encode(ascii, ESCAPED));
        out.push_str(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_as_hive_does() {
        for (value, expected) in [
            ("2026-01-05", "2026-01-05"),
            ("a/b=c", "a%2Fb%3Dc"),
            ("100%", "100%25"),
            ("10:30", "10%3A30"),
            ("春节 sale", "春节 sale"),
            ("é/ü", "é%2Fü"),
            ("a\tb\u{7f}", "a%09b%7F"),
            ("..", ".."),
        ] {
            assert_eq!(escaped(value), expected);
        }
    }

    #[test]
    fn every_value_can_be_read_from_its_folder() {
        let read = |value: Option<&str>| {
            let name = name("c", value, NAME_BYTES);
            FolderValue::read(name.strip_prefix("c=").unwrap())
        };
        assert_eq!(read(None), FolderValue::Null);
        for text in [
            "", "x", "a~b", "a%7Eb", "NULL", "null", NO_VALUE, "é/ü", "%",
        ] {
            assert_eq!(read(Some(text)), FolderValue::Text(text.to_owned()));
        }
        assert_eq!(name("c", Some("Null"), NAME_BYTES), "c=%4Eull");
    }

    #[test]
    fn regression_a_long_value_is_shortened() {
        for letter in ["x", "/", "春", "é", "x/", "春/x"] {
            for repeats in [60, 84, 85, 127, 128, 253, 254, 300, 5_000] {
                for limit in [name_bytes(1), name_bytes(4), name_bytes(8)] {
                    let value = letter.repeat(repeats);
                    let short = name("c", Some(&value), limit);
                    assert!(short.len() <= limit, "{short}");
                    let is_short = escaped(&value).len() + 2 > limit;
                    let read = FolderValue::read(&short[2..]);
                    assert_eq!(read == FolderValue::Shortened, is_short, "{short}");
                    let begins = short[2..].split(SHORTENED).next().unwrap();
                    let begins = percent_decode_str(begins).decode_utf8().unwrap();
                    assert!(value.starts_with(&*begins), "{short}");
                    assert!(begins.len() >= 20, "{short}");
                }
            }
        }
        let value = "x".repeat(300);
        let other = format!("{}y", "x".repeat(299));
        let name = |value: &str| name("c", Some(value), NAME_BYTES);
        assert_ne!(name(&value), name(&other));
        assert_eq!(name(&value), name(&value));
    }
}
