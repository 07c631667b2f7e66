//! The reading kit of the pipeline file: YAML with positions ([`yaml`]), references to params,
//! variables and files ([`interpolate`]), problems with a position and help ([`diagnostic`]), and
//! settings of every scalar type.
//!
//! A component's settings are a struct of [`Setting`]s. Its doc comments are the reference, and its
//! [`Read`] implementation reads the block and reports every mistake in it:
//!
//! ```
//! use tagflow_config::{Read, Reader, Setting, yaml::Node};
//!
//! /// Rows as lines of text.
//! struct LinesSink {
//!     /// The file.
//!     path: Setting<String>,
//!     /// The most lines of a file.
//!     most: Setting<u64>,
//! }
//!
//! impl Read for LinesSink {
//!     fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
//!         let mut fields = reader.fields(node)?;
//!         let path = fields.required(reader, "path");
//!         let most = fields.or(reader, "most", 1000);
//!         // Unknown keys are mistakes.
//!         fields.finish(reader);
//!         Some(Self { path: path?, most: most? })
//!     }
//! }
//! ```
//!
//! It knows no SQL and no component.

pub mod diagnostic;
pub mod interpolate;
mod nodes;
mod read;
mod scalars;
mod secret;
mod setting;
mod sql_text;
pub mod stable_json;
pub mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Position, Severity};
pub use nodes::{Name, Nodes, in_order};
pub use read::{Fields, Read, Reader};
pub use scalars::{ByteSize, Choice, Ratio, parse_listen};
pub use secret::Secret;
pub use setting::{Leaf, Mistake, Setting};
pub use sql_text::SqlText;
