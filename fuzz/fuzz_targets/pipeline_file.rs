//! Pipeline files: their YAML, their settings, their SQL.
//!
//! No input may make anything panic that reads them. A file is right, or it is told
//! what is wrong in which line of it.

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
