//! "did you mean": the name that a misspelt one stands for.

/// The one of `names` that `wrong` is most like, if it is like any.
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

/// How a message about the unknown name `wrong` goes on: with the name that it
/// is like, else with those that there are.
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
