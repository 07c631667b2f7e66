//! The relations that SQL can name: sources, steps and queries.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::{
    common::{Result, TableReference, plan_err},
    config::ConfigOptions,
    logical_expr::{
        AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF,
        planner::{ContextProvider, ExprPlanner},
    },
};

use super::{Functions, Relation};

/// The relations planned earlier, and the functions.
pub struct Catalog {
    relations: BTreeMap<String, Relation>,
    /// The columns of the key of each relation that is a table.
    keys: BTreeMap<String, Vec<String>>,
    functions: Functions,
    options: Arc<ConfigOptions>,
}

impl Catalog {
    /// No relation yet.
    pub fn new(functions: Functions) -> Self {
        let mut options = ConfigOptions::new();
        options.sql_parser.collect_spans = true;
        // A string is `Utf8` everywhere, as sources decode it.
        options.sql_parser.map_string_types_to_utf8view = false;
        options.optimizer.skip_failed_rules = false;
        Self {
            relations: BTreeMap::new(),
            keys: BTreeMap::new(),
            functions,
            options: Arc::new(options),
        }
    }

    /// Adds a relation.
    pub fn add(&mut self, name: impl Into<String>, relation: Relation) {
        self.relations.insert(name.into(), relation);
    }

    /// Adds a table that streams are joined with by its key.
    pub fn add_table(&mut self, name: impl Into<String>, relation: Relation, key: Vec<String>) {
        let name = name.into();
        self.keys.insert(name.clone(), key);
        self.add(name, relation);
    }

    /// The key of `name`, if it is a table and no stream.
    pub fn table_key(&self, name: &str) -> Option<&[String]> {
        self.keys.get(name).map(Vec::as_slice)
    }

    /// The relation `name`.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.relations.get(name)
    }

    /// The functions.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// DataFusion's options for planning.
    pub(crate) fn config(&self) -> &Arc<ConfigOptions> {
        &self.options
    }

    /// The relation `name` for DataFusion.
    pub(crate) fn table(&self, name: &str) -> Option<Arc<dyn TableSource>> {
        let schema = Arc::clone(&self.relations.get(name)?.schema);
        Some(Arc::new(RelationSource(schema)))
    }
}

struct RelationSource(SchemaRef);

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
}

impl ContextProvider for Catalog {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if let TableReference::Bare { table } = &name
            && let Some(source) = self.table(table)
        {
            return Ok(source);
        }
        plan_err!("nothing is called `{name}`")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.functions.planners()
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.functions.higher_order(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalar_names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.functions.higher_order_names()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.window_names()
    }
}
