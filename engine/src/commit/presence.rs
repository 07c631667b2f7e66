//! Signs of life: whether the owner of a log still runs.
//!
//! They are only a hint, which keeps a second `run` from taking over a live pipeline by mistake.
//! Safety depends on put-if-absent alone.
//!
//! The owner writes `alive/<task>/<claim>` every [`BEAT_EVERY`], unless a commit since then shows
//! that it lives. It deletes the object when it ends. A process that finds the object watches it
//! and the log: a change shows that the owner lives. If nothing changes for [`PATIENCE`], the owner
//! counts as dead. Clocks of two machines are never compared, except for an object that is far
//! older than the difference of any clocks.

use std::{fs, sync::Arc, time::Duration};

use object_store::{ObjectStore, path::Path};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::{
    owner::Owner,
    paths::Paths,
    reader::LogReader,
    record::{Kind, Reason, Record},
    store::LogStore,
};
use crate::{Clock, Error, EventTime, Result, SystemClock};

/// The interval of an owner's signs of life. On an object store it costs a small put every three
/// seconds at most, and none if commits are as frequent.
pub const BEAT_EVERY: Duration = Duration::from_secs(3);

/// An owner without a sign for this long counts as dead.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The interval at which a waiting process checks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A sign of this age is not watched. Clocks of machines differ by less.
const LONG_AGO: Duration = Duration::from_mins(2);

/// A process, identified for other processes on its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The boot of the system and the namespace of process ids; `None` if the system does not
    /// report them.
    pub machine: Option<String>,
    /// Its number.
    pub pid: u32,
    /// Its start, in ticks since the boot, because ids are reused.
    pub started: Option<u64>,
}

impl ProcessId {
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let space = fs::read_link("/proc/self/ns/pid").ok();
        Self {
            machine: boot
                .zip(space)
                .map(|(boot, space)| format!("{} {}", boot.trim(), space.display())),
            pid,
            started: started(pid),
        }
    }

    /// Whether it is known to have ended: it ran on the machine of `me` and does not exist any
    /// more.
    pub fn has_ended(&self, me: &Self) -> bool {
        self.machine.is_some()
            && self.machine == me.machine
            && me.started.is_some()
            && started(self.pid) != self.started
    }
}

/// The start of the process with this id.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain any character. A zombie has ended.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(started)
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sign {
    /// The process.
    pub process: ProcessId,
    /// The time of the sign, by its machine's clock.
    pub at: EventTime,
}

/// Writes signs of life for the owner of a claim.
pub struct Heartbeat {
    log: LogReader,
    path: Path,
    process: ProcessId,
}

impl Heartbeat {
    pub(super) fn new(log: LogReader, claim_seq: u64, process: ProcessId) -> Self {
        let path = log.paths.alive(claim_seq);
        Self { log, path, process }
    }

    /// Writes a sign, once. If the store fails, the next sign may succeed.
    pub async fn beat(&self, at: EventTime) {
        let sign = Sign {
            process: self.process.clone(),
            at,
        };
        let Ok(bytes) = serde_json::to_vec(&sign) else {
            return;
        };
        if let Err(error) = self.log.store.put_once(&self.path, bytes.into()).await {
            debug!(%error, "no sign of life was given");
        }
    }

    /// Deletes the signs of earlier owners, which have ended or are fenced.
    pub async fn sweep(&self) {
        let folder = self.log.paths.signs();
        let old = async {
            let signs = self.log.store.list(&folder).await?;
            let signs = signs.into_iter().map(|object| object.location);
            let old: Vec<Path> = signs.filter(|path| *path < self.path).collect();
            self.log.store.delete(&old).await
        };
        if let Err(error) = old.await {
            debug!(error = error.chain(), "old signs of life stay");
        }
    }

    /// Removes the signs: the process ends.
    pub async fn end(&self) {
        if let Err(error) = self
            .log
            .store
            .delete(std::slice::from_ref(&self.path))
            .await
        {
            warn!(error = error.chain(), "the last sign of life stays");
        }
    }
}

/// The sign of the owner that wrote `last`; `None` if it wrote none, or has ended.
pub(super) async fn sign_of(log: &LogReader, last: &Record) -> Result<Option<Sign>> {
    let bytes = log.store.get(&log.paths.alive(last.claim_seq)).await?;
    // An unreadable sign counts as none.
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Whether the owner of `last` stopped normally.
pub(super) fn has_stopped(last: &Record) -> bool {
    let reason = last.checkpoint.as_ref().map(|last| last.reason);
    last.kind == Kind::Commit && reason == Some(Reason::Stop)
}

/// Waits until the owner of `last` is known to be dead. Returns at once after a stop, or if its
/// process no longer exists on this machine. Calls `say` if it must watch.
///
/// # Errors
/// `Fenced` if the owner lives; `External` if the store fails.
pub(super) async fn wait_for_end(
    log: &LogReader,
    last: &Record,
    me: &ProcessId,
    clock: &dyn Clock,
    say: impl FnOnce(&Owner),
) -> Result<()> {
    if has_stopped(last) {
        return Ok(());
    }
    let Some(first) = sign_of(log, last).await? else {
        return Ok(());
    };
    if first.process.has_ended(me) || clock.now().since(first.at) > LONG_AGO {
        return Ok(());
    }
    say(&last.owner);
    let begun = clock.uptime();
    while clock.uptime().since(begun) < PATIENCE {
        clock.sleep(LOOK_EVERY).await;
        let (_, tail) = log.tail().await?;
        let tail = tail.as_ref().unwrap_or(last);
        if has_stopped(tail) {
            return Ok(());
        }
        match sign_of(log, tail).await? {
            None => return Ok(()),
            Some(sign) if sign.process.has_ended(me) => return Ok(()),
            Some(sign) if tail.attempt != last.attempt || sign != first => {
                return Err(lives(&tail.owner));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn lives(owner: &Owner) -> Error {
    Error::fenced(format!(
        "process {} on host `{}` runs this pipeline; stop that one first, or start this one with \
         `--take-over` to stop that one",
        owner.pid, owner.host
    ))
}

/// The last sign of life of a task's owner; `None` if it wrote none, or has ended. The task's last
/// record is `last`.
pub async fn read_sign(
    store: &Arc<dyn ObjectStore>,
    root: &Path,
    task: &str,
    last: &Record,
) -> Result<Option<Sign>> {
    let reader = LogReader {
        store: LogStore::new(Arc::clone(store), Arc::new(SystemClock)),
        paths: Paths::new(root.clone(), task),
    };
    sign_of(&reader, last).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_ended_is_known_on_its_machine_alone() {
        let me = ProcessId::current();
        assert!(!me.has_ended(&me));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let dead = ProcessId {
            pid,
            started: Some(7),
            ..me.clone()
        };
        child.wait().unwrap();
        assert!(dead.has_ended(&me));
        // Its id may belong to another process by now.
        let reused = ProcessId {
            started: Some(7),
            ..me.clone()
        };
        assert!(reused.has_ended(&me));
        let elsewhere = ProcessId {
            machine: Some("another".to_owned()),
            ..dead
        };
        assert!(!elsewhere.has_ended(&me));
    }
}
