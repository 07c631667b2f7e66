//! Reads a state folder without taking over anything.

use std::sync::Arc;

use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt as _, path::Path};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tagflow_connectors::storage;
use tagflow_engine::{
    Error, Result,
    commit::{self, Owner, Record, Sign, StateRef, audit::History},
    state::StatePart,
};

use tagflow_pipelines::{diagnostic::unknown, plan::StoredPlan};

/// The task name of a pipeline on one machine.
pub(crate) const TASK: &str = "main";

/// The file in which a run stores the reason of its failure, beside its log.
const FAILURE: &str = "failure.json";

/// The reason of a run's failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The machine of the run.
    pub host: String,
    /// The process of the run.
    pub pid: u32,
    /// The error with its causes.
    pub message: String,
}

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
        storage::check_credentials(url)?;
        let (store, root) = storage::open(url)?;
        Ok(Self {
            url: url.to_owned(),
            store,
            root,
        })
    }

    /// The URL as given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The pipelines with state in this folder, by name.
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

    /// The last heartbeat of the process that wrote `last`; `None` if it has ended.
    ///
    /// # Errors
    /// `External` where the store fails.
    pub async fn sign(&self, pipeline: &str, last: &Record) -> Result<Option<Sign>> {
        let root = self.root.clone().join(pipeline);
        commit::read_sign(&self.store, &root, TASK, last).await
    }

    /// The error of a pipeline that has not run here, with those that have.
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

    /// The whole log of a pipeline; `None` if it has not run.
    ///
    /// # Errors
    /// `Data` where no record is readable; `External` where the store fails.
    pub async fn history(&self, pipeline: &str) -> Result<Option<History>> {
        History::read(&self.store, &self.root.clone().join(pipeline), TASK).await
    }

    /// The parts of a node's state at a pipeline's last commit for which `is_wanted` is true.
    /// `is_wanted` receives the number of lanes of the job. `None` without a commit.
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

    /// Stores the reason why this process's run of a pipeline has failed, in place of an earlier
    /// one.
    ///
    /// # Errors
    /// `External` where the store fails.
    pub async fn keep_failure(&self, pipeline: &str, message: String) -> Result<()> {
        let failure = Failure {
            host: host(),
            pid: std::process::id(),
            message,
        };
        let json = serde_json::to_vec(&failure)
            .map_err(|error| Error::internal("a failure is not JSON").with_source(error))?;
        let path = self.root.clone().join(pipeline).join(FAILURE);
        let put = self.store.put(&path, json.into()).await;
        put.map(drop)
            .map_err(|error| Error::external(format!("cannot write `{path}`")).with_source(error))
    }

    /// The stored reason why the run by `owner` has failed, if any.
    pub async fn failure(&self, pipeline: &str, owner: &Owner) -> Option<String> {
        let path = self.root.clone().join(pipeline).join(FAILURE);
        let bytes = self.store.get(&path).await.ok()?.bytes().await.ok()?;
        let failure: Failure = serde_json::from_slice(&bytes).ok()?;
        let is_of = failure.pid == owner.pid && failure.host == owner.host;
        is_of.then_some(failure.message)
    }

    /// The plan with this hash; `None` if it does not exist.
    ///
    /// # Errors
    /// `Data` where it differs from the stored plan; `External` where the store fails.
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

/// The name of this machine.
pub(crate) fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use tagflow_engine::EventTime;

    use super::*;

    #[tokio::test]
    async fn a_failure_belongs_to_the_run_that_left_it() {
        let root = tempfile::tempdir().unwrap();
        let state = StateFolder::open(root.path().to_str().unwrap()).unwrap();
        let owner = Owner {
            host: host(),
            pid: std::process::id(),
            admin: None,
            started_at: EventTime::from_micros(0),
        };
        assert_eq!(state.failure("x", &owner).await, None);
        for message in ["first", "second"] {
            state.keep_failure("x", message.to_owned()).await.unwrap();
            assert_eq!(state.failure("x", &owner).await.as_deref(), Some(message));
        }
        let later = Owner {
            pid: owner.pid + 1,
            ..owner
        };
        assert_eq!(state.failure("x", &later).await, None);
    }

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
