//! The faults of operations on an object store.

use std::time::Duration;

/// A kind of operation on the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Write an object.
    Put,
    /// Begin an upload in parts.
    UploadBegin,
    /// Send a part of an upload.
    UploadPart,
    /// End an upload, which makes the object visible.
    UploadEnd,
    /// Read an object or its size.
    Get,
    /// List a folder.
    List,
    /// Copy an object; the path is its source.
    Copy,
    /// Delete an object.
    Delete,
}

impl Operation {
    /// Whether it changes the store.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List)
    }
}

/// A fault of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An error, and no effect.
    ErrorBefore,
    /// The effect, and an error.
    ErrorAfter,
    /// The effect twice, and the second answer: a client that retried after a lost answer, and met
    /// its own write. A listing contains everything twice.
    Twice,
    /// The effect, and the answer that the object existed already.
    ExistsThoughMine,
    /// No effect, and the answer that the object exists: a 409.
    ConflictNothingLanded,
    /// An error now, the effect at [`FaultyStore::release`]. Only for puts.
    ///
    /// [`FaultyStore::release`]: super::FaultyStore::release
    LandsLate,
    /// An error now, and the effect after a while, even after the death of the process. For puts,
    /// copies and deletes; others only fail.
    LandsAfter(Duration),
    /// No answer and no effect until [`FaultyStore::release`].
    ///
    /// [`FaultyStore::release`]: super::FaultyStore::release
    Waits,
    /// The effect after a while, and the answer after the same time again.
    Slow(Duration),
    /// The permission is missing.
    Denied,
    /// The device is full.
    Full,
    /// A put overwrites an existing object: a store without put-if-absent.
    Overwrites,
    /// A listing is empty.
    Hidden,
    /// A listing repeats the last one of the folder, in any process.
    Stale,
    /// A listing is in the reverse order.
    Reversed,
    /// The connection breaks during the read.
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
