//! Whether a pipeline's log is whole and its tables hold what it says.

use std::{
    collections::BTreeMap,
    path::{Component, Path as FilePath, PathBuf},
};

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, stream};
use serde::Serialize;
use tagflow_connectors::{parquet::footer_rows, storage};
use tagflow_engine::{
    Result,
    commit::{
        TableTotals,
        audit::{AuditedTable, Depth, Finding, History, Place, Severity, Span, Subject},
    },
    ledger::Counts,
};
use tagflow_schemas::{dead_letter, late};

use crate::{
    inspect::StateFolder,
    plan::{StoredPlan, StoredTable},
};

/// How often a pipeline that runs meanwhile is looked at again, where what was
/// found may have been what it was just doing.
const ROUNDS: usize = 4;

/// How many footers are read at once.
const CONCURRENT_FOOTERS: usize = 32;

/// What an audit has found, and what it has looked at.
#[derive(Debug, Serialize)]
pub struct Audit {
    /// The pipeline.
    pub pipeline: String,
    /// Whether nothing is wrong.
    pub ok: bool,
    /// The number of the last record.
    pub last: u64,
    /// How often a process took the pipeline over.
    pub claims: u64,
    /// How many commits are in the log.
    pub commits: u64,
    /// How many more there were, which are collected.
    pub collected: u64,
    /// How many partitions were read.
    pub partitions: u64,
    /// What became of all rows.
    pub totals: Counts,
    /// The tables.
    pub tables: Vec<AuditedFiles>,
    /// How many state parts commits name.
    pub state_parts: u64,
    /// Their bytes.
    pub state_bytes: u64,
    /// What is not as it should be, by what it is about.
    pub findings: Vec<Finding>,
}

/// A table, as far as it was looked at.
#[derive(Debug, Serialize)]
pub struct AuditedFiles {
    /// The name of its sink.
    pub name: String,
    /// Its files that readers see.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these files, those whose commits are collected: they are counted.
    pub collected: u64,
    /// Whether another pipeline writes there too, so that files cannot be
    /// counted.
    pub shared: bool,
}

impl Audit {
    /// Of a pipeline with its state in this folder. Takes nothing over, and
    /// writes nothing; the pipeline may run meanwhile.
    ///
    /// # Errors
    /// `Config` where it has not run; `Data` where no record reads; `External`
    /// where a store fails.
    pub async fn of(state: &StateFolder, pipeline: &str, depth: Depth) -> Result<Self> {
        for round in 1.. {
            let Some(history) = state.history(pipeline).await? else {
                break;
            };
            let audit = Self::look(state, pipeline, &history, depth).await?;
            if audit.ok || round == ROUNDS || !history.has_moved().await? {
                return Ok(audit);
            }
        }
        Err(state.has_not_run(pipeline).await)
    }

    async fn look(
        state: &StateFolder,
        pipeline: &str,
        history: &History,
        depth: Depth,
    ) -> Result<Self> {
        let Span {
            last,
            claims,
            commits,
            collected,
        } = history.span();
        let checkpoint = history.checkpoint();
        let partitions =
            checkpoint.map_or(0, |last| last.positions.values().map(BTreeMap::len).sum());
        let mut audit = Self {
            pipeline: pipeline.to_owned(),
            ok: false,
            last,
            claims,
            commits,
            collected,
            partitions: partitions as u64,
            totals: checkpoint.map(|last| last.totals).unwrap_or_default(),
            tables: Vec::new(),
            state_parts: 0,
            state_bytes: 0,
            findings: history.findings().to_vec(),
        };
        let plans = audit.plans(state, history).await?;
        for (stored, place) in audit.places(state, history, &plans).await? {
            let table = history.check_table(&place, depth).await?;
            audit.check_rows(stored, table.totals);
            if depth == Depth::Bytes {
                audit.read_footers(&place, &table).await;
            }
            audit.tables.push(AuditedFiles {
                name: stored.name.clone(),
                files: table.files.len() as u64,
                bytes: table.files.iter().map(|file| file.bytes).sum(),
                collected: table
                    .files
                    .iter()
                    .filter(|file| file.rows.is_none())
                    .count() as u64,
                shared: place.shared,
            });
            audit.findings.extend(table.findings);
        }
        let parts = history.check_state(depth).await?;
        (audit.state_parts, audit.state_bytes) = (parts.parts, parts.bytes);
        audit.findings.extend(parts.findings);
        audit.findings.sort_by_key(|finding| finding.subject);
        let is_ok = audit.wrong().next().is_none();
        audit.ok = is_ok;
        Ok(audit)
    }

    /// What no crash explains.
    pub fn wrong(&self) -> impl Iterator<Item = &Finding> {
        let all = self.findings.iter();
        all.filter(|finding| finding.severity == Severity::Wrong)
    }

