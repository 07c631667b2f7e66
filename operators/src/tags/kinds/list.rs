//! The kinds of tags. To add one, add its name.

use arrow::datatypes::{DataType, Field, Schema};
use tagflow_engine::{Error, Result};

use super::{
    absence::Absence,
    aggregate::{Aggregate, Components, Read},
    context::Context,
    derived::{DerivedKind, DerivedPlan, InputTag, ThresholdPlan},
    dispatch::dispatch,
    funnel::Funnel,
    score::Score,
    stateful::{Outcome, StatePlan, StatefulKind, Tile},
    time_since::TimeSince,
    top_k::TopK,
};
use crate::tags::{
    change::Cause,
    codec::Codec,
    event::{Event, Timing},
    value::Value,
};

dispatch! {
    // Each with the code of its stored states.
    stateful {
        /// An aggregate of events.
        Aggregate = 0,
        /// The items with the highest weight.
        TopK = 4,
        /// The furthest step of a funnel.
        Funnel = 2,
        /// Whether an expected event did not happen in time.
        Absence = 3,
    }
    derived {
        /// The time since another tag's value.
        TimeSince,
        /// The score of another tag's value.
        Score,
    }
}

/// A compiled tag.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The fingerprint of the value.
    pub(crate) fingerprint: String,
    /// The value before any event.
    pub(crate) default: Value,
    pub(crate) input: CompiledInput,
}

/// The input of a compiled tag.
#[derive(Debug)]
pub(crate) enum CompiledInput {
    /// A state, and the value to read from it.
    State {
        /// The fingerprint of the state.
        fingerprint: String,
        kind: AggregatorKind,
        read: Option<Read>,
    },
    /// Another tag.
    Tag(Derived),
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_read_behind_the_end(bytes in vec(prop_oneof![0_u8..8, any::<u8>()], 0..60)) {
            for code in 0..5 {
                let state: Vec<u8> = [code].into_iter().chain(bytes.iter().copied()).collect();
                let _ = State::take(&mut state.as_slice());
            }
        }
    }
}
