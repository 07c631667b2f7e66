//! A quoted location of Parquet files after FROM: a file, a folder or a glob, local or on an object
//! store.

use std::sync::Arc;

use futures::TryStreamExt as _;
use glob::{MatchOptions, Pattern};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use tagflow_connectors::storage;
use tagflow_engine::{Error, Result};

/// The files that a text denotes.
#[derive(Debug)]
pub(super) struct Place {
    /// Their store.
    pub(super) store: Arc<dyn ObjectStore>,
    /// The folder, or the one file.
    pub(super) root: Path,
    /// The files; `None` for all Parquet files below the root, with Hive folders as columns.
    pub(super) files: Option<Vec<Path>>,
}

impl Place {
    /// Finds the files.
    ///
    /// # Errors
    /// `Config` where there are none, or the text is not a path or URL.
    pub(super) async fn find(text: &str) -> Result<Self> {
        let Some((base, pattern)) = split(text) else {
            return Self::of_path(text).await;
        };
        let wrong = |error| Error::config(format!("`{text}` is not a glob")).with_source(error);
        let pattern = Pattern::new(pattern).map_err(wrong)?;
        let options = MatchOptions {
            require_literal_separator: true,
            ..MatchOptions::default()
        };
        let (store, root) = storage::open(base)?;
        let matches = |path: &Path| {
            let Some(inside) = path.prefix_match(&root) else {
                return false;
            };
            let inside: Path = inside.collect();
            pattern.matches_with(inside.as_ref(), options)
        };
        let listed = list(&*store, &root, text).await?;
        let all = listed.len();
        let files: Vec<_> = listed.into_iter().filter(matches).collect();
        if files.is_empty() {
            return Err(Error::config(format!("no Parquet file matches `{text}`")));
        }
        let files = (files.len() < all).then_some(files);
        Ok(Self { store, root, files })
    }

    async fn of_path(text: &str) -> Result<Self> {
        let (store, root) = storage::open(text)?;
        let is_file = text.ends_with(".parquet") && store.head(&root).await.is_ok();
        if is_file {
            let files = Some(vec![root.clone()]);
            return Ok(Self { store, root, files });
        }
        if list(&*store, &root, text).await?.is_empty() {
            return Err(Error::config(format!(
                "there is no Parquet file at `{text}`"
            )));
        }
        Ok(Self {
            store,
            root,
            files: None,
        })
    }
}

/// The Parquet files below `root`.
async fn list(store: &dyn ObjectStore, root: &Path, text: &str) -> Result<Vec<Path>> {
    let listed: Vec<_> = store
        .list(Some(root))
        .map_ok(|object| object.location)
        .try_collect()
        .await
        .map_err(|error| Error::external(format!("cannot list `{text}`")).with_source(error))?;
    Ok(listed
        .into_iter()
        .filter(|path| path.as_ref().ends_with(".parquet"))
        .collect())
}

/// The folder before the first part with a wildcard, and the rest.
fn split(text: &str) -> Option<(&str, &str)> {
    let wildcard = text.find(['*', '?', '['])?;
    match text[..wildcard].rfind('/') {
        Some(0) => Some(("/", &text[1..])),
        Some(slash) => Some((&text[..slash], &text[slash + 1..])),
        None => Some((".", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_begins_at_its_first_wildcard() {
        for (text, expected) in [
            ("./lake/x", None),
            ("./lake/**/*.parquet", Some(("./lake", "**/*.parquet"))),
            (
                "./lake/dt=2026-*/a.parquet",
                Some(("./lake", "dt=2026-*/a.parquet")),
            ),
            ("*.parquet", Some((".", "*.parquet"))),
            ("/*.parquet", Some(("/", "*.parquet"))),
            ("s3://b/p/x?.parquet", Some(("s3://b/p", "x?.parquet"))),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
