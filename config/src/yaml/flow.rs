//! The likely cause of a YAML error, from the brackets before it.

use crate::diagnostic::Position;

/// The help for types with named fields.
pub const NO_STRUCTS: &str =
    "there are no structs yet: read the column as `json`, and take values out of its text with SQL";

/// A bracket or a quotation mark that is still open.
struct Open {
    mark: char,
    at: Position,
}

/// The help for an error at `place`: a type with named fields, or a bracket or a quotation that
/// does not end.
pub(super) fn help(text: &str, place: Position) -> Option<String> {
    let line = text.lines().nth(place.line.checked_sub(1)? as usize);
    let is_struct = |line: &str| {
        ["struct<", "map<", "row<"]
            .iter()
            .any(|it| line.to_lowercase().contains(it))
    };
    if line.is_some_and(is_struct) {
        return Some(NO_STRUCTS.to_owned());
    }
    let Open { mark, at } = innermost(text, place)?;
    let closing = match mark {
        '{' => '}',
        '[' => ']',
        mark => mark,
    };
    Some(format!(
        "the `{mark}` at {at} lacks its closing `{closing}`"
    ))
}

/// The quotation before `place` that does not end on its line, otherwise the innermost open
/// bracket. Comments are ignored. Block texts may contain such marks too, so this is a guess.
fn innermost(text: &str, place: Position) -> Option<Open> {
    let mut brackets: Vec<Open> = Vec::new();
    let mut quotation: Option<Open> = None;
    let mut long_quotation = None;
    let lines = text.lines().take(place.line as usize);
    for (line, content) in (1..).zip(lines) {
        let mut before = ' ';
        for (column, c) in (1..).zip(content.chars()) {
            let at = Position { line, column };
            if at >= place {
                break;
            }
            match (&quotation, c) {
                (Some(open), c) if c == open.mark => {
                    if open.at.line < line {
                        long_quotation = quotation.take();
                    }
                    quotation = None;
                }
                // Inside words these are letters.
                (None, '"' | '\'') if !before.is_alphanumeric() => {
                    quotation = Some(Open { mark: c, at });
                }
                (None, '#') if before.is_whitespace() => break,
                (None, '{' | '[') => brackets.push(Open { mark: c, at }),
                (None, '}' | ']') => {
                    brackets.pop();
                }
                _ => {}
            }
            before = c;
        }
    }
    quotation.or(long_quotation).or_else(|| brackets.pop())
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::diagnostic::Diagnostics;

    fn check(text: &str, help: &str) {
        let mut found = Diagnostics::new("a.yaml");
        parse(text, &mut found);
        let helps: Vec<_> = found
            .iter()
            .filter_map(|item| item.help.as_deref())
            .collect();
        assert_eq!(helps.len(), 1, "{text}\n{found}");
        assert!(helps[0].contains(help), "{text}\n{found}");
    }

    #[test]
    fn regression_an_unclosed_bracket_is_named_where_it_opens() {
        check(
            "a: 1 # {\nb: {c: \"}\", d: [1, 2]\ne: {f: 1}\n",
            "the `{` at 2:4 lacks its closing `}`",
        );
        check(
            "a:\n  - [1, 2\nb: 1\n",
            "the `[` at 2:5 lacks its closing `]`",
        );
        check(
            "name: \"shop\nparams: {day: \"2026-01-05\"}\n",
            "the `\"` at 1:7 lacks its closing `\"`",
        );
    }

    #[test]
    fn regression_structs_are_not_there_yet() {
        check(
            "columns: {p: struct<revenue: float64>}\n",
            "read the column as `json`",
        );
        check(
            "columns:\n  p: struct<revenue: float64>\n",
            "read the column as `json`",
        );
    }
}
