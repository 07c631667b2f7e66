//! S0: checks that the store has the guarantee that the protocol needs.

use bytes::Bytes;
use object_store::Error as StoreError;
use tracing::warn;

use super::{
    paths::Paths,
    store::{LogStore, PutOutcome},
};
use crate::{Error, Ids, Result};

/// Creates a key twice, and expects the first to win, to be read back and to be
/// listed.
///
/// # Errors
/// `Config` if the store cannot hold a commit log; `External` if it does
/// not answer or refuses.
pub(super) async fn probe(store: &LogStore, paths: &Paths, ids: &dyn Ids) -> Result<()> {
    let mut backoff = store.backoff();
    loop {
        // A key whose first put failed may be filled late: take another one.
        let path = paths.probe(ids);
        let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
        match store.put_if_absent(&path, first.clone()).await {
            PutOutcome::Created => {}
            PutOutcome::Exists => {
                backoff.after_nothing("create", &path).await?;
                continue;
            }
            PutOutcome::Ambiguous(error @ StoreError::NotImplemented { .. }) => {
                return Err(unsuitable("it has no put-if-absent").with_source(error));
            }
            PutOutcome::Ambiguous(error) => {
                backoff.after("create", &path, error).await?;
                continue;
            }
        }
        match store.put_if_absent(&path, second).await {
            PutOutcome::Created => {
                return Err(unsuitable(
                    "its put-if-absent overwrites an object that is there",
                ));
            }
            PutOutcome::Exists => {}
            PutOutcome::Ambiguous(error) => {
                backoff.after("create", &path, error).await?;
                continue;
            }
        }
        if store.get(&path).await?.as_ref() != Some(&first) {
            return Err(unsuitable("what was created does not read back"));
        }
        let folder = path.parent().unwrap_or_default();
        if !store
            .list(&folder)
            .await?
            .iter()
            .any(|object| object.location == path)
        {
            return Err(unsuitable("a listing does not show what was just created"));
        }
        if let Err(error) = store.delete(&[path]).await {
            warn!(error = error.chain(), "the probe's object stays behind");
        }
        return Ok(());
    }
}

fn unsuitable(why: &str) -> Error {
    Error::config(format!(
        "the object store cannot hold the pipeline's state, because {why}; take one with conditional writes"
    ))
}
