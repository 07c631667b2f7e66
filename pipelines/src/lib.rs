//! Tagflow's pipeline file: what it may say ([`spec`]), how it is read
//! ([`load()`], [`interpolate`]), what is wrong with it ([`diagnostic`]), and its
//! JSON Schema for editors ([`json_schema`]).
//!
//! ```
//! use tagflow_pipelines::{LoadOptions, load_str};
//!
//! let text = "name: demo\nsinks: {out: {from: events, consol: {}}}\n";
//! let problems = load_str("demo.yaml", text, &LoadOptions::default()).unwrap_err();
//! assert!(problems.human().contains("did you mean `console`?"));
//! ```

mod canonical;
pub mod diagnostic;
pub mod interpolate;
pub mod json_schema;
mod load;
pub mod spec;
mod validate;
mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Position, Severity};
pub use load::{LoadOptions, Parsed, load, load_str, parse, parse_str};
pub use spec::Spec;
