//! A prompt for SQL, with history, statements of several lines, and completion of
//! names.

use std::{collections::BTreeSet, fs, path::PathBuf};

use rustyline::{
    Config, Context, Editor, Helper,
    completion::Completer,
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};
use tagflow_engine::Error;
use tagflow_service::query::is_complete;

use crate::terminal::Stream;

const PROMPT: &str = "tagflow> ";

const HELP: &str = "\
SELECT …;    asks the tables; a statement ends with `;` and may have several lines
\\d           lists the tables
\\d TABLE     lists the columns of a table
\\q, Ctrl-D   quits; Ctrl-C clears the line, or cancels the query";

/// The words that complete besides the names of tables and columns.
const KEYWORDS: [&str; 14] = [
    "select",
    "from",
    "where",
    "group by",
    "order by",
    "limit",
    "count(*)",
    "distinct",
    "having",
    "between",
    "interval",
    "join",
    "describe",
    "show tables",
];

/// The user's input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SQL to run.
    Sql(String),
    /// Nothing that needs an answer.
    Nothing,
    /// The user leaves.
    End,
}

/// The prompt.
pub(crate) struct Prompt {
    editor: Editor<Input, FileHistory>,
    history: Option<PathBuf>,
}

impl Prompt {
    /// A prompt that completes `names` and the keywords.
    ///
    /// # Errors
    /// `External` where the terminal cannot be used.
    pub(crate) fn open(names: BTreeSet<String>) -> Result<Self, Error> {
        let config = Config::builder().auto_add_history(false).build();
        let mut editor = Editor::with_config(config).map_err(unusable)?;
        let keywords = KEYWORDS.iter().map(|&word| word.to_owned());
        let words = names.into_iter().chain(keywords).collect();
        editor.set_helper(Some(Input { words }));
        let history = history_file();
        if let Some(file) = &history {
            // Without a history there is still a prompt.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, history })
    }

    /// Waits for the user.
    ///
    /// # Errors
    /// `External` where the terminal fails.
    pub(crate) fn ask(&mut self) -> Result<Asked, Error> {
        let line = match self.editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => return Ok(Asked::Nothing),
            Err(ReadlineError::Eof) => return Ok(Asked::End),
            Err(error) => return Err(unusable(error)),
        };
        if !line.trim().is_empty() {
            let _ = self.editor.add_history_entry(line.trim());
            if let Some(file) = &self.history {
                let _ = self.editor.save_history(file);
            }
        }
        Ok(meaning(&line))
    }
}

fn unusable(error: ReadlineError) -> Error {
    Error::external("cannot read from the terminal")
        .with_source(error)
        .permanent()
}

/// Parses a whole input: SQL, or a command such as `\d`.
pub(crate) fn meaning(line: &str) -> Asked {
    let words: Vec<&str> = line
        .trim()
        .trim_end_matches(';')
        .split_whitespace()
        .collect();
    match words.as_slice() {
        [] => Asked::Nothing,
        ["\\q" | "quit" | "exit" | "QUIT" | "EXIT"] => Asked::End,
        ["\\d" | "\\dt"] => Asked::Sql("show tables".to_owned()),
        ["\\d", table] => Asked::Sql(format!("describe {table}")),
        ["\\?" | "\\h" | "help"] => {
            eprintln!("{HELP}");
            Asked::Nothing
        }
        [command, ..] if command.starts_with('\\') => {
            eprintln!("there is no command `{command}`\n{HELP}");
            Asked::Nothing
        }
        _ => Asked::Sql(line.to_owned()),
    }
}

/// The file of earlier inputs, by the rules of XDG.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    let folder = state
        .filter(|it| it.is_absolute())
        .or_else(home)?
        .join("tagflow");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("query_history"))
}

/// The editor's helper for the input.
struct Input {
    words: Vec<String>,
}

impl Helper for Input {}

impl Hinter for Input {
    type Hint = String;
}

impl Highlighter for Input {}

impl Validator for Input {
    /// Enter ends a command, and a statement after its `;`.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = context.input().trim();
        let is_word = matches!(input, "" | "quit" | "exit" | "help" | "QUIT" | "EXIT");
        let is_whole = is_word || input.starts_with('\\') || is_complete(input);
        Ok(if is_whole {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Completer for Input {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(line, position))
    }
}

impl Input {
    /// The start of the word before the cursor, and its completions.
    fn candidates(&self, line: &str, position: usize) -> (usize, Vec<String>) {
        let before = &line[..position];
        let is_break = |c: char| !(c.is_alphanumeric() || c == '_');
        let start = before
            .char_indices()
            .rev()
            .find(|&(_, c)| is_break(c))
            .map_or(0, |(at, c)| at + c.len_utf8());
        let typed = before[start..].to_lowercase();
        let fits = |word: &&String| !typed.is_empty() && word.to_lowercase().starts_with(&typed);
        (start, self.words.iter().filter(fits).cloned().collect())
    }
}

/// Prints how the prompt is used.
pub(crate) fn greet() {
    if Stream::Out.width().is_some() {
        eprintln!(
            "end a statement with `;`   \\d tables   \\d TABLE columns   \\? help   \\q quit"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_for_statements() {
        let sql = |text: &str| Asked::Sql(text.to_owned());
        for (line, expected) in [
            ("", Asked::Nothing),
            ("  \\q", Asked::End),
            ("exit;", Asked::End),
            ("\\d", sql("show tables")),
            ("\\d clicks;", sql("describe clicks")),
            ("\\x", Asked::Nothing),
            ("select 1;", sql("select 1;")),
        ] {
            assert_eq!(meaning(line), expected, "{line}");
        }
    }

    #[test]
    fn names_complete_behind_any_sign() {
        let words = ["campaign_metrics", "clicks", "count(*)"].map(str::to_owned);
        let input = Input {
            words: words.to_vec(),
        };
        let found = |line: &str| input.candidates(line, line.len());
        assert_eq!(
            found("select sum(cl"),
            (11, vec!["clicks".to_owned()]),
            "behind a parenthesis"
        );
        assert_eq!(found("from CAM"), (5, vec!["campaign_metrics".to_owned()]));
        assert_eq!(found("select "), (7, vec![]));
        assert_eq!(found("é"), (0, vec![]));
    }
}
