//! Rows with their keys.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray},
    compute::filter_record_batch,
};
use tagflow_engine::{
    Batch, Result,
    state::{KeyHash, KeyHasher},
};

/// Rows with their keys.
pub(crate) struct Keyed {
    pub(crate) batch: Batch,
    pub(crate) keys: Vec<Option<KeyHash>>,
}

impl Keyed {
    pub(crate) fn new(key: &[usize], hasher: &KeyHasher, batch: Batch) -> Result<Self> {
        let columns: Vec<ArrayRef> = key
            .iter()
            .map(|key| Arc::clone(batch.records.column(*key)))
            .collect();
        let keys = hasher.hashes(&columns)?;
        Ok(Self { batch, keys })
    }

    /// The rows for which `keep` is true.
    pub(crate) fn filter(&self, keep: &BooleanArray) -> Result<Self> {
        let keys = self.keys.iter().zip(keep.values());
        Ok(Self {
            batch: self
                .batch
                .with_records(filter_record_batch(&self.batch.records, keep)?),
            keys: keys
                .filter(|(_, keep)| *keep)
                .map(|(key, _)| *key)
                .collect(),
        })
    }
}
