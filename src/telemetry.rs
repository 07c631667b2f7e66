//! Logs.

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{progress, terminal::Stream};

/// Logs to standard error: warnings, and more with `verbose`; `RUST_LOG` takes precedence.
pub(crate) fn init(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(|| progress::Stderr)
        .with_ansi(Stream::Err.has_colors());
    // Only the first call in a process can succeed, which is this one.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
}
