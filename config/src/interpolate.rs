//! References inside leaf values: `${env:X}`, `${env:X:-default}`, `${file:path}` and
//! `${params.x}`; `$${` is a literal `${`.
//!
//! They are resolved after YAML parsing, so no value can change the file's structure. The text of a
//! leaf is kept beside its resolved value. Messages and the stored plan show the text, never the
//! value.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::diagnostic;

/// Returns an environment variable; `None` if it is not set.
pub type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The longest file that can be a value.
const LONGEST_FILE_BYTES: u64 = 1 << 20;

/// The possible targets of references.
#[derive(Clone)]
pub struct Variables {
    /// The environment.
    pub env: Env,
    /// The base of the relative paths in `${file:…}`.
    pub folder: PathBuf,
    /// The params of the file.
    pub params: Params,
}

/// The values of `params`, as far as they are known.
#[derive(Debug, Clone)]
pub enum Params {
    /// Inside the `params` block itself.
    NotYet,
    /// `None` is a param whose value is in error.
    Known(BTreeMap<String, Option<String>>),
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").finish_non_exhaustive()
    }
}

/// A leaf's text with its references resolved.
#[derive(Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The resolved text.
    pub text: String,
    /// For each character of `text`, the index of its origin among the characters of the leaf.
    pub origins: Vec<usize>,
    /// Whether the leaf contains a reference.
    pub has_references: bool,
    /// The first `${file:…}`, as the index of its character.
    pub file: Option<usize>,
}

/// A reference that cannot be resolved.
#[derive(Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The index of its first character in the leaf.
    pub index: usize,
    /// The problem; empty if it has been reported elsewhere.
    pub message: String,
    /// The fix, if it is known.
    pub help: Option<String>,
}

/// Resolves the references of `leaf`.
///
/// # Errors
/// Each reference that cannot be resolved.
pub fn resolve(leaf: &str, variables: &Variables) -> Result<Resolved, Vec<Unresolved>> {
    let mut resolved = Resolved {
        text: String::new(),
        origins: Vec::new(),
        has_references: false,
        file: None,
    };
    let mut problems = Vec::new();
    let mut rest = leaf;
    let mut index = 0;
    while let Some(next) = rest.chars().next() {
        let taken = if rest.starts_with("$${") {
            resolved.push("${", index);
            3
        } else if let Some(inner) = rest.strip_prefix("${") {
            resolved.has_references = true;
            let inner = inner.split_once('}').map(|(inner, _)| inner);
            if inner.is_some_and(|inner| inner.starts_with("file:")) {
                resolved.file.get_or_insert(index);
            }
            match inner.map_or_else(|| Err(unclosed()), |inner| variables.look_up(inner)) {
                Ok(value) => resolved.push(&value, index),
                Err((message, help)) => problems.push(Unresolved {
                    index,
                    message,
                    help,
                }),
            }
            inner.map_or(2, |inner| inner.len() + 3)
        } else {
            resolved.push(next.encode_utf8(&mut [0; 4]), index);
            next.len_utf8()
        };
        let (before, after) = rest.split_at(taken);
        index += before.chars().count();
        rest = after;
    }
    if problems.is_empty() {
        Ok(resolved)
    } else {
        Err(problems)
    }
}

impl Resolved {
    fn push(&mut self, value: &str, origin: usize) {
        self.text.push_str(value);
        self.origins.extend(value.chars().map(|_| origin));
    }
}

/// The text of a small file. It opens no pipe or device, because these may never end.
fn read_value(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    // The file may grow, and some files report no size.
    let read = File::open(path)?
        .take(LONGEST_FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if read as u64 > LONGEST_FILE_BYTES {
        return Err(io::Error::other("it is longer than 1MiB"));
    }
    Ok(text)
}

/// A message and its help.
type Missing = (String, Option<String>);

fn unclosed() -> Missing {
    let help = "write `$${` for a plain `${`";
    ("`${` lacks its closing `}`".into(), Some(help.into()))
}

impl Variables {
    /// The value of the reference `${inner}`.
    fn look_up(&self, inner: &str) -> Result<String, Missing> {
        if inner.contains("${") {
            let help = "a default is plain text: set the variable, or give the value a `params` \
                        entry of its own";
            let message = format!("a reference cannot stand inside another: `${{{inner}}}`");
            return Err((message, Some(help.into())));
        }
        if let Some(variable) = inner.strip_prefix("env:") {
            self.variable(variable)
        } else if let Some(path) = inner.strip_prefix("file:") {
            self.file(path)
        } else if let Some(param) = inner.strip_prefix("params.") {
            self.param(param)
        } else {
            let help = "a reference is `${env:NAME}`, `${env:NAME:-default}`, `${file:path}` or \
                        `${params.name}`; write `$${` for a plain `${`";
            Err((
                format!("unknown reference `${{{inner}}}`"),
                Some(help.into()),
            ))
        }
    }

    /// As in a shell, `:-` also replaces an empty value.
    fn variable(&self, variable: &str) -> Result<String, Missing> {
        let (name, default) = match variable.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (variable, None),
        };
        if name.is_empty() {
            return Err(("`${env:}` names no variable".into(), None));
        }
        match ((self.env)(name), default) {
            (Some(value), None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => Ok(value),
            (_, Some(default)) => Ok(default.into()),
            (None, None) => Err((
                format!("environment variable `{name}` is not set"),
                Some(format!(
                    "set it, or give a default: `${{env:{name}:-default}}`"
                )),
            )),
        }
    }

    /// Without the final newline.
    fn file(&self, path: &str) -> Result<String, Missing> {
        let full = self.folder.join(path);
        let fail = |why: String| Err((format!("cannot read the file `{path}`: {why}"), None));
        match read_value(&full) {
            Ok(mut text) => {
                let kept = text.trim_end_matches(['\r', '\n']).len();
                text.truncate(kept);
                Ok(text)
            }
            Err(error) => fail(error.to_string()),
        }
    }

    fn param(&self, name: &str) -> Result<String, Missing> {
        let Params::Known(params) = &self.params else {
            let message = "a param cannot refer to a param".to_owned();
            return Err((message, None));
        };
        match params.get(name) {
            Some(Some(value)) => Ok(value.clone()),
            Some(None) => Err((String::new(), None)),
            None => {
                let names = diagnostic::unknown(name, params.keys().map(String::as_str));
                let help = params
                    .is_empty()
                    .then(|| format!("declare it: `params: {{{name}: …}}`"));
                Err((format!("unknown param `{name}`{names}"), help))
            }
        }
    }
}
