//! Integration tests of the connectors.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod kafka;
mod s3;
