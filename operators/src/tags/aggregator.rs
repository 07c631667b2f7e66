//! A piece of a key's state, which some tags are computed from.

use std::{cell::OnceCell, ops::Range};

use super::{codec::Codec, kinds::State};

/// A piece in memory. It is decoded on first access, and encoded again only if it has
/// changed: most events and timers touch few of a key's pieces.
#[derive(Debug, Clone)]
pub(super) struct Aggregator {
    /// No timer of the piece is due before this.
    pub(super) next: i64,
    /// The range of the encoded state in the key's bytes; none once the state may have
    /// changed. A key of more than 4 GiB is not encoded.
    rest: Option<Range<u32>>,
    /// Boxed, because most pieces are not accessed.
    state: OnceCell<Box<State>>,
}

impl Aggregator {
    /// A new piece without a timer.
    pub(super) fn new(state: State) -> Self {
        Self {
            next: i64::MAX,
            rest: None,
            state: OnceCell::from(Box::new(state)),
        }
    }

    /// A piece that is encoded at `place` of the key's bytes, without a timer.
    pub(super) fn at_rest(place: Range<usize>) -> Self {
        Self {
            next: i64::MAX,
            rest: Some(place.start as u32..place.end as u32),
            state: OnceCell::new(),
        }
    }

    /// Appends the encoded state to `bytes`; `rest` is the bytes that the key was decoded
    /// from.
    pub(super) fn encode(&self, rest: &[u8], bytes: &mut Vec<u8>) {
        match &self.rest {
            Some(place) => bytes.extend_from_slice(at(rest, place)),
            None => self.state(rest).put(bytes),
        }
    }

    /// The state, decoded on first access.
    pub(super) fn state(&self, rest: &[u8]) -> &State {
        self.state.get_or_init(|| {
            let place = self.rest.as_ref();
            let place = place.expect("a piece is at rest or decoded");
            // The store has verified the bytes.
            let state = State::take(&mut at(rest, place));
            Box::new(state.expect("a piece is as it was encoded"))
        })
    }

    /// The state, mutable.
    pub(super) fn change(&mut self, rest: &[u8]) -> &mut State {
        self.state(rest);
        self.rest = None;
        self.state.get_mut().expect("it was looked into")
    }

    /// Extracts the state.
    pub(super) fn into_state(self, rest: &[u8]) -> State {
        self.state(rest);
        *self.state.into_inner().expect("it was looked into")
    }
}

fn at<'a>(rest: &'a [u8], place: &Range<u32>) -> &'a [u8] {
    &rest[place.start as usize..place.end as usize]
}
