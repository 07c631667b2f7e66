//! `segments`: groups of users by rules over their tags.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, SqlText, yaml::Node};

/// The keys to which a rule over their tags applies: `when` it is true, or from `enter` to `exit`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["enter"]}, {"required": ["when"]}]))]
pub struct Segment {
    /// A SQL condition over tags: a key is a member while it is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<SqlText>,
    /// A SQL condition over tags: a key enters when it is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    enter: Option<SqlText>,
    /// A SQL condition over tags: a key leaves when it is true. Default: when `enter` is not true.
    pub exit: Option<SqlText>,
    /// The shortest time from entering to leaving.
    #[schemars(extend("default" = "0s"))]
    pub hold_at_least: Setting<Duration>,
}

impl Segment {
    /// The condition to enter, with its key: `enter` or `when`.
    pub fn entry(&self) -> (&'static str, &SqlText) {
        let enter = self.enter.as_ref().map(|rule| ("enter", rule));
        let when = self.when.as_ref().map(|rule| ("when", rule));
        let entry = enter.or(when);
        entry.expect("reading a segment makes sure of its rule")
    }
}

impl Read for Segment {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let kind = fields.one_of(reader, &["enter", "when"]);
        let when = fields.optional(reader, "when");
        let enter = fields.optional(reader, "enter");
        let exit: Option<Option<SqlText>> = fields.optional(reader, "exit");
        let hold_at_least = fields.or(reader, "hold_at_least", Duration::ZERO);
        fields.finish(reader);
        let (kind, exit) = (kind?, exit?);
        if let Some(exit) = &exit
            && kind == "when"
        {
            let place = reader.place();
            reader
                .error(exit.at(), format!("`exit` goes with `enter` only{place}"))
                .help("whoever `when` is not true for leaves; write `enter` in its place");
            return None;
        }
        Some(Self {
            when: when?,
            enter: enter?,
            exit,
            hold_at_least: hold_at_least?,
        })
    }
}
