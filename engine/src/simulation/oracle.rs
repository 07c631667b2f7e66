//! The expected results, computed from the rows in the simplest way.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    broker::Partition,
    hold::passes,
    pipeline::{DELAY, SOURCES},
    table::{Files, window_and_key},
    tally::WINDOW,
    world::{STATE, World},
};
use crate::{
    commit::{Checkpoint, Kind, Record},
    ledger::Counts,
    source::Offset,
    testing::parse,
};

/// The oracle's knowledge of the late rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lateness {
    /// No row can be late.
    None,
    /// The order of the rows in their single partition determines them.
    ByOrder,
    /// Only such rows can be late. While lanes start without watermarks of each other, no watermark
    /// is forwarded, so a row may count that would be late.
    AtMostByOrder,
    /// The interleaving of the partitions determines them.
    Depends,
}

/// A row that can be decoded.
struct Good {
    time: i64,
    key: String,
    value: i64,
}

/// The rows that were read, and their outcomes.
#[derive(Default)]
struct Read {
    /// By partition, in the order of offsets.
    good: BTreeMap<String, Vec<Good>>,
    bad: BTreeSet<String>,
}

/// Checks that the result is as if no process had ever failed, for a pipeline that was read to its
/// end and drained.
pub(super) async fn check(world: &World, lateness: Lateness) -> Result<(), String> {
    let raw = once(world, "raw").await?;
    let dead = once(world, "dead").await?;
    let late = once(world, "late").await?;
    let mut expected = Read::default();
    for (broker, source) in world.brokers.iter().zip(SOURCES) {
        for (name, partition) in broker.partitions() {
            expected.add(source, &name, &partition, &raw, &dead)?;
        }
    }
    let good = || expected.good.values().flatten();
    let values = |rows: &[&Good]| -> BTreeSet<String> {
        rows.iter().map(|row| row.value.to_string()).collect()
    };
    same("raw", &raw, &values(&good().collect::<Vec<_>>()))?;
    same("dead", &dead, &expected.bad)?;

    let sieved = |row: &&Good| !world.pipeline.sieve || passes(row.value);
    let tallied: Vec<&Good> = good().filter(sieved).collect();
    let is_late = |row: &&Good| late.contains(&row.value.to_string());
    let must_be_late: BTreeSet<String> = match lateness {
        Lateness::None => BTreeSet::new(),
        Lateness::ByOrder => expected.late_by_order(|row| sieved(&row)),
        Lateness::AtMostByOrder => {
            let may = expected.late_by_order(|row| sieved(&row));
            may.intersection(&late).cloned().collect()
        }
        Lateness::Depends => values(&tallied.iter().copied().filter(is_late).collect::<Vec<_>>()),
    };
    same("late", &late, &must_be_late)?;

    let mut counts: BTreeMap<(i64, &str), (i64, i64)> = BTreeMap::new();
    for row in tallied.iter().filter(|row| !is_late(row)) {
        let window = row.time.div_euclid(WINDOW) * WINDOW;
        let count = counts.entry((window, &row.key)).or_default();
        *count = (count.0 + 1, count.1 + row.value);
    }
    let counts = counts
        .iter()
        .map(|((window, key), (count, sum))| format!("{window} {key} {count} {sum}"));
    same("counts", &once(world, "counts").await?, &counts.collect())?;

    let last = world.last_record().await.map_err(|error| error.chain())?;
    let last = last.ok_or("there is no log")?;
    let checkpoint = last.checkpoint.as_ref().ok_or("there is no commit")?;
    check_positions(world, checkpoint)?;
    let totals = checkpoint.totals;
    let rows_in = (raw.len() + dead.len()) as u64;
    let found = (
        totals.rows_in,
        totals.dead_letter,
        totals.late,
        totals.duplicate,
    );
    let counted = (rows_in, dead.len() as u64, late.len() as u64, 0);
    if found != counted || totals.held != totals.released {
        return Err(format!("the totals are {totals:?} instead of {counted:?}"));
    }
    let filtered = (good().count() - tallied.len()) as u64;
    let contributed = totals.rows_in + totals.copied - dead.len() as u64 - filtered;
    check_totals(totals, filtered, contributed - late.len() as u64)?;
    check_leftovers(world, &last).await
}

fn check_totals(totals: Counts, filtered: u64, contributed: u64) -> Result<(), String> {
    if (totals.filtered, totals.contributed) == (filtered, contributed) {
        return Ok(());
    }
    Err(format!(
        "{filtered} rows were filtered and {contributed} contributed, say the rows; the totals say {totals:?}"
    ))
}

