//! The files below a folder of the local disk.

use std::{collections::HashSet, fs, io, os::unix::fs::MetadataExt, path::Path};

use glob::{MatchOptions, Pattern};

/// As in shells: `*` and `?` match no `/` and no leading dot.
pub(super) const MATCH: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The files below `folder` that match `pattern`, by their relative path. A file with an unreadable
/// name is skipped with a warning. Pipes, sockets and devices are not files.
pub(super) fn walk(folder: &Path, pattern: &Pattern) -> io::Result<Vec<String>> {
    let text = pattern.as_str();
    let mut walk = Walk {
        pattern,
        deepest: if text.contains("**") {
            usize::MAX
        } else {
            text.matches('/').count()
        },
        above: HashSet::new(),
        found: Vec::new(),
    };
    match walk.folder(folder, "", 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map(|()| walk.found),
    }
}

struct Walk<'a> {
    pattern: &'a Pattern,
    deepest: usize,
    /// The ancestors of the current folder, to stop at links to any of them.
    above: HashSet<(u64, u64)>,
    found: Vec<String>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, within: &str, depth: usize) -> io::Result<()> {
        let metadata = fs::metadata(folder)?;
        let id = (metadata.dev(), metadata.ino());
        if !self.above.insert(id) {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            // A dangling link, or a file that was deleted meanwhile.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{within}{name}");
            if metadata.is_dir() && depth < self.deepest {
                self.folder(&path, &format!("{name}/"), depth + 1)?;
            } else if metadata.is_file() && self.pattern.matches_with(&name, MATCH) {
                match objection(&path) {
                    None => self.found.push(name),
                    Some(reason) => {
                        tracing::warn!(file = ?path, "the file is set aside: its name {reason}");
                    }
                }
            }
        }
        self.above.remove(&id);
        Ok(())
    }
}

/// Why a file of this name cannot be read from any store.
fn objection(path: &Path) -> Option<&'static str> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Some("is not UTF-8; rename it");
    };
    let unfinished = name.rsplit_once('#').is_some_and(|(_, digits)| {
        !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit())
    });
    if unfinished {
        return Some("ends in `#` and digits, as files do that are being written; rename it");
    }
    let location = object_store::path::Path::from_absolute_path(path);
    location
        .is_err()
        .then_some("holds a control character; rename it")
}
