//! The pipeline files that a command line names.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tagflow_engine::Error;

/// Each path that is a file, and the YAML files below each path that is a folder, by name.
///
/// # Errors
/// `Config` if a folder cannot be read or contains no YAML file.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        let before = files.len();
        add(path, &mut files)?;
        if files.len() == before {
            let path = path.display();
            return Err(Error::config(format!(
                "`{path}` contains no pipeline file (`*.yaml`, `*.yml`)"
            )));
        }
    }
    Ok(files)
}

fn add(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<Result<Vec<_>, _>>()
    });
    let mut entries = entries.map_err(|error| {
        Error::config(format!("cannot read the folder `{}`", path.display())).with_source(error)
    })?;
    entries.sort();
    for entry in entries {
        let is_yaml = entry
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if entry.is_dir() || is_yaml {
            add(&entry, files)?;
        }
    }
    Ok(())
}
