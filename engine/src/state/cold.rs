//! State that is too much for memory, on the local disk.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, Readable, Snapshot,
    config::{PartitioningPolicy, PinningPolicy},
};

use super::KeyHash;
use crate::{Error, Result};

/// Bytes by key, out of memory. What is in it is a copy: when it is lost, so is
/// nothing, because commits hold all state.
pub trait ColdStore: ColdRead {
    /// Puts bytes in place of those of their keys.
    fn put(&mut self, entries: &mut dyn Iterator<Item = (KeyHash, &[u8])>) -> Result<()>;

    /// What is in it now, whatever is put later.
    fn view(&self) -> Arc<dyn ColdRead + Sync>;
}

/// Where cold state is read.
pub trait ColdRead: Send {
    /// The bytes of a key.
    fn get(&self, key: KeyHash) -> Result<Option<Vec<u8>>>;
}

/// A [`ColdStore`] in a folder of its own, which goes when it is dropped. What a
/// process that was killed has left goes when the next one opens its own.
pub struct DiskStore {
    entries: Keyspace,
    database: Database,
    /// Held as long as this lives: others must leave the folder alone.
    lock: Arc<Lock>,
}

/// A store as it was at a time.
struct View {
    at: Snapshot,
    entries: Keyspace,
    /// What is being read is not swept.
    _lock: Arc<Lock>,
}

/// A locked file, which goes with the lock.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What is left is swept by the next process.
        let _ = fs::remove_file(&self.path);
    }
}

/// Blocks of cold state in memory.
const CACHE_BYTES: u64 = 8 << 20;

impl DiskStore {
    /// Opens a new one under `folder`, which is made.
    ///
    /// # Errors
    /// `External` where the disk does not take it.
    #[expect(
        clippy::disallowed_methods,
        reason = "the folder goes with its process: no later run sees its name"
    )]
    pub fn open(folder: &Path) -> Result<Self> {
        let failed = |what: &str, path: &Path| {
            Error::external(format!("cannot {what} `{}` for cold state", path.display()))
        };
        fs::create_dir_all(folder).map_err(|error| failed("make", folder).with_source(error))?;
        sweep(folder).map_err(|error| failed("look through", folder).with_source(error))?;
        let own = folder.join(uuid::Uuid::new_v4().to_string());
        let path = lock_of(&own);
        let file = File::create(&path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| failed("lock", &path).with_source(error))?;
        let lock = Arc::new(Lock { path, _file: file });
        let database = Database::builder(&own)
            .temporary(true)
            .cache_size(CACHE_BYTES)
            .manual_journal_persist(true)
            .worker_threads(1)
            .open()
            .map_err(|error| failed("open", &own).with_source(error))?;
        let entries = database
            .keyspace("state", options)
            .map_err(|error| failed("open", &own).with_source(error))?;
        Ok(Self {
            entries,
            database,
            lock,
        })
    }
}

/// Where a block lies, and in which table a key may be, stays in memory, some bytes a key:
/// the cache would not hold it, and each read of a key would read 100 KB of it first. Who
/// is asked for is there.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .index_block_partitioning_policy(PartitioningPolicy::all(false))
        .index_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(false))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .expect_point_read_hits(true)
}

impl ColdRead for DiskStore {
    fn get(&self, key: KeyHash) -> Result<Option<Vec<u8>>> {
        read(self.entries.get(bytes(key)))
    }
}

impl ColdRead for View {
    fn get(&self, key: KeyHash) -> Result<Option<Vec<u8>>> {
        read(self.at.get(&self.entries, bytes(key)))
    }
}

impl ColdStore for DiskStore {
    fn put(&mut self, entries: &mut dyn Iterator<Item = (KeyHash, &[u8])>) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in entries {
            batch.insert(&self.entries, bytes(key), value);
        }
        batch
            .commit()
            .map_err(|error| Error::external("cold state cannot be written").with_source(error))
    }

    fn view(&self) -> Arc<dyn ColdRead + Sync> {
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

/// Removes the stores in `folder` whose processes are gone.
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

    fn key(number: u64) -> KeyHash {
        KeyHash {
            high: number,
            low: !number,
        }
    }

    #[test]
    fn what_was_put_last_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(folder.path()).unwrap();
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
        let mut store = DiskStore::open(folder.path()).unwrap();
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

    #[test]
    fn the_living_are_left_alone_and_the_dead_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let mut living = DiskStore::open(folder.path()).unwrap();
        living
            .put(&mut std::iter::once((key(1), &b"one"[..])))
            .unwrap();
        let dead = folder.path().join("dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("journal"), "left behind").unwrap();
        File::create(lock_of(&dead)).unwrap();

        drop(DiskStore::open(folder.path()).unwrap());
        assert!(!dead.exists() && !lock_of(&dead).exists());
        assert_eq!(living.get(key(1)).unwrap().unwrap(), b"one");
        drop(living);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
