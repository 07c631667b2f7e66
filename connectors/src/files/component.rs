//! `files` as a component.

use std::{sync::Arc, time::Duration};

use tagflow_config::{Diagnostics, Setting};
use tagflow_engine::{Result, source::Source};

use super::{FilesSource, config::FilesConfig, listing};
use crate::{
    component::{SourceComponent, SourceContext},
    storage,
};

impl SourceComponent for FilesConfig {
    fn describe(&self) -> String {
        format!("files {}", self.url.shown())
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn has_formats(&self) -> bool {
        true
    }

    fn urls(&self) -> Vec<&str> {
        vec![self.url.as_str()]
    }

    /// Some systems write files with local time as UTC, and no zone is more than 14 hours ahead. So
    /// a single row from 2099 makes no later row late.
    fn max_future(&self) -> Duration {
        Duration::from_hours(24)
    }

    fn check(&self, path: &str, diagnostics: &mut Diagnostics) {
        check_url(&self.url, &format!("{path}.url"), diagnostics);
    }

    fn connect(&self, context: &SourceContext) -> Result<Arc<dyn Source>> {
        let config = Self {
            format: context.format,
            max_row_bytes: context.max_row_bytes,
            columns: context.columns.clone(),
            ..self.clone()
        };
        let files = FilesSource::new(config, Arc::clone(&context.clock))?;
        Ok(Arc::new(match &context.event_times {
            Some(event_times) => files.ordered_by(event_times.clone()),
            None => files,
        }))
    }
}

/// Reports a URL of files that cannot be read.
pub fn check_url(url: &Setting<String>, path: &str, diagnostics: &mut Diagnostics) {
    if storage::check_url(url, path, diagnostics)
        && let Err(error) = listing::check(url)
    {
        diagnostics.error(url.at(), path, error.chain());
    }
}
