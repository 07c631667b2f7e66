//! Tagflow's pipeline file: what it may say ([`spec`]), how it is read
//! ([`load()`], [`interpolate`]), what is wrong with it ([`diagnostic`]), and its
//! JSON Schema for editors ([`json_schema`]); how its SQL is planned ([`sql`]),
//! and how it all becomes a graph that the engine runs ([`lower()`],
//! [`explain`]).
//!
//! ```
//! use tagflow_pipelines::{LoadOptions, load_str};
//!
//! let text = "name: demo\nsinks: {out: {from: events, consol: {}}}\n";
//! let problems = load_str("demo.yaml", text, &LoadOptions::default()).unwrap_err();
//! assert!(problems.human().contains("did you mean `console`?"));
//! ```

pub mod audit;
mod canonical;
pub mod demo;
pub mod describe;
pub mod diagnostic;
pub mod diff;
pub mod explain;
pub mod inspect;
pub mod interpolate;
pub mod json_schema;
pub mod known;
pub mod launch;
mod load;
pub mod lower;
mod pipeline;
pub mod plan;
pub mod preview;
pub mod produce;
pub mod query;
pub mod spec;
pub mod sql;
pub mod testing;
mod validate;
mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Position, Severity};
pub use load::{LoadOptions, Parsed, load, load_str, parse, parse_str};
pub use lower::{LowerOptions, Lowered, check, lower};
pub use pipeline::{Pipeline, diagnose};
pub use spec::Spec;