    /// The plans of all records that are left, the newest first.
    async fn plans(&mut self, state: &StateFolder, history: &History) -> Result<Vec<StoredPlan>> {
        let mut plans = Vec::new();
        for hash in history.plans() {
            match state.plan(&self.pipeline, hash).await {
                Ok(Some(plan)) => plans.push(plan),
                Ok(None) => self.findings.push(Finding::odd(
                    Subject::Log,
                    format!(
                        "plan `{hash}`, which records name, is missing; `diff` and \
                         `query` need it"
                    ),
                )),
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => self
                    .findings
                    .push(Finding::wrong(Subject::Log, error.chain())),
            }
        }
        Ok(plans)
    }

    /// The tables, and where they lie.
    async fn places<'a>(
        &mut self,
        state: &StateFolder,
        history: &History,
        plans: &'a [StoredPlan],
    ) -> Result<Vec<(&'a StoredTable, Place)>> {
        let mut neighbours = Vec::new();
        for other in state.pipelines().await? {
            // What is wrong with another pipeline is for its own audit to say.
            if other != self.pipeline
                && let Ok(Some(last)) = state.last(&other).await
                && let Ok(Some(plan)) = state.plan(&other, &last.plan_hash).await
            {
                neighbours.extend(plan.tables.into_iter().map(|table| table.url));
            }
        }
        let mut places = Vec::new();
        for url in history.tables() {
            let stored = plans.iter().find_map(|plan| table_at(&plan.tables, &url));
            let Some(stored) = stored else {
                self.findings.push(Finding::wrong(
                    Subject::Tables,
                    format!("the log names table `{url}`, and no plan says where that lies"),
                ));
                continue;
            };
            let (store, root) = storage::open(&stored.url)?;
            places.push((
                stored,
                Place {
                    url,
                    store,
                    root,
                    others: Vec::new(),
                    shared: neighbours.contains(&stored.url),
                },
            ));
        }
        let roots: Vec<_> = places.iter().map(|(_, place)| place.root.clone()).collect();
        for (_, place) in &mut places {
            let others = roots.iter().filter(|root| **root != place.root);
            place.others = others.cloned().collect();
        }
        Ok(places)
    }

    /// A table of rows that were set aside has no more than were counted; some
    /// may not be written yet.
    fn check_rows(&mut self, table: &StoredTable, totals: Option<TableTotals>) {
        let names = || table.columns.iter().map(|column| column.name.as_str());
        let is = |schema: SchemaRef| {
            let fields = schema.fields().clone();
            fields
                .iter()
                .map(|field| field.name().as_str())
                .eq(names().take(fields.len()))
        };
        let counted = if is(dead_letter::schema()) {
            self.totals.dead_letter
        } else if is(late::schema()) {
            self.totals.late
        } else {
            return;
        };
        if let Some(written) = totals.map(|totals| totals.rows)
            && written > counted
        {
            self.findings.push(Finding::wrong(
                Subject::Rows,
                format!(
                    "{written} rows were written to `{}`, and {counted} were counted",
                    table.name
                ),
            ));
        }
    }

    /// Files hold as many rows as commits say.
    async fn read_footers(&mut self, place: &Place, table: &AuditedTable) {
        let reads = stream::iter(&table.files).map(|file| async move {
            (
                file,
                footer_rows(place.store.as_ref(), &file.path, file.bytes).await,
            )
        });
        let reads: Vec<_> = reads.buffered(CONCURRENT_FOOTERS).collect().await;
        let mut all = 0;
        for (file, rows) in reads {
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) => {
                    let wrong = Finding::wrong(Subject::Tables, error.chain());
                    self.findings.push(wrong);
                    return;
                }
            };
            all += rows;
            if let Some(expected) = file.rows.filter(|expected| *expected != rows) {
                self.findings.push(Finding::wrong(
                    Subject::Rows,
                    format!(
                        "file `{}` has {rows} rows, and its commit says {expected}",
                        file.path
                    ),
                ));
            }
        }
        if let Some(totals) = table.totals
            && !place.shared
            && totals.removed == 0
            && totals.files == table.files.len() as u64
            && totals.rows != all
        {
            self.findings.push(Finding::wrong(
                Subject::Rows,
                format!(
                    "the files in `{}` have {all} rows, and commits published {}",
                    place.root, totals.rows
                ),
            ));
        }
    }
}

/// The table whose URL was written as `url`. Plans have the absolute path of
/// local ones, from the folder that the pipeline ran in.
fn table_at<'a>(tables: &'a [StoredTable], url: &str) -> Option<&'a StoredTable> {
    if url.contains("://") || FilePath::new(url).is_absolute() {
        return tables.iter().find(|table| table.url == url);
    }
    let parts = FilePath::new(url).components();
    let inside: PathBuf = parts.filter(|part| *part != Component::CurDir).collect();
    let fitting = tables
        .iter()
        .filter(|table| FilePath::new(&table.url).ends_with(&inside));
    // One folder held all of them, so a longer one is of another that ends alike.
    fitting.min_by_key(|table| table.url.len())
}