impl Read {
    /// Adds the rows of a partition, without the lost ones.
    fn add(
        &mut self,
        source: &str,
        name: &str,
        partition: &Partition,
        raw: &BTreeSet<String>,
        dead: &BTreeSet<String>,
    ) -> Result<(), String> {
        for (offset, row) in (0..).zip(&partition.rows) {
            let Some(row) = row else { continue };
            let good = parse(row).map(|(time, key, value)| Good {
                time,
                key: key.to_owned(),
                value,
            });
            let place = format!("{source} {name} {offset}");
            let may_be_lost = partition.lost.iter().any(|lost| lost.contains(&offset));
            let is_there = match &good {
                Some(good) => raw.contains(&good.value.to_string()),
                None => dead.contains(&place),
            };
            if !is_there && !may_be_lost {
                return Err(format!("row `{row}` at {place} is lost"));
            }
            match good {
                _ if !is_there => {}
                Some(good) => {
                    let rows = self.good.entry(format!("{source} {name}")).or_default();
                    rows.push(good);
                }
                None => {
                    self.bad.insert(place);
                }
            }
        }
        Ok(())
    }

    /// The late rows if there is a single partition.
    fn late_by_order(&self, counts: impl Fn(&Good) -> bool) -> BTreeSet<String> {
        let mut late = BTreeSet::new();
        for rows in self.good.values() {
            let mut highest = i64::MIN;
            for row in rows {
                let end = (row.time.div_euclid(WINDOW) + 1) * WINDOW;
                if end <= highest.saturating_sub(DELAY) && counts(row) {
                    late.insert(row.value.to_string());
                }
                highest = highest.max(row.time);
            }
        }
        late
    }
}

/// The lines of a table. Fails if a line appears twice.
async fn once(world: &World, table: &str) -> Result<BTreeSet<String>, String> {
    let mut lines = BTreeSet::new();
    let files = world.lines(table).await;
    if table == "counts" && world.pipeline.counts == Files::Replacing && files.len() > 1 {
        return Err(format!("{} files replace each other", files.len()));
    }
    for (file, found) in files {
        for line in found {
            if lines.contains(&line) {
                return Err(format!(
                    "`{line}` is in `{file}`, and in another file of {table}"
                ));
            }
            lines.insert(line);
        }
    }
    Ok(lines)
}

fn same(what: &str, found: &BTreeSet<String>, expected: &BTreeSet<String>) -> Result<(), String> {
    let missing: Vec<_> = expected.difference(found).take(5).collect();
    let extra: Vec<_> = found.difference(expected).take(5).collect();
    if missing.is_empty() && extra.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{what} lacks {missing:?} and has {extra:?} too many"
    ))
}

/// Checks that all rows were read.
fn check_positions(world: &World, checkpoint: &Checkpoint) -> Result<(), String> {
    for (broker, source) in world.brokers.iter().zip(SOURCES) {
        for (name, partition) in broker.partitions() {
            let position: Offset = checkpoint.position(source, &name).unwrap_or(0);
            let unread = partition.rows.iter().skip(position as usize).flatten();
            if position > partition.rows.len() as Offset || unread.count() > 0 {
                return Err(format!("{source} {name} stands at {position}"));
            }
        }
    }
    Ok(())
}

/// Checks that every object is named by a commit.
async fn check_leftovers(world: &World, last: &Record) -> Result<(), String> {
    for table in ["raw", "dead", "late", "counts"] {
        let staged = world.objects(&format!("{table}/_staging")).await;
        if let Some(path) = staged.first() {
            return Err(format!("`{path}` is staged still"));
        }
    }
    let mut named = BTreeSet::new();
    for path in world.objects(&format!("{STATE}/log")).await {
        let name = path
            .filename()
            .unwrap_or_default()
            .trim_end_matches(".json");
        let seq = name.parse().map_err(|_| format!("`{path}` is no record"))?;
        let record = world.record(&path, seq).await?;
        if seq > last.collected_upto && record.kind == Kind::Commit {
            let checkpoint = record.checkpoint.ok_or("a commit of nothing")?;
            named.extend(checkpoint.state.into_iter().map(|part| part.path));
        }
    }
    let found = world.objects(&format!("{STATE}/state")).await;
    let found = found.iter().map(|path| {
        let path = path.as_ref().trim_start_matches(STATE);
        path.trim_start_matches('/').to_owned()
    });
    same("the state", &found.collect(), &named)
}

/// The visible rows over time: no row twice, and none disappears.
#[derive(Default)]
pub(super) struct Readers {
    seen: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Readers {
    /// Reads all tables.
    pub(super) async fn look(&mut self, world: &World) -> Result<(), String> {
        for table in ["raw", "dead", "late", "counts"] {
            let mut lines = BTreeSet::new();
            let replaces = table == "counts" && world.pipeline.counts == Files::Replacing;
            for line in world.lines(table).await.into_values().flatten() {
                let name = match table {
                    "counts" => window_and_key(&line).to_owned(),
                    _ => line.clone(),
                };
                if !lines.insert(name) && !replaces {
                    return Err(format!("readers of {table} see `{line}` twice"));
                }
            }
            if let Some(gone) = self
                .seen
                .entry(table)
                .or_default()
                .difference(&lines)
                .next()
            {
                return Err(format!(
                    "readers of {table} have seen `{gone}`, and it is gone"
                ));
            }
            self.seen.insert(table, lines);
        }
        Ok(())
    }
}
