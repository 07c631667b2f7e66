//! Checks that a table's folder contains the files of commits, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, path::Path};

use super::{
    CommittedFile, FileSets, MARKER, Note, RemovedFile, STAGING, TableTotals, change::changes,
    has_suffix, is_visible, paths,
};
use crate::{
    Error, Result, SystemClock,
    commit::{
        LogId, Record,
        audit::{CONCURRENT_DIGESTS, Depth, Finding, History, Subject},
        store::LogStore,
    },
    committer::Past,
};

/// The location of a table.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its URL in the records.
    pub url: Arc<str>,
    /// Its store.
    pub store: Arc<dyn ObjectStore>,
    /// Its folder in the store.
    pub root: Path,
    /// Subfolders of other tables.
    pub others: Vec<Path>,
    /// Whether other pipelines write there too. Files that this log does not name may then be
    /// theirs.
    pub shared: bool,
    /// The suffix of its files, without a dot.
    pub suffix: &'static str,
}

/// A table, and its findings.
#[derive(Debug, Default)]
pub struct AuditedTable {
    /// The files that belong to it.
    pub files: Vec<VisibleFile>,
    /// The totals of the last commit; `None` if the log began before they were counted.
    pub totals: Option<TableTotals>,
    /// Removed files that exist again. Their deletion repairs the table.
    pub returned: Vec<Path>,
    /// The findings in the table.
    pub findings: Vec<Finding>,
}

/// A visible file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibleFile {
    /// Its path in the store.
    pub path: Path,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows, according to its commit; `None` if the commit is collected.
    pub rows: Option<u64>,
}

/// A folder's objects, by their paths relative to the table's folder.
type Listing = BTreeMap<String, u64>;

/// The files of a commit that is not collected.
struct Files {
    seq: u64,
    added: Vec<CommittedFile>,
    removed: Vec<RemovedFile>,
    /// The totals that the commit states.
    totals: Option<TableTotals>,
}

/// An audit of a table.
struct Look<'a> {
    history: &'a History,
    place: &'a Place,
    store: LogStore,
    commits: &'a [Files],
    found: Listing,
    /// The files that commits name and none removes.
    named: BTreeMap<&'a str, (u64, &'a CommittedFile)>,
    /// The files that commits remove, and the last commit that does.
    removed: BTreeMap<&'a str, u64>,
    audited: AuditedTable,
}

impl History {
    /// Checks the files of a table.
    ///
    /// # Errors
    /// `External` if the store fails.
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
        let commits = match self.files_of(place) {
            Ok(commits) => commits,
            Err(error) => {
                let finding = Finding::wrong(Subject::Tables, error.chain());
                return Ok(AuditedTable {
                    findings: vec![finding],
                    ..AuditedTable::default()
                });
            }
        };
        let mut look = Look {
            history: self,
            place,
            store,
            commits: &commits,
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
        look.check_counts();
        Ok(look.audited)
    }

    /// The files that the commits in the log name.
    fn files_of(&self, place: &Place) -> Result<Vec<Files>> {
        let files = |commit: &Record| {
            let output = commit.output(&place.url);
            let (added, removed) = changes(output)?;
            let checkpoint = commit.checkpoint.as_ref();
            let past = checkpoint.map_or(Past::Nothing, |it| it.past(&place.url));
            Ok(Files {
                seq: commit.seq,
                added,
                removed,
                totals: Note::read(past)?.totals,
            })
        };
        self.commits().map(files).collect()
    }
}

impl<'a> Look<'a> {
    fn wrong(&mut self, message: String) {
        self.audited
            .findings
            .push(Finding::wrong(Subject::Tables, message));
    }

    /// The full path of a file, for messages.
    fn path(&self, inside: &str) -> Path {
        paths::absolute(&self.place.root, inside)
    }

    fn read_commits(&mut self) {
        for commit in self.commits {
            for file in &commit.added {
                if let Some((earlier, _)) = self.named.insert(&file.published, (commit.seq, file)) {
                    self.wrong(format!(
                        "commits #{earlier} and #{} publish the same file `{}`; restore the \
                         state folder from a backup",
                        commit.seq,
                        self.path(&file.published)
                    ));
                }
            }
            for file in &commit.removed {
                self.removed.insert(&file.published, commit.seq);
            }
        }
        self.named
            .retain(|path, _| !self.removed.contains_key(path));
        self.audited.totals = self.commits.last().and_then(|last| last.totals);
    }

    /// Checks that each commit adds its files to the totals of the commit before it.
    fn check_counts(&mut self) {
        if !self.history.is_whole {
            return;
        }
        for commits in self.commits.windows(2) {
            let [before, after] = commits else { continue };
            let expected = before
                .totals
                .map(|totals| totals.after(&after.added, &after.removed));
            if after.totals.is_some() && after.totals != expected {
                self.wrong(format!(
                    "commit #{} counts other files than it names; restore the state folder from a \
                     backup",
                    after.seq
                ));
            }
        }
    }

