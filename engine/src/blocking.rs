//! Work that blocks a thread.

use std::{thread, time::Duration};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
};

use crate::{Error, Result, Uptime};

/// The niceness of relaxed work. Where rows need a whole processor, it gets a tenth.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// A commit leaves the processors to rows for this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// The urgency of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Rows have priority, on Linux.
    Background,
    /// Same priority as rows.
    Normal,
}

impl Priority {
    /// The urgency at `now` of work for a commit that began at `begun`. Rows have priority
    /// at first. A longer commit gets its share, because the rows of a backlog would
    /// otherwise delay it until the backlog ends.
    pub fn of_commit(begun: Uptime, now: Uptime) -> Self {
        if now.since(begun) < PATIENCE {
            Self::Background
        } else {
            Self::Normal
        }
    }
}

/// Runs `work` on a thread of its own, so that it does not block the async threads.
///
/// A runtime with one thread does the work at once: a second thread would make the order
/// of events random.
///
/// # Errors
/// Those of `work`. `Internal` if it panics, `External` if no thread can be created.
pub async fn blocking<T: Send + 'static>(
    urgency: Priority,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    let (done, result) = oneshot::channel();
    let run = move || {
        // A thread cannot lower its niceness again, so it does not belong to a pool.
        #[cfg(target_os = "linux")]
        if urgency == Priority::Background {
            // The work does not depend on it.
            let _ = rustix::process::nice(NICENESS);
        }
        let _ = done.send(work());
    };
    thread::Builder::new()
        .name("blocking".to_owned())
        .spawn(run)
        .map_err(|error| Error::external("the system gives no thread").with_source(error))?;
    result
        .await
        .map_err(|_| Error::internal("work on a thread of its own panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn rows_go_first_until_a_commit_has_waited_enough() {
        let begun = Uptime::after(Duration::from_micros(7));
        let after = |wait: Duration| Priority::of_commit(begun, begun.saturating_add(wait));
        assert_eq!(after(Duration::ZERO), Priority::Background);
        assert_eq!(after(PATIENCE / 2), Priority::Background);
        assert_eq!(after(PATIENCE), Priority::Normal);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_done_comes_back_and_a_panic_is_an_error() {
        let here = thread::current().id();
        for urgency in [Priority::Background, Priority::Normal] {
            let there = blocking(urgency, || Ok(thread::current().id())).await;
            assert_ne!(there.unwrap(), here);
            let error = blocking::<()>(urgency, || panic!("on purpose")).await;
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Internal);
        }
    }
}
