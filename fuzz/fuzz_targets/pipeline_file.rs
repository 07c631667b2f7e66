//! Pipeline files: their YAML, their settings, their SQL.
//!
//! No input may panic a reader of the file. A file is valid, or the reader reports the
//! error and its line.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tagflow_pipelines::{LoadOptions, Pipeline};

fuzz_target!(|text: &str| {
    let options = LoadOptions {
        set: Vec::new(),
        env: Arc::new(|_| None),
    };
    match Pipeline::open_str("p.yaml", text, &options) {
        Ok(pipeline) => assert!(!pipeline.spec.plan_json().is_empty()),
        Err(problems) => {
            assert!(problems.has_errors());
            assert!(problems.human().contains("p.yaml"));
        }
    }
});
