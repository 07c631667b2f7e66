//! The error type of the engine and of its connectors and operators.

use std::error::Error as StdError;

/// A result whose error is the engine's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// The kind of a failure: it determines who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The pipeline file or a setting is wrong. Its author must change it.
    Config,
    /// The input or the stored state is wrong. Its owner must check it.
    Data,
    /// Kafka, the object store or the disk failed. Its operator must check it.
    External,
    /// Another process owns the pipeline now. This one must stop.
    Fenced,
    /// Tagflow has a defect. Report it.
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

    /// Invalid input or stored state.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// A failure of an external system. It is retryable.
    pub fn external(message: impl Into<String>) -> Self {
        Self {
            retryable: true,
            ..Self::new(ErrorKind::External, message)
        }
    }

    /// Another process has taken over the pipeline.
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

    /// The same error, marked as not retryable.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.retryable = false;
        self
    }

    /// The kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether a restart from the last commit may succeed.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The message and every cause, joined by `: `; a cause that the text
    /// before already ends with is not repeated.
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
