//! Checks that a pipeline's log is complete and that its tables match it.

use std::{
    collections::BTreeMap,
    path::{Component, Path as FilePath, PathBuf},
    sync::Arc,
};

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use serde::Serialize;
use tagflow_connectors::{parquet::footer_rows, storage};
use tagflow_engine::{
    Result,
    commit::audit::{Depth, Finding, History, Severity, Span, Subject},
    files::{
        TableTotals,
        audit::{AuditedTable, Place},
    },
    ledger::Counts,
    store_error,
};
use tagflow_schemas::{dead_letter, late};

use crate::state_folder::StateFolder;
use tagflow_pipelines::plan::{StoredPlan, StoredTable};

/// How often the audit of a live pipeline is repeated, if a finding may be a change in progress.
const ROUNDS: usize = 4;

/// The most footers that are read concurrently.
const CONCURRENT_FOOTERS: usize = 32;

/// The result of an audit: its findings and its scope.
#[derive(Debug, Serialize)]
pub struct Audit {
    /// The pipeline.
    pub pipeline: String,
    /// Whether there is no finding.
    pub ok: bool,
    /// The number of the last record.
    pub last: u64,
    /// The number of takeovers by a process.
    pub claims: u64,
    /// The number of commits in the log.
    pub commits: u64,
    /// The number of further commits that are collected.
    pub collected: u64,
    /// The number of partitions that were read.
    pub partitions: u64,
    /// The outcomes of all rows.
    pub totals: Counts,
    /// The tables.
    pub tables: Vec<AuditedFiles>,
    /// The number of state parts that commits name.
    pub state_parts: u64,
    /// Their bytes.
    pub state_bytes: u64,
    /// The findings, by subject.
    pub findings: Vec<Finding>,
    /// Files that a repair deletes, with their store.
    #[serde(skip)]
    returned: Vec<(Arc<dyn ObjectStore>, Path)>,
}

/// The audited part of a table.
#[derive(Debug, Serialize)]
pub struct AuditedFiles {
    /// The name of its sink.
    pub name: String,
    /// The number of files that readers see.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The number of these files whose commits are collected.
    pub collected: u64,
    /// Whether another pipeline writes there too, so that files cannot be counted.
    pub shared: bool,
}

impl Audit {
    /// Audits a pipeline with its state in this folder. Takes over nothing and writes nothing; the
    /// pipeline may run meanwhile.
    ///
    /// # Errors
    /// `Config` where it has not run; `Data` where no record is readable; `External` where
    /// a store fails.
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
            returned: Vec::new(),
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
            let returned = table.returned.into_iter();
            audit
                .returned
                .extend(returned.map(|path| (Arc::clone(&place.store), path)));
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

    /// Deletes files that exist again although commits removed them; returns their number. No
    /// commit's table contains such a file, so nothing is lost.
    ///
    /// # Errors
    /// `External` where a store fails.
    pub async fn repair(&self) -> Result<usize> {
        for (store, path) in &self.returned {
            let deleted = store.delete(path).await;
            deleted.map_err(|error| store_error::failed(store.as_ref(), "delete", path, error))?;
        }
        Ok(self.returned.len())
    }

    /// Findings that no crash explains.
    pub fn wrong(&self) -> impl Iterator<Item = &Finding> {
        let all = self.findings.iter();
        all.filter(|finding| finding.severity == Severity::Wrong)
    }

    /// The plans of all remaining records, the newest first.
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

    /// The tables with their locations.
    async fn places<'a>(
        &mut self,
        state: &StateFolder,
        history: &History,
        plans: &'a [StoredPlan],
    ) -> Result<Vec<(&'a StoredTable, Place)>> {
        let mut neighbours = Vec::new();
        for other in state.pipelines().await? {
            // Problems of another pipeline belong to its own audit.
            if other != self.pipeline
                && let Ok(Some(last)) = state.last(&other).await
                && let Ok(Some(plan)) = state.plan(&other, &last.plan_hash).await
            {
                neighbours.extend(plan.tables.into_iter().map(|table| table.url));
            }
        }
        let mut places = Vec::new();
        for url in history.targets() {
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
                    shared: stored.shared || neighbours.contains(&stored.url),
                    suffix: "parquet",
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

    /// Checks that a table of rejected rows has no more rows than were counted; some may not be
    /// written yet.
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
            self.totals.dead_letter + self.totals.derived_dead_letter
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

    /// Checks that files have as many rows as their commits state.
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

/// The table with the URL `url`. Plans contain the absolute path of local tables, from the folder
/// in which the pipeline ran.
fn table_at<'a>(tables: &'a [StoredTable], url: &str) -> Option<&'a StoredTable> {
    if url.contains("://") || FilePath::new(url).is_absolute() {
        return tables.iter().find(|table| table.url == url);
    }
    let parts = FilePath::new(url).components();
    let inside: PathBuf = parts.filter(|part| *part != Component::CurDir).collect();
    let fitting = tables
        .iter()
        .filter(|table| FilePath::new(&table.url).ends_with(&inside));
    // One folder contained all tables, so a longer path belongs to another table with the same
    // ending.
    fitting.min_by_key(|table| table.url.len())
}
