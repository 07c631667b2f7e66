//! URLs to object stores.
//!
//! | URL | store | credentials |
//! | --- | --- | --- |
//! | `./lake`, `/data`, `file:///data` | the local disk, every write synced | |
//! | `s3://bucket/path` | S3 and compatible stores | `AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, … |
//! | `gs://bucket/path` | Google Cloud Storage | `GOOGLE_APPLICATION_CREDENTIALS`, … |
//! | `az://container/path`, `abfss://container@account…/path` | Azure | `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, … |
//! | `memory://` | this process, a new and empty one each time | |
//!
//! The variables are those of the `object_store` crate's builders; all of its variables work.

mod credentials;
mod durable;
mod place;

use std::{path::PathBuf, sync::Arc};

use object_store::{
    ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, memory::InMemory, path::Path,
};
use tagflow_config::{Diagnostics, Setting};
use tagflow_engine::{Error, Result};
use url::Url;

use durable::{Access, DurableFileSystem};
use place::Place;
use place::holds_credentials;

/// Reports a URL that is empty or contains credentials. Returns whether it is valid.
pub fn check_url(url: &Setting<String>, path: &str, diagnostics: &mut Diagnostics) -> bool {
    let message = if url.is_empty() {
        "the URL is empty"
    } else if holds_credentials(url) {
        "a URL cannot hold credentials; they come from the environment"
    } else {
        return true;
    };
    diagnostics.error(url.at(), path, message);
    false
}

/// The store of `url`, and the path in that store. Touches no network.
///
/// # Errors
/// `Config` where the URL or the credentials in the environment are malformed.
pub fn open(url: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    open_with(url, RetryConfig::default(), Access::Default)
}

/// Like [`open`], for the commit log: its own client that never retries a request, since the writer
/// of a record must know the result of each attempt. A missing local folder is created, and its
/// contents are private to the process's user.
///
/// # Errors
/// As [`open`]; `External` where the local folder cannot be created.
pub fn open_log(url: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    if let Place::Local(folder) = Place::parse(url)? {
        Access::Private.create_folder(&folder).map_err(|error| {
            Error::external(format!("cannot create the folder `{}`", folder.display()))
                .with_source(error)
        })?;
    }
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    open_with(url, retry, Access::Private)
}

/// Fails if `url` is not writable: a local folder that cannot be created or written, or a store
/// without credentials in the environment. Leaves nothing behind. May query the machine's metadata
/// server, for at most a second.
///
/// # Errors
/// `Config` if the URL is malformed or credentials are missing; `External` if the folder
/// cannot be written.
pub fn probe(url: &str) -> Result<()> {
    let place = Place::parse(url)?;
    if let Place::Local(folder) = &place {
        return durable::probe(folder).map_err(|(place, error)| {
            Error::external(format!(
                "cannot write to `{url}`: no file can be created in the folder `{}`",
                place.display()
            ))
            .with_source(error)
            .permanent()
        });
    }
    credentials::check(&place, url)
}

/// Fails if the environment has no credentials for the store of `url`.
///
/// # Errors
/// `Config`, with the variables to set.
pub fn check_credentials(url: &str) -> Result<()> {
    credentials::check(&Place::parse(url)?, url)
}

/// Deletes leftovers of killed writers in a local folder; files of live writers stay. Other stores
/// show only complete objects and need no sweep.
///
/// # Errors
/// `Config` where the URL is malformed.
pub fn sweep(url: &str) -> Result<()> {
    if let Place::Local(folder) = Place::parse(url)? {
        durable::sweep(&folder);
    }
    Ok(())
}

/// Like [`sweep`], but only for writes of the file `name` in the folder itself: a table has too
/// many files to visit them all.
///
/// # Errors
/// `Config` where the URL is malformed.
pub fn sweep_file(url: &str, name: &str) -> Result<()> {
    if let Place::Local(folder) = Place::parse(url)? {
        durable::sweep_file(&folder, name);
    }
    Ok(())
}

/// Checks that [`open`] accepts `url`. Checks no credentials.
///
/// # Errors
/// `Config` where it is malformed.
pub fn check(url: &str) -> Result<()> {
    Place::parse(url).map(drop)
}

/// The local folder or file of `url`; `None` for other stores.
///
/// # Errors
/// As [`check`].
pub fn local_folder(url: &str) -> Result<Option<PathBuf>> {
    Ok(match Place::parse(url)? {
        Place::Local(path) => Some(path),
        _ => None,
    })
}

