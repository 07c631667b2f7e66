//! Every effect of the commit path, by name.
//!
//! A process affects the world only through the object store (in the simulation the group's offsets
//! too). The operation, the folder and the phase of the process therefore identify an effect,
//! without marks in the engine. An effect without a name fails the test that counts them
//! ([`super::failpoints`]).

use object_store::path::Path;

use super::world::STATE;
use crate::{files::MARKER, testing::store::Operation};

/// A write or a request of a process, between its start, its commits and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Effect {
    // S0: the store is probed.
    ProbeCreate,
    ProbeConflict,
    ProbeRead,
    ProbeList,
    ProbeDelete,
    // S1 to S4: the log is read and claimed.
    PlansList,
    LogList,
    TailRead,
    MarkerLook,
    TableList,
    ClaimPut,
    ClaimReadBack,
    ClaimVerify,
    PlanLook,
    PlanPut,
    MarkerPut,
    // S5 and S6: commits of earlier owners are published, orphans deleted, state restored.
    RecordRead,
    StopMarkLook,
    RecoverCopy,
    RecoverMeasure,
    RecoverUnstage,
    RecoverRemove,
    RecoverStopMark,
    RecoverCollectState,
    RecoverCollectMark,
    RecoverCollectRecord,
    OrphanFilesList,
    OrphanFilesDelete,
    OrphanStateList,
    OrphanStateDelete,
    StateRead,
    GroupRead,
    // S7: files are staged, state is stored.
    FilePut,
    UploadBegin,
    UploadPart,
    UploadEnd,
    StatePut,
    // S8: the epoch takes effect.
    CommitPut,
    CommitReadBack,
    SupersededList,
    SupersededRead,
    OwnerLook,
    // S9 and S10: the files become visible, the positions are reported.
    PublishCopy,
    PublishMeasure,
    Unstage,
    Remove,
    StopMarkPut,
    GroupCommit,
    // S11: old commits are collected.
    CollectState,
    CollectMark,
    CollectRecord,
}

impl Effect {
    /// All effects.
    pub(super) const ALL: [Self; 51] = [
        Self::ProbeCreate,
        Self::ProbeConflict,
        Self::ProbeRead,
        Self::ProbeList,
        Self::ProbeDelete,
        Self::PlansList,
        Self::LogList,
        Self::TailRead,
        Self::MarkerLook,
        Self::TableList,
        Self::ClaimPut,
        Self::ClaimReadBack,
        Self::ClaimVerify,
        Self::PlanLook,
        Self::PlanPut,
        Self::MarkerPut,
        Self::RecordRead,
        Self::StopMarkLook,
        Self::RecoverCopy,
        Self::RecoverMeasure,
        Self::RecoverUnstage,
        Self::RecoverRemove,
        Self::RecoverStopMark,
        Self::RecoverCollectState,
        Self::RecoverCollectMark,
        Self::RecoverCollectRecord,
        Self::OrphanFilesList,
        Self::OrphanFilesDelete,
        Self::OrphanStateList,
        Self::OrphanStateDelete,
        Self::StateRead,
        Self::GroupRead,
        Self::FilePut,
        Self::UploadBegin,
        Self::UploadPart,
        Self::UploadEnd,
        Self::StatePut,
        Self::CommitPut,
        Self::CommitReadBack,
        Self::SupersededList,
        Self::SupersededRead,
        Self::OwnerLook,
        Self::PublishCopy,
        Self::PublishMeasure,
        Self::Unstage,
        Self::Remove,
        Self::StopMarkPut,
        Self::GroupCommit,
        Self::CollectState,
        Self::CollectMark,
        Self::CollectRecord,
    ];
}

/// Follows a process, and names its effects.
#[derive(Debug, Default)]
pub(super) struct Observer {
    phase: Phase,
    /// The last probe, or the last record that was put.
    put: Option<Path>,
    /// Whether it searches for orphans.
    orphans: bool,
    /// Whether it reads the log to find the new owner.
    superseded: bool,
}

/// The phase of a process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Claiming,
    Recovering,
    Running,
}

impl Observer {
    /// The effect of the next operation; `None` if it has no name.
    pub(super) fn name(&mut self, operation: Operation, path: &Path) -> Option<Effect> {
        let text = path.as_ref();
        if let Some(inside) = text.strip_prefix(STATE) {
            let folder = inside.trim_start_matches('/').split('/').next();
            return match folder? {
                "probe" => self.probe(operation, path),
                "plan" => self.plan(operation),
                "log" => self.record(operation, path),
                "state" => self.state(operation),
                "published" => self.mark(operation),
                _ => None,
            };
        }
        if text.starts_with("group/") {
            return match operation {
                Operation::Get => Some(Effect::GroupRead),
                Operation::Put => Some(Effect::GroupCommit),
                _ => None,
            };
        }
        if text.ends_with(MARKER) {
            return match operation {
                Operation::Get => Some(Effect::MarkerLook),
                Operation::Put => Some(Effect::MarkerPut),
                _ => None,
            };
        }
        if text.contains("/_staging") {
            self.staged(operation)
        } else {
            self.published(operation)
        }
    }

