//! Whether a table's folder holds what commits put there, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, path::Path};

use super::{
    super::{
        file_set::FileSets,
        paths::{self, STAGING},
        record::{FileRef, Record, TableTotals},
        store::LogStore,
    },
    CONCURRENT_DIGESTS, Depth,
    finding::{Finding, Subject},
    history::History,
};
use crate::{Error, Result, SystemClock};

/// Where a table lies.
#[derive(Debug, Clone)]
pub struct Place {
    /// The URL by which records name it.
    pub url: Arc<str>,
    /// Its store.
    pub store: Arc<dyn ObjectStore>,
    /// Its folder in the store.
    pub root: Path,
    /// Folders below that are none of its own: other tables'.
    pub others: Vec<Path>,
    /// Whether other pipelines write there too, so that files which this log
    /// does not name may be theirs.
    pub shared: bool,
}

/// A table, and what is wrong with it.
#[derive(Debug, Default)]
pub struct AuditedTable {
    /// The files that belong to it.
    pub files: Vec<VisibleFile>,
    /// What the last commit says of all of them; none where the log began
    /// before that was counted.
    pub totals: Option<TableTotals>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// A file of a table that is where readers look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibleFile {
    /// Where it lies in the store.
    pub path: Path,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows, by the commit that names it; none where that is collected.
    pub rows: Option<u64>,
}

/// A folder's objects, by their paths from the table's folder.
type Listing = BTreeMap<String, u64>;

/// One look at one table.
struct Look<'a> {
    history: &'a History,
    place: &'a Place,
    store: LogStore,
    found: Listing,
    /// The files that commits name and none removes.
    named: BTreeMap<&'a str, (u64, &'a FileRef)>,
    /// The files that commits remove, and the last commit that does.
    removed: BTreeMap<&'a str, u64>,
    audited: AuditedTable,
}

impl History {
    /// Checks the files of a table.
    ///
    /// # Errors
    /// `External` where the store fails.
    pub async fn check_table(&self, place: &Place, depth: Depth) -> Result<AuditedTable> {
        let store = LogStore::new(Arc::clone(&place.store), Arc::new(SystemClock));
        let listed = store.list(&place.root).await?;
        let is_own = |path: &Path| !place.others.iter().any(|other| path.prefix_matches(other));
        let found = listed
            .iter()
            .filter(|object| is_own(&object.location))
            .filter_map(|object| {
                Some((paths::relative(&place.root, &object.location)?, object.size))
            })
            .collect();
        let mut look = Look {
            history: self,
            place,
            store,
            found,
            named: BTreeMap::new(),
            removed: BTreeMap::new(),
            audited: AuditedTable::default(),
        };
        look.read_commits();
        let whole = look.check_named();
        if depth == Depth::Bytes {
            look.check_bytes(whole).await?;
        }
        look.check_removed();
        let old = look.check_others();
        look.check_totals(old, depth).await?;
        Ok(look.audited)
    }
}

impl<'a> Look<'a> {
    fn wrong(&mut self, message: String) {
        self.audited
            .findings
            .push(Finding::wrong(Subject::Tables, message));
    }

    /// A file of the table as messages name it.
    fn path(&self, inside: &str) -> Path {
        paths::absolute(&self.place.root, inside)
    }

    fn read_commits(&mut self) {
        for commit in self.history.commits() {
            for file in commit
                .files
                .iter()
                .filter(|file| file.table == self.place.url)
            {
                if let Some((earlier, _)) = self.named.insert(&file.published, (commit.seq, file)) {
                    self.wrong(format!(
                        "commits #{earlier} and #{} publish the same file `{}`; restore the \
                         state folder from a backup",
                        commit.seq,
                        self.path(&file.published)
                    ));
                }
            }
            for file in commit
                .removed
                .iter()
                .filter(|file| file.table == self.place.url)
            {
                self.removed.insert(&file.published, commit.seq);
            }
        }
        self.named
            .retain(|path, _| !self.removed.contains_key(path));
        self.audited.totals = self.history.checkpoint().and_then(|last| {
            let tables = last.tables.as_ref()?;
            Some(tables.get(&self.place.url).copied().unwrap_or_default())
        });
    }

