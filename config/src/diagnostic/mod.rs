//! The problems of a pipeline file, with their positions.
//!
//! A check never stops at the first problem. It adds a [`Diagnostic`] to the file's [`Diagnostics`]
//! and continues, so that a user sees all problems at once.

mod render;
mod suggest;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub use suggest::{closest, same_but_for_case, unknown};

/// A problem at a position of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as the user named it.
    pub file: Arc<str>,
    /// Its position in the file.
    pub at: Position,
    /// Whether the pipeline can run nevertheless.
    pub severity: Severity,
    /// The field, from the top: `sources.events.time.delay`; empty where it is
    /// the whole file.
    pub path: String,
    /// The problem: one line, lowercase, no full stop, names in backticks.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}

/// A position in a file; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The pipeline cannot run.
    Error,
    /// It can run, but may not behave as intended.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// The problems of a file, by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    file: Arc<str>,
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// No problem yet in `file`.
    pub fn new(file: impl Into<Arc<str>>) -> Self {
        Self {
            file: file.into(),
            items: Vec::new(),
        }
    }

    /// The file, as the user named it.
    pub fn file(&self) -> Arc<str> {
        Arc::clone(&self.file)
    }

    /// Adds an error, and returns it so that the caller can set its help.
    pub fn error(
        &mut self,
        at: Position,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.add(Severity::Error, at, path.into(), message.into())
    }

    /// Adds a warning, and returns it so that the caller can set its help.
    pub fn warning(
        &mut self,
        at: Position,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.add(Severity::Warning, at, path.into(), message.into())
    }

    /// Adds the problems of `other`.
    pub fn extend(&mut self, other: Self) {
        for diagnostic in other.items {
            self.insert(diagnostic);
        }
    }

    /// The problems with one severity.
    #[must_use]
    pub fn only(&self, severity: Severity) -> Self {
        let same = |item: &&Diagnostic| item.severity == severity;
        Self {
            file: self.file(),
            items: self.items.iter().filter(same).cloned().collect(),
        }
    }

    /// Whether the pipeline cannot run.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The problems, by position.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.items.iter()
    }

    fn count(&self, severity: Severity) -> usize {
        let same = |item: &&Diagnostic| item.severity == severity;
        self.items.iter().filter(same).count()
    }

    fn add(
        &mut self,
        severity: Severity,
        at: Position,
        path: String,
        message: String,
    ) -> &mut Diagnostic {
        self.insert(Diagnostic {
            file: Arc::clone(&self.file),
            at,
            severity,
            path,
            message,
            help: None,
        })
    }

    /// Inserts after problems at or before the same position.
    fn insert(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        let index = self.items.partition_point(|item| item.at <= diagnostic.at);
        self.items.insert(index, diagnostic);
        &mut self.items[index]
    }
}

impl Diagnostic {
    /// Sets how to fix it.
    pub fn help(&mut self, help: impl Into<String>) {
        self.help = Some(help.into());
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.human().trim_end())
    }
}

impl std::error::Error for Diagnostics {}
