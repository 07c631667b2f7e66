//! The files with rows that may still be replaced.

use std::{mem, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, StringArray, UInt8Array},
    datatypes::Int64Type,
    record_batch::RecordBatch,
};
use object_store::path::Path;
use tagflow_engine::{
    Error, Result,
    state::{KEY_GROUP_COLUMN, Restore, Snapshot, StatePart, WholePart},
};

/// The key of the part with these files.
const PART: &str = "published";

/// A file, from the cut that reports it until its windows have settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WindowFile {
    /// Its Hive folder, from the table's root.
    pub(super) folder: Path,
    /// Its name, without the suffix.
    pub(super) name: String,
    /// The ends of its windows.
    pub(super) ends: Ends,
    /// Its staged path, which it has until it is published; `None` if an older build stored it.
    pub(super) staged: Option<Path>,
    /// SHA-256 of its bytes, in hex; `None` if an older build wrote the state.
    pub(super) sha256: Option<String>,
}

impl WindowFile {
    /// Where readers find it, from the table's root.
    pub(super) fn path(&self) -> Path {
        self.folder.clone().join(format!("{}.parquet", self.name))
    }
}

/// The first and the last end of some windows, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Ends {
    /// The ends of rows without a window.
    pub(super) const NONE: Self = Self { first: 0, last: 0 };

    /// The range of `ends`; `None` if there are none.
    pub(super) fn of(ends: impl Iterator<Item = i64>) -> Option<Self> {
        ends.map(|end| Self {
            first: end,
            last: end,
        })
        .reduce(|all, one| Self {
            first: all.first.min(one.first),
            last: all.last.max(one.last),
        })
    }

    /// Whether a window that ends at `end` may be among them.
    pub(super) fn contain(self, end: i64) -> bool {
        self.first <= end && end <= self.last
    }
}

/// All such files of a table.
#[derive(Debug, Default)]
pub(super) struct Published {
    files: Vec<WindowFile>,
    part: WholePart,
}

impl Published {
    /// Adds a file that the next cut reports.
    pub(super) fn add(&mut self, file: WindowFile) {
        self.files.push(file);
        self.part.change();
    }

    /// Removes and returns the files of `folder` that may contain windows with these ends.
    pub(super) fn take(&mut self, folder: &Path, ends: &[i64]) -> Vec<WindowFile> {
        let concerned = |file: &mut WindowFile| {
            file.folder == *folder && ends.iter().any(|end| file.ends.contain(*end))
        };
        let taken: Vec<_> = self.files.extract_if(.., concerned).collect();
        if !taken.is_empty() {
            self.part.change();
        }
        taken
    }

    /// Removes and returns all files.
    pub(super) fn take_all(&mut self) -> Vec<WindowFile> {
        if !self.files.is_empty() {
            self.part.change();
        }
        mem::take(&mut self.files)
    }

    /// Keeps only the files that may still change.
    pub(super) fn retain(&mut self, is_open: impl Fn(&WindowFile) -> bool) {
        let before = self.files.len();
        self.files.retain(is_open);
        if self.files.len() < before {
            self.part.change();
        }
    }

    /// Adds the part to `snapshot` where it has changed.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        self.part.snapshot(PART, snapshot, || {
            if self.files.is_empty() {
                return Ok(None);
            }
            let text = |text: fn(&WindowFile) -> &str| -> ArrayRef {
                Arc::new(StringArray::from_iter_values(self.files.iter().map(text)))
            };
            let number = |number: fn(&WindowFile) -> i64| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values(self.files.iter().map(number)))
            };
            let sha256 = self.files.iter().map(|file| file.sha256.as_deref());
            let sha256: ArrayRef = Arc::new(sha256.collect::<StringArray>());
            let staged = self.files.iter().map(|file| file.staged.as_ref());
            let staged = staged.map(|path| path.map(AsRef::as_ref));
            let staged: ArrayRef = Arc::new(staged.collect::<StringArray>());
            let groups = UInt8Array::from(vec![0; self.files.len()]);
            Ok(Some(RecordBatch::try_from_iter([
                ("folder", text(|file| file.folder.as_ref())),
                ("name", text(|file| &file.name)),
                ("first_end_us", number(|file| file.ends.first)),
                ("last_end_us", number(|file| file.ends.last)),
                ("sha256", sha256),
                ("staged", staged),
                (KEY_GROUP_COLUMN, Arc::new(groups)),
            ])?))
        })
    }

    /// Restores a part; returns whether it is a part of this kind. The next snapshot writes it
    /// again, because the number of lanes may have changed.
    pub(super) fn restore(&mut self, part: &StatePart) -> Result<bool> {
        if part.key != PART {
            return Ok(false);
        }
        let unreadable = || Error::data("the stored names of published files cannot be read");
        let column = |name: &str| part.rows.column_by_name(name).ok_or_else(unreadable);
        let text = |name: &str| {
            let column = column(name)?.as_string_opt::<i32>();
            column.ok_or_else(unreadable)
        };
        let number = |name: &str| {
            let column = column(name)?.as_primitive_opt::<Int64Type>();
            column.ok_or_else(unreadable)
        };
        let (folders, names) = (text("folder")?, text("name")?);
        let (first, last) = (number("first_end_us")?, number("last_end_us")?);
        // Older builds did not store these.
        let optional = |name: &str| part.rows.column_by_name(name)?.as_string_opt::<i32>();
        let (sha256, staged) = (optional("sha256"), optional("staged"));
        for row in 0..folders.len() {
            self.files.push(WindowFile {
                folder: Path::parse(folders.value(row))
                    .map_err(|error| unreadable().with_source(error))?,
                name: names.value(row).to_owned(),
                ends: Ends {
                    first: first.value(row),
                    last: last.value(row),
                },
                staged: staged
                    .filter(|all| all.is_valid(row))
                    .map(|all| Path::parse(all.value(row)))
                    .transpose()
                    .map_err(|error| unreadable().with_source(error))?,
                sha256: sha256
                    .filter(|all| all.is_valid(row))
                    .map(|all| all.value(row).to_owned()),
            });
        }
        self.part.restore(&part.key, Restore::InPlace);
        self.part.change();
        Ok(true)
    }
}