    /// The files that are to be there are, or are about to be; returns where
    /// their bytes lie.
    fn check_named(&mut self) -> Vec<(Path, &'a FileRef)> {
        let mut whole = Vec::new();
        for (seq, file) in self.named.values().copied().collect::<Vec<_>>() {
            let path = self.path(&file.published);
            match self.found.get(&file.published) {
                Some(&bytes) if bytes == file.bytes => {
                    self.audited.files.push(VisibleFile {
                        path: path.clone(),
                        bytes,
                        rows: Some(file.rows),
                    });
                    whole.push((path, file));
                }
                Some(bytes) => self.wrong(format!(
                    "file `{path}`, which commit #{seq} publishes, has {bytes} bytes instead of \
                     {}: someone else changed it; restore it from a backup",
                    file.bytes
                )),
                None if seq > self.history.published_upto
                    && self.found.get(&file.staged) == Some(&file.bytes) =>
                {
                    whole.push((self.path(&file.staged), file));
                }
                None => self.wrong(format!(
                    "file `{path}`, which commit #{seq} publishes, is missing: someone else \
                     moved or deleted its {} rows; restore it from a backup",
                    file.rows
                )),
            }
        }
        whole
    }

    async fn check_bytes(&mut self, whole: Vec<(Path, &FileRef)>) -> Result<()> {
        let store = &self.store;
        let read = stream::iter(whole).map(|(path, file)| async move {
            let read = store.digest(&path).await?;
            let same = read.is_some_and(|(_, sha256)| sha256 == file.sha256);
            Ok::<_, Error>((!same).then_some(path))
        });
        let changed: Vec<Option<Path>> = read.buffered(CONCURRENT_DIGESTS).try_collect().await?;
        for path in changed.into_iter().flatten() {
            self.wrong(format!(
                "file `{path}` does not have the checksum that it had when it was committed: \
                 someone else changed it, or the disk did; restore it from a backup"
            ));
        }
        Ok(())
    }

    /// The files that are to be gone are, or are about to go.
    fn check_removed(&mut self) {
        for (inside, seq) in self.removed.clone() {
            if seq <= self.history.published_upto && self.found.contains_key(inside) {
                self.wrong(format!(
                    "file `{}`, which commit #{seq} removed, is there, so that its rows count \
                     twice: someone else put it back; delete it",
                    self.path(inside)
                ));
            }
        }
    }

    /// What else lies there; returns the files that may be of collected commits.
    fn check_others(&mut self) -> Listing {
        let mut old = Listing::new();
        for (inside, bytes) in std::mem::take(&mut self.found) {
            let is_known = self.named.contains_key(inside.as_str())
                || self.removed.contains_key(inside.as_str());
            if is_known {
                continue;
            }
            let path = self.path(&inside);
            let message = if inside.starts_with(&format!("{STAGING}/")) {
                self.staged(&path, &inside)
            } else {
                match self.origin(&inside) {
                    Origin::Collected => {
                        self.audited.files.push(VisibleFile {
                            path,
                            bytes,
                            rows: None,
                        });
                        old.insert(inside, bytes);
                        None
                    }
                    Origin::Unread => None,
                    _ if self.place.shared => None,
                    Origin::Lost(seq) => {
                        let last = self.history.span().last;
                        self.wrong(format!(
                            "file `{path}` is of commit #{seq}, and the log ends with #{last}: \
                             its last records are lost, or the file is of another log; restore \
                             the state folder from a backup, or move the file away"
                        ));
                        None
                    }
                    Origin::Foreign if is_read(&inside) => {
                        self.wrong(format!(
                            "file `{path}` is of no commit, and readers count its rows; move it \
                             away"
                        ));
                        None
                    }
                    Origin::Foreign => Some(format!("`{path}` is nothing that Tagflow wrote")),
                }
            };
            self.audited
                .findings
                .extend(message.map(|message| Finding::odd(Subject::Tables, message)));
        }
        old
    }

    /// What is odd about a staged object.
    fn staged(&self, path: &Path, inside: &str) -> Option<String> {
        let own = self.history.reader.paths.staging();
        let inside = Path::parse(inside).ok()?;
        match paths::claim_of(&own, &inside) {
            // Its owner may be writing it.
            Some(claim) if claim >= self.history.tail.claim_seq => None,
            Some(_) if self.is_pending(inside.as_ref()) => None,
            Some(_) => Some(format!(
                "`{path}` was staged and never committed; the next start of the pipeline deletes it"
            )),
            None if self.place.shared => None,
            None => Some(format!(
                "`{path}` was staged by another pipeline, or by nobody"
            )),
        }
    }

