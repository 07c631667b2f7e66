//! The memory use of the process, injected, so that tests can set it.

use std::{fmt, fs, sync::Arc};

/// The memory use of the job's process.
pub trait MemoryGauge: Send + Sync + 'static {
    /// Bytes in use; `None` if the machine does not report them.
    fn used_bytes(&self) -> Option<u64>;
}

/// The memory limit of the process.
#[derive(Clone)]
pub struct MemoryLimit {
    /// The limit in bytes.
    pub bytes: u64,
    /// The current use.
    pub gauge: Arc<dyn MemoryGauge>,
}

impl fmt::Debug for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLimit")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// The anonymous memory of this process, as Linux reports it. Other systems do not. The binary does
/// not count, because the system can read it again.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResidentMemory;

impl MemoryGauge for ResidentMemory {
    fn used_bytes(&self) -> Option<u64> {
        resident(&fs::read_to_string("/proc/self/status").ok()?)
    }
}

/// `RssAnon` in the status of a process, which is in kibibytes.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_size_is_read() {
        let status = "Name:\ttagflow\nVmRSS:\t  9000 kB\nRssAnon:\t    5120 kB\n";
        assert_eq!(resident(status), Some(5 << 20));
        assert_eq!(resident("Name:\ttagflow\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_takes_what_it_fills() {
        let before = ResidentMemory.used_bytes().unwrap();
        let filled = vec![1_u8; 64 << 20];
        let after = ResidentMemory.used_bytes().unwrap();
        // Other tests free memory in the meantime.
        assert!(after > before + (32 << 20), "{before} to {after}");
        drop(filled);
    }
}
