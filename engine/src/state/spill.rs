//! Spilled state: state that exceeds the memory, on the local disk.

use std::{
    fs::{self, File, TryLockError},
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, Readable, Snapshot,
    config::{PartitioningPolicy, PinningPolicy},
};

use super::KeyHash;
use crate::{Error, Result};

/// Bytes by key, outside memory. The content is a copy, so its loss loses nothing: commits contain
/// all state.
pub trait SpillStore: SpillReader {
    /// Replaces the bytes of each key.
    fn put(&mut self, entries: &mut dyn Iterator<Item = (KeyHash, &[u8])>) -> Result<()>;

    /// The current content, without later changes.
    fn view(&self) -> Arc<dyn SpillReader + Sync>;
}

/// Reads spilled state.
pub trait SpillReader: Send {
    /// The bytes of a key.
    fn get(&self, key: KeyHash) -> Result<Option<Vec<u8>>>;
}

/// A [`SpillStore`] in a folder of its own, which is deleted when the store is dropped. The next
/// process to open a store deletes the folders of killed processes.
pub struct DiskStore {
    entries: Keyspace,
    database: Database,
    /// Held while this exists, so that other processes do not delete the folder.
    lock: Arc<Lock>,
}

/// A store at a point in time.
struct View {
    at: Snapshot,
    entries: Keyspace,
    /// Prevents the deletion of the folder during reads.
    _lock: Arc<Lock>,
}

/// A locked file that is deleted with the lock.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next process deletes leftovers.
        let _ = fs::remove_file(&self.path);
    }
}

/// The memory of the cache for blocks of spilled state, and of new entries that are not in a
/// table yet: the least and the most.
const CACHE_BYTES: RangeInclusive<u64> = 1 << 20..=8 << 20;
const NEW_BYTES: RangeInclusive<u64> = 2 << 20..=64 << 20;

/// One part in this many of the given memory, for each of them.
const CACHE_PART: u64 = 16;
const NEW_PART: u64 = 8;

impl DiskStore {
    /// Opens a new store under `folder`, and creates the folder. The buffers of the store
    /// shrink with `memory_bytes`, the memory of the state that does not spill.
    ///
    /// # Errors
    /// `External` if the disk refuses it.
    #[expect(
        clippy::disallowed_methods,
        reason = "the folder goes with its process: no later run sees its name"
    )]
    pub fn open(folder: &Path, memory_bytes: usize) -> Result<Self> {
        let part = |part: u64, range: RangeInclusive<u64>| {
            (memory_bytes as u64 / part).clamp(*range.start(), *range.end())
        };
        let failed = |what: &str, path: &Path| {
            Error::external(format!("cannot {what} `{}` for cold state", path.display()))
        };
        create_private(folder).map_err(|error| failed("make", folder).with_source(error))?;
        sweep(folder).map_err(|error| failed("look through", folder).with_source(error))?;
        let own = folder.join(uuid::Uuid::new_v4().to_string());
        let path = lock_of(&own);
        let file = File::create(&path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| failed("lock", &path).with_source(error))?;
        let lock = Arc::new(Lock { path, _file: file });
        create_private(&own).map_err(|error| failed("make", &own).with_source(error))?;
        let database = Database::builder(&own)
            .temporary(true)
            .cache_size(part(CACHE_PART, CACHE_BYTES))
            .manual_journal_persist(true)
            .worker_threads(1)
            .open()
            .map_err(|error| failed("open", &own).with_source(error))?;
        let entries = database
            .keyspace("state", || {
                options().max_memtable_size(part(NEW_PART, NEW_BYTES))
            })
            .map_err(|error| failed("open", &own).with_source(error))?;
        Ok(Self {
            entries,
            database,
            lock,
        })
    }
}

/// Creates a folder that only this user may read: spilled state contains personal data.
fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Block indexes and filters stay in memory, with some bytes for each key. The cache cannot hold
/// them, and each read of a key would first read 100 KB of index. Most reads find their key, so a
/// filter for the last level would not help.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .index_block_partitioning_policy(PartitioningPolicy::all(false))
        .index_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(false))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .expect_point_read_hits(true)
}