    /// Whether a staged file is of a commit that may not be published yet.
    fn is_pending(&self, staged: &str) -> bool {
        let unpublished = |commit: &&Record| commit.seq > self.history.published_upto;
        let mut files = self
            .history
            .commits()
            .filter(unpublished)
            .flat_map(|commit| &commit.files);
        files.any(|file| file.table == self.place.url && file.staged == staged)
    }

    /// Where a file that no commit names comes from, by its name.
    fn origin(&self, inside: &str) -> Origin {
        let name = inside.rsplit('/').next().unwrap_or(inside);
        let Some(stem) = name.strip_suffix(".parquet") else {
            return Origin::Foreign;
        };
        let is_hex = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if is_hex(stem, 32) {
            return Origin::Collected;
        }
        let task = self.history.reader.paths.task();
        let parts = stem
            .strip_prefix(task)
            .and_then(|rest| rest.strip_prefix('-'));
        let parts: Vec<&str> = parts.unwrap_or_default().split('-').collect();
        let [seq, number, attempt] = parts[..] else {
            return Origin::Foreign;
        };
        match (seq.parse(), number.parse::<usize>()) {
            (Ok(seq), Ok(_)) if is_hex(attempt, 8) => {
                if seq <= self.history.tail.collected_upto {
                    Origin::Collected
                } else if seq > self.history.span().last {
                    Origin::Lost(seq)
                } else if self.history.records.contains_key(&seq) {
                    Origin::Foreign
                } else {
                    Origin::Unread
                }
            }
            _ => Origin::Foreign,
        }
    }

    /// The files of collected commits are those that they published, as far as
    /// they can be told from others.
    async fn check_totals(&mut self, old: Listing, depth: Depth) -> Result<()> {
        let Some(totals) = self.audited.totals else {
            return Ok(());
        };
        if self.place.shared || !self.history.is_whole {
            return Ok(());
        }
        let expected =
            (totals.files.saturating_sub(totals.removed)).saturating_sub(self.named.len() as u64);
        let root = &self.place.root;
        let found = old.len() as u64;
        match found.checked_sub(expected) {
            Some(0) => {}
            Some(_) => {
                self.wrong(format!(
                    "`{root}` has {found} files of collected commits, and these published \
                     {expected}: the others are of another log, and readers count their rows; \
                     move them away"
                ));
                return Ok(());
            }
            None => {
                self.wrong(format!(
                    "`{root}` has {found} files of collected commits, and these published \
                     {expected}: someone else moved or deleted the others; restore them from a \
                     backup"
                ));
                return Ok(());
            }
        }
        let Some(sets) = totals.sets else {
            return Ok(());
        };
        let mut seen = FileSets::default();
        for (_, file) in self.named.values() {
            seen.add(file);
        }
        for (inside, bytes) in &old {
            seen.listed.add_listed(inside, *bytes);
        }
        if seen.listed != sets.listed {
            self.wrong(format!(
                "of the {found} files of collected commits in `{root}` some have other names or \
                 sizes than when they were published: someone else changed or replaced them; \
                 restore them from a backup"
            ));
        } else if depth == Depth::Bytes {
            self.add_contents(old, &mut seen).await?;
            if seen.contents != sets.contents {
                self.wrong(format!(
                    "of the {found} files of collected commits in `{root}` some do not have the \
                     checksum that they had when they were published: someone else changed \
                     them, or the disk did; restore them from a backup"
                ));
            }
        }
        Ok(())
    }

    /// Reads files of collected commits.
    async fn add_contents(&self, old: Listing, seen: &mut FileSets) -> Result<()> {
        let read = old.into_keys().map(|inside| async move {
            let read = self.store.digest(&self.path(&inside)).await?;
            Ok::<_, Error>((inside, read))
        });
        let read: Vec<_> = stream::iter(read)
            .buffer_unordered(CONCURRENT_DIGESTS)
            .try_collect()
            .await?;
        for (inside, read) in read {
            let sha256 = read.map(|(_, sha256)| sha256).unwrap_or_default();
            seen.contents.add_content(&inside, &sha256);
        }
        Ok(())
    }
}

/// Where a file comes from, as its name says.
enum Origin {
    /// Of a commit whose record is collected.
    Collected,
    /// Of a commit whose record does not read.
    Unread,
    /// Of a commit after the last one.
    Lost(u64),
    /// Of no commit.
    Foreign,
}

/// Whether those who glob a table for Parquet read this file.
fn is_read(inside: &str) -> bool {
    let is_hidden = |part: &str| part.starts_with(['_', '.']);
    inside.ends_with(".parquet") && !inside.split('/').any(is_hidden)
}
