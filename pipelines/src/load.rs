//! Loads a file into a [`Spec`].

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use tagflow_config::{
    Reader,
    diagnostic::{Diagnostics, Position, Severity},
    interpolate::{Env, Params, Variables},
    yaml,
};

use crate::{spec::Spec, validate::validate};

/// The size limit of a pipeline file.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The settings that a run adds to its pipeline file.
#[derive(Clone)]
pub struct LoadOptions {
    /// Params and their values, as in `--set name=value`; the last value of a name counts.
    pub set: Vec<(String, String)>,
    /// Looks up the variables of `${env:X}`.
    pub env: Env,
}

impl Default for LoadOptions {
    /// No params, and the variables of the process.
    fn default() -> Self {
        Self {
            set: Vec::new(),
            env: Arc::new(|name| env::var(name).ok()),
        }
    }
}

/// The readable part of a file, and its errors.
#[derive(Debug)]
pub struct Parsed {
    /// `None` if the file is no map of blocks. With errors it must not run, but its content can be
    /// checked further.
    pub spec: Option<Spec>,
    /// All problems so far.
    pub diagnostics: Diagnostics,
}

/// Loads the pipeline file at `path`.
///
/// # Errors
/// All errors that can be found without planning its SQL and without a
/// network.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Spec, Diagnostics> {
    let (file, text) = read(path)?;
    parse_str(&file, &text, options).into_result()
}

/// Loads the text of a pipeline file. `file` names it in messages, and relative references start
/// from its folder.
///
/// # Errors
/// As [`load`].
pub fn load_str(file: &str, text: &str, options: &LoadOptions) -> Result<Spec, Diagnostics> {
    parse_str(file, text, options).into_result()
}

/// Like [`load`], but returns the readable part with the errors. Further checks, such as planning
/// the SQL, can then report all problems at once.
///
/// # Errors
/// A file that cannot be opened.
pub fn parse(path: &Path, options: &LoadOptions) -> Result<Parsed, Diagnostics> {
    let (file, text) = read(path)?;
    Ok(parse_str(&file, &text, options))
}

/// Like [`parse`], from a text.
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
    let mut bytes = Vec::new();
    let opened = fs::File::open(path);
    let read = opened.and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return fail(format!("cannot read the file: {error}"));
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let most = MAX_FILE_BYTES >> 20;
        return fail(format!(
            "the file is longer than {most} MiB, so it is no pipeline file"
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((file, text)),
        Err(error) => fail(format!("the file is not UTF-8: {}", error.utf8_error())),
    }
}
