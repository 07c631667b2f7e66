//! `generator` as a component.

use std::sync::Arc;

use tagflow_config::Diagnostics;
use tagflow_engine::{Result, source::Source};

use super::{config::GeneratorConfig, source::GeneratorSource};
use crate::component::{SourceComponent, SourceContext};

impl SourceComponent for GeneratorConfig {
    fn describe(&self) -> String {
        "generator".to_owned()
    }

    fn is_bounded(&self) -> bool {
        self.count.is_some()
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn check(&self, path: &str, diagnostics: &mut Diagnostics) {
        for (setting, at, message) in self.problems() {
            let path = match setting {
                Some(setting) => format!("{path}.{setting}"),
                None => path.to_owned(),
            };
            diagnostics.error(at, path, message);
        }
    }

    fn connect(&self, _context: &SourceContext) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(GeneratorSource::new(self.clone())?))
    }
}
