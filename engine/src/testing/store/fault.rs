//! What can go wrong with an operation on an object store.

use std::time::Duration;

/// What an operation on the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Writing an object.
    Put,
    /// Beginning an upload in parts.
    UploadBegin,
    /// Sending a part of an upload.
    UploadPart,
    /// Ending an upload, which makes the object appear.
    UploadEnd,
    /// Reading an object or its size.
    Get,
    /// Listing a folder.
    List,
    /// Copying an object; its source is the path.
    Copy,
    /// Deleting an object.
    Delete,
}

impl Operation {
    pub(super) fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List)
    }
}

/// What goes wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An error, and no effect.
    ErrorBefore,
    /// The effect, and an error.
    ErrorAfter,
    /// The effect twice, and the second answer: a client that retried after an
    /// answer was lost, and met its own write. A listing shows everything twice.
    Twice,
    /// The effect, and the answer that the object existed already.
    ExistsThoughMine,
    /// No effect, and the answer that the object exists: a 409.
    ConflictNothingLanded,
    /// An error now, the effect at [`FaultyStore::release`]. Of puts only.
    ///
    /// [`FaultyStore::release`]: super::FaultyStore::release
    LandsLate,
    /// An error now, and the effect after a while, whatever becomes of the
    /// process. Of puts, copies and deletes; others meet the error alone.
    LandsAfter(Duration),
    /// No answer and no effect until [`FaultyStore::release`].
    ///
    /// [`FaultyStore::release`]: super::FaultyStore::release
    Waits,
    /// The effect after a while, and the answer after as long again.
    Slow(Duration),
    /// The privilege is missing.
    Denied,
    /// The device is full.
    Full,
    /// A put overwrites what is there: a store without put-if-absent.
    Overwrites,
    /// A listing shows nothing.
    Hidden,
    /// A listing shows what the last one of the folder showed, to whomever.
    Stale,
    /// A listing is in the reverse order.
    Reversed,
    /// The connection breaks in the middle of what is read.
    Truncated,
    /// The process dies, and there is no effect.
    DiesBefore,
    /// The effect, and the process dies.
    DiesAfter,
}

/// Whether a dying process's last write still takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It does not.
    Before,
    /// It does; its answer is lost.
    After,
}
