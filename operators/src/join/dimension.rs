//! A table by its key.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, PoisonError, RwLock},
};

use arrow::{
    array::{Array, ArrayRef, UInt32Array},
    datatypes::Schema,
    record_batch::RecordBatch,
    row::{RowConverter, SortField},
    util::display::array_value_to_string,
};
use tagflow_engine::{Error, Result, state::key_column};

/// The rows of a table, indexed by their key. Immutable: a reload makes a new one.
#[derive(Debug)]
pub struct Dimension {
    rows: RecordBatch,
    key: RowConverter,
    places: HashMap<Box<[u8]>, u32>,
}

impl Dimension {
    /// The table `name` of `rows`, by the columns `key`. Rows with a null in one of them
    /// are never found.
    ///
    /// # Errors
    /// `Data`, naming it, if two rows have the same key.
    pub fn new(name: &str, rows: RecordBatch, key: &[usize]) -> Result<Self> {
        let columns = rows.project(key)?;
        let fields = columns.schema_ref().fields().iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let mut places = HashMap::with_capacity(rows.num_rows());
        let keys: Vec<ArrayRef> = columns.columns().iter().map(key_column).collect();
        let encoded = converter.convert_columns(&keys)?;
        for (place, bytes) in encoded.iter().enumerate() {
            if has_null(columns.columns(), place) {
                continue;
            }
            match places.entry(Box::from(bytes.as_ref())) {
                Entry::Vacant(entry) => entry.insert(place as u32),
                Entry::Occupied(_) => return Err(repeated(name, &columns, place)),
            };
        }
        Ok(Self {
            rows,
            key: converter,
            places,
        })
    }

    /// The position of the row with each of `keys`, which have the key's types; null
    /// where no row matches.
    pub(super) fn find(&self, keys: &[ArrayRef]) -> Result<UInt32Array> {
        let keys: Vec<ArrayRef> = keys.iter().map(key_column).collect();
        let encoded = self.key.convert_columns(&keys)?;
        Ok(encoded
            .iter()
            .map(|bytes| self.places.get(bytes.as_ref()).copied())
            .collect())
    }

    /// The rows, in the order of their positions.
    pub(super) fn rows(&self) -> &RecordBatch {
        &self.rows
    }
}

fn has_null(columns: &[ArrayRef], row: usize) -> bool {
    columns.iter().any(|column| column.is_null(row))
}

fn repeated(name: &str, key: &RecordBatch, row: usize) -> Error {
    let fields = Schema::fields(key.schema_ref()).iter().zip(key.columns());
    let shown: Vec<String> = fields
        .map(|(field, values)| {
            let value = array_value_to_string(values, row).unwrap_or_default();
            format!("{} = {value}", field.name())
        })
        .collect();
    Error::data(format!(
        "two rows of the table `{name}` have the key `{}`; a row is looked up by its key, so each \
         may stand there once",
        shown.join(", ")
    ))
}

/// The current table, shared by all lanes.
#[derive(Debug, Clone, Default)]
pub struct CurrentDimension(Arc<RwLock<Option<Arc<Dimension>>>>);

impl CurrentDimension {
    /// Replaces the table from the next batch on.
    pub fn replace(&self, dimension: Dimension) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(dimension));
    }

    /// The table for one batch.
    pub(super) fn get(&self) -> Result<Arc<Dimension>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current
            .clone()
            .ok_or_else(|| Error::internal("a table is looked up before it was loaded"))
    }
}
