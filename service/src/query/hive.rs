//! A table of Parquet files, with its Hive folders as columns.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray},
    compute::and_kleene,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DFSchema, DataFusionError, Result, ScalarValue, Statistics, plan_err},
    datasource::{
        file_format::{FileFormat, parquet::ParquetFormat},
        listing::{PartitionedFile, helpers::expr_applicable_for_cols},
        physical_plan::{FileGroup, FileScanConfigBuilder},
        table_schema::TableSchema,
    },
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::{ExecutionPlan, empty::EmptyExec},
};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, path::Path};
use tagflow_connectors::parquet::{FolderValue, first_value};

/// Files of one shape on a store.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The store's URL in the session.
    pub(super) url: ObjectStoreUrl,
    /// The store.
    pub(super) store: Arc<dyn ObjectStore>,
    /// The table's folder.
    pub(super) root: Path,
    /// The files; `None` for all below the root, with their Hive folders.
    pub(super) files: Option<Vec<Path>>,
}

/// The table. Each scan lists the files again.
#[derive(Debug)]
pub(super) struct HiveTable {
    place: Place,
    /// The columns of files, then those of folders.
    columns: TableSchema,
}

impl HiveTable {
    /// Finds the columns: those of `declared`, otherwise those of the files.
    pub(super) async fn open(
        place: Place,
        declared: Option<SchemaRef>,
        session: &dyn Session,
    ) -> Result<Self> {
        let files = place.list().await?;
        let names = place.folder_names(&files)?;
        let schema = if let Some(schema) = declared {
            schema
        } else {
            let format = ParquetFormat::default();
            format.infer_schema(session, &place.store, &files).await?
        };
        let is_folder = |field: &&FieldRef| names.contains(field.name());
        let in_files = schema.fields().iter().filter(|field| !is_folder(field));
        let in_files = Schema::new(in_files.cloned().collect::<Vec<_>>());
        let folders = names.iter().map(|name| {
            let declared = schema.fields().iter().find(|field| field.name() == name);
            let data_type = declared.map_or(DataType::Utf8, |field| field.data_type().clone());
            Arc::new(Field::new(name, data_type, true))
        });
        let columns = TableSchema::builder(Arc::new(in_files));
        Ok(Self {
            place,
            columns: columns
                .with_table_partition_cols(folders.collect::<Vec<_>>())
                .build(),
        })
    }

    /// The files with the values of their folders.
    async fn files(&self) -> Result<Vec<PartitionedFile>> {
        let mut files = Vec::new();
        for file in self.place.list().await? {
            let values = self.values(&file).await?;
            let mut file = PartitionedFile::from(file);
            file.partition_values = values;
            files.push(file);
        }
        Ok(files)
    }

    async fn values(&self, file: &ObjectMeta) -> Result<Vec<ScalarValue>> {
        let folders = self.place.folders(&file.location);
        let columns = self.columns.table_partition_cols();
        if folders.len() != columns.len() {
            return mixed(&file.location);
        }
        let mut values = Vec::with_capacity(columns.len());
        for ((name, value), column) in folders.into_iter().zip(columns) {
            if name != *column.name() {
                return mixed(&file.location);
            }
            let data_type = column.data_type();
            values.push(match value {
                FolderValue::Null => ScalarValue::try_new_null(data_type)?,
                FolderValue::Text(text) => {
                    let parsed = ScalarValue::try_from_string(text, data_type);
                    parsed.map_err(|error| {
                        error.context(format!("the folders of `{}`", file.location))
                    })?
                }
                FolderValue::Shortened => {
                    let held = first_value(&self.place.store, file, &name).await;
                    let held = held.map_err(|error| DataFusionError::External(error.into()))?;
                    match held {
                        Some(held) => ScalarValue::try_from_array(&held, 0)?.cast_to(data_type)?,
                        None => ScalarValue::try_new_null(data_type)?,
                    }
                }
            });
        }
        Ok(values)
    }

