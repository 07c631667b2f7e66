//! The exit codes of the process, and its error messages.

use std::{error::Error as StdError, fmt::Write as _, io::Write as _, process::ExitCode};

use tagflow_engine::{Error, ErrorKind};
use tagflow_pipelines::Diagnostics;

use crate::terminal::{Stream, Tone};

/// The result of a command. The numbers are part of the interface: scripts and supervisors use them
/// to decide on a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The command succeeded.
    Success = 0,
    /// A bug in Tagflow: to be reported.
    Internal = 1,
    /// The pipeline file or the command line is wrong, or a test in the file
    /// fails: its author must act.
    Usage = 2,
    /// The input or the stored state is wrong: its owner must look at it.
    Data = 3,
    /// Kafka, the object store or the disk failed: worth trying again.
    External = 4,
    /// Another process runs the pipeline, or has taken it over: not to be started again.
    Fenced = 5,
    /// Interrupted a second time, before the last commit.
    Aborted = 130,
}

/// The table for `--help`.
pub(crate) const TABLE: &str = "\
Exit codes:
  0    done
  1    internal error: a bug of Tagflow's
  2    the pipeline file or the command line is wrong, or a test of the file fails
  3    the data is wrong: a corrupted commit log, lost rows, too many bad rows
  4    an outside system failed: Kafka, the object store, the disk
  5    another process runs the pipeline, or has taken it over
  130  aborted by a second Ctrl-C";

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Internal => Self::Internal,
            ErrorKind::Config => Self::Usage,
            ErrorKind::Data => Self::Data,
            ErrorKind::External => Self::External,
            ErrorKind::Fenced => Self::Fenced,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The effect of running a command again after an outside system failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rerun {
    /// It resumes after the last commit.
    Resumes,
    /// It sends every event again.
    Repeats,
    /// It starts over, and nothing was changed.
    Harmless,
}

/// Prints an error to standard error, and returns the exit code.
pub(crate) fn report(error: &anyhow::Error, rerun: Rerun) -> Exit {
    let mut stderr = std::io::stderr().lock();
    if let Some(diagnostics) = error.downcast_ref::<Diagnostics>() {
        // A closed standard error has no reader.
        let _ = write!(stderr, "{}", Stream::Err.problems(diagnostics));
        return Exit::Usage;
    }
    let kind = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>())
        .map_or(ErrorKind::Internal, Error::kind);
    let _ = write!(stderr, "{}", explain(error.as_ref(), kind, rerun));
    kind.into()
}

/// The message, its causes, and the fix, one per line.
fn explain(error: &(dyn StdError + 'static), kind: ErrorKind, rerun: Rerun) -> String {
    let message = error.to_string();
    let label = Stream::Err.paint(Tone::Bad, "error:");
    let mut text = format!("{label} {message}\n");
    let mut said = message;
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Wrappers often repeat their cause.
        if !said.ends_with(&next) {
            let next = next.trim_end().replace('\n', "\n         ");
            let _ = writeln!(text, "  cause: {next}");
            said = next;
        }
        cause = error.source();
    }
    if let Some(hint) = hint(kind, rerun) {
        let _ = writeln!(text, "  hint: {hint}");
    }
    text
}

fn hint(kind: ErrorKind, rerun: Rerun) -> Option<&'static str> {
    match kind {
        ErrorKind::External | ErrorKind::Data if rerun == Rerun::Repeats => Some(
            "events that were delivered stay in the topic: running it again sends all of them again",
        ),
        ErrorKind::Config | ErrorKind::Data => None,
        ErrorKind::External if rerun == Rerun::Harmless => Some("run it again when this is mended"),
        ErrorKind::External => Some(
            "nothing is lost: run it again when this is mended, and it goes on where it stopped",
        ),
        ErrorKind::Fenced => {
            Some("`tagflow status` shows who runs it now; do not start it in two places")
        }
        ErrorKind::Internal => {
            Some("this is a bug of Tagflow's: please report it, with what RUST_LOG=debug shows")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_message_causes_and_hint() {
        let cause = std::io::Error::other("connection refused");
        let error = Error::external("cannot reach Kafka at `b:9092`").with_source(cause);
        assert_eq!(
            explain(&error, error.kind(), Rerun::Resumes),
            "error: cannot reach Kafka at `b:9092`\n\
             \x20 cause: connection refused\n\
             \x20 hint: nothing is lost: run it again when this is mended, and it goes on where \
             it stopped\n"
        );
    }

    #[test]
    fn regression_a_hint_is_true_for_the_command_that_failed() {
        let error = Error::external("cannot reach Kafka at `b:9092`");
        let explained = |rerun| explain(&error, error.kind(), rerun);
        assert!(explained(Rerun::Repeats).contains("sends all of them again"));
        assert!(!explained(Rerun::Repeats).contains("nothing is lost"));
        assert!(!explained(Rerun::Harmless).contains("nothing is lost"));
        let bad_line = Error::data("line 3 of `x` is not a JSON object");
        assert!(explain(&bad_line, bad_line.kind(), Rerun::Repeats).contains("again"));
    }

    #[test]
    fn what_a_wrapper_repeats_is_said_once() {
        let cause = std::io::Error::other("denied");
        let error = Error::config("cannot read `x`: denied").with_source(cause);
        assert_eq!(
            explain(&error, error.kind(), Rerun::Resumes),
            "error: cannot read `x`: denied\n"
        );
    }

    #[test]
    fn kinds_have_their_own_codes() {
        let codes = [
            ErrorKind::Internal,
            ErrorKind::Config,
            ErrorKind::Data,
            ErrorKind::External,
            ErrorKind::Fenced,
        ]
        .map(|kind| Exit::from(kind) as u8);
        assert_eq!(codes, [1, 2, 3, 4, 5]);
        for code in codes {
            assert!(TABLE.contains(&format!("\n  {code} ")), "{code}");
        }
    }

    #[test]
    fn an_error_under_context_keeps_its_kind() {
        let error = anyhow::Error::from(Error::fenced("taken over")).context("while running");
        assert_eq!(report(&error, Rerun::Resumes), Exit::Fenced);
    }
}
