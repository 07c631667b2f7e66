//! Renders differences for people.

use std::fmt::{self, Write as _};

use super::{Difference, Fate, Kind};

/// One line per thing, with its changes beneath.
///
/// ```text
/// source  events  kept
/// query   minute  reset    its state does not fit any more
///           - count(*): Int64
///           + count(user_id): Int64
/// table   clicks  changed
///           + reach int64
/// ```
pub fn human(differences: &[Difference]) -> String {
    let width = differences.iter().map(|it| it.name.chars().count());
    let width = width.max().unwrap_or(0);
    let kinds = differences.iter().map(|it| it.kind.to_string().len());
    let kinds = kinds.fold("source".len(), usize::max);
    let mut text = String::new();
    for difference in differences {
        let Difference {
            kind,
            name,
            fate,
            details,
        } = difference;
        let line = format!(
            "{kind:<kinds$}  {name:<width$}  {fate:<7}  {}",
            remark(*kind, *fate)
        );
        let _ = writeln!(text, "{}", line.trim_end());
        for detail in details {
            let _ = writeln!(text, "          {detail}");
        }
    }
    text
}

fn remark(kind: Kind, fate: Fate) -> &'static str {
    match (kind, fate) {
        (Kind::Source, Fate::Added) => "is read from its start",
        (Kind::Source, Fate::Removed) => "how far it was read is forgotten",
        (Kind::Query | Kind::Metrics, Fate::Added) => "begins with the rows that come next",
        (Kind::Lookup, Fate::Changed) => "is read anew",
        (Kind::Query | Kind::Metrics | Kind::Step, Fate::Reset) => {
            "its state does not fit any more"
        }
        (Kind::Measure, Fate::Added | Fate::Reset) => {
            "starts from now: open windows hold what came since"
        }
        (Kind::Tag, Fate::Added) => "begins with the events that come next",
        (Kind::Tag, Fate::Reset) => "begins anew with the events that come next",
        (Kind::Tag | Kind::Segment, Fate::Removed) => "what is known of it is forgotten",
        (Kind::Table, Fate::Removed) => "its files stay where they are",
        (Kind::Table, Fate::Changed) => "from the next file on",
        _ => "",
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Source => "source",
            Self::Step => "step",
            Self::Query => "query",
            Self::Metrics => "metrics",
            Self::Measure => "measure",
            Self::Lookup => "lookup",
            Self::Tag => "tag",
            Self::Segment => "segment",
            Self::Table => "table",
        })
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kept => "kept",
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Reset => "reset",
            Self::Removed => "removed",
        })
    }
}
