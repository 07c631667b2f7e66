//! Oracles in a Python process, which answers line by line.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use serde_json::Value;

/// A Python process that runs `<package>_answers.py`. Its first line of output confirms
/// that the package is installed.
pub(crate) struct Process {
    _child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the Python that `variable` names, by default `python3`. Without the package
    /// it prints a notice and returns none; if the variable is set, it fails.
    pub(crate) fn find(package: &str, variable: &str) -> Option<Mutex<Self>> {
        let named = std::env::var(variable).ok();
        match Self::start(named.as_deref().unwrap_or("python3"), package) {
            Ok(process) => Some(Mutex::new(process)),
            Err(reason) => {
                assert!(named.is_none(), "{package} does not answer: {reason}");
                // Bypasses the test harness, which captures the output of tests.
                let mut out = std::io::stderr();
                let _ = writeln!(
                    out,
                    "NOT RUN: {package} as an oracle ({reason}); `pip install {package}`, or name \
                     a Python that has it in {variable}"
                );
                None
            }
        }
    }

    fn start(python: &str, package: &str) -> Result<Self, String> {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
        let script = format!("{tests}/{package}_answers.py");
        let mut child = Command::new(python)
            .args(["-B", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("`{python}`: {error}"))?;
        let mut process = Self {
            requests: child.stdin.take().unwrap(),
            replies: BufReader::new(child.stdout.take().unwrap()),
            _child: child,
        };
        match process.reply() {
            Some(_) => Ok(process),
            None => Err(format!("`{python}` has no package `{package}`")),
        }
    }

    /// The answer to a request, each a line of JSON.
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.requests, "{request}").unwrap();
        self.reply()
            .expect("the process lives as long as the tests")
    }

    fn reply(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }
}
