//! Looks up the profile of a key in a lane.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, StringArray},
    datatypes::DataType,
};
use serde::{Deserialize, Serialize};
use tagflow_engine::{Error, EventTime, Result, operator::QueryableState, state::KeyHash};

use super::{
    key_profile::KeyProfile,
    key_state::Until,
    set::Tags,
    tagger::{Rows, Tagger},
};

/// A query of a running job: the key, and a time other than now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lookup {
    /// The key, as text.
    pub key: String,
    /// The time, under the assumption that no further event happens; not in the past. The earliest
    /// time means the watermark.
    pub as_of: Option<EventTime>,
}

impl QueryableState for Tagger {
    fn query_state(&mut self, question: &str) -> Result<Option<String>> {
        self.look_up(question)
    }
}

impl Tagger {
    /// The [`KeyProfile`] of a [`Lookup`], or null, if this lane owns the key. Both are JSON.
    fn look_up(&mut self, question: &str) -> Result<Option<String>> {
        let lookup = serde_json::from_str(question);
        let Lookup { key, as_of } = lookup
            .map_err(|error| Error::internal("no question about a key").with_source(error))?;
        let key = hash(&self.tags, &key)?;
        if !self.owns(key) {
            return Ok(None);
        }
        let answer = serde_json::to_string(&self.known(key, as_of)?);
        let answer = answer
            .map_err(|error| Error::internal("a key's tags are no JSON").with_source(error))?;
        Ok(Some(answer))
    }

    pub(super) fn known(
        &mut self,
        key: KeyHash,
        as_of: Option<EventTime>,
    ) -> Result<Option<KeyProfile>> {
        let now = EventTime::from_micros(self.done());
        let as_of = as_of.map(|as_of| if as_of == EventTime::MIN { now } else { as_of });
        if as_of.is_some_and(|as_of| as_of < now) {
            return Err(Error::config(format!(
                "the state is as of {now}, and what was before is gone; changes up to then are in \
                 the table of `tags.changes`"
            )));
        }
        self.look(key, as_of.map(EventTime::as_micros))
    }

    /// The profile of a key at `as_of` without further events. `as_of` is not before the processed
    /// time; `None` is after all events so far. A copy of the key processes the events that wait
    /// for the watermark, so the state is unchanged.
    fn look(&mut self, key: KeyHash, as_of: Option<i64>) -> Result<Option<KeyProfile>> {
        let timeline = &self.tags.timeline;
        let waiting = self.held.of_key(timeline, key, as_of.unwrap_or(i64::MAX))?;
        let turns = timeline.turns(&waiting);
        let (plan, mut rows) = (&*self.plan, Rows::default());
        let user = self.users.get(key)?;
        let first = turns.first();
        let first = first.map(|first| self.tags.user_of(plan, &waiting, *first));
        let Some(mut user) = user.or(first) else {
            return Ok(None);
        };
        for turn in &turns {
            user.take(plan, self.tags.event(&waiting, *turn), &mut rows);
        }
        let to = as_of.unwrap_or_else(|| self.done()).max(user.clock());
        user.advance(plan, to, Until::End, &mut rows);
        let mut users = [user];
        let Rows {
            checks,
            moves,
            failed,
            ..
        } = &mut rows;
        let spec = &self.tags.spec;
        checks.settle(&self.plan, spec, &mut users, moves, failed)?;
        let [user] = &users;
        Ok(user
            .is_known()
            .then(|| KeyProfile::new(plan, &self.layout, user, turns.len())))
    }
}

/// The hash of a key that is given as text.
pub(super) fn hash(tags: &Tags, key: &str) -> Result<KeyHash> {
    let field = tags.spec.input.field(tags.spec.key);
    let column: ArrayRef = match field.data_type() {
        DataType::Int64 => {
            let number: i64 = key.parse().map_err(|_| {
                Error::config(format!("`{}` is a whole number, not `{key}`", field.name()))
            })?;
            Arc::new(Int64Array::from(vec![number]))
        }
        _ => Arc::new(StringArray::from(vec![key])),
    };
    let hashes = tags.timeline.hasher()?.hashes(&[column])?;
    let hash = hashes.into_iter().next().flatten();
    hash.ok_or_else(|| Error::internal("a key has no hash"))
}
