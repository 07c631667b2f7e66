//! The paths of a task's objects.

use object_store::path::Path;

use super::identity::LogId;
use crate::{Ids, files::STAGING};

/// The folders of a task, under its pipeline's folder.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    root: Path,
    task: String,
}

impl Paths {
    pub(super) fn new(root: Path, task: impl Into<String>) -> Self {
        Self {
            root,
            task: task.into(),
        }
    }

    pub(crate) fn task(&self) -> &str {
        &self.task
    }

    /// The folder of the records.
    pub(super) fn log(&self) -> Path {
        self.root.clone().join(LOG).join(self.task.as_str())
    }

    /// The record in slot `seq`.
    pub(super) fn record(&self, seq: u64) -> Path {
        self.log().join(format!("{seq:020}.json"))
    }

    /// The folder of the plans.
    pub(super) fn plans(&self) -> Path {
        self.root.clone().join("plan")
    }

    /// The plan `hash`.
    pub(super) fn plan(&self, hash: &str) -> Path {
        self.plans().join(format!("{hash}.json"))
    }

    /// A new name for a probe of the store.
    pub(super) fn probe(&self, ids: &dyn Ids) -> Path {
        self.root
            .clone()
            .join("probe")
            .join(ids.unique().to_string())
    }

    /// The mark that the commit `seq`, a task's last before a stop, is published.
    pub(super) fn published(&self, seq: u64) -> Path {
        self.root
            .clone()
            .join("published")
            .join(self.task.as_str())
            .join(format!("{seq:020}"))
    }

    /// The folder of the owners' signs of life.
    pub(super) fn signs(&self) -> Path {
        self.root.clone().join("alive").join(self.task.as_str())
    }

    /// The sign of life of the owner by `claim_seq`.
    pub(super) fn alive(&self, claim_seq: u64) -> Path {
        self.signs().join(format!("{claim_seq:020}"))
    }

    /// The folder of the state parts of all claims.
    pub(super) fn state(&self) -> Path {
        self.root.clone().join("state").join(self.task.as_str())
    }

    /// A new name for a state part.
    pub(super) fn new_state(&self, claim_seq: u64, ids: &dyn Ids) -> Path {
        self.state()
            .join(claim_seq.to_string())
            .join(ids.unique().to_string())
    }

    /// The pipeline's folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The pipeline's name.
    pub(super) fn pipeline(&self) -> String {
        let name = self.root.parts().next_back();
        name.map_or_else(String::new, |name| name.as_ref().to_owned())
    }

    /// The staging folder of this log's task, relative to a target's folder. Several logs may write
    /// to one target, some with the same name.
    pub(crate) fn staging(&self, log: LogId) -> Path {
        Path::from(STAGING)
            .join(self.pipeline())
            .join(self.task.as_str())
            .join(log.short())
    }

    /// `path` as records contain it, relative to the pipeline's folder.
    pub(super) fn relative(&self, path: &Path) -> Option<String> {
        relative(&self.root, path)
    }

    /// The full path of a path in a record.
    pub(super) fn absolute(&self, path: &str) -> Path {
        absolute(&self.root, path)
    }
}

/// A folder with this subfolder is a pipeline's.
pub(super) const LOG: &str = "log";

/// The slot in a record's file name.
pub(super) fn seq_of(record: &Path) -> Option<u64> {
    let digits = record.filename()?.strip_suffix(".json")?;
    if digits.len() == 20 {
        digits.parse().ok()
    } else {
        None
    }
}

/// The claim in the path of an object under `base`.
pub(crate) fn claim_of(base: &Path, object: &Path) -> Option<u64> {
    object.prefix_match(base)?.next()?.as_ref().parse().ok()
}

/// `path` relative to the folder `base`; `None` if it is outside.
pub(crate) fn relative(base: &Path, path: &Path) -> Option<String> {
    let inside: Path = path.prefix_match(base)?.collect();
    (!inside.is_root()).then(|| inside.to_string())
}

/// The path that [`relative`] shortened.
pub(crate) fn absolute(base: &Path, path: &str) -> Path {
    // Not `Path::from`: it would encode the path twice.
    let inside = Path::parse(path).unwrap_or_else(|_| Path::from(path));
    base.parts().chain(inside.parts()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RandomIds;

    #[test]
    fn names_sort_like_slots() {
        let paths = Paths::new(Path::from("state/p"), "main");
        assert_eq!(
            paths.record(7).as_ref(),
            "state/p/log/main/00000000000000000007.json"
        );
        assert!(paths.record(9) < paths.record(10));
        assert_eq!(seq_of(&paths.record(u64::MAX)), Some(u64::MAX));
        for other in [
            "log/main/7.json",
            "log/main/notes.txt",
            "log/main/00000000000000000007",
        ] {
            assert_eq!(seq_of(&Path::from(other)), None, "{other}");
        }
    }

    #[test]
    fn a_claims_folder_is_read_back() {
        let paths = Paths::new(Path::from("p"), "main");
        let part = paths.new_state(12, &RandomIds);
        assert_eq!(claim_of(&paths.state(), &part), Some(12));
        assert_eq!(claim_of(&Path::from("p/state/mai"), &part), None);
        assert_eq!(
            claim_of(&paths.state(), &Path::from("p/state/main/x/y")),
            None
        );
    }

    #[test]
    fn relative_paths_keep_their_encoding() {
        let base = Path::from("lake/t");
        let path = Path::from_iter(["lake", "t", "city=a b/ü%", "f.lines"]);
        let short = relative(&base, &path).unwrap();
        assert_eq!(absolute(&base, &short), path);
        assert_eq!(relative(&base, &Path::from("lake/other/f")), None);
        assert_eq!(relative(&base, &base), None);
        // A store rooted at the table itself.
        assert_eq!(absolute(&Path::default(), "a/b").as_ref(), "a/b");
    }
}
