//! The folders of the demo. Its broker ends with it, and then its offsets lose their meaning: each
//! demo begins with empty folders.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tagflow_engine::{Error, Result};

/// Marks a folder as the demo's, so that another demo may empty it.
const MARK: &str = ".made-by-tagflow-demo";

/// The folders of the demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The folder of the tables.
    pub lake: PathBuf,
    /// The folder of the state.
    pub state: PathBuf,
}

impl Default for Folders {
    fn default() -> Self {
        Self {
            lake: "./lake/demo".into(),
            state: "./.tagflow/demo".into(),
        }
    }
}

impl Folders {
    /// The folders of the demo's tags.
    pub fn of_tags() -> Self {
        Self {
            lake: "./lake/demo-tags".into(),
            state: "./.tagflow/demo-tags".into(),
        }
    }

    /// Creates both, empty. Removes the files of an earlier demo.
    ///
    /// # Errors
    /// `Config` where a folder contains files that no demo wrote, which stay; `External`
    /// where the disk fails.
    pub fn prepare(&self) -> Result<()> {
        for folder in [&self.lake, &self.state] {
            check(folder)?;
        }
        for folder in [&self.lake, &self.state] {
            let failed = |error| {
                Error::external(format!("cannot empty `{}`", folder.display()))
                    .with_source(error)
                    .permanent()
            };
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            fs::create_dir_all(folder).map_err(failed)?;
            fs::write(folder.join(MARK), "").map_err(failed)?;
        }
        Ok(())
    }
}

fn check(folder: &Path) -> Result<()> {
    let is_empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if is_empty || folder.join(MARK).exists() {
        return Ok(());
    }
    Err(Error::config(format!(
        "`{}` holds something that the demo did not make; move it away, or run the demo elsewhere",
        folder.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_demo_made_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders {
            lake: root.path().join("lake/demo"),
            state: root.path().join("state"),
        };
        folders.prepare().unwrap();
        fs::write(folders.lake.join("old.parquet"), "old").unwrap();
        folders.prepare().unwrap();
        assert!(!folders.lake.join("old.parquet").exists());

        fs::remove_file(folders.state.join(MARK)).unwrap();
        fs::write(folders.state.join("mine"), "precious").unwrap();
        fs::write(folders.lake.join("new.parquet"), "new").unwrap();
        let message = folders.prepare().unwrap_err().to_string();
        assert!(message.contains("did not make"), "{message}");
        assert!(folders.state.join("mine").exists());
        assert!(folders.lake.join("new.parquet").exists(), "all or nothing");
    }
}
