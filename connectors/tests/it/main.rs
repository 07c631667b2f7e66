//! Integration tests of the connectors.

mod kafka;
