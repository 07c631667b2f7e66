//! The files with rows that may yet be replaced.

use std::{mem, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, StringArray, UInt8Array},
    datatypes::Int64Type,
    record_batch::RecordBatch,
};
use object_store::path::Path;
use tagflow_engine::{
    Error, Result,
    state::{KEY_GROUP_COLUMN, Snapshot, StatePart},
};

/// The key of the part that holds them.
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
    /// Where it was staged, if in this run.
    pub(super) staged: Option<Path>,
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
    /// Of rows that are of no window.
    pub(super) const NONE: Self = Self { first: 0, last: 0 };

    /// Of these; `None` if there are none.
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

/// All of a table's.
#[derive(Debug, Default)]
pub(super) struct Published {
    files: Vec<WindowFile>,
    /// Whether there is a part.
    stored: bool,
    /// Whether the part is not what it should be.
    changed: bool,
}

impl Published {
    /// Adds a file that the next cut reports.
    pub(super) fn add(&mut self, file: WindowFile) {
        self.files.push(file);
        self.changed = true;
    }

    /// Takes out the files of `folder` that windows with these ends may be in.
    pub(super) fn take(&mut self, folder: &Path, ends: &[i64]) -> Vec<WindowFile> {
        let concerned = |file: &mut WindowFile| {
            file.folder == *folder && ends.iter().any(|end| file.ends.contain(*end))
        };
        let taken: Vec<_> = self.files.extract_if(.., concerned).collect();
        self.changed |= !taken.is_empty();
        taken
    }

    /// Takes out all files.
    pub(super) fn take_all(&mut self) -> Vec<WindowFile> {
        self.changed |= !self.files.is_empty();
        mem::take(&mut self.files)
    }

    /// Forgets the files that need no second look.
    pub(super) fn retain(&mut self, is_open: impl Fn(&WindowFile) -> bool) {
        let before = self.files.len();
        self.files.retain(is_open);
        self.changed |= self.files.len() < before;
    }

    /// Adds the part to `snapshot` where it has changed.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        self.changed = false;
        if self.stored {
            snapshot.removed.push(PART.to_owned());
        }
        self.stored = !self.files.is_empty();
        if self.stored {
            let text = |text: fn(&WindowFile) -> &str| -> ArrayRef {
                Arc::new(StringArray::from_iter_values(self.files.iter().map(text)))
            };
            let number = |number: fn(&WindowFile) -> i64| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values(self.files.iter().map(number)))
            };
            let groups = UInt8Array::from(vec![0; self.files.len()]);
            let rows = RecordBatch::try_from_iter([
                ("folder", text(|file| file.folder.as_ref())),
                ("name", text(|file| &file.name)),
                ("first_end_us", number(|file| file.ends.first)),
                ("last_end_us", number(|file| file.ends.last)),
                (KEY_GROUP_COLUMN, Arc::new(groups)),
            ])?;
            snapshot.put_rows(PART, rows);
        }
        Ok(())
    }

    /// Takes back a part; says whether it was one of these. The next snapshot
    /// puts it anew, because the number of lanes may have changed.
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
        for row in 0..folders.len() {
            self.files.push(WindowFile {
                folder: Path::parse(folders.value(row))
                    .map_err(|error| unreadable().with_source(error))?,
                name: names.value(row).to_owned(),
                ends: Ends {
                    first: first.value(row),
                    last: last.value(row),
                },
                staged: None,
            });
        }
        (self.stored, self.changed) = (true, true);
        Ok(true)
    }
}