    /// Removes the files whose folders do not pass the filters.
    fn prune(
        &self,
        files: Vec<PartitionedFile>,
        filters: &[Expr],
        session: &dyn Session,
    ) -> Result<Vec<PartitionedFile>> {
        let folders = self.columns.table_partition_cols();
        let names: Vec<&str> = folders.iter().map(|field| field.name().as_str()).collect();
        let filters = filters.iter().filter(|filter| {
            !filter.column_refs().is_empty() && expr_applicable_for_cols(&names, filter)
        });
        let filters: Vec<&Expr> = filters.collect();
        if filters.is_empty() || files.is_empty() {
            return Ok(files);
        }
        let schema = Arc::new(Schema::new(folders.clone()));
        let columns = (0..names.len()).map(|place| {
            let values = files
                .iter()
                .map(|file| file.partition_values[place].clone());
            ScalarValue::iter_to_array(values)
        });
        let options = RecordBatchOptions::new().with_row_count(Some(files.len()));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let values = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
        let schema = DFSchema::try_from(schema)?;
        let mut passes = BooleanArray::from(vec![true; files.len()]);
        for filter in filters {
            let filter = session.create_physical_expr(filter.clone(), &schema)?;
            let values = filter.evaluate(&values)?.into_array(files.len())?;
            passes = and_kleene(&passes, values.as_boolean())?;
        }
        let files = files.into_iter().zip(passes.iter());
        let files = files.filter(|(_, passes)| *passes == Some(true));
        Ok(files.map(|(file, _)| file).collect())
    }
}

fn mixed<T>(file: &Path) -> Result<T> {
    plan_err!("the file `{file}` lies in other Hive folders than others of its table")
}

#[async_trait]
impl TableProvider for HiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.prune(self.files().await?, filters, session)?;
        if files.is_empty() {
            let schema = self.schema();
            let schema = match projection {
                Some(projection) => Arc::new(schema.project(projection)?),
                None => schema,
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let format = ParquetFormat::default();
        let groups = FileGroup::new(files).split_files(session.config().target_partitions());
        let source = format.file_source(self.columns.clone());
        let config = FileScanConfigBuilder::new(self.place.url.clone(), source)
            .with_file_groups(groups)
            .with_statistics(Statistics::new_unknown(&self.schema()))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        format.create_physical_plan(session, config).await
    }
}

impl Place {
    /// The Parquet files, in the order of their paths.
    async fn list(&self) -> Result<Vec<ObjectMeta>> {
        let mut files: Vec<ObjectMeta> = match &self.files {
            None => {
                let listed = self.store.list(Some(&self.root)).try_collect::<Vec<_>>();
                let is_parquet = |file: &ObjectMeta| file.location.as_ref().ends_with(".parquet");
                listed.await?.into_iter().filter(is_parquet).collect()
            }
            Some(paths) => {
                let mut files = Vec::with_capacity(paths.len());
                for path in paths {
                    files.push(object_store::ObjectStoreExt::head(&*self.store, path).await?);
                }
                files
            }
        };
        files.sort_by(|one, other| one.location.cmp(&other.location));
        Ok(files)
    }

    /// The names of the folders, outermost first.
    fn folder_names(&self, files: &[ObjectMeta]) -> Result<Vec<String>> {
        let names = |file: &ObjectMeta| -> Vec<String> {
            let folders = self.folders(&file.location).into_iter();
            folders.map(|(name, _)| name).collect()
        };
        let Some(first) = files.first().map(names) else {
            return Ok(Vec::new());
        };
        match files.iter().find(|file| names(file) != first) {
            Some(other) => mixed(&other.location),
            None => Ok(first),
        }
    }

    /// The Hive folders of a file, outermost first.
    fn folders(&self, file: &Path) -> Vec<(String, FolderValue)> {
        let (Some(inside), None) = (file.prefix_match(&self.root), &self.files) else {
            return Vec::new();
        };
        let parts: Vec<_> = inside.collect();
        let folders = parts.split_last().map_or(&[][..], |(_, folders)| folders);
        let folder = |part: &object_store::path::PathPart<'_>| {
            let (name, value) = part.as_ref().split_once('=')?;
            let name = match FolderValue::read(name) {
                FolderValue::Text(name) => name,
                FolderValue::Null | FolderValue::Shortened => name.to_owned(),
            };
            Some((name, FolderValue::read(value)))
        };
        folders.iter().filter_map(folder).collect()
    }
}
