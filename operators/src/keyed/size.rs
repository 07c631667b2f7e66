//! How much memory an ordered step will need.

use tagflow_engine::state::KeyHash;

use super::{Ordered, Rule, slices::SLICES};
use crate::size::{Load, StateSize};

/// Bytes of a key with one time: its hash, the time, and the index entry.
const ID_BYTES: f64 = 35.0;

impl Ordered {
    /// The estimated state: the rows buffered until the watermark, and the remembered
    /// keys.
    pub fn size(&self, load: &Load) -> StateSize {
        let waiting = load.rate * load.delay_s;
        let key = size_of::<Option<KeyHash>>() as f64;
        let rows = waiting * (load.row_bytes(&self.spec.input) + key);
        let (entries, unit) = match self.spec.rule {
            // A slice of time is forgotten as a whole, so it stays for half its width too
            // long on average.
            Rule::Dedupe { within } => {
                let ids = load.distinct(load.rate * within.as_secs_f64());
                (ids * (1.0 + 0.5 / SLICES as f64), "ids")
            }
            Rule::Sessions { gap, .. } => (load.distinct(load.rate * gap.as_secs_f64()), "keys"),
            Rule::Rate { over, .. } => (load.rate * over.as_secs_f64(), "times"),
        };
        StateSize {
            entries,
            unit,
            bytes: entries * ID_BYTES + rows,
        }
    }
}
