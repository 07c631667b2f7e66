//! From a file to a [`Spec`].

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    diagnostic::{Diagnostics, Position, Severity},
    interpolate::{Env, Params, Variables},
    spec::{Reader, Spec},
    validate::validate,
    yaml,
};

/// What a run adds to its pipeline file.
#[derive(Clone)]
pub struct LoadOptions {
    /// Params and their values, as `--set name=value` gives them; the last of
    /// a name counts.
    pub set: Vec<(String, String)>,
    /// Looks up the variables of `${env:X}`.
    pub env: Env,
}

impl Default for LoadOptions {
    /// Nothing set, and the variables of the process.
    fn default() -> Self {
        Self {
            set: Vec::new(),
            env: Arc::new(|name| env::var(name).ok()),
        }
    }
}

/// A file as far as it can be read, and what is wrong with it.
#[derive(Debug)]
pub struct Parsed {
    /// `None` where it is no map of blocks at all. With errors it must not run,
    /// but what is in it can be checked further.
    pub spec: Option<Spec>,
    /// All problems so far.
    pub diagnostics: Diagnostics,
}

/// Loads the pipeline file at `path`.
///
/// # Errors
/// All that is wrong with it, as far as can be told without planning its SQL
/// and without a network.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Spec, Diagnostics> {
    let (file, text) = read(path)?;
    parse_str(&file, &text, options).into_result()
}

/// Loads a pipeline file's text; `file` names it in messages, and files that it
/// refers to are looked for beside it.
///
/// # Errors
/// As [`load`].
pub fn load_str(file: &str, text: &str, options: &LoadOptions) -> Result<Spec, Diagnostics> {
    parse_str(file, text, options).into_result()
}

/// As [`load`], but what can be read comes along with the errors: for checks
/// that go further, such as planning the SQL, to report all problems at once.
///
/// # Errors
/// A file that cannot be opened.
pub fn parse(path: &Path, options: &LoadOptions) -> Result<Parsed, Diagnostics> {
    let (file, text) = read(path)?;
    Ok(parse_str(&file, &text, options))
}

/// As [`parse`], of a text.
pub fn parse_str(file: &str, text: &str, options: &LoadOptions) -> Parsed {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut diagnostics = Diagnostics::new(file);
    let Some(root) = yaml::parse(text, &mut diagnostics) else {
        return Parsed {
            spec: None,
            diagnostics,
        };
    };
    let folder = Path::new(file).parent().map(PathBuf::from);
    let variables = Variables {
        env: Arc::clone(&options.env),
        folder: folder.unwrap_or_default(),
        params: Params::NotYet,
    };
    let mut reader = Reader::new(text, variables, diagnostics);
    let mut spec = Spec::read(&root, &mut reader, &options.set);
    let mut diagnostics = reader.diagnostics;
    if let Some(spec) = &mut spec {
        validate(spec, &mut diagnostics);
        spec.warnings = diagnostics.only(Severity::Warning);
    }
    Parsed { spec, diagnostics }
}

impl Parsed {
    fn into_result(self) -> Result<Spec, Diagnostics> {
        match self.spec {
            Some(spec) if !self.diagnostics.has_errors() => Ok(spec),
            _ => Err(self.diagnostics),
        }
    }
}

/// The file's name for messages, and its text.
fn read(path: &Path) -> Result<(String, String), Diagnostics> {
    let file = path.display().to_string();
    let fail = |message: String| {
        let mut diagnostics = Diagnostics::new(file.as_str());
        diagnostics.error(Position::START, "", message);
        Err(diagnostics)
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return fail(format!("cannot read the file: {error}")),
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok((file, text)),
        Err(error) => fail(format!("the file is not UTF-8: {}", error.utf8_error())),
    }
}
