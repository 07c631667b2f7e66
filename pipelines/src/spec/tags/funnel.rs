//! `funnel`: the furthest step reached in order.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Choice, Nodes, Read, Reader, Setting, SqlText, in_order, yaml::Node};

/// The furthest step that the events of each key reach in order; null before the first.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FunnelTag {
    /// The steps, and how they follow each other.
    pub funnel: Funnel,
}

/// The steps, and how they follow each other.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Funnel {
    /// The longest time from the first step to the last; the value lasts as long.
    pub within: Setting<Duration>,
    /// Which events are allowed between the steps, with the mode names of `ClickHouse`'s
    /// `windowFunnel`.
    #[schemars(extend("default" = "default"))]
    pub mode: Setting<FunnelMode>,
    /// The steps in their order, at most 32: names and SQL conditions.
    #[serde(serialize_with = "in_order")]
    pub steps: Nodes<SqlText>,
}

/// Which events are allowed between the steps of a funnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunnelMode {
    /// Any event.
    Default,
    /// Only steps that were reached.
    StrictOrder,
    /// No repeated step except the first.
    StrictDeduplication,
    /// Any event, but each step is later than the one before it.
    StrictIncrease,
}

impl Choice for FunnelMode {
    const EXPECTED: &'static str =
        "`default`, `strict_order`, `strict_deduplication` or `strict_increase`";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("default", Self::Default),
        ("strict_order", Self::StrictOrder),
        ("strict_deduplication", Self::StrictDeduplication),
        ("strict_increase", Self::StrictIncrease),
    ];
}

/// The most steps.
const MOST_STEPS: usize = 32;

impl Read for FunnelTag {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let funnel = fields.required(reader, "funnel");
        fields.finish(reader);
        Some(Self { funnel: funnel? })
    }
}

impl Read for Funnel {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let within = fields.positive(reader, "within");
        let mode = fields.or(reader, "mode", FunnelMode::Default);
        let steps: Option<Nodes<SqlText>> = fields.required(reader, "steps");
        fields.finish(reader);
        let steps = steps?;
        let count = steps.names().count();
        if !(2..=MOST_STEPS).contains(&count) {
            let place = reader.place();
            let message = format!("a funnel has from 2 to {MOST_STEPS} steps, got {count}{place}");
            reader.error(node.at, message);
            return None;
        }
        Some(Self {
            within: within?,
            mode: mode?,
            steps,
        })
        .filter(|funnel| funnel.steps.len() == count)
    }
}