/// The canonical form of `url`: a local path is absolute without `.` or `..`, an object is named by
/// its scheme, bucket and key.
///
/// # Errors
/// As [`check`].
pub fn place(url: &str) -> Result<String> {
    let remote = |scheme: &str, url: &Url, path: &Path| {
        let user = match url.username() {
            "" => String::new(),
            container => format!("{container}@"),
        };
        let host = url.host_str().unwrap_or_default();
        format!("{scheme}://{user}{host}/{path}")
    };
    Ok(match Place::parse(url)? {
        Place::Local(path) => path.to_string_lossy().into_owned(),
        Place::Memory(path) => format!("memory:///{path}"),
        Place::S3(url, path) => remote("s3", &url, &path),
        Place::Gcs(url, path) => remote("gs", &url, &path),
        Place::Azure(url, path) => remote("az", &url, &path),
    })
}

fn open_with(
    url: &str,
    retry: RetryConfig,
    access: Access,
) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let wrong = |error| Error::config(format!("cannot open `{url}`")).with_source(error);
    let (store, path): (Arc<dyn ObjectStore>, _) = match Place::parse(url)? {
        Place::Local(folder) => {
            let path = Path::from_absolute_path(folder).map_err(|error| wrong(error.into()))?;
            (Arc::new(DurableFileSystem::new(access)), path)
        }
        Place::Memory(path) => (Arc::new(InMemory::new()), path),
        Place::S3(url, path) => {
            let builder = AmazonS3Builder::from_env().with_url(url).with_retry(retry);
            (Arc::new(builder.build().map_err(wrong)?), path)
        }
        Place::Gcs(url, path) => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(url);
            let store = builder.with_retry(retry).build().map_err(wrong)?;
            (Arc::new(store), path)
        }
        Place::Azure(url, path) => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(url);
            let store = builder.with_retry(retry).build().map_err(wrong)?;
            (Arc::new(store), path)
        }
    };
    Ok((store, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_point_to_their_place() {
        let here = std::env::current_dir().unwrap();
        let url = |text: &str| Url::parse(text).unwrap();
        for (text, expected) in [
            ("/data/x y", Place::Local("/data/x y".into())),
            ("./lake", Place::Local(here.join("lake"))),
            ("lake/a", Place::Local(here.join("lake/a"))),
            ("../lake", Place::Local(here.parent().unwrap().join("lake"))),
            ("file:///data/x%20y", Place::Local("/data/x y".into())),
            ("memory:///a/b", Place::Memory("a/b".into())),
            ("s3://b/p/q", Place::S3(url("s3://b/p/q"), "p/q".into())),
            ("gs://b/p", Place::Gcs(url("gs://b/p"), "p".into())),
            ("az://c/p", Place::Azure(url("az://c/p"), "p".into())),
            (
                "abfss://c@a.dfs.core.windows.net/p",
                Place::Azure(url("abfss://c@a.dfs.core.windows.net/p"), "p".into()),
            ),
        ] {
            assert_eq!(Place::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for (text, part) in [
            ("", "empty"),
            ("ftp://host/x", "begins with file://"),
            ("https://host/x", "begins with file://"),
            ("s3://", "`s3://…`"),
        ] {
            let error = open(text).unwrap_err();
            assert_eq!(error.kind(), tagflow_engine::ErrorKind::Config);
            assert!(error.chain().contains(part), "{text}: {}", error.chain());
        }
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        for text in [
            "s3://key:hunter2@bucket/x",
            "s3://hunter2@bucket/x",
            "gs://key:hunter2@bucket",
            "abfss://c:hunter2@a.dfs.core.windows.net/p",
            "https://key:hunter2@host:port/x",
        ] {
            let error = open(text).unwrap_err();
            assert_eq!(
                error.chain(),
                "a URL cannot hold credentials; they come from the environment"
            );
        }
        for text in [
            "s3://bucket/a@b",
            "./a@b",
            "abfss://c@a.dfs.core.windows.net/p",
        ] {
            assert!(!holds_credentials(text), "{text}");
        }
    }

    #[test]
    fn the_log_creates_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        open_log(folder.to_str().unwrap()).unwrap();
        assert!(folder.is_dir());
    }
}
