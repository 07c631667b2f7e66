//! Masks personal data in the dead letters of unreadable rows.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use sha2::{Digest, Sha256};
use tagflow_engine::{
    Result,
    source::{Decoded, Decoder, EncodedRows, Rejected, Rows},
};

use super::{CsvOptions, csv, json};

/// The columns of a source whose values dead letters must not show.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    personal: Arc<BTreeSet<String>>,
    /// The format of the rows; `None` is JSON.
    csv: Option<CsvOptions>,
}

impl Mask {
    /// Masks these columns of JSON rows, or of columnar rows.
    pub fn new(personal: impl IntoIterator<Item = String>) -> Self {
        Self {
            personal: Arc::new(personal.into_iter().collect()),
            csv: None,
        }
    }

    /// The same for rows of separated values.
    #[must_use]
    pub fn csv(self, options: CsvOptions) -> Self {
        Self {
            csv: Some(options),
            ..self
        }
    }

    /// Wraps `decoder` so that its messages show no personal value.
    pub fn over(&self, decoder: Box<dyn Decoder>) -> Box<dyn Decoder> {
        if self.personal.is_empty() {
            return decoder;
        }
        Box::new(Masked {
            decoder,
            mask: self.clone(),
        })
    }

    pub(crate) fn hides(&self, column: &str) -> bool {
        self.personal.contains(column)
    }

    /// The masked `row` of `chunk`: with other values in place of the personal ones. If they cannot
    /// be located, only its length and SHA-256 remain.
    pub(crate) fn row<'a>(&self, chunk: &EncodedRows, row: &'a [u8]) -> Cow<'a, [u8]> {
        if self.personal.is_empty() || row.is_empty() {
            return Cow::Borrowed(row);
        }
        let text = std::str::from_utf8(row).ok();
        let masked = text.and_then(|text| match &self.csv {
            Some(options) => csv::masked(chunk, text, options, |name| self.hides(name)),
            None => json::masked(text, |name| self.hides(name)),
        });
        Cow::Owned(masked.unwrap_or_else(|| digest(row)).into_bytes())
    }

    /// Removes the value from a message that shows one.
    fn redact(&self, rejected: &mut Rejected) {
        if rejected.reason != "wrong_type" {
            return;
        }
        let place = match &rejected.field {
            Some(field) if !self.hides(field) => return,
            Some(field) => format!("`{field}`"),
            None => "the row".to_owned(),
        };
        rejected.message = format!("{place} is of another type; its value is masked");
    }
}

fn digest(row: &[u8]) -> String {
    let sha256 = Sha256::digest(row);
    format!(r#"{{"bytes":{},"sha256":"{sha256:x}"}}"#, row.len())
}

/// A decoder whose messages are masked.
struct Masked {
    decoder: Box<dyn Decoder>,
    mask: Mask,
}

impl Decoder for Masked {
    fn decode(&mut self, rows: &Rows) -> Result<Decoded> {
        let mut decoded = self.decoder.decode(rows)?;
        for rejected in &mut decoded.rejected {
            self.mask.redact(rejected);
        }
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::CsvHeader;

    fn kept(mask: &Mask, header: &str, row: &[u8]) -> String {
        let chunk = EncodedRows {
            data: header.as_bytes().to_vec().into(),
            ..EncodedRows::default()
        };
        String::from_utf8(mask.row(&chunk, row).into_owned()).unwrap()
    }

    fn personal() -> Mask {
        Mask::new(["user".to_owned(), "mail".to_owned()])
    }

    #[test]
    fn json_keeps_all_but_the_values() {
        for (row, expected) in [
            (
                r#"{"user":"u1","n": 1.50 ,"mail":null}"#,
                r#"{"user":"***","n": 1.50 ,"mail":null}"#,
            ),
            (
                r#" {"a":{"user":1},"\u0075ser" : {"id":[1,"}"]},"user":7} "#,
                r#" {"a":{"user":1},"\u0075ser" : "***","user":"***"} "#,
            ),
            (r#"{"\ud800":"u1","n":1}"#, r#"{"\ud800":"***","n":1}"#),
            ("{}", "{}"),
            ("", ""),
        ] {
            assert_eq!(kept(&personal(), "", row.as_bytes()), expected, "{row}");
        }
    }

    #[test]
    fn csv_keeps_all_but_the_values() {
        let mask = personal().csv(CsvOptions::default());
        let header = "n,user,mail\nrows follow";
        for (row, expected) in [
            ("1,u1,m1", "1,***,***"),
            ("1,\"u,1\",", "1,***,"),
            ("\"a\"\"b\",\"\",m", "\"a\"\"b\",***,***"),
        ] {
            assert_eq!(kept(&mask, header, row.as_bytes()), expected, "{row}");
        }
        let names = ["user", "n"].map(str::to_owned).to_vec();
        let mask = personal().csv(CsvOptions {
            header: CsvHeader::Names(names),
            delimiter: b';',
            ..CsvOptions::default()
        });
        assert_eq!(kept(&mask, "", b"u1;2"), "***;2");
    }

    #[test]
    fn what_cannot_be_told_apart_is_a_digest() {
        let json = personal();
        let csv = personal().csv(CsvOptions::default());
        let cases: [(&Mask, &[u8]); 7] = [
            (&json, b"{\"user\":\"u1\""),
            (&json, b"{\"user\":\"\xff\"}"),
            (&json, b"[\"u1\"]"),
            (&json, b"{\"user\":\"u1\"} u1"),
            (&csv, b"1,u1"),
            (&csv, b"1,u1,m1,m1"),
            (&csv, b"1,\"u1,m1"),
        ];
        for (mask, row) in cases {
            let expected = format!(
                r#"{{"bytes":{},"sha256":"{:x}"}}"#,
                row.len(),
                Sha256::digest(row)
            );
            assert_eq!(kept(mask, "n,user,mail\n", row), expected);
        }
        assert_eq!(kept(&Mask::default(), "", b"u1"), "u1");
    }

    #[test]
    fn messages_show_no_personal_value() {
        let message = |reason, field: Option<&str>| {
            let mut rejected = Rejected {
                row: 0,
                reason,
                field: field.map(str::to_owned),
                message: "got \"u1\"".to_owned(),
            };
            personal().redact(&mut rejected);
            rejected.message
        };
        let masked = "`user` is of another type; its value is masked";
        assert_eq!(message("wrong_type", Some("user")), masked);
        let masked = "the row is of another type; its value is masked";
        assert_eq!(message("wrong_type", None), masked);
        assert_eq!(message("wrong_type", Some("n")), "got \"u1\"");
        assert_eq!(message("not_json", None), "got \"u1\"");
    }
}
