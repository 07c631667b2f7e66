//! `flag_bots`: rows from bots.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, yaml::Node};

/// Adds a boolean column that marks rows from bots: by their user agent, by the rate of their key,
/// or by either. No row is dropped.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FlagBots {
    /// The column with the user agent, which is matched against the list of `crawler-user-agents`.
    /// A null is no bot.
    pub user_agent: Option<Setting<String>>,
    /// More rows than a person produces.
    pub rate: Option<Rate>,
    /// The new column.
    #[serde(rename = "as")]
    #[schemars(extend("default" = "is_bot"))]
    pub column: Setting<String>,
}

/// A row is from a bot when its key has more than `more_than` rows in the time `over` up to and
/// including this row.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Rate {
    /// The columns that identify whose rows are counted together, such as the user. A row with a
    /// null in any key column is not counted.
    #[schemars(length(min = 1))]
    pub key: Vec<Setting<String>>,
    /// The span of event time in which rows are counted.
    pub over: Setting<Duration>,
    /// The most rows that a person produces, at least 1.
    pub more_than: Setting<u64>,
}

impl Read for FlagBots {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let user_agent = fields.optional(reader, "user_agent");
        let rate = fields.optional(reader, "rate");
        let column = fields.or(reader, "as", "is_bot".to_owned());
        fields.finish(reader);
        let (user_agent, rate) = (user_agent?, rate?);
        if user_agent.is_none() && rate.is_none() {
            let message = "`flag_bots` needs `user_agent`, `rate` or both";
            reader.error(node.at, message);
            return None;
        }
        Some(Self {
            user_agent,
            rate,
            column: column?,
        })
    }
}

impl Read for Rate {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let key = fields.key(reader);
        let over = fields.positive(reader, "over");
        let more_than: Option<Setting<u64>> = fields.required(reader, "more_than");
        fields.finish(reader);
        let more_than = more_than?;
        if *more_than == 0 {
            reader.error(more_than.at(), "`more_than` is at least 1");
            return None;
        }
        Some(Self {
            key: key?,
            over: over?,
            more_than,
        })
    }
}
