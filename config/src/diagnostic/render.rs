//! Renders problems for people, for programs and for GitHub's pull-request view.

use serde_json::json;

use super::{Diagnostic, Diagnostics, Severity};

impl Diagnostics {
    /// For a terminal: one line per problem, its help beneath, then the count. Empty without
    /// problems.
    ///
    /// ```text
    /// orders.yaml:18:7   error  unknown key `wher` in `clean`; did you mean `where`?
    /// orders.yaml:24:22  error  expected a duration, got the integer 5
    ///                           help: write `5s`
    /// 2 errors
    /// ```
    pub fn human(&self) -> String {
        self.human_with(|_, text| text.to_owned())
    }

    /// Like [`Diagnostics::human`], with `paint` applied to each severity.
    #[must_use]
    pub fn human_with(&self, paint: impl Fn(Severity, &str) -> String) -> String {
        let places: Vec<String> = self
            .iter()
            .map(|item| format!("{}:{}", item.file, item.at))
            .collect();
        let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let place_width = widest(&mut places.iter().map(|place| place.chars().count()));
        let severity_width = widest(&mut self.iter().map(|item| item.severity.to_string().len()));
        let mut lines: Vec<String> = Vec::new();
        for (place, item) in places.iter().zip(self.iter()) {
            let margin = place_width + severity_width + 4;
            let message = indented(&item.message, margin);
            let severity = format!("{:severity_width$}", item.severity.to_string());
            let severity = paint(item.severity, &severity);
            lines.push(format!("{place:place_width$}  {severity}  {message}"));
            if let Some(help) = &item.help {
                let help = indented(help, margin + "help: ".len());
                lines.push(format!("{:margin$}help: {help}", ""));
            }
        }
        lines.extend(self.summary());
        lines.push(String::new());
        lines.join("\n")
    }

    /// For programs: an array of objects with `file`, `line`, `column`, `severity`, `path`,
    /// `message` and `help` (null without help).
    pub fn json(&self) -> String {
        let items: Vec<_> = self.iter().map(object).collect();
        format!("{:#}\n", serde_json::Value::Array(items))
    }

    /// For GitHub Actions: one workflow command per problem, which the pull request's view shows at
    /// the line.
    pub fn github(&self) -> String {
        self.iter().map(command).collect()
    }

    fn summary(&self) -> Option<String> {
        let counted = |severity| match self.count(severity) {
            0 => None,
            1 => Some(format!("1 {severity}")),
            count => Some(format!("{count} {severity}s")),
        };
        let parts: Vec<_> = [Severity::Error, Severity::Warning]
            .into_iter()
            .filter_map(counted)
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn object(item: &Diagnostic) -> serde_json::Value {
    json!({
        "file": &*item.file,
        "line": item.at.line,
        "column": item.at.column,
        "severity": item.severity.to_string(),
        "path": item.path,
        "message": item.message,
        "help": item.help,
    })
}

fn command(item: &Diagnostic) -> String {
    let help = item.help.as_ref();
    let help = help.map_or_else(String::new, |help| format!("\nhelp: {help}"));
    format!(
        "::{} file={},line={},col={}::{}\n",
        item.severity,
        property(&item.file),
        item.at.line,
        item.at.column,
        data(&format!("{}{help}", item.message))
    )
}

/// Indents all lines after the first.
fn indented(text: &str, margin: usize) -> String {
    text.replace('\n', &format!("\n{:margin$}", ""))
}

/// The message of a workflow command, escaped as in GitHub's toolkit.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// A property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
