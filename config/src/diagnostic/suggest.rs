//! "did you mean": the intended name of a misspelt one.

use std::collections::HashMap;

/// The most similar of `names` to `wrong`, if one is similar.
pub fn closest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let edits =
        |name: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase());
    let allowed = 1 + wrong.chars().count() / 4;
    names
        .into_iter()
        .map(|name| (edits(name), name))
        .filter(|(edits, name)| *edits <= allowed && *edits < name.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// The first two names that differ in case alone. Most engines treat such names as equal.
pub fn same_but_for_case<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Option<(&'a str, &'a str)> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    names.into_iter().find_map(|name| {
        let other = seen.insert(name.to_lowercase(), name)?;
        (other != name).then_some((other, name))
    })
}

/// The rest of a message about the unknown name `wrong`: the similar name, otherwise the available
/// ones.
pub fn unknown<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = closest(wrong, names.clone()) {
        return format!("; did you mean `{name}`?");
    }
    let names: Vec<_> = names.into_iter().collect();
    if names.is_empty() {
        return String::new();
    }
    format!(" (have: {})", names.join(", "))
}
