//! DataFusion over tables that are registered when a query names them.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use datafusion::{
    catalog::{MemorySchemaProvider, TableProvider},
    common::TableReference,
    datasource::{
        file_format::parquet::ParquetFormat,
        listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl},
    },
    error::DataFusionError,
    execution::context::SQLOptions,
    prelude::{SessionConfig, SessionContext},
    sql::resolve::resolve_table_references,
};
use object_store::{ObjectStore, path::Path};
use tagflow_connectors::storage;
use tagflow_engine::{Error, ErrorKind, Result};
use tagflow_operators::aggregate;
use url::Url;

use super::{Answer, PipelineTable, is_place, quoted::Place};
use crate::{diagnostic::closest, sql::batch_functions};

/// The catalog and the schema of tables that are named without them.
const CATALOG: &str = "datafusion";

/// Tables to ask.
pub struct Tables {
    context: SessionContext,
    known: Vec<PipelineTable>,
    /// Each store has its own URL in the session, by its number.
    stores: usize,
}

impl Tables {
    /// These, and any other Parquet by its place; with the functions of pipelines.
    pub fn new(tables: Vec<PipelineTable>) -> Self {
        let mut config = SessionConfig::new().with_information_schema(false);
        config
            .options_mut()
            .execution
            .listing_table_ignore_subdirectory = false;
        config
            .options_mut()
            .execution
            .parquet
            .schema_force_view_types = false;
        let context = SessionContext::new_with_config(config);
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

    /// Runs a query. It may read and nothing else.
    ///
    /// # Errors
    /// `Config` where the SQL is wrong or names what is not there; `External`
    /// where a store fails.
    pub async fn ask(&mut self, sql: &str) -> Result<Answer> {
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
            .map_err(failed)?;
        let schema: SchemaRef = Arc::clone(frame.schema().inner());
        let batches = frame.collect().await.map_err(failed)?;
        Ok(Answer::new(schema, batches))
    }

    /// The tables that the text names.
    fn references(&self, sql: &str) -> Result<Vec<TableReference>> {
        let state = self.context.state();
        let dialect = state.config_options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect).map_err(failed)?;
        let (tables, _) = resolve_table_references(&statement, true).map_err(failed)?;
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
            catalog.register_schema(schema, schemas).map_err(failed)?;
        }
        self.context
            .register_table(name, provider)
            .map_err(failed)?;
        Ok(())
    }

    async fn provider(&mut self, name: &TableReference) -> Result<Arc<dyn TableProvider>> {
        if name.schema().is_none() && is_place(name.table()) {
            let place = Place::find(name.table()).await?;
            return self
                .listing(place.store, &place.root, place.files.as_deref(), None)
                .await;
        }
        let table = self.named(name)?.table.clone();
        let (store, root) = storage::open(&table.url)?;
        let schema = table.schema()?;
        self.listing(store, &root, None, Some(schema)).await
    }

    /// The one table of this name.
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
        root: &Path,
        files: Option<&[Path]>,
        schema: Option<SchemaRef>,
    ) -> Result<Arc<dyn TableProvider>> {
        let base = format!("tagflow://{}", self.stores);
        self.stores += 1;
        let base = Url::parse(&base).map_err(|error| {
            Error::internal(format!("`{base}` is not a URL")).with_source(error)
        })?;
        self.context.register_object_store(&base, store);
        let url = |path: String| {
            let mut url = base.clone();
            url.set_path(&path);
            ListingTableUrl::try_new(url, None).map_err(failed)
        };
        let format = Arc::new(ParquetFormat::default());
        let mut options = ListingOptions::new(format).with_file_extension(".parquet");
        let state = self.context.state();
        let urls = if let Some(files) = files {
            let urls = files.iter().map(|file| url(format!("/{file}")));
            urls.collect::<Result<_>>()?
        } else {
            let folder = url(format!("/{root}/"))?;
            let names = options.infer_partitions(&state, &folder).await;
            let typed = |name: String| {
                let schema = schema.as_ref();
                let field = schema.and_then(|schema| schema.field_with_name(&name).ok());
                let data_type = field.map_or(DataType::Utf8, |field| field.data_type().clone());
                (name, data_type)
            };
            let columns = names.map_err(failed)?.into_iter().map(typed).collect();
            options = options.with_table_partition_cols(columns);
            vec![folder]
        };
        let folders = options.table_partition_cols.clone();
        let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options);
        let config = match schema {
            Some(schema) => {
                let is_folder = |name: &str| folders.iter().any(|(folder, _)| folder == name);
                let in_files = schema
                    .fields()
                    .iter()
                    .filter(|field| !is_folder(field.name()));
                let in_files: Fields = in_files.cloned().collect();
                config.with_schema(Arc::new(Schema::new(in_files)))
            }
            None => config.infer_schema(&state).await.map_err(failed)?,
        };
        Ok(Arc::new(ListingTable::try_new(config).map_err(failed)?))
    }
}

/// Whose turn it is: the one who wrote the SQL, unless a store failed.
fn failed(error: DataFusionError) -> Error {
    let kind = match error.find_root() {
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => ErrorKind::External,
        DataFusionError::ParquetError(_) => ErrorKind::Data,
        DataFusionError::Internal(_) => ErrorKind::Internal,
        _ => ErrorKind::Config,
    };
    let message = error.strip_backtrace();
    let message = message.lines().next().unwrap_or_default();
    Error::new(kind, format!("cannot answer the query: {message}"))
}
