//! Checks that the state that commits name exists.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use super::{
    super::{
        paths,
        record::{Kind, StateRef},
    },
    CONCURRENT_DIGESTS, Depth,
    finding::{Finding, Subject},
    history::History,
};
use crate::{Error, Result};

/// The state that commits name.
#[derive(Debug, Default)]
pub struct AuditedState {
    /// The number of parts.
    pub parts: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The findings in the parts.
    pub findings: Vec<Finding>,
}

impl History {
    /// Checks the state of all commits that are not collected.
    ///
    /// # Errors
    /// `External` if the store fails.
    pub async fn check_state(&self, depth: Depth) -> Result<AuditedState> {
        let log = &self.reader;
        let folder = log.paths.state();
        let listed = log.store.list(&folder).await?;
        let found: BTreeMap<Path, u64> = listed
            .into_iter()
            .map(|object| (object.location, object.size))
            .collect();
        let parts: BTreeSet<&StateRef> = self
            .commits()
            .flat_map(|commit| &commit.checkpoint)
            .flat_map(|checkpoint| &checkpoint.state)
            .collect();
        let mut audited = AuditedState::default();
        let mut whole = Vec::new();
        for part in &parts {
            let path = log.paths.absolute(&part.path);
            audited.parts += 1;
            audited.bytes += part.bytes;
            match found.get(&path) {
                Some(&bytes) if bytes == part.bytes => whole.push((path, *part)),
                Some(bytes) => {
                    let what = format!("has {bytes} bytes instead of {}", part.bytes);
                    audited.findings.push(broken(&path, part, &what));
                }
                None => audited.findings.push(broken(&path, part, "is missing")),
            }
        }
        if depth == Depth::Bytes {
            let damaged = stream::iter(whole).map(|(path, part)| async move {
                let read = log.store.digest(&path).await?;
                let same = read.is_some_and(|(_, sha256)| sha256 == part.sha256);
                Ok::<_, Error>(
                    (!same).then(|| broken(&path, part, "does not have the checksum that it had")),
                )
            });
            let damaged: Vec<Option<Finding>> =
                damaged.buffered(CONCURRENT_DIGESTS).try_collect().await?;
            audited.findings.extend(damaged.into_iter().flatten());
        }
        // An unreadable record may name any state.
        if self.is_whole {
            audited
                .findings
                .extend(self.unnamed_state(&folder, found.keys()));
        }
        Ok(audited)
    }

    /// State that no commit names and that the owner of the last claim cannot be about to commit.
    /// The state of collected commits is deleted with their records.
    fn unnamed_state<'a>(
        &self,
        folder: &Path,
        found: impl Iterator<Item = &'a Path>,
    ) -> Vec<Finding> {
        let commits = self
            .records
            .values()
            .filter(|record| record.kind == Kind::Commit);
        let named: BTreeSet<Path> = commits
            .flat_map(|commit| &commit.checkpoint)
            .flat_map(|checkpoint| &checkpoint.state)
            .map(|part| self.reader.paths.absolute(&part.path))
            .collect();
        let is_old = |path: &Path| {
            paths::claim_of(folder, path).is_none_or(|claim| claim < self.tail.claim_seq)
        };
        found
            .filter(|path| is_old(path) && !named.contains(path))
            .map(|path| {
                let message = format!(
                    "`{path}` is state that no commit names; the next start of the pipeline \
                     deletes it"
                );
                Finding::odd(Subject::State, message)
            })
            .collect()
    }
}

fn broken(path: &Path, part: &StateRef, what: &str) -> Finding {
    Finding::wrong(
        Subject::State,
        format!(
            "state part `{path}` of `{}` {what}; restore the state folder from a backup",
            part.node
        ),
    )
}
