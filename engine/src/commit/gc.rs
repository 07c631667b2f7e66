//! S11: deletes records and state that are no longer needed.

use std::collections::BTreeSet;

use object_store::path::Path;

use super::{decide, driver::CommitLog, paths, record::Kind};
use crate::Result;

impl CommitLog {
    /// Deletes old delivered commits, oldest first, and the state that only these commits name.
    /// Claims are never deleted.
    ///
    /// # Errors
    /// `External`. The next call collects the rest, so a caller may continue.
    pub async fn collect(&mut self) -> Result<()> {
        while let (Some(old), Some(next)) = (self.retained.front(), self.retained.get(1)) {
            if !decide::collectable(Kind::Commit, old.seq, self.tail.collected_upto) {
                break;
            }
            let dead: Vec<Path> = decide::dead_parts(&old.state, &next.state)
                .map(|part| self.log.paths.absolute(part))
                .collect();
            // The record is deleted last: while it exists, its state will be searched again.
            self.log.store.delete(&dead).await?;
            let last = [
                self.log.paths.published(old.seq),
                self.log.paths.record(old.seq),
            ];
            self.log.store.delete(&last).await?;
            self.retained.pop_front();
        }
        Ok(())
    }

    /// Deletes the state that earlier owners uploaded and never committed.
    pub(super) async fn delete_orphans(&self) -> Result<()> {
        let claim_seq = self.tail.claim_seq;
        let folder = self.log.paths.state();
        let named: BTreeSet<Path> = self
            .retained
            .iter()
            .flat_map(|commit| &commit.state)
            .map(|part| self.log.paths.absolute(part))
            .collect();
        let found = self.log.store.list(&folder).await?;
        let found = found.into_iter().filter_map(|object| {
            Some((paths::claim_of(&folder, &object.location)?, object.location))
        });
        let orphans = decide::orphans(claim_seq, found, &named);
        self.log.store.delete(&orphans).await
    }
}