    fn probe(&mut self, operation: Operation, path: &Path) -> Option<Effect> {
        match operation {
            Operation::Put if self.put.as_ref() == Some(path) => Some(Effect::ProbeConflict),
            Operation::Put => {
                *self = Self {
                    put: Some(path.clone()),
                    ..Self::default()
                };
                Some(Effect::ProbeCreate)
            }
            Operation::Get => Some(Effect::ProbeRead),
            Operation::List => Some(Effect::ProbeList),
            Operation::Delete => Some(Effect::ProbeDelete),
            _ => None,
        }
    }

    fn plan(&mut self, operation: Operation) -> Option<Effect> {
        match operation {
            Operation::List => {
                self.put = None;
                Some(Effect::PlansList)
            }
            Operation::Get => {
                self.phase = Phase::Recovering;
                Some(Effect::PlanLook)
            }
            Operation::Put => Some(Effect::PlanPut),
            _ => None,
        }
    }

    fn record(&mut self, operation: Operation, path: &Path) -> Option<Effect> {
        let is_own = self.put.as_ref() == Some(path);
        Some(match (operation, self.phase) {
            (Operation::Put, phase) => {
                self.put = Some(path.clone());
                match phase {
                    Phase::Claiming => Effect::ClaimPut,
                    Phase::Recovering | Phase::Running => Effect::CommitPut,
                }
            }
            (Operation::List, Phase::Claiming) if self.put.is_none() => Effect::LogList,
            (Operation::List, Phase::Claiming) => Effect::ClaimVerify,
            (Operation::List, _) => {
                self.superseded = true;
                Effect::SupersededList
            }
            (Operation::Get, Phase::Claiming) if is_own => Effect::ClaimReadBack,
            (Operation::Get, Phase::Claiming) => Effect::TailRead,
            (Operation::Get, Phase::Recovering) => Effect::RecordRead,
            (Operation::Get, Phase::Running) if is_own => Effect::CommitReadBack,
            (Operation::Get, Phase::Running) if self.superseded => Effect::SupersededRead,
            (Operation::Get, Phase::Running) => Effect::OwnerLook,
            (Operation::Delete, Phase::Running) => Effect::CollectRecord,
            (Operation::Delete, _) => Effect::RecoverCollectRecord,
            _ => return None,
        })
    }

    fn state(&mut self, operation: Operation) -> Option<Effect> {
        Some(match (operation, self.phase) {
            (Operation::Put, _) => {
                self.phase = Phase::Running;
                Effect::StatePut
            }
            (Operation::Get, _) => {
                self.phase = Phase::Running;
                Effect::StateRead
            }
            (Operation::List, _) => {
                self.orphans = true;
                Effect::OrphanStateList
            }
            (Operation::Delete, Phase::Running) => Effect::CollectState,
            (Operation::Delete, _) if self.orphans => Effect::OrphanStateDelete,
            (Operation::Delete, _) => Effect::RecoverCollectState,
            _ => return None,
        })
    }

    fn mark(&mut self, operation: Operation) -> Option<Effect> {
        let running = self.phase == Phase::Running;
        Some(match operation {
            Operation::Get => Effect::StopMarkLook,
            Operation::Put if running => Effect::StopMarkPut,
            Operation::Put => Effect::RecoverStopMark,
            Operation::Delete if running => Effect::CollectMark,
            Operation::Delete => Effect::RecoverCollectMark,
            _ => return None,
        })
    }

    fn staged(&mut self, operation: Operation) -> Option<Effect> {
        if matches!(operation, Operation::Put | Operation::UploadBegin) {
            self.phase = Phase::Running;
        }
        let running = self.phase == Phase::Running;
        Some(match operation {
            Operation::Put => Effect::FilePut,
            Operation::UploadBegin => Effect::UploadBegin,
            Operation::UploadPart => Effect::UploadPart,
            Operation::UploadEnd => Effect::UploadEnd,
            Operation::Copy if running => Effect::PublishCopy,
            Operation::Copy => Effect::RecoverCopy,
            Operation::List => {
                self.orphans = true;
                Effect::OrphanFilesList
            }
            Operation::Delete if running => Effect::Unstage,
            Operation::Delete if self.orphans => Effect::OrphanFilesDelete,
            Operation::Delete => Effect::RecoverUnstage,
            Operation::Get => return None,
        })
    }

    fn published(&mut self, operation: Operation) -> Option<Effect> {
        let running = self.phase == Phase::Running;
        Some(match operation {
            Operation::Get if running => Effect::PublishMeasure,
            Operation::Get => Effect::RecoverMeasure,
            Operation::Delete if running => Effect::Remove,
            Operation::Delete => Effect::RecoverRemove,
            Operation::List => Effect::TableList,
            _ => return None,
        })
    }
}
