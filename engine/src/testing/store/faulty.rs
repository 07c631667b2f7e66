//! The object store of a process, under the control of a test.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use object_store::{Error, ObjectMeta, ObjectStore, PutOptions, PutPayload, Result, path::Path};
use tokio::sync::{Notify, watch};

use super::fault::{Fault, Moment, Operation};

/// A store with the faults of a test for selected operations. Other operations behave as in the
/// wrapped store.
///
/// Clones share the script: give one to the code under test, and keep one for control.
#[derive(Clone)]
pub struct FaultyStore {
    pub(super) inner: Arc<dyn ObjectStore>,
    script: Arc<Mutex<Script>>,
    listings: Arc<Mutex<BTreeMap<Path, Vec<ObjectMeta>>>>,
    released: watch::Sender<u64>,
    frozen: Arc<Freezer>,
    died: watch::Sender<bool>,
    pub(super) copies: Copies,
}

/// Whether a process is stopped. The waiting tasks continue in the order of their arrival. A
/// `watch` that wakes many would continue in random order.
#[derive(Default)]
struct Freezer {
    is_on: AtomicBool,
    thawed: Notify,
}

/// Whether a store can copy without overwriting; S3 cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// It can.
    IfAbsent,
    /// It overwrites an existing object, or refuses.
    Overwrite,
}

/// Returns the fault of each operation.
type Director = Box<dyn FnMut(Operation, &Path) -> Option<Fault> + Send>;

#[derive(Default)]
pub(super) struct Script {
    rules: Vec<Rule>,
    death: Option<(u64, Moment)>,
    single: Option<(u64, Fault)>,
    director: Option<Director>,
    writes: u64,
    pub(super) late: Vec<(Path, PutPayload, PutOptions)>,
    waiting: usize,
}

struct Rule {
    operation: Operation,
    path_part: String,
    times: usize,
    fault: Fault,
}

