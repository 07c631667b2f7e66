//! The totals of the demo's events.

use std::ops::AddAssign;

use serde::Deserialize;
use tagflow_engine::{Error, Result};

/// The totals of events with a campaign, as the pipeline counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Events without a campaign, which the pipeline filters out.
    pub organic: u64,
    /// Impressions.
    pub impressions: u64,
    /// Clicks.
    pub clicks: u64,
    /// The revenue of purchases, in cents.
    pub revenue_cents: i64,
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.organic += other.organic;
        self.impressions += other.impressions;
        self.clicks += other.clicks;
        self.revenue_cents += other.revenue_cents;
    }
}

impl Account {
    /// Adds an event, as JSON.
    ///
    /// # Errors
    /// `Internal` where it is no event.
    pub(super) fn add_event(&mut self, json: &[u8]) -> Result<()> {
        let event: Event = serde_json::from_slice(json).map_err(|error| {
            Error::internal("an event is not as it should be").with_source(error)
        })?;
        if event.campaign_id.is_none() {
            self.organic += 1;
            return Ok(());
        }
        match event.kind.as_str() {
            "impression" => self.impressions += 1,
            "click" => self.clicks += 1,
            "purchase" => self.revenue_cents += event.amount.map_or(0, |amount| amount.cents),
            _ => {}
        }
        Ok(())
    }
}

/// The fields of an event that count.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "event_type")]
    kind: String,
    campaign_id: Option<String>,
    amount: Option<Amount>,
}

/// A decimal, as a JSON number or string.
#[derive(Deserialize)]
#[serde(try_from = "serde_json::Value")]
struct Amount {
    cents: i64,
}

impl TryFrom<serde_json::Value> for Amount {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        let text = match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let cents = format!("{whole}{fraction:0<2}");
        let cents = cents
            .parse()
            .map_err(|_| format!("`{text}` is no amount"))?;
        Ok(Self { cents })
    }
}
