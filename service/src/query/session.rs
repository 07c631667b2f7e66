//! DataFusion over tables that are registered when a query names them.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    catalog::{MemorySchemaProvider, TableProvider},
    common::TableReference,
    error::DataFusionError,
    execution::{SessionStateBuilder, context::SQLOptions, object_store::ObjectStoreUrl},
    prelude::{SessionConfig, SessionContext},
    sql::resolve::resolve_table_references,
};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{ObjectStore, path::Path};
use tagflow_connectors::storage;
use tagflow_engine::{Error, ErrorKind, Result};
use tagflow_operators::aggregate;

use super::{
    Answer, PipelineTable,
    hive::{self, HiveTable},
    is_place,
    quoted::Place,
};
use tagflow_pipelines::{
    diagnostic::closest,
    plan::StoredColumn,
    sql::{SqlError, batch_functions, planners},
};

/// The default catalog and schema of tables.
const CATALOG: &str = "datafusion";

/// The tables of a query.
pub struct Tables {
    context: SessionContext,
    known: Vec<PipelineTable>,
    /// Each store has its own URL in the session, by its number.
    stores: usize,
}

impl Tables {
    /// These tables, and any other Parquet by its location; with the functions of pipelines.
    pub fn new(tables: Vec<PipelineTable>) -> Self {
        let mut config = SessionConfig::new().with_information_schema(false);
        let options = config.options_mut();
        options.execution.parquet.schema_force_view_types = false;
        // As in the SQL of pipelines.
        options.sql_parser.default_null_ordering = "nulls_last".into();
        options.sql_parser.collect_spans = true;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_expr_planners(planners());
        let context = SessionContext::new_with_state(state.build());
        for function in batch_functions() {
            context.register_udf(function);
        }
        for function in aggregate::functions() {
            context.register_udaf(function);
        }
        Self {
            context,
            known: tables,
            stores: 0,
        }
    }

    /// Runs a read-only query.
    ///
    /// # Errors
    /// `Config` where the SQL is wrong or names a missing table or column; `External`
    /// where a store fails.
    pub async fn ask(&mut self, sql: &str) -> Result<Answer> {
        if let Some(question) = Question::of(sql) {
            return self.catalog(&question);
        }
        for name in self.references(sql)? {
            if !self.is_registered(&name) {
                let provider = self.provider(&name).await?;
                self.register(name, provider)?;
            }
        }
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let frame = self
            .context
            .sql_with_options(sql, read_only)
            .await
            .map_err(|error| failed(error, sql))?;
        let schema: SchemaRef = Arc::clone(frame.schema().inner());
        let batches = frame.collect().await.map_err(|error| failed(error, sql))?;
        Ok(Answer::new(schema, batches))
    }

    /// The pipelines' tables that `sql` reads and that have no file yet.
    ///
    /// # Errors
    /// As [`Tables::ask`].
    pub async fn without_files(&self, sql: &str) -> Result<Vec<&PipelineTable>> {
        if Question::of(sql).is_some() {
            return Ok(Vec::new());
        }
        let mut empty = Vec::new();
        for name in self.references(sql)? {
            let Ok(table) = self.named(&name) else {
                continue;
            };
            let (store, root) = storage::open(&table.table.url)?;
            let mut files = store.list(Some(&root)).try_filter(|file| {
                let is_parquet = file.location.as_ref().ends_with(".parquet");
                std::future::ready(is_parquet)
            });
            if matches!(files.next().await, None | Some(Err(_))) {
                empty.push(table);
            }
        }
        Ok(empty)
    }

    /// The names of the pipelines' tables and of their columns.
    pub fn names(&self) -> BTreeSet<String> {
        let names = |it: &PipelineTable| {
            let columns = it.table.columns.iter().map(|column| column.name.clone());
            columns.chain([it.table.name.clone()]).collect::<Vec<_>>()
        };
        self.known.iter().flat_map(names).collect()
    }

    /// Answers from the plans of the tables, without reading files.
    fn catalog(&self, question: &Question) -> Result<Answer> {
        let (header, rows): ([&str; 3], Vec<[String; 3]>) = match question {
            Question::Tables => {
                let row = |it: &PipelineTable| {
                    let PipelineTable { pipeline, table } = it;
                    [table.name.clone(), pipeline.clone(), table.url.clone()]
                };
                let rows = self.known.iter().map(row).collect();
                (["table", "pipeline", "url"], rows)
            }
            Question::Columns(name) => {
                let table = &self.named(&TableReference::from(name.as_str()))?.table;
                let row = |column: &StoredColumn| {
                    [
                        table.name.clone(),
                        column.name.clone(),
                        column.data_type.clone(),
                    ]
                };
                let rows = table.columns.iter().map(row).collect();
                (["table", "column", "type"], rows)
            }
        };
        let field = |name: &str| Field::new(name, DataType::Utf8, false);
        let schema = Arc::new(Schema::new(header.map(field).to_vec()));
        let column = |place: usize| {
            let values = rows.iter().map(|row| row[place].as_str());
            Arc::new(StringArray::from_iter_values(values)) as ArrayRef
        };
        let batch = RecordBatch::try_new(Arc::clone(&schema), (0..3).map(column).collect())?;
        Ok(Answer::new(schema, vec![batch]))
    }

    /// The tables that the text names.
    fn references(&self, sql: &str) -> Result<Vec<TableReference>> {
        let state = self.context.state();
        let dialect = state.config_options().sql_parser.dialect;
        let of_sql = |error| failed(error, sql);
        let statement = state.sql_to_statement(sql, &dialect).map_err(of_sql)?;
        let (tables, _) = resolve_table_references(&statement, true).map_err(of_sql)?;
        Ok(tables)
    }

