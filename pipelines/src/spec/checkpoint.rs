//! `checkpoint`: how often progress and state are stored, and where.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{
    Read, Reader, Setting,
    diagnostic::Position,
    yaml::{Node, Scalar, Style, Value},
};

/// How often progress and state are stored, and where.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Checkpoint {
    /// The time between commits, at least 100ms. Results become visible with a commit.
    #[schemars(extend("default" = "10s"))]
    pub every: Setting<Duration>,
    /// The folder of the commit log and the state: a path or URL. Pipelines can share it; each uses
    /// its own subfolder, named after the pipeline.
    #[schemars(extend("default" = "${env:TAGFLOW_STATE:-./.tagflow}"))]
    pub url: Setting<String>,
}

const EVERY: Duration = Duration::from_secs(10);
const URL: &str = "${env:TAGFLOW_STATE:-./.tagflow}";

impl Checkpoint {
    /// The default, for a file without the block.
    pub(crate) fn default_at(at: Position, reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            every: Setting::default_at(EVERY, at),
            url: default_url(at, reader)?,
        })
    }
}

/// Read like a value in the file, so that it is stored as a reference.
fn default_url(at: Position, reader: &mut Reader<'_>) -> Option<Setting<String>> {
    let scalar = Scalar {
        text: URL.into(),
        style: Style::DoubleQuoted,
        source: 0..0,
    };
    let value = Value::Scalar(scalar);
    Setting::read(&Node { at, value }, reader)
}

impl Read for Checkpoint {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let every = fields.or(reader, "every", EVERY);
        let url = fields.optional(reader, "url");
        fields.finish(reader);
        let url = match url? {
            Some(url) => Some(url),
            None => default_url(node.at, reader),
        };
        Some(Self {
            every: every?,
            url: url?,
        })
    }
}