    /// Checks that the expected files exist, or will. Returns the locations of their bytes.
    fn check_named(&mut self) -> Vec<(Path, &'a CommittedFile)> {
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

    async fn check_bytes(&mut self, whole: Vec<(Path, &CommittedFile)>) -> Result<()> {
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

    /// Checks that the removed files do not exist, or are about to be deleted.
    fn check_removed(&mut self) {
        for (inside, seq) in self.removed.clone() {
            if seq <= self.history.published_upto && self.found.contains_key(inside) {
                let path = self.path(inside);
                self.wrong(format!(
                    "file `{path}`, which commit #{seq} removed, is there, so that its rows count \
                     twice: a late copy brought it back, or someone else did; `audit --repair` \
                     deletes it"
                ));
                self.audited.returned.push(path);
            }
        }
    }

    /// Checks the other files in the folder. Returns those that may belong to collected commits.
    fn check_others(&mut self) -> Listing {
        let mut old = Listing::new();
        for (inside, bytes) in std::mem::take(&mut self.found) {
            let is_known = self.named.contains_key(inside.as_str())
                || self.removed.contains_key(inside.as_str());
            if is_known {
                continue;
            }
            let path = self.path(&inside);
            if inside == MARKER {
                continue;
            }
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
                    Origin::Other(log) => {
                        self.wrong(format!(
                            "file `{path}` is of another log, `{log}…`, and readers count its \
                             rows; move it away, or set `shared: true` in the sink if both are \
                             to write there"
                        ));
                        None
                    }
                    Origin::Foreign if is_visible(&inside, self.place.suffix) => {
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

    /// The finding about a staged object, if it is odd.
    fn staged(&self, path: &Path, inside: &str) -> Option<String> {
        let own = self
            .history
            .id
            .map(|id| self.history.reader.paths.staging(id));
        let inside = Path::parse(inside).ok()?;
        if self.is_pending(inside.as_ref()) {
            return None;
        }
        match own.and_then(|own| paths::claim_of(&own, &inside)) {
            // Its owner may be writing it.
            Some(claim) if claim >= self.history.tail.claim_seq => None,
            Some(_) => Some(format!(
                "`{path}` was staged and never committed; the next start of the pipeline deletes it"
            )),
            None if self.place.shared => None,
            None => Some(format!(
                "`{path}` was staged by another log, or by an older build; delete it when no \
                 other pipeline writes there"
            )),
        }
    }

    /// Whether a staged file belongs to a commit that may not be published yet.
    fn is_pending(&self, staged: &str) -> bool {
        let undelivered = |commit: &&Files| commit.seq > self.history.published_upto;
        let commits = self.commits.iter().filter(undelivered);
        let mut files = commits.flat_map(|commit| &commit.added);
        files.any(|file| file.staged == staged)
    }

    /// The origin of a file that no commit names, by its name.
    fn origin(&self, inside: &str) -> Origin {
        let name = inside.rsplit('/').next().unwrap_or(inside);
        if !has_suffix(name, self.place.suffix) {
            return Origin::Foreign;
        }
        let stem = &name[..name.len() - self.place.suffix.len() - 1];
        let is_hex = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let own = self.history.id.map(LogId::short);
        // If the first record is unreadable, logs cannot be distinguished.
        let is_own = |log: &str| own.as_ref().is_none_or(|own| own == log);
        let is_log = |text: &str| is_hex(text, 8);
        match stem.split_once('-') {
            // An older build did not write the log.
            None if is_hex(stem, 32) => return Origin::Collected,
            Some((log, name)) if is_log(log) && is_hex(name, 32) => {
                return if is_own(log) {
                    Origin::Collected
                } else {
                    Origin::Other(log.to_owned())
                };
            }
            _ => {}
        }
        let task = self.history.reader.paths.task();
        let parts = stem
            .strip_prefix(task)
            .and_then(|rest| rest.strip_prefix('-'));
        let parts: Vec<&str> = parts.unwrap_or_default().split('-').collect();
        let (seq, number, attempt) = match parts[..] {
            [log, seq, number, attempt] if is_log(log) && is_own(log) => (seq, number, attempt),
            [log, _, _, attempt] if is_log(log) && is_hex(attempt, 8) => {
                return Origin::Other(log.to_owned());
            }
            // An older build did not write the log.
            [seq, number, attempt] => (seq, number, attempt),
            _ => return Origin::Foreign,
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

    /// Checks that the files of collected commits are the published ones, as far as they can be
    /// distinguished from others.
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

/// The origin of a file, by its name.
enum Origin {
    /// A commit whose record is collected.
    Collected,
    /// A commit whose record is unreadable.
    Unread,
    /// A commit after the last one.
    Lost(u64),
    /// Another log, with the first part of its identity.
    Other(String),
    /// No commit.
    Foreign,
}
