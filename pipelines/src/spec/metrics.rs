//! `metrics`: measures of several sources in one table, by key and window.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use tagflow_config::{
    Choice, Leaf, Mistake, Nodes, Read, Reader, Setting, SqlText, in_order,
    yaml::{Kind, Node},
};

use super::Measure;

/// Measures of several sources in one table, one row per window and key.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Metrics {
    /// The columns that identify a row beside the window; each source has them. Default: none, one
    /// row per window.
    #[schemars(extend("default" = serde_json::json!([])))]
    pub key: Vec<Setting<String>>,
    /// The windows of event time.
    pub window: MetricsWindow,
    /// When rows are emitted besides when their window closes.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub emit: MetricsEmit,
    /// The measures, by the name of their column.
    pub measures: Nodes<Measure>,
    /// SQL over measures, and over earlier entries, by the name of its column. A division is null
    /// if the denominator is 0.
    #[serde(serialize_with = "in_order")]
    #[schemars(extend("default" = serde_json::json!({})))]
    pub derived: Nodes<SqlText>,
}

/// The windows of event time.
#[derive(Debug, Clone, Serialize)]
pub enum MetricsWindow {
    /// Adjacent windows.
    Tumble {
        /// Their width.
        width: Setting<Width>,
        /// The IANA time zone of their days, weeks, months and hours.
        timezone: Setting<String>,
    },
    /// Windows of `size`, one every `every`.
    Hop {
        /// Their width.
        size: Setting<Duration>,
        /// The time between the starts of two windows.
        every: Setting<Duration>,
    },
    /// Windows that grow from the start of each day.
    Cumulate {
        /// Their final width.
        within: Setting<Day>,
        /// How much wider each is than the one before.
        every: Setting<Duration>,
        /// The IANA time zone of the days.
        timezone: Setting<String>,
    },
}

/// The width of a tumbling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// A fixed span.
    Fixed(Duration),
    /// A calendar day.
    Day,
    /// A calendar week, from Monday.
    Week,
    /// A calendar month.
    Month,
}

impl Width {
    const CALENDAR: [(&'static str, Self); 3] = [
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];
}

impl Leaf for Width {
    const EXPECTED: &'static str = "a duration like `1h`, or `day`, `week` or `month`";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        match Self::CALENDAR.iter().find(|(name, _)| *name == text) {
            Some((_, width)) => Ok(*width),
            None => Duration::parse(text, kind).map(Self::Fixed),
        }
    }

    fn plan(&self) -> serde_json::Value {
        match self {
            Self::Fixed(width) => width.plan(),
            _ => Self::CALENDAR
                .iter()
                .find(|(_, width)| width == self)
                .map_or(serde_json::Value::Null, |(name, _)| (*name).into()),
        }
    }

    fn schema() -> Schema {
        let names = Self::CALENDAR.map(|(name, _)| name);
        json_schema!({"anyOf": [{"type": "string", "enum": names}, Duration::schema()]})
    }
}

/// A calendar day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day;

impl Choice for Day {
    const EXPECTED: &'static str = "`day`";
    const NAMES: &'static [(&'static str, Self)] = &[("day", Self)];
}

/// When rows are emitted besides when their window closes.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MetricsEmit {
    /// How often, in event time, an open window emits its changed rows.
    pub preview: Option<Setting<Duration>>,
    /// Emits rows again that late rows changed.
    pub corrections: Option<Corrections>,
}

/// Emits rows again that late rows changed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Corrections {
    /// How long after its end a window accepts rows; later ones are late.
    pub until: Setting<Duration>,
}

impl Read for Metrics {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let key = fields.optional(reader, "key");
        let window = fields.required(reader, "window");
        let emit = fields.optional(reader, "emit");
        let measures: Option<Nodes<Measure>> = fields.required(reader, "measures");
        let derived = fields.optional(reader, "derived");
        fields.finish(reader);
        let measures = measures?;
        if measures.names().next().is_none() {
            let place = reader.place();
            reader.error(node.at, format!("`measures` needs at least one{place}"));
            return None;
        }
        let derived: Nodes<SqlText> = derived?.unwrap_or_default();
        let read = Self {
            key: key?.unwrap_or_default(),
            window: window?,
            emit: emit?.unwrap_or_default(),
            measures,
            derived,
        };
        // Errors are reported already, and the rest cannot be judged.
        let unread = read.measures.names().count() + read.derived.names().count();
        (unread == read.measures.len() + read.derived.len()).then_some(read)
    }
}

impl Read for MetricsWindow {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let kind = fields.one_of(reader, &["tumble", "hop", "cumulate"])?;
        let window = match kind {
            "tumble" => {
                let width = fields.required(reader, "tumble");
                let timezone = fields.or(reader, "timezone", "UTC".to_owned());
                width
                    .zip(timezone)
                    .map(|(width, timezone)| Self::Tumble { width, timezone })
            }
            "hop" => {
                let size = fields.positive(reader, "hop");
                let every = fields.positive(reader, "every");
                size.zip(every)
                    .map(|(size, every)| Self::Hop { size, every })
            }
            _ => {
                let within = fields.required(reader, "cumulate");
                let every = fields.positive(reader, "every");
                let timezone = fields.or(reader, "timezone", "UTC".to_owned());
                within
                    .zip(every)
                    .zip(timezone)
                    .map(|((within, every), timezone)| Self::Cumulate {
                        within,
                        every,
                        timezone,
                    })
            }
        };
        fields.finish(reader);
        window
    }
}

impl Read for MetricsEmit {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let preview = fields.positive_or_none(reader, "preview");
        let corrections = fields.optional(reader, "corrections");
        fields.finish(reader);
        Some(Self {
            preview: preview?,
            corrections: corrections?,
        })
    }
}

impl Read for Corrections {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let until = fields.positive(reader, "until");
        fields.finish(reader);
        until.map(|until| Self { until })
    }
}

impl JsonSchema for MetricsWindow {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "MetricsWindow".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let timezone = json_schema!({
            "type": "string",
            "description": "The IANA time zone whose days, weeks, months and hours they are.",
            "default": "UTC",
        });
        let every = |description: &str| {
            let mut schema = Setting::<Duration>::json_schema(&mut SchemaGenerator::default());
            schema.insert("description".into(), description.into());
            schema
        };
        let mut tumble = Setting::<Width>::json_schema(&mut SchemaGenerator::default());
        tumble.insert(
            "description".into(),
            "How wide each window is: a duration, or `day`, `week` (from Monday) or `month`."
                .into(),
        );
        let mut cumulate = Setting::<Day>::json_schema(&mut SchemaGenerator::default());
        cumulate.insert("description".into(), "What windows grow to.".into());
        json_schema!({
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"tumble": tumble, "timezone": timezone},
                    "required": ["tumble"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {
                        "hop": every("How wide each window is."),
                        "every": every("From the start of one window to the next one's."),
                    },
                    "required": ["hop", "every"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {
                        "cumulate": cumulate,
                        "every": every("By how much each window is wider than the one before."),
                        "timezone": timezone,
                    },
                    "required": ["cumulate", "every"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
