//! The edges between the crates, as `ARCHITECTURE.md` draws them.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// The dependencies of each crate on our other crates that are allowed, except in tests.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("tagflow-schemas", &[]),
    ("tagflow-engine", &[]),
    ("tagflow-config", &["tagflow-engine"]),
    ("tagflow-operators", &["tagflow-engine", "tagflow-schemas"]),
    (
        "tagflow-connectors",
        &["tagflow-config", "tagflow-engine", "tagflow-schemas"],
    ),
    (
        "tagflow-pipelines",
        &[
            "tagflow-config",
            "tagflow-connectors",
            "tagflow-engine",
            "tagflow-operators",
            "tagflow-schemas",
        ],
    ),
    (
        "tagflow-service",
        &[
            "tagflow-config",
            "tagflow-connectors",
            "tagflow-engine",
            "tagflow-operators",
            "tagflow-pipelines",
            "tagflow-schemas",
        ],
    ),
    (
        "tagflow",
        &["tagflow-engine", "tagflow-pipelines", "tagflow-service"],
    ),
];

/// The crates that may use a heavy dependency.
const DOORS: [(&str, &[&str]); 7] = [
    (
        "datafusion",
        &["tagflow-operators", "tagflow-pipelines", "tagflow-service"],
    ),
    ("axum", &["tagflow-service"]),
    ("prometheus-client", &["tagflow-service"]),
    ("rdkafka", &["tagflow-connectors"]),
    ("parquet", &["tagflow-connectors"]),
    ("clap", &["tagflow"]),
    ("fjall", &["tagflow-engine"]),
];

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let dependencies = dependencies();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into();
    let members: BTreeSet<_> = dependencies.keys().map(String::as_str).collect();
    assert_eq!(
        members,
        allowed.keys().copied().collect(),
        "a crate is not in the picture"
    );
    for (name, used) in &dependencies {
        for other in used.iter().filter(|other| members.contains(other.as_str())) {
            assert!(
                allowed[name.as_str()].contains(&other.as_str()),
                "`{name}` must not depend on `{other}`"
            );
        }
        for (heavy, doors) in DOORS {
            assert!(
                !used.contains(heavy) || doors.contains(&name.as_str()),
                "`{name}` must not know of `{heavy}`"
            );
        }
    }
}

/// The normal dependencies of each crate of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let packages = packages.iter().map(|package| {
        let used = package["dependencies"].as_array().unwrap().iter();
        let used = used.filter(|used| used["kind"].is_null());
        (
            text(&package["name"]),
            used.map(|used| text(&used["name"])).collect(),
        )
    });
    packages.collect()
}
