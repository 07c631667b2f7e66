//! Errors of the object store, as errors of the engine.

use std::{error::Error as _, io};

use object_store::{Error as StoreError, ObjectStore, path::Path};

use crate::Error;

/// The error of an operation on `path` in `store`. It is retryable unless a second
/// try cannot succeed. `action` is a verb: `write`.
pub fn failed(store: &dyn ObjectStore, action: &str, path: &Path, error: StoreError) -> Error {
    let obstacle = Obstacle::of(&error);
    let remedy = obstacle.as_ref().map_or("", Obstacle::remedy);
    let failed = Error::external(format!("cannot {action} `{store}/{path}`{remedy}"));
    let failed = failed.with_source(error);
    if obstacle.is_some() {
        failed.permanent()
    } else {
        failed
    }
}

/// Whether a second try cannot succeed.
pub(crate) fn is_permanent(error: &StoreError) -> bool {
    Obstacle::of(error).is_some()
}

/// Faults that need an operator.
enum Obstacle {
    Full,
    Denied,
    Unsupported,
}

impl Obstacle {
    fn of(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                Some(Self::Denied)
            }
            StoreError::NotImplemented { .. }
            | StoreError::NotSupported { .. }
            | StoreError::InvalidPath { .. } => Some(Self::Unsupported),
            other => match io_kind(other)? {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some(Self::Denied)
                }
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge => Some(Self::Full),
                _ => None,
            },
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Full => ": the store takes no more bytes; make room there",
            Self::Denied => {
                ": access is denied; allow reading, writing, listing and deleting there"
            }
            Self::Unsupported => "",
        }
    }
}

/// The kind of the I/O error behind a local store's error.
fn io_kind(error: &StoreError) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}
