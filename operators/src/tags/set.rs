//! A checked set of tags and segments.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tagflow_engine::{Error, Port, Result, operator::OperatorFactory};
use tagflow_schemas::tags;

use super::{
    definition::{Cuts, Profile, Segments, Spill, Tag, TagKind, TagsSpec},
    plan::{self, Plan, Source},
    tagger::Tagger,
};
use crate::ordered::Timeline;

/// A checked [`TagsSpec`], from which the operators are made. Rows must come to them
/// by the hash of the key column. Changes of tags go to [`Port::MAIN`], late rows to
/// [`Port::ASIDE`].
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
    /// The output of who enters and leaves segments.
    pub const SEGMENTS: Port = Port(3);
    /// The input of counts over all keys: what comes out at [`Tags::PROFILE`] of the
    /// operators of [`Tags::population`], from each to every lane.
    pub const POPULATION: Port = Port(1);

    /// The output of the newest of all tags of all keys, for the period at `place` in
    /// [`Profile::newest`].
    pub const fn newest(place: usize) -> Port {
        Port(4 + place as u8)
    }

    /// Checks `spec`.
    ///
    /// # Errors
    /// `Config` where a tag cannot be; `Internal` where a column is not what it is
    /// said to be.
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
        let fields = plan::fields(&spec.tags, &spec.input)?;
        Ok(Arc::new(Self {
            changes: tags::changes(key),
            profile: tags::profile(key, &fields),
            segments: tags::segments(key),
            plan: Plan::new(&spec)?,
            timeline,
            spec,
        }))
    }

    /// What counts keys for the scores that go by quantiles, out of the same rows; none
    /// where there are none.
    pub fn population(&self) -> Option<TagsSpec> {
        let spec = &self.spec;
        let scored = spec.tags.iter().filter_map(|tag| match &tag.kind {
            TagKind::Score {
                tag,
                cuts: Cuts::Quantiles(_),
                ..
            } => Some(*tag),
            _ => None,
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
                every: Some(spec.recut_every),
                newest: Vec::new(),
            },
            counted: scored.iter().map(|tag| place(*tag)).collect(),
            tags: tags.collect(),
            segments: Segments::default(),
            spill,
            ..spec.clone()
        })
    }

    /// What the states of keys may take of `memory_bytes`: all but what those of
    /// [`Tags::population`] may, which are as large as the pieces that scores go by.
    pub(super) fn own_bytes(&self, memory_bytes: usize) -> usize {
        let scored = self.plan.tags.iter().filter_map(|tag| match tag.source {
            Source::Score {
                quantiles: Some(_), ..
            } => Some(tag.piece),
            _ => None,
        });
        let scored: BTreeSet<usize> = scored.collect();
        // What is not of a piece counts as one, where there are any.
        let size = |pieces: usize| if pieces > 0 { pieces + 1 } else { 0 };
        let (own, counted) = (size(self.plan.pieces.len()), size(scored.len()));
        (memory_bytes / (own + counted).max(1)).saturating_mul(own)
    }

    /// The fields of `tags` over rows of `input`, as they are in profiles and rules.
    ///
    /// # Errors
    /// `Config` where a tag cannot be.
    pub fn fields(tags: &[Tag], input: &Schema) -> Result<Vec<Field>> {
        plan::fields(tags, input)
    }

    /// The operator of one lane.
    pub fn factory(self: &Arc<Self>) -> OperatorFactory {
        let tags = Arc::clone(self);
        Arc::new(move |context| {
            Ok(Box::new(Tagger::new(
                Arc::clone(&tags),
                context.lane,
                context.lanes,
            )?))
        })
    }

    /// The name of the key's column.
    pub fn key_name(&self) -> &str {
        self.spec.input.field(self.spec.key).name()
    }

    /// The rows at [`Port::MAIN`].
    pub fn changes_schema(&self) -> SchemaRef {
        Arc::clone(&self.changes)
    }

    /// The rows at [`Tags::PROFILE`].
    pub fn profile_schema(&self) -> SchemaRef {
        Arc::clone(&self.profile)
    }

    /// The rows at [`Tags::SEGMENTS`].
    pub fn segments_schema(&self) -> SchemaRef {
        Arc::clone(&self.segments)
    }

    /// Each tag's name, and what its state depends on.
    pub fn definitions(&self) -> impl Iterator<Item = (&str, &str)> {
        let tags = self.plan.tags.iter();
        tags.map(|tag| (tag.name.as_str(), tag.fingerprint.as_str()))
    }

    /// What the state as a whole depends on; tags come and go one by one.
    pub fn fingerprint(&self) -> String {
        let name = |column: usize| self.spec.input.field(column).name();
        format!(
            "tags of {} by {}",
            name(self.spec.key),
            name(self.spec.time)
        )
    }
}
