//! Resolves a path or a URL pattern to files.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use glob::Pattern;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use tagflow_engine::{Error, Result, source::Growth};
use tokio::task::spawn_blocking;

use super::{
    local::{self, MATCH},
    object::{FileObject, cannot_read},
};
use crate::storage;

/// How many files to look up concurrently.
const ASKED_AT_ONCE: usize = 32;

/// Whether `url` can name files. Touches no network.
///
/// # Errors
/// `Config` where it is no path or URL, or its pattern is malformed.
pub(super) fn check(url: &str) -> Result<()> {
    let (base, pattern) = split(url);
    storage::check(folder(base))?;
    pattern.map_or(Ok(()), |pattern| compile(pattern).map(drop))
}

/// The files that a URL names.
#[derive(Debug)]
pub(super) struct Listing {
    /// Sorted by name.
    pub(super) files: Vec<FileObject>,
    /// Whether later listings may contain more files.
    pub(super) growth: Growth,
}

/// The files that `url` names. A file of exactly this name takes precedence, even where the name
/// looks like a pattern.
pub(super) async fn list(url: &str) -> Result<Listing> {
    let (base, pattern) = split(url);
    let Some(pattern) = pattern else {
        let (store, path) = storage::open(url)?;
        return Ok(Listing {
            files: vec![one(store, path, url).await?],
            growth: Growth::Complete,
        });
    };
    if let Some(file) = literal(url).await? {
        return Ok(Listing {
            files: vec![file],
            growth: Growth::Complete,
        });
    }
    let (store, path) = storage::open(folder(base))?;
    let mut files = match storage::local_folder(folder(base))? {
        Some(folder) => below(store, folder, base, compile(pattern)?).await?,
        None => matching(store, path, base, pattern).await?,
    };
    files.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(Listing {
        files,
        growth: Growth::MayGrow,
    })
}

/// The error for a URL that names no file.
pub(super) fn nothing_matches(url: &str) -> Error {
    Error::data(format!("no file matches `{url}`"))
}

/// The file whose name is literally `url`. A URL cannot hold all names.
async fn literal(url: &str) -> Result<Option<FileObject>> {
    if url.contains("://") && url.contains(['*', '?', '#']) {
        return Ok(None);
    }
    let (store, path) = storage::open(url)?;
    match store.head(&path).await {
        Ok(meta) => Ok(Some(FileObject {
            store,
            meta,
            name: Arc::from(url),
            place: Arc::from(storage::place(url)?),
        })),
        // Ignore any failure; the pattern is next.
        Err(_) => Ok(None),
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

/// The folder that is searched for a pattern.
fn folder(base: &str) -> &str {
    if base.is_empty() { "." } else { base }
}

fn compile(pattern: &str) -> Result<Pattern> {
    Pattern::new(pattern).map_err(|error| {
        Error::config(format!("`{pattern}` is not a pattern for files")).with_source(error)
    })
}

async fn one(store: Arc<dyn ObjectStore>, path: Path, url: &str) -> Result<FileObject> {
    if let Some(path) = storage::local_folder(url)?
        && std::fs::metadata(&path).is_ok_and(|it| !it.is_file() && !it.is_dir())
    {
        return Err(Error::data(format!(
            "`{url}` is a pipe or a device, and only a file can be read again from where a run \
             stopped"
        )));
    }
    match store.head(&path).await {
        Ok(meta) => Ok(FileObject {
            store,
            meta,
            name: Arc::from(url),
            place: Arc::from(storage::place(url)?),
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

/// The files below a folder of the local disk.
async fn below(
    store: Arc<dyn ObjectStore>,
    folder: std::path::PathBuf,
    base: &str,
    pattern: Pattern,
) -> Result<Vec<FileObject>> {
    let root = folder.clone();
    let names = spawn_blocking(move || local::walk(&root, &pattern)).await;
    let names = names
        .map_err(|error| Error::internal("the task that lists files has died").with_source(error))?
        .map_err(|error| {
            Error::external(format!("cannot list `{}`", folder.display())).with_source(error)
        })?;
    let files = names.into_iter().map(|name| {
        let (store, path) = (Arc::clone(&store), folder.join(&name));
        async move {
            let name = Arc::from(format!("{base}{name}"));
            let place = Arc::from(path.to_string_lossy());
            let location = Path::from_absolute_path(&path).map_err(|error| {
                Error::data(format!("`{name}` is no name of a file")).with_source(error)
            })?;
            match store.head(&location).await {
                Ok(meta) => Ok(Some(FileObject {
                    store,
                    meta,
                    name,
                    place,
                })),
                // The file was deleted meanwhile.
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(cannot_read(&name, error)),
            }
        }
    });
    stream::iter(files)
        .buffer_unordered(ASKED_AT_ONCE)
        .try_filter_map(|file| std::future::ready(Ok(file)))
        .try_collect()
        .await
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

    let place = storage::place(base)?;
    Ok(objects
        .into_iter()
        .filter_map(|meta| {
            let parts: Vec<_> = meta.location.prefix_match(&folder)?.collect();
            let names: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
            let name = names.join("/");
            compiled.matches_with(&name, MATCH).then(|| FileObject {
                store: Arc::clone(&store),
                name: Arc::from(format!("{base}{name}")),
                place: Arc::from(format!("{}/{name}", place.trim_end_matches('/'))),
                meta,
            })
        })
        .collect())
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
            let files = list(&format!("{base}{pattern}")).await.unwrap().files;
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
