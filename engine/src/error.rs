//! The one error of the engine and of everything that plugs into it.

use std::error::Error as StdError;

/// A result whose error is the engine's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, by who has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The pipeline file or a setting is wrong: its author must change it.
    Config,
    /// The input or the stored state is wrong: its owner must look at it.
    Data,
    /// Kafka, the object store or the disk failed: its operator must look at it.
    External,
    /// Another process owns the pipeline now: this one must stop.
    Fenced,
    /// Tagflow is wrong: report it.
    Internal,
}

/// An error with its kind, a message for the user, and its cause.
///
/// Messages are lowercase, without a full stop, and put names in backticks.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    retryable: bool,
    source: Option<Cause>,
}

impl Error {
    /// An error of `kind`, not retryable, without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retryable: false,
            source: None,
        }
    }

    /// A mistake in the pipeline file or a setting.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Input or stored state that cannot be right.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// A failure of a system that Tagflow talks to; worth a retry.
    pub fn external(message: impl Into<String>) -> Self {
        Self {
            retryable: true,
            ..Self::new(ErrorKind::External, message)
        }
    }

    /// Another owner has taken the pipeline over.
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fenced, message)
    }

    /// A broken invariant of Tagflow's own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<Cause>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// The same error, marked as not worth a retry.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.retryable = false;
        self
    }

    /// Who has to act.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether starting again from the last commit may help.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The message and every cause, joined by `: `; a cause that the text
    /// before it already ends with is not said twice.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::internal("an Arrow kernel failed").with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_joins_causes_once() {
        let error = Error::external("cannot read `x`").with_source(std::io::Error::other("denied"));
        assert_eq!(error.chain(), "cannot read `x`: denied");
        assert!(error.is_retryable());
        assert!(!error.permanent().is_retryable());
    }
}
