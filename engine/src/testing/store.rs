//! An object store that fails on demand.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, path::Path,
};
use tokio::sync::watch;

/// What an operation on the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Writing an object.
    Put,
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
    fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Copy | Self::Delete)
    }
}

/// What goes wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error, and no effect.
    ErrorBefore,
    /// The effect, and an error.
    ErrorAfter,
    /// The effect, and the answer that the object existed already: a client
    /// that retried and met its own write.
    ExistsThoughMine,
    /// No effect, and the answer that the object exists: a 409.
    ConflictNothingLanded,
    /// An error now, the effect at [`FaultyStore::release`]. Of puts only.
    LandsLate,
    /// No answer and no effect until [`FaultyStore::release`].
    Waits,
    /// The privilege is missing.
    Denied,
    /// The device is full.
    Full,
    /// A put overwrites what is there: a store without put-if-absent.
    Overwrites,
    /// A listing shows nothing.
    Hidden,
}

/// Whether a dying process's last write still takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It does not.
    Before,
    /// It does; its answer is lost.
    After,
}

/// A store that does to chosen operations what a test says, and everything else
/// as the store that it wraps.
///
/// Clones share the script: give one to the code under test, keep one to direct.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    script: Arc<Mutex<Script>>,
    released: watch::Sender<u64>,
}

#[derive(Default)]
struct Script {
    rules: Vec<Rule>,
    death: Option<(u64, Moment)>,
    single: Option<(u64, Fault)>,
    dead: bool,
    writes: u64,
    late: Vec<(Path, PutPayload, PutOptions)>,
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
            released: watch::Sender::new(0),
        }
    }

    /// The next `times` operations of this kind, on a path with `path_part` in
    /// it, meet `fault`.
    pub fn fail(&self, operation: Operation, path_part: &str, times: usize, fault: Fault) {
        self.script().rules.push(Rule {
            operation,
            path_part: path_part.to_owned(),
            times,
            fault,
        });
    }

    /// The write number `index`, from 0, meets `fault`.
    pub fn fail_write(&self, index: u64, fault: Fault) {
        self.script().single = Some((index, fault));
    }

    /// The process that uses this handle dies at its write number `index`, from
    /// 0: whatever it tries from then on fails.
    pub fn die_at_write(&self, index: u64, moment: Moment) {
        self.script().death = Some((index, moment));
    }

    /// How many writes were tried.
    pub fn writes(&self) -> u64 {
        self.script().writes
    }

    /// How many operations wait for [`FaultyStore::release`].
    pub fn waiting(&self) -> usize {
        self.script().waiting
    }

    /// Lets land what is late, and goes on with what waits.
    pub async fn release(&self) {
        let late = std::mem::take(&mut self.script().late);
        for (path, payload, options) in late {
            // A late write may find its slot taken: that is the point of it.
            let _ = self.inner.put_opts(&path, payload, options).await;
        }
        self.released.send_modify(|releases| *releases += 1);
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that this operation meets.
    fn meet(&self, operation: Operation, path: &Path) -> Option<Fault> {
        let mut script = self.script();
        if script.dead {
            return Some(Fault::ErrorBefore);
        }
        if operation.writes() {
            let index = script.writes;
            script.writes += 1;
            if let Some((at, moment)) = script.death
                && at == index
            {
                script.dead = true;
                return Some(match moment {
                    Moment::Before => Fault::ErrorBefore,
                    Moment::After => Fault::ErrorAfter,
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

    /// Waits for the next release.
    async fn wait(&self) {
        let mut released = self.released.subscribe();
        self.script().waiting += 1;
        // The sender lives in `self`, so this cannot fail.
        let _ = released.changed().await;
        self.script().waiting -= 1;
    }

    /// Does `effect` with the fault that it meets.
    async fn with_fault<T>(
        &self,
        operation: Operation,
        path: &Path,
        effect: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.suffer(self.meet(operation, path), path, effect).await
    }

    async fn suffer<T>(
        &self,
        fault: Option<Fault>,
        path: &Path,
        effect: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match fault {
            None | Some(Fault::Overwrites | Fault::Hidden) => effect.await,
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
            Some(Fault::ErrorBefore | Fault::LandsLate) => Err(injected("before")),
        }
    }
}

fn injected(when: &str) -> Error {
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

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.meet(Operation::Put, location);
        match fault {
            Some(Fault::Overwrites) => options.mode = PutMode::Overwrite,
            Some(Fault::LandsLate) => {
                let late = (location.clone(), payload.clone(), options.clone());
                self.script().late.push(late);
            }
            _ => {}
        }
        let effect = self.inner.put_opts(location, payload, options);
        self.suffer(fault, location, effect).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let effect = self.inner.put_multipart_opts(location, options);
        self.with_fault(Operation::Put, location, effect).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let effect = self.inner.get_opts(location, options);
        self.with_fault(Operation::Get, location, effect).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |path| {
                let store = store.clone();
                async move {
                    let effect = store.inner.delete(&path);
                    store.with_fault(Operation::Delete, &path, effect).await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let folder = prefix.cloned().unwrap_or_default();
        match self.meet(Operation::List, &folder) {
            None => self.inner.list(prefix),
            Some(Fault::Hidden) => futures::stream::empty().boxed(),
            Some(_) => futures::stream::once(async { Err(injected("before")) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.cloned().unwrap_or_default();
        let effect = self.inner.list_with_delimiter(prefix);
        self.with_fault(Operation::List, &folder, effect).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let effect = self.inner.copy_opts(from, to, options);
        self.with_fault(Operation::Copy, from, effect).await
    }
}
