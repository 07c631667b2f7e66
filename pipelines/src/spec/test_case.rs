//! `tests`: rows and the results that they must lead to.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use tagflow_config::{
    Leaf, Mistake, Nodes, Read, Reader, Setting,
    diagnostic::{Position, unknown},
    yaml::{Kind, Node, Value},
};
use tagflow_engine::EventTime;

use super::{
    Expect, TestRow,
    expectation::{expect_schema, rows_schema},
};

/// A test of the pipeline: the input, step by step, and the expected output.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TestCase {
    /// A description of the case.
    pub name: Setting<String>,
    /// The steps, in order.
    pub steps: Vec<TestStep>,
}

/// A step of a test, with its position in the file.
#[derive(Debug, Clone)]
pub struct TestStep {
    /// Its position.
    pub at: Position,
    /// The action.
    pub action: Action,
}

/// The action of a step.
#[derive(Debug, Clone)]
pub enum Action {
    /// Sends these rows, by source.
    Send(Nodes<Vec<TestRow>>),
    /// Advances watermarks.
    Watermark(WatermarkStep),
    /// Advances the clock.
    Clock(Setting<Tick>),
    /// Commits, stops the pipeline, and starts another one from the commit.
    Restart,
    /// Checks the output.
    Expect(Expect),
}

/// The new watermarks.
#[derive(Debug, Clone)]
pub enum WatermarkStep {
    /// One for all sources.
    All(Setting<EventTime>),
    /// One for each of some sources.
    Of(Nodes<Setting<EventTime>>),
}

/// How the clock advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// To this time.
    To(EventTime),
    /// By this duration.
    By(Duration),
}

/// The kinds of steps.
const KINDS: [&str; 5] = ["send", "watermark", "clock", "restart", "expect"];

impl Action {
    /// The name of a step in a report: `watermark 2026-01-05T12:00:00Z`.
    pub fn headline(&self) -> String {
        match self {
            Self::Send(sent) => {
                let names: Vec<&str> = sent.names().map(|name| &**name).collect();
                format!("send to {}", names.join(", "))
            }
            Self::Watermark(WatermarkStep::All(at)) => format!("watermark {}", **at),
            Self::Watermark(WatermarkStep::Of(sources)) => {
                let each = sources.iter().map(|(name, at)| format!("{name} {}", **at));
                format!("watermark {}", each.collect::<Vec<_>>().join(", "))
            }
            Self::Clock(tick) => match **tick {
                Tick::To(time) => format!("clock {time}"),
                Tick::By(duration) => format!("clock {}", humantime::format_duration(duration)),
            },
            Self::Restart => "restart".to_owned(),
            Self::Expect(_) => "expect".to_owned(),
        }
    }
}

impl Read for TestCase {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let name = fields.required(reader, "name");
        let steps = fields.required(reader, "steps");
        fields.finish(reader);
        Some(Self {
            name: name?,
            steps: steps?,
        })
    }
}

impl Read for TestStep {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let at = node.at;
        let action = match &node.value {
            Value::Scalar(scalar) if scalar.text == "restart" => Action::Restart,
            Value::Scalar(scalar) => {
                let names = unknown(&scalar.text, KINDS);
                let message = format!("`{}` is no step of a test{names}", scalar.text);
                reader.error(at, message);
                return None;
            }
            _ => {
                let mut fields = reader.fields(node)?;
                let kind = fields.one_of(reader, &KINDS);
                for other in KINDS.into_iter().filter(|other| Some(*other) != kind) {
                    fields.get(other);
                }
                let action = kind.and_then(|kind| match kind {
                    "send" => fields.required(reader, kind).map(Action::Send),
                    "watermark" => fields.required(reader, kind).map(Action::Watermark),
                    "clock" => fields.required(reader, kind).map(Action::Clock),
                    "expect" => fields.required(reader, kind).map(Action::Expect),
                    _ => match fields.get(kind) {
                        None => Some(Action::Restart),
                        Some((_, node)) => {
                            reader.mismatch(node, "nothing after `restart`");
                            None
                        }
                    },
                });
                fields.finish(reader);
                action?
            }
        };
        Some(Self { at, action })
    }
}

impl Read for WatermarkStep {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Nodes::read(node, reader).map(Self::Of),
            _ => Setting::read(node, reader).map(Self::All),
        }
    }
}

impl Leaf for Tick {
    const EXPECTED: &'static str =
        "an instant like `2026-01-05T12:00:00Z`, or a duration like `5s`";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        let instant = EventTime::parse(text, kind).map(Self::To);
        instant.or_else(|_| Duration::parse(text, kind).map(Self::By))
    }

    fn plan(&self) -> serde_json::Value {
        match self {
            Self::To(time) => time.plan(),
            Self::By(duration) => duration.plan(),
        }
    }

    fn schema() -> Schema {
        json_schema!({"anyOf": [EventTime::schema(), Duration::schema()]})
    }
}

impl JsonSchema for TestStep {
    fn schema_name() -> Cow<'static, str> {
        "TestStep".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let instant = EventTime::schema();
        json_schema!({
            "description": "A step of a test: `restart`, or a map with exactly one of `send`, \
                `watermark`, `clock`, `restart` and `expect`.",
            "anyOf": [
                {"type": "string", "enum": ["restart"]},
                {
                    "type": "object",
                    "properties": {
                        "send": {
                            "description": "Rows that come in, by source: maps, or strings for \
                                rows that are to be read as they are.",
                            "type": "object",
                            "additionalProperties": rows_schema(&["object", "string"]),
                        },
                        "watermark": {
                            "description": "Where the watermarks of all sources move, or of some \
                                by name.",
                            "anyOf": [
                                instant,
                                {"type": "object", "additionalProperties": instant},
                            ],
                        },
                        "clock": {
                            "description": "Where the clock moves, or by how much.",
                            "anyOf": [Tick::schema()],
                        },
                        "restart": {
                            "description": "Commits, drops everything and goes on from the \
                                commit.",
                            "type": "null",
                        },
                        "expect": expect_schema(),
                    },
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": false,
                },
            ],
        })
    }
}
