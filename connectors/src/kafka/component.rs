//! `kafka` as a component.

use std::sync::Arc;

use tagflow_config::{Diagnostics, Setting};
use tagflow_engine::{Result, source::Source};

use super::{config::KafkaConfig, source::KafkaSource};
use crate::component::{SourceComponent, SourceContext, part_of_memory};

impl SourceComponent for KafkaConfig {
    fn describe(&self) -> String {
        let topics: Vec<&str> = self.topics.iter().map(Setting::shown).collect();
        format!("kafka {}", topics.join(", "))
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn check(&self, path: &str, diagnostics: &mut Diagnostics) {
        for (setting, at, message) in self.problems() {
            diagnostics.error(at, format!("{path}.{setting}"), self.as_written(message));
        }
    }

    fn connect(&self, context: &SourceContext) -> Result<Arc<dyn Source>> {
        let clock = Arc::clone(&context.clock);
        let source = KafkaSource::new(self.limited(context), &context.pipeline, clock);
        Ok(Arc::new(source))
    }
}

impl KafkaConfig {
    /// With the limits of the source in `context`.
    fn limited(&self, context: &SourceContext) -> Self {
        Self {
            max_row_bytes: context.max_row_bytes,
            queue_bytes: part_of_memory(context.memory, 64, self.queue_bytes),
            ..self.clone()
        }
    }

    /// A message with references in place of their values.
    fn as_written(&self, mut message: String) -> String {
        let names = [&self.brokers].into_iter().chain(&self.group_id);
        for setting in names.chain(&self.topics) {
            if let Some(reference) = setting.reference() {
                for value in setting.split(',') {
                    let shown = format!("`{reference}`");
                    message = message.replace(&format!("`{value}`"), &shown);
                }
            }
        }
        message
    }
}
