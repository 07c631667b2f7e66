//! A piece of a key's state, which some tags are computed from.

use std::{cell::OnceCell, ops::Range};

use super::{
    absence::{Absence, AbsencePlan},
    codec::Codec,
    funnel::{Funnel, FunnelPlan},
    ranking::{Ranking, RankingPlan},
    rolling::{RollingAggregate, RollingPlan},
};

/// The compiled definition of a piece.
#[derive(Debug, Clone)]
pub(super) struct AggregatorSpec {
    /// The fingerprint of the state, without the parts and windows of a series.
    pub(super) fingerprint: String,
    pub(super) kind: AggregatorKind,
    /// The tags that are computed from the piece.
    pub(super) tags: Vec<usize>,
}

/// The kind of a piece.
#[derive(Debug, Clone)]
pub(super) enum AggregatorKind {
    RollingAggregate(RollingPlan),
    Ranking(RankingPlan),
    Funnel(FunnelPlan),
    Absence(AbsencePlan),
}

/// The state of a piece.
#[derive(Debug, Clone)]
pub(super) enum State {
    RollingAggregate(RollingAggregate),
    Ranking(Ranking),
    Funnel(Funnel),
    Absence(Absence),
}

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

impl Codec for State {
    fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::RollingAggregate(series) => {
                0_u8.put(bytes);
                series.put(bytes);
            }
            Self::Ranking(ranking) => {
                4_u8.put(bytes);
                ranking.put(bytes);
            }
            Self::Funnel(funnel) => {
                2_u8.put(bytes);
                funnel.put(bytes);
            }
            Self::Absence(absence) => {
                3_u8.put(bytes);
                absence.put(bytes);
            }
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(match u8::take(bytes)? {
            0 => Self::RollingAggregate(Codec::take(bytes)?),
            1 => Self::Ranking(Ranking::take_scores(bytes)?),
            2 => Self::Funnel(Codec::take(bytes)?),
            3 => Self::Absence(Codec::take(bytes)?),
            4 => Self::Ranking(Codec::take(bytes)?),
            _ => return None,
        })
    }
}

impl State {
    /// A state without events.
    pub(super) fn new(plan: &AggregatorSpec) -> Self {
        match &plan.kind {
            AggregatorKind::RollingAggregate(plan) => {
                Self::RollingAggregate(RollingAggregate::new(plan))
            }
            AggregatorKind::Ranking(_) => Self::Ranking(Ranking::default()),
            AggregatorKind::Funnel(_) => Self::Funnel(Funnel::default()),
            AggregatorKind::Absence(_) => Self::Absence(Absence::new()),
        }
    }

    /// The time of the newest event, where values can expire.
    pub(super) fn newest(&self) -> Option<i64> {
        match self {
            Self::RollingAggregate(series) => series.newest,
            Self::Ranking(ranking) => ranking.newest,
            Self::Funnel(funnel) => funnel.newest(),
            Self::Absence(_) => None,
        }
    }
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
