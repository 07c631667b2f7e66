//! The target of a URL.

use std::path::PathBuf;

use object_store::{ObjectStoreScheme, path::Path};
use tagflow_engine::{Error, Result};
use url::Url;

/// Whether a URL contains a user or a password. The part before the `@` of an Azure URL is a
/// container.
pub(super) fn holds_credentials(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else {
        return false;
    };
    !scheme.starts_with("abfs") || user.contains([':', '@'])
}

/// The target of a URL.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    Local(PathBuf),
    Memory(Path),
    S3(Url, Path),
    Gcs(Url, Path),
    Azure(Url, Path),
}

impl Place {
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::config("a path or URL must not be empty"));
        }
        if !text.contains("://") {
            return std::path::absolute(text)
                .map(normal)
                .map(Self::Local)
                .map_err(|error| {
                    Error::config(format!("`{text}` is not a path")).with_source(error)
                });
        }
        if holds_credentials(text) {
            // Not even in the message.
            return Err(Error::config(
                "a URL cannot hold credentials; they come from the environment",
            ));
        }
        // Messages contain only its scheme: the text may be the value of a wrong variable.
        let scheme = text.split("://").next().unwrap_or_default();
        let url = Url::parse(text).map_err(|error| {
            Error::config(format!("`{scheme}://…` is not a URL")).with_source(error)
        })?;
        let unknown = || {
            Error::config(format!(
                "nothing is stored at `{scheme}://…`; write a path or a URL that begins with \
                 file://, s3://, gs://, az:// or abfss://"
            ))
        };
        let (scheme, path) = ObjectStoreScheme::parse(&url).map_err(|_| unknown())?;
        match scheme {
            ObjectStoreScheme::Local => {
                let path = url.to_file_path().map_err(|()| unknown())?;
                Ok(Self::Local(normal(path)))
            }
            ObjectStoreScheme::Memory => Ok(Self::Memory(path)),
            ObjectStoreScheme::AmazonS3 => Ok(Self::S3(url, path)),
            ObjectStoreScheme::GoogleCloudStorage => Ok(Self::Gcs(url, path)),
            ObjectStoreScheme::MicrosoftAzure => Ok(Self::Azure(url, path)),
            _ => Err(unknown()),
        }
    }
}

/// Removes `..`, which object paths do not support.
fn normal(path: PathBuf) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                normal.pop();
            }
            component => normal.push(component),
        }
    }
    normal
}