impl SpillReader for DiskStore {
    fn get(&self, key: KeyHash) -> Result<Option<Vec<u8>>> {
        read(self.entries.get(bytes(key)))
    }
}

impl SpillReader for View {
    fn get(&self, key: KeyHash) -> Result<Option<Vec<u8>>> {
        read(self.at.get(&self.entries, bytes(key)))
    }
}

impl SpillStore for DiskStore {
    fn put(&mut self, entries: &mut dyn Iterator<Item = (KeyHash, &[u8])>) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in entries {
            batch.insert(&self.entries, bytes(key), value);
        }
        batch
            .commit()
            .map_err(|error| Error::external("cold state cannot be written").with_source(error))
    }

    fn view(&self) -> Arc<dyn SpillReader + Sync> {
        Arc::new(View {
            at: self.database.snapshot(),
            entries: self.entries.clone(),
            _lock: Arc::clone(&self.lock),
        })
    }
}

fn read(value: fjall::Result<Option<fjall::UserValue>>) -> Result<Option<Vec<u8>>> {
    let value =
        value.map_err(|error| Error::external("cold state cannot be read").with_source(error))?;
    Ok(value.map(|value| value.to_vec()))
}

fn bytes(key: KeyHash) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.high.to_be_bytes());
    bytes[8..].copy_from_slice(&key.low.to_be_bytes());
    bytes
}

/// Deletes the stores in `folder` whose processes have ended.
fn sweep(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let lock = entry?.path();
        if lock.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(file) = File::open(&lock) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => {
                let store = lock.with_extension("");
                if store.exists() {
                    fs::remove_dir_all(&store)?;
                }
                fs::remove_file(&lock)?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

fn lock_of(store: &Path) -> PathBuf {
    store.with_extension("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY_BYTES: usize = 16 << 20;

    fn key(number: u64) -> KeyHash {
        KeyHash {
            high: number,
            low: !number,
        }
    }

    #[test]
    fn what_was_put_last_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(folder.path(), MEMORY_BYTES).unwrap();
        let mut entries = (0..1000).map(|number| (key(number), &b"old"[..]));
        store.put(&mut entries).unwrap();
        store
            .put(&mut std::iter::once((key(7), &b"new"[..])))
            .unwrap();
        assert_eq!(store.get(key(7)).unwrap().unwrap(), b"new");
        assert_eq!(store.get(key(8)).unwrap().unwrap(), b"old");
        assert_eq!(store.get(key(1000)).unwrap(), None);
    }

    #[test]
    fn a_view_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(folder.path(), MEMORY_BYTES).unwrap();
        let put = |store: &mut DiskStore, number, value: &[u8]| {
            let mut entry = std::iter::once((key(number), value));
            store.put(&mut entry).unwrap();
        };
        put(&mut store, 1, b"old");
        let view = store.view();
        put(&mut store, 1, b"new");
        put(&mut store, 2, b"two");
        assert_eq!(view.get(key(1)).unwrap().unwrap(), b"old");
        assert_eq!(view.get(key(2)).unwrap(), None);
        assert_eq!(store.get(key(1)).unwrap().unwrap(), b"new");
        drop(store);
        assert_eq!(view.get(key(1)).unwrap().unwrap(), b"old");
        drop(view);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn regression_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let spill = folder.path().join("cache/spill");
        let _store = DiskStore::open(&spill, MEMORY_BYTES).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&spill), 0o700);
        let entries = fs::read_dir(&spill).unwrap();
        let folders: Vec<PathBuf> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        assert_eq!(folders.len(), 1);
        assert_eq!(mode(&folders[0]), 0o700);
    }

    #[test]
    fn the_living_are_left_alone_and_the_dead_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let mut living = DiskStore::open(folder.path(), MEMORY_BYTES).unwrap();
        living
            .put(&mut std::iter::once((key(1), &b"one"[..])))
            .unwrap();
        let dead = folder.path().join("dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("journal"), "left behind").unwrap();
        File::create(lock_of(&dead)).unwrap();

        drop(DiskStore::open(folder.path(), MEMORY_BYTES).unwrap());
        assert!(!dead.exists() && !lock_of(&dead).exists());
        assert_eq!(living.get(key(1)).unwrap().unwrap(), b"one");
        drop(living);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
