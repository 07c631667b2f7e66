//! From the pipeline file to the graph: its blocks ([`spec`]), its parser ([`load()`]), the planner
//! of its SQL ([`sql`]), and the translation to a graph that the engine runs ([`lower()`],
//! [`explain`]). Also its JSON Schema for editors ([`json_schema`]).
//!
//! ```
//! use tagflow_pipelines::{LoadOptions, load_str};
//!
//! let text = "name: demo\nsinks: {out: {from: events, consol: {}}}\n";
//! let problems = load_str("demo.yaml", text, &LoadOptions::default()).unwrap_err();
//! assert!(problems.human().contains("did you mean `console`?"));
//! ```

pub mod counters;
pub mod expected;
pub mod explain;
pub mod json_schema;
mod load;
pub mod lower;
mod pipeline;
pub mod plan;
pub mod spec;
pub mod sql;
mod validate;

pub use load::{LoadOptions, Parsed, load, load_str, parse, parse_str};
pub use lower::{LowerOptions, Lowered, check, lower};
pub use pipeline::{Pipeline, diagnose};
pub use spec::Spec;
pub use tagflow_config::{Diagnostic, Diagnostics, Position, Severity, diagnostic};
