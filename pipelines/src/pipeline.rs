//! A pipeline that can run: its file, and what it lowers to.

use std::path::Path;

use crate::{
    Diagnostics, LoadOptions, LowerOptions, Lowered, Parsed, Spec, check, lower, parse, parse_str,
};

/// A pipeline that can run.
pub struct Pipeline {
    /// What its file says.
    pub spec: Spec,
    /// What it lowers to.
    pub lowered: Lowered,
}

impl Pipeline {
    /// Of the file at `path`.
    ///
    /// # Errors
    /// All that is wrong with it, its SQL included.
    pub fn open(path: &Path, options: &LoadOptions) -> Result<Self, Diagnostics> {
        Self::of(parse(path, options)?)
    }

    /// Of a file's text; `file` names it in messages.
    ///
    /// # Errors
    /// All that is wrong with it, its SQL included.
    pub fn open_str(file: &str, text: &str, options: &LoadOptions) -> Result<Self, Diagnostics> {
        Self::of(parse_str(file, text, options))
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

/// All that is wrong with the file at `path`, and what is odd about it. Touches
/// no network.
pub fn diagnose(path: &Path, options: &LoadOptions) -> Diagnostics {
    parse(path, options).map_or_else(|problems| problems, all)
}

/// The problems of the file, and of as much of its SQL as can be read.
fn all(parsed: Parsed) -> Diagnostics {
    let mut problems = parsed.diagnostics;
    if let Some(spec) = &parsed.spec {
        problems.extend(check(spec));
    }
    problems
}
