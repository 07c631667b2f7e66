//! Reading any file ends with problems and never with a panic.

use super::{everything::EVERYTHING, *};

/// Reads, renders, and makes the plan of the readable part.
fn survive(text: &str) {
    let Parsed { spec, diagnostics } = parsed(text);
    let lines = u32::try_from(text.lines().count()).unwrap();
    for item in diagnostics.iter() {
        assert!(
            (1..=lines + 1).contains(&item.at.line),
            "{item:?} in\n{text}"
        );
        assert!(!item.message.is_empty());
    }
    assert!(spec.is_some() || diagnostics.has_errors(), "{text}");
    if let Some(spec) = spec {
        assert!(spec.plan_json().len() > 2);
        for (_, source) in spec.sources.iter() {
            let _ = source.input.component();
        }
        for (_, sink) in spec.sinks.iter() {
            let _ = sink.output.component();
        }
    }
}

#[test]
fn a_file_cut_anywhere() {
    for (index, _) in EVERYTHING.char_indices() {
        survive(&EVERYTHING[..index]);
    }
}

#[test]
fn a_file_that_lacks_a_line() {
    let lines: Vec<_> = EVERYTHING.lines().collect();
    for index in 0..lines.len() {
        let mut lines = lines.clone();
        lines.remove(index);
        survive(&lines.join("\n"));
    }
}

#[test]
fn a_file_with_another_value_anywhere() {
    let colons: Vec<_> = EVERYTHING.match_indices(": ").collect();
    for (index, _) in colons {
        let (before, after) = EVERYTHING.split_at(index + 2);
        let rest = after.split_once('\n').map_or("", |(_, rest)| rest);
        for value in [
            "", "[]", "{}", "x", "\"\"", "0", "-1", "true", "${", "*a", "é: |",
        ] {
            survive(&format!("{before}{value}\n{rest}"));
            let ending = after.find([',', '}', '\n']).unwrap_or_default();
            survive(&format!("{before}{value}{}", &after[ending..]));
        }
    }
}
