//! Which states a stored user has, so that tags can come and go.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt8Array};
use serde::{Deserialize, Serialize};
use tagflow_engine::{
    Error, Result,
    state::{KEY_GROUP_COLUMN, Snapshot, StatePart},
};

use super::{part::PartKind, plan::Plan, user::User};

/// The key of the part that holds it.
const PART: &str = "layout";
const COLUMN: &str = "layout";

/// What a stored user consists of, by fingerprints, in the order of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    series: Vec<SeriesLayout>,
    rankings: Vec<String>,
    funnels: Vec<String>,
    absences: Vec<String>,
    pub(super) tags: Vec<TagLayout>,
    segments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeriesLayout {
    fingerprint: String,
    windows: Vec<i64>,
    parts: Vec<PartKind>,
}

/// A tag, with the time from which on it knows all events; none if from the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagLayout {
    fingerprint: String,
    pub(super) begun: Option<i64>,
}

impl Layout {
    /// Of `plan`, with tags that begin with the first event.
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            series: plan
                .series
                .iter()
                .map(|series| SeriesLayout {
                    fingerprint: series.fingerprint.clone(),
                    windows: series.windows.clone(),
                    parts: series.parts.clone(),
                })
                .collect(),
            rankings: plan
                .rankings
                .iter()
                .map(|it| it.fingerprint.clone())
                .collect(),
            funnels: plan
                .funnels
                .iter()
                .map(|it| it.fingerprint.clone())
                .collect(),
            absences: plan
                .absences
                .iter()
                .map(|it| it.fingerprint.clone())
                .collect(),
            tags: plan
                .tags
                .iter()
                .map(|tag| TagLayout {
                    fingerprint: tag.fingerprint.clone(),
                    begun: None,
                })
                .collect(),
            segments: plan.segments.clone(),
        }
    }

    /// This layout after `earlier`: tags that are new begin at `now`.
    pub(super) fn after(mut self, earlier: &Self, now: i64) -> Self {
        for tag in &mut self.tags {
            let known = earlier
                .tags
                .iter()
                .find(|it| it.fingerprint == tag.fingerprint);
            tag.begun = known.map_or(Some(now), |known| known.begun);
        }
        self
    }

    /// Whether users of one are users of the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let tags = |layout: &Self| -> Vec<String> {
            layout
                .tags
                .iter()
                .map(|tag| tag.fingerprint.clone())
                .collect()
        };
        (
            &self.series,
            &self.rankings,
            &self.funnels,
            &self.absences,
            &self.segments,
        ) == (
            &other.series,
            &other.rankings,
            &other.funnels,
            &other.absences,
            &other.segments,
        ) && tags(self) == tags(other)
    }

    /// A user of this layout as `plan` has it: what is known stays, the rest begins.
    pub(super) fn adapt(&self, plan: &Plan, user: User) -> User {
        let clock = user.clock;
        let mut new = User::new(plan, user.key, clock);
        new.newest = user.newest;
        let place = |names: &[String], name: &String| names.iter().position(|it| it == name);
        for (series, plan) in new.series.iter_mut().zip(&plan.series) {
            let known = self
                .series
                .iter()
                .position(|it| it.fingerprint == plan.fingerprint);
            if let Some(known) = known {
                *series = user.series[known].clone().adapted(plan, clock);
            }
        }
        for (ranking, plan) in new.rankings.iter_mut().zip(&plan.rankings) {
            if let Some(known) = place(&self.rankings, &plan.fingerprint) {
                *ranking = user.rankings[known].clone();
            }
        }
        for (funnel, plan) in new.funnels.iter_mut().zip(&plan.funnels) {
            if let Some(known) = place(&self.funnels, &plan.fingerprint) {
                *funnel = user.funnels[known].clone();
            }
        }
        for (absence, plan) in new.absences.iter_mut().zip(&plan.absences) {
            if let Some(known) = place(&self.absences, &plan.fingerprint) {
                *absence = user.absences[known].clone();
            }
        }
        for (since, plan) in new.since.iter_mut().zip(&plan.tags) {
            let known = self
                .tags
                .iter()
                .position(|it| it.fingerprint == plan.fingerprint);
            *since = known.and_then(|known| user.since[known]);
        }
        for (member, segment) in new.members.iter_mut().zip(&plan.segments) {
            if let Some(known) = place(&self.segments, segment) {
                *member = user.members[known].clone();
            }
        }
        // Whatever is due will be found out.
        new.next = clock;
        new
    }

    /// Adds the part to `snapshot`.
    pub(super) fn put(&self, is_stored: bool, snapshot: &mut Snapshot) -> Result<()> {
        let text = serde_json::to_string(self);
        let text =
            text.map_err(|error| Error::internal("a layout cannot be written").with_source(error))?;
        let columns: [(&str, ArrayRef); 2] = [
            (COLUMN, Arc::new(StringArray::from(vec![text]))),
            (KEY_GROUP_COLUMN, Arc::new(UInt8Array::new_null(1))),
        ];
        if is_stored {
            snapshot.removed.push(PART.into());
        }
        snapshot.put.push(StatePart {
            key: PART.into(),
            rows: RecordBatch::try_from_iter_with_nullable(
                columns.map(|(name, values)| (name, values, true)),
            )?,
        });
        Ok(())
    }

    /// The layout in a stored part, if it is one.
    pub(super) fn read(part: &StatePart) -> Result<Option<Self>> {
        if part.key != PART {
            return Ok(None);
        }
        let unreadable = || Error::data("the stored layout of tags cannot be read");
        let texts = part.rows.column_by_name(COLUMN);
        let texts = texts.and_then(|column| column.as_string_opt::<i32>());
        let text = texts.and_then(|texts| texts.iter().flatten().next());
        let layout = serde_json::from_str(text.ok_or_else(unreadable)?);
        layout
            .map(Some)
            .map_err(|error| unreadable().with_source(error))
    }
}
