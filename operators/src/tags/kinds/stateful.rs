//! A kind of tag with a state, which events change.

use arrow::datatypes::{DataType, Schema};
use tagflow_engine::Result;

use super::{
    aggregate::{Components, Read},
    context::Context,
};
use crate::tags::{
    change::Cause,
    codec::Codec,
    event::{Event, Timing},
    value::Value,
};

/// The definition of a tag with a state.
pub(crate) trait StatefulKind {
    /// The compiled definition.
    type Plan: StatePlan;

    /// The columns that it reads.
    fn columns_mut(&mut self) -> Vec<&mut usize>;

    /// The type of its values, and whether they may be null.
    ///
    /// # Errors
    /// The mistake in the definition.
    fn data_type(&self, input: &Schema) -> Result<(DataType, bool), String>;

    /// Compiles it. [`data_type`](Self::data_type) has found no mistake.
    fn compile(&self, context: &Context<'_>) -> CompiledState<Self::Plan>;
}

/// A compiled definition, and the tag's value before any event.
#[derive(Debug)]
pub(crate) struct CompiledState<P> {
    pub(crate) plan: P,
    /// The fingerprint of the state, without its [`Components`].
    pub(crate) state: String,
    /// The fingerprint of the value.
    pub(crate) fingerprint: String,
    pub(crate) default: Value,
    /// The value to read, if the state has several.
    pub(crate) read: Option<Read>,
}

/// A compiled definition, which computes with the state of a key.
///
/// For each instant, [`advance`](Self::advance) removes expired events, then [`add`](Self::add)
/// adds the events, and then [`end_waits`](Self::end_waits) ends waits. `clock` is the time up to
/// which all is processed.
pub(crate) trait StatePlan: Sized {
    /// The state of a key.
    type State: Codec;

    /// The part of an event that the state needs.
    type Input;

    /// Whether values begin when a wait ends, and not with an event. Such values have a life of
    /// their own.
    const FIRES: bool = false;

    /// Extends this definition to `other`, if both may share a state. Returns whether it did.
    fn share(&mut self, _other: &Self) -> bool {
        false
    }

    /// Completes a definition that all its tags have shared; `node` is named in errors.
    ///
    /// # Errors
    /// `Config` if the definition is invalid.
    fn complete(&mut self, _node: &str) -> Result<()> {
        Ok(())
    }

    /// Finds the value to read in a complete definition.
    fn locate(&self, _read: &mut Read) {}

    /// The components of the state.
    fn components(&self) -> Components {
        Components::default()
    }

    /// How long after its first event a value no longer includes earlier events; `None` if it
    /// always does.
    fn covers_us(&self, _read: Option<&Read>) -> Option<i64> {
        None
    }

    /// A state without events.
    fn new_state(&self) -> Self::State;

    /// Decodes a state with a code of an older format.
    fn take_older(_code: u8, _bytes: &mut &[u8]) -> Option<Self::State> {
        None
    }

    /// Converts a state with the same fingerprint and other components.
    fn adapt(&self, state: Self::State, _clock: i64) -> Self::State {
        state
    }

    /// The state's part of an event; `None` if the event does not concern it.
    fn input(&self, event: &Event<'_>) -> Option<Self::Input>;

    /// Adds an event that is not after `clock`.
    fn add(
        &self,
        state: &mut Self::State,
        input: Self::Input,
        timing: Timing,
        clock: i64,
    ) -> Outcome;

    /// The value at `clock`.
    fn value(&self, state: &Self::State, read: Option<&Read>, clock: i64) -> Value;

    /// The events of the value at `clock`, tile by tile, if the state has tiles.
    fn tiles(&self, _state: &Self::State, _read: Option<&Read>, _clock: i64) -> Vec<Tile> {
        Vec::new()
    }

    /// The time of the newest event, after which values expire.
    fn newest(&self, _state: &Self::State) -> Option<i64> {
        None
    }

    /// When, after `clock`, the state may change without an event.
    fn next(&self, _state: &Self::State, _clock: i64) -> Option<i64> {
        None
    }

    /// When, after `clock`, a value may change without an event.
    fn expires_at(&self, state: &Self::State, _read: Option<&Read>, clock: i64) -> Option<i64> {
        self.next(state, clock)
    }

    /// The cause by which values may change at `now`, the first change after `clock`.
    fn expiry(&self, state: &Self::State, clock: i64, now: i64) -> Option<Cause> {
        (self.next(state, clock) == Some(now)).then_some(Cause::Expiry)
    }

    /// Removes everything that has expired after `clock` and up to `to`.
    fn advance(&self, _state: &mut Self::State, _clock: i64, _to: i64) {}

    /// Ends the waits that end at or before `to`. Returns when the first one ended.
    fn end_waits(&self, _state: &mut Self::State, _to: i64) -> Option<i64> {
        None
    }
}

/// The effect of an event on values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// They may be new as of the event.
    New,
    /// They stay.
    Same,
    /// If they are new, waits have ended otherwise than before: one has fired at this time, or none
    /// has.
    Revised(Option<i64>),
}

/// Events of a span of time that contribute to a value; the end is exclusive.
#[derive(Debug)]
pub(crate) struct Tile {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The value over these events alone.
    pub(crate) value: Value,
}

impl<P> CompiledState<P> {
    /// A tag with a state of its own, and with no value before any event.
    pub(crate) fn alone(plan: P, fingerprint: String) -> Self {
        Self {
            plan,
            state: fingerprint.clone(),
            fingerprint,
            default: Value::Null,
            read: None,
        }
    }
}