impl FaultyStore {
    /// A wrapper of `inner` without faults.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            script: Arc::default(),
            listings: Arc::default(),
            released: watch::Sender::new(0),
            frozen: Arc::default(),
            died: watch::Sender::new(false),
            copies: Copies::IfAbsent,
        }
    }

    /// The same store, with this kind of copy.
    #[must_use]
    pub fn with_copies(mut self, copies: Copies) -> Self {
        self.copies = copies;
        self
    }

    /// The same objects for another process, with a script of its own.
    #[must_use]
    pub fn of_another_process(&self) -> Self {
        Self {
            listings: Arc::clone(&self.listings),
            copies: self.copies,
            ..Self::new(Arc::clone(&self.inner))
        }
    }

    /// Lets `director` choose the fault of each operation, before all other rules.
    pub fn direct(&self, director: impl FnMut(Operation, &Path) -> Option<Fault> + Send + 'static) {
        self.script().director = Some(Box::new(director));
    }

    /// Kills the process: every operation from now on fails. Of the current operation, only the
    /// part that was sent takes effect.
    pub fn kill(&self) {
        self.died.send_replace(true);
    }

    /// Waits for the process to die.
    pub async fn died(&self) {
        // The sender is in `self`, so this cannot fail.
        let _ = self.died.subscribe().wait_for(|died| *died).await;
    }

    /// Stops the process (SIGSTOP): it starts no operation and receives no answer until
    /// [`FaultyStore::thaw`].
    pub fn freeze(&self) {
        self.frozen.is_on.store(true, Ordering::Relaxed);
    }

    /// Lets a stopped process continue.
    pub fn thaw(&self) {
        self.frozen.is_on.store(false, Ordering::Relaxed);
        self.frozen.thawed.notify_waiters();
    }

    /// Waits while the process is stopped.
    pub async fn awake(&self) {
        loop {
            let thawed = self.frozen.thawed.notified();
            if !self.frozen.is_on.load(Ordering::Relaxed) {
                return;
            }
            thawed.await;
        }
    }

    /// The next `times` operations of this kind fail with `fault`, on paths that contain
    /// `path_part`.
    pub fn fail(&self, operation: Operation, path_part: &str, times: usize, fault: Fault) {
        self.script().rules.push(Rule {
            operation,
            path_part: path_part.to_owned(),
            times,
            fault,
        });
    }

    /// The write number `index`, from 0, fails with `fault`.
    pub fn fail_write(&self, index: u64, fault: Fault) {
        self.script().single = Some((index, fault));
    }

    /// The process with this handle dies at its write number `index`, from 0: every later operation
    /// fails.
    pub fn die_at_write(&self, index: u64, moment: Moment) {
        self.script().death = Some((index, moment));
    }

    /// The number of writes, including failed ones.
    pub fn writes(&self) -> u64 {
        self.script().writes
    }

    /// The number of operations that wait for [`FaultyStore::release`].
    pub fn waiting(&self) -> usize {
        self.script().waiting
    }

    /// Executes late writes, and continues waiting operations.
    pub async fn release(&self) {
        let late = std::mem::take(&mut self.script().late);
        for (path, payload, options) in late {
            // A late write may find its slot taken, which is its purpose.
            let _ = self.inner.put_opts(&path, payload, options).await;
        }
        self.released.send_modify(|releases| *releases += 1);
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault of this operation.
    pub(super) fn meet(&self, operation: Operation, path: &Path) -> Option<Fault> {
        if self.is_dead() {
            return Some(Fault::ErrorBefore);
        }
        let mut script = self.script();
        if let Some(director) = &mut script.director
            && let Some(fault) = director(operation, path)
        {
            return Some(fault);
        }
        if operation.writes() {
            let index = script.writes;
            script.writes += 1;
            if let Some((at, moment)) = script.death
                && at == index
            {
                return Some(match moment {
                    Moment::Before => Fault::DiesBefore,
                    Moment::After => Fault::DiesAfter,
                });
            }
            if let Some((at, fault)) = script.single
                && at == index
            {
                return Some(fault);
            }
        }
        let rule = script.rules.iter_mut().find(|rule| {
            rule.operation == operation && rule.times > 0 && path.as_ref().contains(&rule.path_part)
        })?;
        rule.times -= 1;
        Some(rule.fault)
    }

    fn is_dead(&self) -> bool {
        *self.died.borrow()
    }

    /// Waits for the next release.
    async fn wait(&self) {
        let mut released = self.released.subscribe();
        self.script().waiting += 1;
        // The sender is in `self`, so this cannot fail.
        let _ = released.changed().await;
        self.script().waiting -= 1;
    }

    /// Executes a repeatable operation with its fault.
    pub(super) async fn suffer<T: Send + 'static>(
        &self,
        fault: Option<Fault>,
        path: &Path,
        effect: impl Fn(Arc<dyn ObjectStore>) -> BoxFuture<'static, Result<T>> + Send + Sync,
    ) -> Result<T> {
        let effect = || effect(Arc::clone(&self.inner));
        match fault {
            Some(Fault::Twice) => {
                // The second try has the same conditions as the first one.
                let again = effect();
                let both = effect().then(|_| again);
                self.suffer_once(None, path, both).await
            }
            Some(Fault::LandsAfter(while_)) => {
                let late = effect();
                tokio::spawn(async move {
                    tokio::time::sleep(while_).await;
                    // The objects may have changed meanwhile.
                    let _ = late.await;
                });
                self.suffer_once(Some(Fault::ErrorBefore), path, effect())
                    .await
            }
            fault => self.suffer_once(fault, path, effect()).await,
        }
    }

    /// Executes an operation that cannot be repeated with its fault.
    pub(super) async fn suffer_once<T>(
        &self,
        fault: Option<Fault>,
        path: &Path,
        effect: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.awake().await;
        if let Some(Fault::Slow(while_)) = fault {
            tokio::time::sleep(while_).await;
        }
        if self.is_dead() {
            return Err(injected("after death"));
        }
        let answer = match fault {
            Some(Fault::ErrorAfter) => effect.await.and(Err(injected("after"))),
            Some(Fault::ExistsThoughMine) => effect.await.and(Err(exists(path))),
            Some(Fault::ConflictNothingLanded) => Err(exists(path)),
            Some(Fault::Waits) => {
                self.wait().await;
                effect.await
            }
            Some(Fault::Denied) => Err(Error::PermissionDenied {
                path: path.to_string(),
                source: "access denied".into(),
            }),
            Some(Fault::Full) => Err(Error::Generic {
                store: "faulty",
                source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
            }),
            Some(Fault::ErrorBefore | Fault::LandsLate | Fault::LandsAfter(_)) => {
                Err(injected("before"))
            }
            Some(Fault::DiesBefore) => {
                self.kill();
                Err(injected("before"))
            }
            Some(Fault::DiesAfter) => {
                let landed = effect.await;
                self.kill();
                landed.and(Err(injected("after")))
            }
            _ => effect.await,
        };
        if let Some(Fault::Slow(while_)) = fault {
            tokio::time::sleep(while_).await;
        }
        self.awake().await;
        if self.is_dead() {
            return Err(injected("after death"));
        }
        answer
    }

    /// The result of a listing.
    pub(super) async fn listing(
        &self,
        fault: Option<Fault>,
        folder: &Path,
        prefix: Option<Path>,
    ) -> Result<Vec<ObjectMeta>> {
        let list = move |store: Arc<dyn ObjectStore>| -> BoxFuture<'static, Result<Vec<_>>> {
            let listed = store.list(prefix.as_ref());
            listed.try_collect().boxed()
        };
        // `Twice` repeats the result of a listing, not the request.
        let once = fault.filter(|fault| *fault != Fault::Twice);
        let mut listed = self.suffer(once, folder, list).await?;
        let before = self
            .listings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(folder.clone(), listed.clone());
        match (fault, before) {
            (Some(Fault::Hidden), _) => listed.clear(),
            (Some(Fault::Stale), Some(before)) => listed = before,
            (Some(Fault::Reversed), _) => listed.reverse(),
            (Some(Fault::Twice), _) => listed.extend(listed.clone()),
            _ => {}
        }
        Ok(listed)
    }
}

pub(super) fn injected(when: &str) -> Error {
    Error::Generic {
        store: "faulty",
        source: format!("injected {when} the effect").into(),
    }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists {
        path: path.to_string(),
        source: "injected".into(),
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
