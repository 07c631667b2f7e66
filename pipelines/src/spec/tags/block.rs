//! The block as a whole.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{TagDefinition, TagMemory};
use tagflow_config::{Nodes, Read, Reader, Setting, yaml::Node};

/// Tags of each key: values over rolling windows that are correct every second, even without new
/// events.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Tags {
    /// The source, step or query whose rows are the events. It provides the event time.
    pub from: Setting<String>,
    /// The column with the key of the tags, such as the user: a string or an integer. Rows with a
    /// null key do not count.
    pub key: Setting<String>,
    /// The column that orders events of the same time: a string or an integer. Default: `event_id`,
    /// if the rows have it; otherwise their partition and offset.
    pub event_id: Option<Setting<String>>,
    /// How far behind the watermark an event still corrects tags. Later ones are late.
    #[schemars(extend("default" = "0s"))]
    pub allowed_lateness: Setting<Duration>,
    /// A key expires this long after its last event. Default: never.
    pub state_ttl: Option<Setting<Duration>>,
    /// The memory for keys. Default: unlimited.
    pub memory: Option<TagMemory>,
    /// The tags, by name.
    pub define: Nodes<TagDefinition>,
}

impl Tags {
    /// The tag with the column `output`, with its name in the file.
    pub fn output(&self, output: &str) -> Option<(&str, &TagDefinition)> {
        let mut tags = self.define.iter();
        tags.find(|(name, tag)| tag.outputs(name).iter().any(|it| it == output))
            .map(|(name, tag)| (&**name, tag))
    }

    /// The columns of all tags, in the file's order.
    pub fn outputs(&self) -> Vec<String> {
        let tags = self.define.iter();
        tags.flat_map(|(name, tag)| tag.outputs(name)).collect()
    }
}

impl Read for Tags {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let from = fields.required(reader, "from");
        let key = fields.required(reader, "key");
        let event_id = fields.optional(reader, "event_id");
        let allowed_lateness = fields.or(reader, "allowed_lateness", Duration::ZERO);
        let state_ttl = fields.positive_or_none(reader, "state_ttl");
        let memory = fields.optional(reader, "memory");
        let define: Option<Nodes<TagDefinition>> = fields.required(reader, "define");
        fields.finish(reader);
        let define = define?;
        if define.names().next().is_none() {
            let place = reader.place();
            reader.error(node.at, format!("`define` needs at least one tag{place}"));
            return None;
        }
        Some(Self {
            from: from?,
            key: key?,
            event_id: event_id?,
            allowed_lateness: allowed_lateness?,
            state_ttl: state_ttl?,
            memory: memory?,
            define,
        })
    }
}
