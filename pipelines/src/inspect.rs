//! Looks into a state folder without taking anything over.

use std::sync::Arc;

use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt as _, path::Path};
use sha2::{Digest, Sha256};
use tagflow_connectors::storage;
use tagflow_engine::{
    Error, Result,
    commit::{self, Record, StateRef, audit::History},
    state::StatePart,
};

use crate::{diagnostic::unknown, plan::StoredPlan};

/// The one task of a pipeline that runs on one machine.
pub(crate) const TASK: &str = "main";

/// A folder with the commit logs of pipelines.
#[derive(Debug, Clone)]
pub struct StateFolder {
    url: String,
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl StateFolder {
    /// The folder at `url`. Touches nothing, and creates nothing.
    ///
    /// # Errors
    /// `Config` where the URL or the credentials in the environment are wrong.
    pub fn open(url: &str) -> Result<Self> {
        let (store, root) = storage::open(url)?;
        Ok(Self {
            url: url.to_owned(),
            store,
            root,
        })
    }

    /// As it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The pipelines that have ever run with their state here, by name.
    ///
    /// # Errors
    /// `External` where the store fails.
    pub async fn pipelines(&self) -> Result<Vec<String>> {
        commit::pipelines(&self.store, &self.root).await
    }

    /// The last record of a pipeline's log.
    ///
    /// # Errors
    /// `Data` where it is damaged; `External` where the store fails.
    pub async fn last(&self, pipeline: &str) -> Result<Option<Record>> {
        commit::read_last(&self.store, &self.root.clone().join(pipeline), TASK).await
    }

    /// That a pipeline has not run here, and what has.
    pub async fn has_not_run(&self, pipeline: &str) -> Error {
        let known = self.pipelines().await.unwrap_or_default();
        let names = known.iter().map(String::as_str);
        let extension = std::path::Path::new(pipeline).extension();
        let file = if extension.is_some_and(|it| it == "yaml" || it == "yml") {
            "; a pipeline goes by the `name` in its file"
        } else {
            ""
        };
        Error::config(format!(
            "pipeline `{pipeline}` has not run with its state in `{}`{}{file}",
            self.url,
            unknown(pipeline, names)
        ))
    }

    /// All that a pipeline's log holds; none where it has not run.
    ///
    /// # Errors
    /// `Data` where no record of it reads; `External` where the store fails.
    pub async fn history(&self, pipeline: &str) -> Result<Option<History>> {
        History::read(&self.store, &self.root.clone().join(pipeline), TASK).await
    }

    /// The parts of a node's state at a pipeline's last commit that `is_wanted`, which is
    /// told on how many lanes the job ran; none without a commit.
    ///
    /// # Errors
    /// `Data` where it is damaged; `External` where the store fails.
    pub async fn state(
        &self,
        pipeline: &str,
        node: &str,
        is_wanted: impl Fn(&StateRef, usize) -> bool,
    ) -> Result<Option<Vec<StatePart>>> {
        let root = self.root.clone().join(pipeline);
        commit::read_state(&self.store, &root, TASK, node, is_wanted).await
    }

    /// The plan of this hash; none if it is gone.
    ///
    /// # Errors
    /// `Data` where it is not what was stored; `External` where the store fails.
    pub async fn plan(&self, pipeline: &str, hash: &str) -> Result<Option<StoredPlan>> {
        let folder = self.root.clone().join(pipeline).join("plan");
        let path = folder.join(format!("{hash}.json"));
        let failed = |error| Error::external(format!("cannot read `{path}`")).with_source(error);
        let object = match self.store.get(&path).await {
            Ok(object) => object,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let bytes = object.bytes().await.map_err(failed)?;
        if format!("{:x}", Sha256::digest(&bytes)) != hash {
            return Err(Error::data(format!(
                "plan `{path}` is not what was stored: its checksum does not match; restore the \
                 state folder from a backup"
            )));
        }
        StoredPlan::decode(&bytes, path.as_ref()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_not_there_has_no_pipelines() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("none");
        let state = StateFolder::open(missing.to_str().unwrap()).unwrap();
        assert!(state.pipelines().await.unwrap().is_empty());
        assert!(state.last("x").await.unwrap().is_none());
        assert!(state.plan("x", "y").await.unwrap().is_none());
        assert!(!missing.exists(), "looking creates nothing");
    }
}
