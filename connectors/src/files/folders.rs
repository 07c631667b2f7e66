//! Columns from the names of Hive folders: `dt=2026-03-02/country=DE/part-0.parquet`.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use tagflow_engine::source::FolderValues;

/// Hive's name of a null value.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The values of the Hive folders in the path of a file; `None` if the path has none.
pub(super) fn values(path: &str) -> Option<FolderValues> {
    let (folders, _) = path.rsplit_once('/')?;
    let values: Vec<_> = folders.split('/').filter_map(value).collect();
    (!values.is_empty()).then(|| Arc::from(values))
}

fn value(folder: &str) -> Option<(Box<str>, Option<Box<str>>)> {
    let (name, value) = folder.split_once('=')?;
    let decoded = |text: &str| -> Box<str> { percent_decode_str(text).decode_utf8_lossy().into() };
    let value = (value != NULL).then(|| decoded(value));
    (!name.is_empty()).then(|| (decoded(name), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_name_values() {
        for (path, expected) in [
            ("/lake/part-0", &[][..]),
            (
                "/lake/dt=2026-03-02/a=b/x=1",
                &[("dt", Some("2026-03-02")), ("a", Some("b"))],
            ),
            ("s3://b/c%3D1=a%2Fb%20c/f", &[("c=1", Some("a/b c"))]),
            (
                "/l/c=__HIVE_DEFAULT_PARTITION__/e=/=x/f",
                &[("c", None), ("e", Some(""))],
            ),
            ("/l/k=a=b/f", &[("k", Some("a=b"))]),
        ] {
            let values = values(path);
            let values: Vec<_> = values
                .iter()
                .flat_map(|values| values.iter())
                .map(|(name, value)| (&**name, value.as_deref()))
                .collect();
            assert_eq!(values, expected, "{path}");
        }
    }
}