    fn is_registered(&self, name: &TableReference) -> bool {
        self.context.table_exist(name.clone()).unwrap_or(false)
    }

    fn register(&self, name: TableReference, provider: Arc<dyn TableProvider>) -> Result<()> {
        if let (Some(schema), Some(catalog)) = (name.schema(), self.context.catalog(CATALOG))
            && catalog.schema(schema).is_none()
        {
            let schemas = Arc::new(MemorySchemaProvider::new());
            catalog
                .register_schema(schema, schemas)
                .map_err(unreadable)?;
        }
        self.context
            .register_table(name, provider)
            .map_err(unreadable)?;
        Ok(())
    }

    async fn provider(&mut self, name: &TableReference) -> Result<Arc<dyn TableProvider>> {
        if name.schema().is_none() && is_place(name.table()) {
            let place = Place::find(name.table()).await?;
            return self
                .listing(place.store, place.root, place.files, None)
                .await;
        }
        let table = self.named(name)?.table.clone();
        let (store, root) = storage::open(&table.url)?;
        let schema = table.schema()?;
        self.listing(store, root, None, Some(schema)).await
    }

    /// The single table with this name.
    fn named(&self, name: &TableReference) -> Result<&PipelineTable> {
        let is_meant = |it: &&PipelineTable| {
            it.table.name == name.table()
                && name.schema().is_none_or(|pipeline| it.pipeline == pipeline)
        };
        let meant: Vec<_> = self.known.iter().filter(is_meant).collect();
        match meant.as_slice() {
            [one] => Ok(one),
            [] => Err(self.unknown(name)),
            several => {
                let names = several
                    .iter()
                    .map(|it| format!("\"{}\".{}", it.pipeline, name.table()));
                Err(Error::config(format!(
                    "several pipelines have a table `{}`; write {}",
                    name.table(),
                    names.collect::<Vec<_>>().join(" or ")
                )))
            }
        }
    }

    fn unknown(&self, name: &TableReference) -> Error {
        let names: BTreeSet<_> = self.known.iter().map(|it| it.table.name.as_str()).collect();
        let names = Vec::from_iter(names);
        if name.table() == "parquet" {
            return Error::config(format!(
                "there is no table `{name}`; a file stands in quotes: `'{name}'`"
            ));
        }
        let more = match (
            closest(name.table(), names.iter().copied()),
            names.as_slice(),
        ) {
            (Some(near), _) => format!("; did you mean `{near}`?"),
            (None, []) => {
                "; no pipeline has run with its state in this folder: see `--state`".to_owned()
            }
            (None, names) => format!("; there are {}", names.join(", ")),
        };
        Error::config(format!("there is no table `{name}`{more}"))
    }

    /// A table of the files below `root`, or of `files` only.
    async fn listing(
        &mut self,
        store: Arc<dyn ObjectStore>,
        root: Path,
        files: Option<Vec<Path>>,
        schema: Option<SchemaRef>,
    ) -> Result<Arc<dyn TableProvider>> {
        let url = format!("tagflow://{}", self.stores);
        self.stores += 1;
        let url = ObjectStoreUrl::parse(url).map_err(unreadable)?;
        self.context
            .register_object_store(url.as_ref(), Arc::clone(&store));
        let place = hive::Place {
            url,
            store,
            root,
            files,
        };
        let table = HiveTable::open(place, schema, &self.context.state()).await;
        Ok(Arc::new(table.map_err(unreadable)?))
    }
}

/// A question about the tables themselves.
#[derive(Debug, PartialEq, Eq)]
enum Question {
    /// `show tables`.
    Tables,
    /// `describe TABLE`, `show columns from TABLE`.
    Columns(String),
}

impl Question {
    fn of(sql: &str) -> Option<Self> {
        let text = sql.trim().trim_end_matches(';');
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower.split_whitespace().collect();
        let last = || text.split_whitespace().last().map(str::to_owned);
        match words.as_slice() {
            ["show", "tables"] => Some(Self::Tables),
            ["describe" | "desc", _] | ["show", "columns", "from" | "in", _] => {
                last().map(Self::Columns)
            }
            _ => None,
        }
    }
}

/// The error of the statement `sql`: the SQL is wrong, unless a store failed.
fn failed(error: DataFusionError, sql: &str) -> Error {
    if kind_of(&error) != ErrorKind::Config {
        return unreadable(error);
    }
    let error = SqlError::of_planner(&error).help_for(sql);
    let place = if error.is_placed() {
        format!(" (line {}, column {})", error.line, error.column)
    } else {
        String::new()
    };
    let help = error.help.map_or_else(String::new, |it| format!("; {it}"));
    Error::config(format!(
        "cannot answer the query: {}{place}{help}",
        error.message
    ))
}

/// The error of a table or of its store.
fn unreadable(error: DataFusionError) -> Error {
    let kind = kind_of(&error);
    let message = error.strip_backtrace();
    let message = message.lines().next().unwrap_or_default();
    Error::new(kind, format!("cannot answer the query: {message}"))
}

fn kind_of(error: &DataFusionError) -> ErrorKind {
    match error.find_root() {
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => ErrorKind::External,
        DataFusionError::ParquetError(_) => ErrorKind::Data,
        DataFusionError::Internal(_) => ErrorKind::Internal,
        _ => ErrorKind::Config,
    }
}
