//! Standard output, for the results of commands.

use std::io::{self, Write as _};

use tagflow_engine::{Error, Result};

/// Prints `text`. A reader that stops early (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::external("cannot write to standard output")
                .with_source(error)
                .permanent())
        }
        _ => Ok(()),
    }
}
