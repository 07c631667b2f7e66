//! The `tagflow` command.
fn main() {}
