//! A valid pipeline: its file and its lowered graph.

use std::path::Path;

use crate::{
    Diagnostics, LoadOptions, LowerOptions, Lowered, Parsed, Spec, check, lower, parse, parse_str,
};

/// A pipeline that can run.
pub struct Pipeline {
    /// The content of its file.
    pub spec: Spec,
    /// Its lowered graph.
    pub lowered: Lowered,
}

impl Pipeline {
    /// Opens the pipeline file at `path`.
    ///
    /// # Errors
    /// All its problems, including those of its SQL.
    pub fn open(path: &Path, options: &LoadOptions) -> Result<Self, Diagnostics> {
        Self::of(parse(path, options)?)
    }

    /// Opens the text of a pipeline file; `file` names it in messages.
    ///
    /// # Errors
    /// All its problems, including those of its SQL.
    pub fn open_str(file: &str, text: &str, options: &LoadOptions) -> Result<Self, Diagnostics> {
        Self::of(parse_str(file, text, options))
    }

    /// The oddities of its file, its SQL and its sinks: they stop nothing.
    pub fn warnings(&self) -> Diagnostics {
        let mut warnings = self.spec.warnings.clone();
        warnings.extend(self.lowered.warnings.clone());
        warnings
    }

    fn of(parsed: Parsed) -> Result<Self, Diagnostics> {
        match parsed.spec {
            Some(spec) if !parsed.diagnostics.has_errors() => {
                let lowered = lower(&spec, &LowerOptions::default())?;
                Ok(Self { spec, lowered })
            }
            _ => Err(all(parsed)),
        }
    }
}

/// All errors and warnings of the file at `path`. Touches no network.
pub fn diagnose(path: &Path, options: &LoadOptions) -> Diagnostics {
    parse(path, options).map_or_else(|problems| problems, all)
}

/// The problems of the file, and of its readable SQL.
fn all(parsed: Parsed) -> Diagnostics {
    let mut problems = parsed.diagnostics;
    if let Some(spec) = &parsed.spec {
        problems.extend(check(spec));
    }
    problems
}
