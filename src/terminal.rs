//! The terminal: its width, and its colours.

use clap::ValueEnum;
use console::{Style, Term};
use tagflow_pipelines::{Diagnostics, Severity};

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal.
    Auto,
    /// In pipes and files too.
    Always,
    /// Nowhere.
    Never,
}

/// Decides about colours for the rest of the process. By default a terminal has colours, unless
/// `NO_COLOR` is set.
pub(crate) fn set_colors(when: ColorWhen) {
    let enabled = match when {
        ColorWhen::Auto => return,
        ColorWhen::Always => true,
        ColorWhen::Never => false,
    };
    console::set_colors_enabled(enabled);
    console::set_colors_enabled_stderr(enabled);
}

/// The target of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// The width of the terminal; `None` if the stream is no terminal.
    pub(crate) fn width(self) -> Option<usize> {
        let term = match self {
            Self::Out => Term::stdout(),
            Self::Err => Term::stderr(),
        };
        let size = term.is_term().then(|| term.size_checked()).flatten();
        size.map(|(_, columns)| usize::from(columns))
            .filter(|&columns| columns > 0)
    }

    /// Whether text on it may have colours.
    pub(crate) fn has_colors(self) -> bool {
        match self {
            Self::Out => console::colors_enabled(),
            Self::Err => console::colors_enabled_stderr(),
        }
    }

    /// `text` with the colour of `tone`, if there are colours.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Good => Style::new().green(),
            Tone::Odd => Style::new().yellow(),
            Tone::Bad => Style::new().red().bold(),
        };
        style
            .force_styling(self.has_colors())
            .apply_to(text)
            .to_string()
    }

    /// The problems of a file.
    pub(crate) fn problems(self, problems: &Diagnostics) -> String {
        problems.human_with(|severity, text| {
            let tone = match severity {
                Severity::Error => Tone::Bad,
                Severity::Warning => Tone::Odd,
            };
            self.paint(tone, text)
        })
    }
}

/// The meaning of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// All is well.
    Good,
    /// Worth attention.
    Odd,
    /// Wrong.
    Bad,
}

impl Tone {
    /// The tone of a pipeline's state, as `status` names it.
    pub(crate) fn of_state(state: &str) -> Option<Self> {
        match state {
            "running" => Some(Self::Good),
            "failed" | "dead" => Some(Self::Bad),
            "waiting" | "unreachable" => Some(Self::Odd),
            _ => None,
        }
    }
}
