//! The events of a run in order. A hash distinguishes two runs.

use std::{
    fmt,
    hash::{DefaultHasher, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

/// The events of a run so far. Clones share them.
#[derive(Clone)]
pub(super) struct Trace {
    begun: Instant,
    said: Arc<Mutex<Said>>,
}

struct Said {
    hasher: DefaultHasher,
    aloud: bool,
}

impl Trace {
    /// The trace of a run that begins now. With `TAGFLOW_SIM_TRACE` set it is printed.
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            said: Arc::new(Mutex::new(Said {
                hasher: DefaultHasher::new(),
                aloud: std::env::var_os("TAGFLOW_SIM_TRACE").is_some(),
            })),
        }
    }

    /// Adds an event.
    pub(super) fn note(&self, event: fmt::Arguments<'_>) {
        let line = format!("{:>7} {event}", self.begun.elapsed().as_millis());
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.hasher.write(line.as_bytes());
        if said.aloud {
            eprintln!("{line}");
        }
    }

    /// A hash of all events so far.
    pub(super) fn hash(&self) -> u64 {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.hasher.finish()
    }
}
