//! A piece of a user's state: what some tags are made of.

use std::{cell::OnceCell, ops::Range};

use super::{
    absence::{Absence, AbsencePlan},
    coding::Coded,
    funnel::{Funnel, FunnelPlan},
    ranking::{Ranking, RankingPlan},
    series::{Series, SeriesPlan},
};

/// How a piece is kept.
#[derive(Debug, Clone)]
pub(super) struct PiecePlan {
    /// What the state depends on, besides the parts and windows of a series.
    pub(super) fingerprint: String,
    pub(super) kind: PieceKind,
    /// The tags that are made of it.
    pub(super) tags: Vec<usize>,
}

/// What a piece is.
#[derive(Debug, Clone)]
pub(super) enum PieceKind {
    Series(SeriesPlan),
    Ranking(RankingPlan),
    Funnel(FunnelPlan),
    Absence(AbsencePlan),
}

/// The state of a piece.
#[derive(Debug, Clone)]
pub(super) enum State {
    Series(Series),
    Ranking(Ranking),
    Funnel(Funnel),
    Absence(Absence),
}

/// A piece in hand. It is decoded when something looks into it, and encoded again
/// if that has changed it: mostly an event, or time, touches few of a user's pieces.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Nothing happens by itself before this.
    pub(super) next: i64,
    /// Where the encoded state lies in its user's bytes, if it still is that. A user
    /// that takes more than 4 GiB is not encoded.
    rest: Option<Range<u32>>,
    /// Boxed, because most are not looked into.
    state: OnceCell<Box<State>>,
}

impl Coded for State {
    fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Series(series) => {
                0_u8.put(bytes);
                series.put(bytes);
            }
            Self::Ranking(ranking) => {
                1_u8.put(bytes);
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
            0 => Self::Series(Coded::take(bytes)?),
            1 => Self::Ranking(Coded::take(bytes)?),
            2 => Self::Funnel(Coded::take(bytes)?),
            3 => Self::Absence(Coded::take(bytes)?),
            _ => return None,
        })
    }
}

impl State {
    /// Without events.
    pub(super) fn new(plan: &PiecePlan) -> Self {
        match &plan.kind {
            PieceKind::Series(plan) => Self::Series(Series::new(plan)),
            PieceKind::Ranking(_) => Self::Ranking(Ranking::default()),
            PieceKind::Funnel(_) => Self::Funnel(Funnel::default()),
            PieceKind::Absence(_) => Self::Absence(Absence::new()),
        }
    }

    /// The time of the newest event, where values can expire.
    pub(super) fn newest(&self) -> Option<i64> {
        match self {
            Self::Series(series) => series.newest,
            Self::Ranking(ranking) => ranking.newest,
            Self::Funnel(funnel) => funnel.newest(),
            Self::Absence(_) => None,
        }
    }
}

impl Piece {
    /// A new piece, with nothing to happen.
    pub(super) fn new(state: State) -> Self {
        Self {
            next: i64::MAX,
            rest: None,
            state: OnceCell::from(Box::new(state)),
        }
    }

    /// A piece that lies at `place` of its user's bytes, with nothing to happen.
    pub(super) fn at_rest(place: Range<usize>) -> Self {
        Self {
            next: i64::MAX,
            rest: Some(place.start as u32..place.end as u32),
            state: OnceCell::new(),
        }
    }

    /// Adds the state to `bytes`; `rest` is what its user was decoded from.
    pub(super) fn encode(&self, rest: &[u8], bytes: &mut Vec<u8>) {
        match &self.rest {
            Some(place) => bytes.extend_from_slice(at(rest, place)),
            None => self.state(rest).put(bytes),
        }
    }

    /// Looks into it.
    pub(super) fn state(&self, rest: &[u8]) -> &State {
        self.state.get_or_init(|| {
            let place = self.rest.as_ref();
            let place = place.expect("a piece is at rest or decoded");
            // The store has verified what it gave back.
            let state = State::take(&mut at(rest, place));
            Box::new(state.expect("a piece is as it was encoded"))
        })
    }

    /// Looks into it, to change it.
    pub(super) fn change(&mut self, rest: &[u8]) -> &mut State {
        self.state(rest);
        self.rest = None;
        self.state.get_mut().expect("it was looked into")
    }

    /// Takes the state out.
    pub(super) fn into_state(self, rest: &[u8]) -> State {
        self.state(rest);
        *self.state.into_inner().expect("it was looked into")
    }
}

fn at<'a>(rest: &'a [u8], place: &Range<u32>) -> &'a [u8] {
    &rest[place.start as usize..place.end as usize]
}
