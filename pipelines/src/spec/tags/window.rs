//! The events of a tag.

use std::time::Duration;

use schemars::{Schema, json_schema};
use serde_json::json;
use tagflow_config::{Leaf, Mistake, yaml::Kind};

/// The events of a tag: those of the last span of time, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagWindow {
    text: String,
    width: Option<Duration>,
}

const LIFETIME: &str = "lifetime";

impl TagWindow {
    /// As written, without spaces: the suffix of a column's name.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The width; `None` for a lifetime.
    pub fn width(&self) -> Option<Duration> {
        self.width
    }
}

impl Leaf for TagWindow {
    const EXPECTED: &'static str = "a duration like `30d`, or `lifetime`";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        let width = match text {
            LIFETIME => None,
            _ => Some(Duration::parse(text, kind)?),
        };
        if width == Some(Duration::ZERO) {
            return Err(Mistake::Message(
                "a window must be more than zero".to_owned(),
            ));
        }
        Ok(Self {
            text: text.split_whitespace().collect(),
            width,
        })
    }

    fn plan(&self) -> serde_json::Value {
        json!(self.text)
    }

    fn schema() -> Schema {
        let lifetime = json_schema!({"type": "string", "enum": [LIFETIME]});
        json_schema!({"anyOf": [lifetime, Duration::schema()]})
    }
}
