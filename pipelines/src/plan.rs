//! The plan that is stored beside a pipeline's commit log: the pipeline of the run, and its tables.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tagflow_engine::{Error, Result, commit::Plan, files::Table};

use crate::{
    Pipeline,
    lower::{Definitions, Lowered},
};

/// A pipeline as it ran. Newer versions may add fields; older ones ignore them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredPlan {
    /// The pipeline file with every default filled in, and references in place of their values.
    pub pipeline: Value,
    /// The tables of its sinks, including those of dead letters and late rows.
    pub tables: Vec<StoredTable>,
    /// The fingerprint of each tag's state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The fingerprint of each aggregate's state, by the node that has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aggregates: Definitions,
}

/// A table that a pipeline writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTable {
    /// The sink's name.
    pub name: String,
    /// Its folder; a local one as an absolute path.
    pub url: String,
    /// Its columns, including those of Hive folders.
    pub columns: Vec<StoredColumn>,
    /// Whether other pipelines may write there too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
}

/// A column of a table. Every column is nullable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type, in Arrow's notation.
    #[serde(rename = "type")]
    pub data_type: String,
}

impl fmt::Display for StoredColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.data_type.parse() {
            Ok(kind) => write!(f, "{} {}", self.name, type_name(&kind)),
            Err(_) => write!(f, "{} {}", self.name, self.data_type),
        }
    }
}

impl StoredPlan {
    /// The plan of a valid pipeline.
    ///
    /// # Errors
    /// `Internal` where it cannot be written as JSON.
    pub fn of(pipeline: &Pipeline) -> Result<Self> {
        let Pipeline { spec, lowered } = pipeline;
        let Lowered {
            tables,
            definitions,
            aggregates,
            ..
        } = lowered;
        Self::new(&spec.plan_json(), tables, definitions, aggregates)
    }

    fn new(
        pipeline: &str,
        tables: &[Table],
        tags: &BTreeMap<String, String>,
        aggregates: &Definitions,
    ) -> Result<Self> {
        let pipeline = serde_json::from_str(pipeline)
            .map_err(|error| Error::internal("the plan is not JSON").with_source(error))?;
        let tables = tables.iter().map(StoredTable::of).collect();
        Ok(Self {
            pipeline,
            tables,
            tags: tags.clone(),
            aggregates: aggregates.clone(),
        })
    }

    /// Its bytes and their name.
    ///
    /// # Errors
    /// `Internal` where it cannot be written as JSON.
    pub fn encode(&self) -> Result<Plan> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::internal("cannot write the plan as JSON").with_source(error))?;
        Ok(Plan {
            hash: format!("{:x}", Sha256::digest(&json)),
            json: json.into(),
        })
    }

    /// Parses the bytes stored as `name`.
    ///
    /// # Errors
    /// `Data` where they are not a plan.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::data(format!("`{name}` is not a plan")).with_source(error))
    }
}

impl StoredTable {
    fn of(table: &Table) -> Self {
        let column = |field: &Arc<Field>| StoredColumn {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
        };
        Self {
            name: table.name.to_string(),
            url: absolute(&table.url),
            columns: table.schema.fields().iter().map(column).collect(),
            shared: table.shared,
        }
    }

    /// The shape of its rows.
    ///
    /// # Errors
    /// `Data` where this version does not know a type.
    pub fn schema(&self) -> Result<SchemaRef> {
        let field = |column: &StoredColumn| {
            let data_type: DataType = column.data_type.parse().map_err(|error| {
                Error::data(format!(
                    "the type of `{}.{}` is unknown",
                    self.name, column.name
                ))
                .with_source(error)
            })?;
            Ok(Field::new(&column.name, data_type, true))
        };
        let fields: Vec<_> = self.columns.iter().map(field).collect::<Result<_>>()?;
        Ok(Arc::new(Schema::new(fields)))
    }
}

// serde passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

/// A local path made absolute, so that it is valid wherever the plan is read.
fn absolute(url: &str) -> String {
    if url.contains("://") {
        return url.to_owned();
    }
    match std::path::absolute(url) {
        Ok(path) => path.display().to_string(),
        Err(_) => url.to_owned(),
    }
}

/// The name of a type in the pipeline file.
pub fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 => "string".to_owned(),
        DataType::Binary => "bytes".to_owned(),
        DataType::Int64 => "int64".to_owned(),
        DataType::Float64 => "float64".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(..) => "timestamp(us, UTC)".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::List(item) => format!("list<{}>", type_name(item.data_type())),
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn a_table_is_read_back_as_it_was() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        let schema = Arc::new(Schema::new(vec![
            Field::new("window_start", utc, true),
            Field::new("revenue", DataType::Decimal128(18, 2), true),
            Field::new("tags", list, true),
            Field::new("reach", DataType::Int64, true),
            Field::new("payload", DataType::Binary, true),
            Field::new("dt", DataType::Date32, true),
        ]));
        let table = Table {
            name: "clicks".into(),
            url: "lake/clicks".into(),
            store: Arc::new(object_store::memory::InMemory::new()),
            root: "lake/clicks".into(),
            schema: Arc::clone(&schema),
            shared: false,
            suffix: "parquet",
        };
        let (tags, aggregates) = (BTreeMap::new(), Definitions::new());
        let plan = StoredPlan::new("{\"name\": \"clicks\"}", &[table], &tags, &aggregates);
        let plan = plan.unwrap();
        let stored = plan.encode().unwrap();
        let read = StoredPlan::decode(&stored.json, "plan").unwrap();
        assert_eq!(read, plan);
        assert_eq!(read.tables[0].schema().unwrap(), schema);
        assert!(std::path::Path::new(&read.tables[0].url).is_absolute());
        assert_eq!(plan.encode().unwrap().hash, stored.hash);
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        let error = StoredPlan::decode(b"{}", "plan/x.json").unwrap_err();
        assert_eq!(error.to_string(), "`plan/x.json` is not a plan");
        assert_eq!(absolute("s3://lake/x"), "s3://lake/x");
    }
}
