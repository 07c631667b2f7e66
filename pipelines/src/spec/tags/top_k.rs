//! `top_k`: the items with the highest weight.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Nodes, Read, Reader, Setting, SqlText, yaml::Node};

/// The items with the highest weight among the events of each key: a list, the heaviest first.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TopKTag {
    /// The items, their number, and their decay.
    pub top_k: TopK,
    /// The weight of an event, by the value of the column `weigh_by`; other events have no weight.
    /// Default: each event has weight 1.
    pub weights: Option<Nodes<Setting<f64>>>,
    /// The column that `weights` refers to.
    #[schemars(extend("default" = "event_type"))]
    pub weigh_by: Setting<String>,
    /// A SQL condition. Events for which it is false or null do not count.
    #[serde(rename = "where")]
    pub filter: Option<SqlText>,
}

/// The items, their number, and their decay.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TopK {
    /// The item, in SQL over an event; an event for which it is null does not count.
    pub arg: SqlText,
    /// The number of items, at most 1000.
    pub k: Setting<u64>,
    /// The time in which a weight halves.
    pub half_life: Setting<Duration>,
}

/// The most items.
const MOST_ITEMS: u64 = 1_000;

impl Read for TopKTag {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let top_k = fields.required(reader, "top_k");
        let weights: Option<Option<Nodes<Setting<f64>>>> = fields.optional(reader, "weights");
        let weigh_by = fields.or(reader, "weigh_by", "event_type".to_owned());
        let filter = fields.optional(reader, "where");
        fields.finish(reader);
        let (weights, weigh_by) = (weights?, weigh_by?);
        let place = reader.place();
        let mut is_right = true;
        for (name, weight) in weights.iter().flat_map(Nodes::iter) {
            if **weight <= 0.0 {
                reader
                    .error(
                        weight.at(),
                        format!("the weight of `{name}` must be more than zero{place}"),
                    )
                    .help("leave it out: what has no weight does not count");
                is_right = false;
            }
        }
        if let Some(weights) = &weights {
            is_right &= weights.names().count() == weights.len();
            if weights.names().next().is_none() {
                reader.error(node.at, format!("`weights` needs at least one{place}"));
                is_right = false;
            }
        } else if !weigh_by.is_default() {
            reader.error(weigh_by.at(), format!("`weigh_by` needs `weights`{place}"));
            is_right = false;
        }
        Some(Self {
            top_k: top_k?,
            weights,
            weigh_by,
            filter: filter?,
        })
        .filter(|_| is_right)
    }
}

impl Read for TopK {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let arg = fields.required(reader, "arg");
        let k: Option<Setting<u64>> = fields.required(reader, "k");
        let half_life = fields.positive(reader, "half_life");
        fields.finish(reader);
        let k = k?;
        if !(1..=MOST_ITEMS).contains(k.value()) {
            reader.error(k.at(), format!("`k` is from 1 to {MOST_ITEMS}, got {}", *k));
            return None;
        }
        Some(Self {
            arg: arg?,
            k,
            half_life: half_life?,
        })
    }
}
