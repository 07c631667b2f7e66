//! Where the objects of a task lie.

use object_store::path::Path;

use crate::Ids;

/// The folders of one task, under its pipeline's folder.
#[derive(Debug, Clone)]
pub(super) struct Paths {
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

    pub(super) fn task(&self) -> &str {
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

    /// A fresh name to probe the store with.
    pub(super) fn probe(&self, ids: &dyn Ids) -> Path {
        self.root
            .clone()
            .join("probe")
            .join(ids.unique().to_string())
    }

    /// Says that the commit `seq`, a task's last before a stop, is published.
    pub(super) fn published(&self, seq: u64) -> Path {
        self.root
            .clone()
            .join("published")
            .join(self.task.as_str())
            .join(format!("{seq:020}"))
    }

    /// The folder of the state parts of all claims.
    pub(super) fn state(&self) -> Path {
        self.root.clone().join("state").join(self.task.as_str())
    }

    /// A fresh name for a state part.
    pub(super) fn new_state(&self, claim_seq: u64, ids: &dyn Ids) -> Path {
        self.state()
            .join(claim_seq.to_string())
            .join(ids.unique().to_string())
    }

    /// Where the task stages files, from a table's folder. Several pipelines may
    /// write to one table, so their names are part of it.
    pub(super) fn staging(&self) -> Path {
        let pipeline = self.root.parts().next_back();
        let pipeline = pipeline.as_ref().map_or("", |name| name.as_ref());
        Path::from(STAGING).join(pipeline).join(self.task.as_str())
    }

    /// `path` as records name it: from the pipeline's folder.
    pub(super) fn relative(&self, path: &Path) -> Option<String> {
        relative(&self.root, path)
    }

    /// The path that a record names.
    pub(super) fn absolute(&self, path: &str) -> Path {
        absolute(&self.root, path)
    }
}

/// The folder under a table's in which each pipeline stages its files, in a
/// folder of the pipeline's name.
pub const STAGING: &str = "_staging";

/// The folder under a pipeline's that makes it one.
pub(super) const LOG: &str = "log";

/// The slot that a record's name stands for.
pub(super) fn seq_of(record: &Path) -> Option<u64> {
    let digits = record.filename()?.strip_suffix(".json")?;
    if digits.len() == 20 {
        digits.parse().ok()
    } else {
        None
    }
}

/// The claim in whose folder under `base` an object lies.
pub(super) fn claim_of(base: &Path, object: &Path) -> Option<u64> {
    object.prefix_match(base)?.next()?.as_ref().parse().ok()
}

/// `path` from the folder `base`; none if it is not inside.
pub(super) fn relative(base: &Path, path: &Path) -> Option<String> {
    let inside: Path = path.prefix_match(base)?.collect();
    (!inside.is_root()).then(|| inside.to_string())
}

/// The path that [`relative`] shortened.
pub(super) fn absolute(base: &Path, path: &str) -> Path {
    // Not `Path::from`: it would encode what is encoded already.
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
        let path = Path::from_iter(["lake", "t", "city=a b/ü%", "f.parquet"]);
        let short = relative(&base, &path).unwrap();
        assert_eq!(absolute(&base, &short), path);
        assert_eq!(relative(&base, &Path::from("lake/other/f")), None);
        assert_eq!(relative(&base, &base), None);
        // A store rooted at the table itself.
        assert_eq!(absolute(&Path::default(), "a/b").as_ref(), "a/b");
    }
}
