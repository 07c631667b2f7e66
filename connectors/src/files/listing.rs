//! Which files a path or URL with a pattern means.

use std::sync::Arc;

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use tagflow_engine::{Error, Result};

use super::object::{FileObject, cannot_read};
use crate::storage;

/// As shells do it: `*` and `?` match no `/` and no leading dot.
const MATCH: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Whether `url` can mean files. Touches no network.
///
/// # Errors
/// `Config` where it is no path or URL, or its pattern is none.
pub fn check(url: &str) -> Result<()> {
    let (base, pattern) = split(url);
    storage::check(folder(base))?;
    pattern.map_or(Ok(()), |pattern| compile(pattern).map(drop))
}

/// The files that `url` means, by name.
pub(super) async fn list(url: &str) -> Result<Vec<FileObject>> {
    let (base, pattern) = split(url);
    let (store, path) = storage::open(folder(base))?;
    match pattern {
        None => one(store, path, url).await.map(|file| vec![file]),
        Some(pattern) => matching(store, path, base, pattern).await,
    }
}

/// The part of a URL before the first name with a wildcard, and the rest.
fn split(url: &str) -> (&str, Option<&str>) {
    match url.find(['*', '?', '[']) {
        None => (url, None),
        Some(wildcard) => {
            let folder = url[..wildcard].rfind('/').map_or(0, |slash| slash + 1);
            let (base, pattern) = url.split_at(folder);
            (base, Some(pattern))
        }
    }
}

/// The folder that a pattern is looked for in.
fn folder(base: &str) -> &str {
    if base.is_empty() { "." } else { base }
}

fn compile(pattern: &str) -> Result<Pattern> {
    Pattern::new(pattern).map_err(|error| {
        Error::config(format!("`{pattern}` is not a pattern for files")).with_source(error)
    })
}

async fn one(store: Arc<dyn ObjectStore>, path: Path, url: &str) -> Result<FileObject> {
    match store.head(&path).await {
        Ok(meta) => Ok(FileObject {
            store,
            meta,
            name: Arc::from(url),
        }),
        Err(error @ StoreError::NotFound { .. }) => {
            let folder = url.trim_end_matches('/');
            Err(Error::data(format!(
                "there is no file `{url}`; to read the files of a folder write `{folder}/*`"
            ))
            .with_source(error))
        }
        Err(error) => Err(cannot_read(url, error)),
    }
}

async fn matching(
    store: Arc<dyn ObjectStore>,
    folder: Path,
    base: &str,
    pattern: &str,
) -> Result<Vec<FileObject>> {
    let compiled = compile(pattern)?;
    let objects: Vec<ObjectMeta> = if pattern.contains('/') || pattern.contains("**") {
        store.list(Some(&folder)).try_collect().await
    } else {
        let listed = store.list_with_delimiter(Some(&folder)).await;
        listed.map(|listed| listed.objects)
    }
    .map_err(|error| cannot_read(base, error))?;

    let mut files: Vec<_> = objects
        .into_iter()
        .filter_map(|meta| {
            let parts: Vec<_> = meta.location.prefix_match(&folder)?.collect();
            let names: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
            let name = names.join("/");
            compiled.matches_with(&name, MATCH).then(|| FileObject {
                store: Arc::clone(&store),
                name: Arc::from(format!("{base}{name}")),
                meta,
            })
        })
        .collect();
    files.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_before_the_first_wildcard() {
        for (url, expected) in [
            ("data/a.json", ("data/a.json", None)),
            ("data/*.json", ("data/", Some("*.json"))),
            ("*.json", ("", Some("*.json"))),
            (
                "s3://b/p/dt=*/x-?.json",
                ("s3://b/p/", Some("dt=*/x-?.json")),
            ),
            ("/d/[ab]/x", ("/d/", Some("[ab]/x"))),
        ] {
            assert_eq!(split(url), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn patterns_find_files_in_order() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "b.json",
            "a.json",
            "a.csv",
            ".h.json",
            "x/c.json",
            "x/y/d.json",
        ] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let base = format!("{}/", root.path().display());
        for (pattern, expected) in [
            ("*.json", &["a.json", "b.json"][..]),
            ("a.*", &["a.csv", "a.json"]),
            ("[ab].json", &["a.json", "b.json"]),
            ("*/*.json", &["x/c.json"]),
            ("**/*.json", &["a.json", "b.json", "x/c.json", "x/y/d.json"]),
            ("a.json", &["a.json"]),
            ("*.parquet", &[]),
            ("nowhere/*", &[]),
        ] {
            let files = list(&format!("{base}{pattern}")).await.unwrap();
            let names: Vec<_> = files.iter().map(|file| &file.name[base.len()..]).collect();
            assert_eq!(names, expected, "{pattern}");
        }
    }

    #[tokio::test]
    async fn a_missing_file_and_a_bad_pattern_are_errors() {
        for (url, part) in [
            ("/nowhere/at/all.json", "write `/nowhere/at/all.json/*`"),
            ("/tmp/a**b", "not a pattern"),
        ] {
            let error = list(url).await.unwrap_err();
            assert!(error.to_string().contains(part), "{}", error.chain());
        }
    }
}
