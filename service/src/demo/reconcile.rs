//! The expected totals of the demo's events, and those of its tables.

use arrow::{
    array::{Array as _, AsArray},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use tagflow_engine::{Error, Result, ledger::Counts};

use super::{Account, Sent};
use crate::query::Tables;

/// A line of the balance: two figures that must be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The compared figure.
    pub what: &'static str,
    /// The figure that follows from the sent events.
    pub expected: i64,
    /// The figure in the results.
    pub found: i64,
}

impl Item {
    fn new(what: &'static str, expected: u64, found: u64) -> Self {
        Self {
            what,
            expected: expected as i64,
            found: found as i64,
        }
    }

    /// Whether the two figures are equal.
    pub fn is_even(&self) -> bool {
        self.expected == self.found
    }
}

/// Compares the sent events with the job's counters and with its tables.
///
/// # Errors
/// As [`Tables::ask`].
pub async fn reconcile(sent: &Sent, totals: &Counts, tables: &mut Tables) -> Result<Vec<Item>> {
    let written = written(tables).await?;
    let (late, late_rows) = late(tables).await?;
    let dead_letters = number(tables, "select count(*) from dead_letters").await?;
    let mut in_tables = written;
    in_tables += late;
    let account = &sent.account;
    Ok(vec![
        Item::new("events sent, rows read", sent.kinds.rows(), totals.rows_in),
        Item::new(
            "rows read, rows accounted for",
            totals.rows_in + totals.copied,
            totals.settled(),
        ),
        Item::new(
            "broken events, dead letters",
            sent.kinds.broken,
            totals.dead_letter,
        ),
        Item::new(
            "dead letters, in their table",
            totals.dead_letter,
            dead_letters as u64,
        ),
        Item::new("late rows, in their table", totals.late, late_rows),
        Item::new(
            "without a campaign, filtered",
            account.organic,
            totals.filtered,
        ),
        Item::new(
            "impressions, in the tables",
            account.impressions,
            in_tables.impressions,
        ),
        Item::new("clicks, in the tables", account.clicks, in_tables.clicks),
        Item {
            what: "revenue in cents, in the tables",
            expected: account.revenue_cents,
            found: in_tables.revenue_cents,
        },
    ])
}

/// The totals of the table of results.
async fn written(tables: &mut Tables) -> Result<Account> {
    let mut sum = async |column: &str| {
        let sql = format!("select coalesce(sum({column}), 0) from campaign_metrics");
        number(tables, &sql).await
    };
    Ok(Account {
        organic: 0,
        impressions: sum("impressions").await? as u64,
        clicks: sum("clicks").await? as u64,
        revenue_cents: sum("revenue * 100").await?,
    })
}

/// The totals of the late rows, and their number.
async fn late(tables: &mut Tables) -> Result<(Account, u64)> {
    let answer = tables.ask("select \"row\" from late").await?;
    let mut account = Account::default();
    for batch in answer.batches() {
        let rows = cast(batch.column(0), &DataType::Utf8)?;
        for row in rows.as_string::<i32>().iter().flatten() {
            account.add_event(row.as_bytes())?;
        }
    }
    Ok((account, answer.num_rows() as u64))
}

/// The whole number in an answer.
async fn number(tables: &mut Tables, sql: &str) -> Result<i64> {
    let answer = tables.ask(sql).await?;
    let value = answer
        .batches()
        .first()
        .filter(|batch| batch.num_rows() == 1);
    let value = value.ok_or_else(|| Error::internal(format!("`{sql}` has no answer")))?;
    let value = cast(value.column(0), &DataType::Int64)?;
    let value = value.as_primitive::<Int64Type>();
    Ok(if value.is_null(0) { 0 } else { value.value(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_as_the_pipeline_counts_them() {
        let mut account = Account::default();
        for event in [
            r#"{"event_type":"impression","campaign_id":"c1"}"#,
            r#"{"event_type":"impression","campaign_id":null}"#,
            r#"{"event_type":"click","campaign_id":"c1","amount":null}"#,
            r#"{"event_type":"purchase","campaign_id":"c1","amount":"12.5"}"#,
            r#"{"event_type":"purchase","campaign_id":"c1","amount":3.07}"#,
            r#"{"event_type":"purchase","campaign_id":"c1","amount":4}"#,
            r#"{"event_type":"purchase","amount":"1.00"}"#,
        ] {
            account.add_event(event.as_bytes()).unwrap();
        }
        let expected = Account {
            organic: 2,
            impressions: 1,
            clicks: 1,
            revenue_cents: 1957,
        };
        assert_eq!(account, expected);
        assert!(account.add_event(b"{\"event_type\"").is_err());
    }

    #[test]
    fn an_item_is_even_or_not() {
        assert!(Item::new("rows", 5, 5).is_even());
        assert!(!Item::new("rows", 5, 4).is_even());
    }
}
