//! Writes one record into its slot.

use bytes::Bytes;
use object_store::Error as StoreError;

use super::{
    decide::{Answer, Slot},
    reader::LogReader,
    record::Record,
    store::{Backoff, PutOutcome},
};
use crate::Result;

/// Puts one record into its slot, as often as the protocol requires.
pub(super) struct SlotWriter<'a> {
    log: &'a LogReader,
    record: &'a Record,
    bytes: Bytes,
    backoff: Backoff,
    /// The error of the last put, if it returned one.
    failure: Option<StoreError>,
    /// The record of another owner in the slot, if there is one.
    pub(super) found: Option<Record>,
}

impl<'a> SlotWriter<'a> {
    pub(super) fn new(log: &'a LogReader, record: &'a Record, bytes: Bytes) -> Self {
        Self {
            log,
            record,
            bytes,
            backoff: log.store.backoff(),
            failure: None,
            found: None,
        }
    }

    pub(super) async fn put(&mut self) -> Answer {
        let path = self.log.paths.record(self.record.seq);
        let outcome = self
            .log
            .store
            .put_if_absent(&path, self.bytes.clone())
            .await;
        let answer = outcome.answer();
        if let PutOutcome::Ambiguous(error) = outcome {
            self.failure = Some(error);
        }
        answer
    }

    /// The content of the slot. Waits before it reports an empty slot.
    pub(super) async fn read_back(&mut self) -> Result<Slot> {
        let Some(found) = self.log.read(self.record.seq).await? else {
            let path = self.log.paths.record(self.record.seq);
            match self.failure.take() {
                Some(error) => self.backoff.after("create", &path, error).await?,
                None => self.backoff.after_nothing("create", &path).await?,
            }
            return Ok(Slot::Empty);
        };
        if found.attempt == self.record.attempt {
            return Ok(Slot::Mine);
        }
        self.found = Some(found);
        Ok(Slot::Other)
    }
}
