//! A checked set of tags and segments.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tagflow_engine::{Error, Port, Result};
use tagflow_schemas::tags;

use super::{
    definition::{Profile, Segments, Spill, Tag, TagsSpec},
    fields::fields,
    plan::Plan,
};
use crate::keyed::Timeline;

/// A checked [`TagsSpec`], from which the operators are built. Rows must be exchanged by
/// the hash of the key column. Changes of tags are emitted to [`Port::MAIN`], late rows
/// to [`Port::SIDE`].
#[derive(Debug)]
pub struct Tags {
    pub(super) spec: TagsSpec,
    pub(super) timeline: Timeline,
    pub(super) plan: Plan,
    pub(super) changes: SchemaRef,
    pub(super) profile: SchemaRef,
    pub(super) segments: SchemaRef,
}

impl Tags {
    /// The output of all tags of all keys.
    pub const PROFILE: Port = Port(2);
    /// The output of keys that enter or leave segments.
    pub const SEGMENTS: Port = Port(3);
    /// The input of counts over all keys: the output at [`Tags::PROFILE`] of the operators
    /// of [`Tags::population`], sent from each lane to every lane.
    pub const POPULATION: Port = Port(1);

    /// The output of the newest values of all tags of all keys, for the period at `place`
    /// in [`Profile::newest`].
    pub const fn newest(place: usize) -> Port {
        Port(4 + place as u8)
    }

    /// Checks `spec`.
    ///
    /// # Errors
    /// `Config` if a tag is invalid; `Internal` if a column does not have the
    /// declared type.
    pub fn new(spec: TagsSpec) -> Result<Arc<Self>> {
        let timeline = Timeline {
            pipeline: Arc::clone(&spec.pipeline),
            step: Arc::clone(&spec.node),
            input: Arc::clone(&spec.input),
            time: spec.time,
            key: vec![spec.key],
            id: spec.id,
            shown: spec.shown,
            personal: spec.personal.clone(),
        };
        timeline.check()?;
        let key = spec.input.field(spec.key);
        if !matches!(key.data_type(), DataType::Utf8 | DataType::Int64) {
            return Err(Error::config(format!(
                "the key `{}` of `{}` is {}; tags are of a text or a whole number",
                key.name(),
                spec.node,
                key.data_type()
            )));
        }
        let fields = fields(&spec.tags, &spec.input)?;
        Ok(Arc::new(Self {
            changes: tags::changes(key),
            profile: tags::profile(key, &fields),
            segments: tags::segments(key),
            plan: Plan::new(&spec)?,
            timeline,
            spec,
        }))
    }

    /// The operators that count keys for scores by quantiles, over the same rows; `None` without
    /// such scores.
    pub fn population(&self) -> Option<TagsSpec> {
        let spec = &self.spec;
        let scored = spec.tags.iter().filter_map(|tag| {
            tag.kind.quantiles()?;
            tag.kind.reads()
        });
        let scored: BTreeSet<usize> = scored.collect();
        let mut needed = scored.clone();
        for (place, tag) in spec.tags.iter().enumerate().rev() {
            if let (true, Some(of)) = (needed.contains(&place), tag.kind.reads()) {
                needed.insert(of);
            }
        }
        let place = |tag: usize| needed.range(..tag).count();
        let spill = spec.spill.clone().map(|spill| Spill {
            memory_bytes: spill.memory_bytes - self.own_bytes(spill.memory_bytes),
            ..spill
        });
        let tags = needed.iter().map(|tag| {
            let mut tag = spec.tags[*tag].clone();
            if let Some(of) = tag.kind.reads_mut() {
                *of = place(*of);
            }
            tag
        });
        (!scored.is_empty()).then(|| TagsSpec {
            node: format!("{}.population", spec.node).into(),
            profile: Profile {
                every: Some(spec.rescore_every),
                newest: Vec::new(),
            },
            counted: scored.iter().map(|tag| place(*tag)).collect(),
            tags: tags.collect(),
            segments: Segments::default(),
            spill,
            ..spec.clone()
        })
    }

    /// The share of `memory_bytes` for the states of keys: the rest is for
    /// [`Tags::population`], whose states are as large as the scored pieces.
    pub(super) fn own_bytes(&self, memory_bytes: usize) -> usize {
        let tags = self.plan.tags.iter();
        let scored = tags.filter(|tag| tag.quantiles().is_some());
        let scored = scored.map(|tag| tag.piece);
        let scored: BTreeSet<usize> = scored.collect();
        // Everything outside pieces counts as one piece, if pieces exist.
        let size = |pieces: usize| if pieces > 0 { pieces + 1 } else { 0 };
        let (own, counted) = (size(self.plan.pieces.len()), size(scored.len()));
        (memory_bytes / (own + counted).max(1)).saturating_mul(own)
    }

    /// The fields of `tags` over rows of `input`, as in profiles and rules.
    ///
    /// # Errors
    /// `Config` if a tag is invalid.
    pub fn fields(tags: &[Tag], input: &Schema) -> Result<Vec<Field>> {
        fields(tags, input)
    }

    /// The name of the key's column.
    pub fn key_name(&self) -> &str {
        self.spec.input.field(self.spec.key).name()
    }

    /// The schema of the rows at [`Port::MAIN`].
    pub fn changes_schema(&self) -> SchemaRef {
        Arc::clone(&self.changes)
    }

    /// The schema of the rows at [`Tags::PROFILE`].
    pub fn profile_schema(&self) -> SchemaRef {
        Arc::clone(&self.profile)
    }

    /// The schema of the rows at [`Tags::SEGMENTS`].
    pub fn segments_schema(&self) -> SchemaRef {
        Arc::clone(&self.segments)
    }

    /// Each tag's name, and the fingerprint of its state.
    pub fn definitions(&self) -> impl Iterator<Item = (&str, &str)> {
        let tags = self.plan.tags.iter();
        tags.map(|tag| (tag.name.as_str(), tag.fingerprint.as_str()))
    }

    /// The fingerprint of the state as a whole; tags are added and removed one by one.
    pub fn fingerprint(&self) -> String {
        let name = |column: usize| self.spec.input.field(column).name();
        format!(
            "tags of {} by {}",
            name(self.spec.key),
            name(self.spec.time)
        )
    }
}
