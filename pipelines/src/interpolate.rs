//! References inside leaf values: `${env:X}`, `${env:X:-default}`,
//! `${file:path}` and `${params.x}`; `$${` stands for a plain `${`.
//!
//! They are resolved after YAML has been parsed, so no value can change the
//! file's structure. What a leaf says is kept beside what it resolves to:
//! messages and the stored plan show the former, never the latter.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, fs, path::PathBuf, sync::Arc};

use crate::diagnostic;

/// Looks an environment variable up; `None` where it is not set.
pub type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A file longer than this is no value.
const LONGEST_FILE_BYTES: u64 = 1 << 20;

/// What references can refer to.
#[derive(Clone)]
pub(crate) struct Variables {
    pub(crate) env: Env,
    /// What the paths of `${file:…}` are relative to.
    pub(crate) folder: PathBuf,
    pub(crate) params: Params,
}

/// The values of `params`, as far as they are known.
#[derive(Debug, Clone)]
pub(crate) enum Params {
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
pub(crate) struct Resolved {
    pub(crate) text: String,
    /// For each character of `text`, the index of the character of the leaf
    /// that it comes from.
    pub(crate) origins: Vec<usize>,
    /// Whether there was any reference.
    pub(crate) has_references: bool,
    /// The first `${file:…}`, as the index of its character.
    pub(crate) file: Option<usize>,
}

/// A reference that cannot be resolved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    /// The index of the character of the leaf where it begins.
    pub(crate) index: usize,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// Resolves the references of `leaf`, or says about each that cannot be.
/// An `Unresolved` with an empty message has been reported elsewhere.
pub(crate) fn resolve(leaf: &str, variables: &Variables) -> Result<Resolved, Vec<Unresolved>> {
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

/// A message and its help.
type Missing = (String, Option<String>);

fn unclosed() -> Missing {
    let help = "write `$${` for a plain `${`";
    ("`${` lacks its closing `}`".into(), Some(help.into()))
}

impl Variables {
    /// The value of the reference `${inner}`.
    fn look_up(&self, inner: &str) -> Result<String, Missing> {
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

    /// Without the newline that ends it.
    fn file(&self, path: &str) -> Result<String, Missing> {
        let full = self.folder.join(path);
        let fail = |why: String| Err((format!("cannot read the file `{path}`: {why}"), None));
        let text = fs::metadata(&full).and_then(|metadata| {
            if metadata.len() > LONGEST_FILE_BYTES {
                return Err(std::io::Error::other("it is longer than 1MiB"));
            }
            fs::read_to_string(&full)
        });
        match text {
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
