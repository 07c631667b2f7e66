//! Work that holds a thread.

use std::{thread, time::Duration};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
};

use crate::{Error, EventTime, Result};

/// By how much relaxed work is nicer than rows: where they would take a whole processor,
/// it gets a tenth.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// For so long a commit leaves the processors to rows.
const PATIENCE: Duration = Duration::from_secs(1);

/// How soon work has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Rows go first, on Linux.
    Relaxed,
    /// It gets as much of the processors as rows.
    Pressing,
}

impl Urgency {
    /// Of work at `now` for a commit that began at `begun`. At first rows go before it, and
    /// do not wait where there is enough of the processors for both. A commit that takes
    /// longer gets its share: rows that take all there is, as in a backlog, would hold it up
    /// for as long as they come.
    pub fn of_commit(begun: EventTime, now: EventTime) -> Self {
        if now.since(begun) < PATIENCE {
            Self::Relaxed
        } else {
            Self::Pressing
        }
    }
}

/// Runs what would hold up the async threads on a thread of its own.
///
/// Where there is one thread for everything, there is no one to be held up, and what runs
/// beside it would only make the order of events a matter of chance: there the work is
/// done at once.
///
/// # Errors
/// Those of `work`; `Internal` where it panics, `External` where there are no threads.
pub async fn blocking<T: Send + 'static>(
    urgency: Urgency,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    let (done, result) = oneshot::channel();
    let run = move || {
        // A thread that became nicer could not go back, so it is not one of a pool.
        #[cfg(target_os = "linux")]
        if urgency == Urgency::Relaxed {
            // Without it the work is done as well.
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
        let begun = EventTime::from_micros(7);
        let after = |wait: Duration| Urgency::of_commit(begun, begun.saturating_add(wait));
        assert_eq!(after(Duration::ZERO), Urgency::Relaxed);
        assert_eq!(after(PATIENCE / 2), Urgency::Relaxed);
        assert_eq!(after(PATIENCE), Urgency::Pressing);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_done_comes_back_and_a_panic_is_an_error() {
        let here = thread::current().id();
        for urgency in [Urgency::Relaxed, Urgency::Pressing] {
            let there = blocking(urgency, || Ok(thread::current().id())).await;
            assert_ne!(there.unwrap(), here);
            let error = blocking::<()>(urgency, || panic!("on purpose")).await;
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Internal);
        }
    }
}
