//! Compiled tags: the pieces of state, and the tags that are computed from them.

use arrow::datatypes::{DataType, Field};
use tagflow_engine::{Result, time::micros};

use super::{
    definition::{Rule, Segment, Tag, TagsSpec},
    fields::fields,
    kinds::{AggregatorKind, Compiled, CompiledInput, Context, Derived, InputTag, Read},
    time_trigger::{TimeTrigger, trigger_values},
    value::Value,
};
use crate::expr;

/// The state of a key, and the values that are computed from it.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) pieces: Vec<AggregatorSpec>,
    pub(super) tags: Vec<TagPlan>,
    /// Times at which rules change without an event.
    pub(super) time_triggers: Vec<TimeTrigger>,
    /// The tags that rules read, as indexes in `tags`.
    pub(super) rule_tags: Vec<usize>,
    /// Whether rules read a tag, or a tag that depends on it.
    pub(super) is_in_rules: Vec<bool>,
    /// The names of the segments.
    pub(super) segments: Vec<String>,
    /// The rules of each segment.
    pub(super) rules: Vec<String>,
    /// The shortest membership, by segment.
    pub(super) holds_us: Vec<i64>,
    pub(super) state_ttl_us: Option<i64>,
}

/// The compiled definition of a piece.
#[derive(Debug, Clone)]
pub(super) struct AggregatorSpec {
    /// The fingerprint of the state, without its components.
    pub(super) fingerprint: String,
    pub(super) kind: AggregatorKind,
    /// The tags that are computed from the piece.
    pub(super) tags: Vec<usize>,
}

/// A tag.
#[derive(Debug, Clone)]
pub(super) struct TagPlan {
    pub(super) name: String,
    pub(super) data_type: DataType,
    /// The fingerprint of its value.
    pub(super) fingerprint: String,
    pub(super) source: Source,
    /// The index of the piece from which it is finally computed.
    pub(super) piece: usize,
    /// The life of a value, unless the piece ends values itself.
    pub(super) ttl_us: Option<i64>,
    /// The value before any event.
    pub(super) default: Value,
    /// Whether it, or its input, is a score by quantiles. Then it is null before any event, and the
    /// first event gives it a value.
    pub(super) goes_by_quantiles: bool,
}

/// The input of a tag.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Its piece, and the value to read from it.
    Piece(Option<Read>),
    /// Another tag.
    Tag(Derived),
}

impl TagPlan {
    /// Whether its changes are emitted.
    pub(super) fn has_changes(&self) -> bool {
        self.source.derived().is_none_or(Derived::has_changes)
    }

    /// The number of quantiles, if it is a score by quantiles.
    pub(super) fn quantiles(&self) -> Option<usize> {
        self.source.derived()?.thresholds()?.quantiles
    }
}

impl Source {
    /// The definition of a derived tag.
    pub(super) fn derived(&self) -> Option<&Derived> {
        match self {
            Self::Piece(_) => None,
            Self::Tag(derived) => Some(derived),
        }
    }

    /// The same, mutable.
    pub(super) fn derived_mut(&mut self) -> Option<&mut Derived> {
        match self {
            Self::Piece(_) => None,
            Self::Tag(derived) => Some(derived),
        }
    }
}

impl Plan {
    /// Compiles `spec`.
    ///
    /// # Errors
    /// `Config` if a tag is invalid; `Internal` if a column differs from its declaration.
    pub(super) fn new(spec: &TagsSpec) -> Result<Self> {
        let fields = fields(&spec.tags, &spec.input)?;
        let mut plan = Self {
            state_ttl_us: spec.state_ttl.map(micros),
            rule_tags: spec.segments.tags.clone(),
            ..Self::default()
        };
        for (tag, field) in spec.tags.iter().zip(&fields) {
            plan.add(spec, tag, field)?;
        }
        plan.complete(spec)?;
        plan.add_rules(spec);
        Ok(plan)
    }

    fn add(&mut self, spec: &TagsSpec, tag: &Tag, field: &Field) -> Result<()> {
        let place = self.tags.len();
        let context = Context {
            input: &spec.input,
            data_type: field.data_type(),
            ttl: tag.ttl,
            lateness: spec.lateness,
            rescore_every: spec.rescore_every,
        };
        let of = tag.kind.reads().map(|of| &self.tags[of]);
        let input = of.map(|of| InputTag {
            data_type: &of.data_type,
            fingerprint: &of.fingerprint,
            default: &of.default,
        });
        let goes_by_quantiles =
            tag.kind.quantiles().is_some() || of.is_some_and(|of| of.goes_by_quantiles);
        let Compiled {
            mut fingerprint,
            default,
            input,
        } = tag.kind.compile(&context, input.as_ref())?;
        let (piece, source) = match input {
            CompiledInput::State {
                fingerprint,
                kind,
                read,
            } => (self.piece(fingerprint, kind), Source::Piece(read)),
            CompiledInput::Tag(derived) => {
                if let Some(thresholds) = derived.thresholds() {
                    self.add_triggers(place, derived.tag(), place, thresholds.at.as_deref());
                }
                (self.tags[derived.tag()].piece, Source::Tag(derived))
            }
        };
        self.pieces[piece].tags.push(place);
        let has_own_ttl = matches!(source, Source::Piece(_)) && self.pieces[piece].kind.fires();
        let ttl_us = tag.ttl.filter(|_| !has_own_ttl).map(micros);
        if let Some(ttl) = ttl_us {
            fingerprint = format!("{fingerprint}; for {ttl}us");
        }
        self.tags.push(TagPlan {
            name: tag.name.clone(),
            data_type: field.data_type().clone(),
            fingerprint,
            source,
            piece,
            ttl_us,
            default,
            goes_by_quantiles,
        });
        Ok(())
    }

    /// The index of the piece with this state, which is created on demand.
    fn piece(&mut self, fingerprint: String, kind: AggregatorKind) -> usize {
        let mut pieces = self.pieces.iter_mut();
        let shared = pieces.position(|piece| piece.kind.share(&kind));
        shared.unwrap_or_else(|| {
            self.pieces.push(AggregatorSpec {
                fingerprint,
                kind,
                tags: Vec::new(),
            });
            self.pieces.len() - 1
        })
    }

    /// Adds the triggers of `score`, if `tag` counts the time since another tag. `score` is the
    /// score of `of` with the thresholds `thresholds`.
    fn add_triggers(&mut self, score: usize, tag: usize, of: usize, thresholds: Option<&[f64]>) {
        let Some(derived) = self.tags[tag].source.derived() else {
            return;
        };
        if let Some(unit_us) = derived.unit_us() {
            self.time_triggers.push(TimeTrigger {
                since: derived.tag(),
                unit_us,
                after: Some(trigger_values(thresholds)),
                score: Some(score),
                thresholds_of: Some(of),
            });
        } else if let Some(thresholds) = derived.thresholds() {
            let (next, thresholds) = (derived.tag(), thresholds.at.clone());
            self.add_triggers(score, next, tag, thresholds.as_deref());
        }
    }

    /// How long after its first event a tag no longer includes earlier events; `None` if it always
    /// does.
    pub(super) fn covers_us(&self, tag: usize) -> Option<i64> {
        let TagPlan { source, piece, .. } = &self.tags[tag];
        match source {
            Source::Piece(read) => self.pieces[*piece].kind.covers_us(read.as_ref()),
            Source::Tag(derived) => self.covers_us(derived.tag()),
        }
    }

    /// Completes the pieces, which all tags have shared now.
    fn complete(&mut self, spec: &TagsSpec) -> Result<()> {
        for piece in &mut self.pieces {
            piece.kind.complete(&spec.node)?;
        }
        for tag in &mut self.tags {
            if let Source::Piece(Some(read)) = &mut tag.source {
                self.pieces[tag.piece].kind.locate(read);
            }
        }
        Ok(())
    }

    fn add_rules(&mut self, spec: &TagsSpec) {
        self.is_in_rules = vec![false; self.tags.len()];
        for tag in &self.rule_tags {
            let mut tag = *tag;
            loop {
                self.is_in_rules[tag] = true;
                match self.tags[tag].source.derived() {
                    Some(derived) => tag = derived.tag(),
                    None => break,
                }
            }
        }
        for segment in &spec.segments.segments {
            self.segments.push(segment.name.to_string());
            self.rules.push(rules_text(segment));
            self.holds_us.push(micros(segment.hold_at_least));
            for rule in [Some(&segment.enter), segment.exit.as_ref()]
                .into_iter()
                .flatten()
            {
                for (column, values) in &rule.time_triggers {
                    let derived = self.tags[self.rule_tags[*column]].source.derived();
                    let counted = derived.and_then(|it| Some((it.tag(), it.unit_us()?)));
                    let Some((since, unit_us)) = counted else {
                        continue;
                    };
                    let mut after: Vec<i64> = values.iter().flat_map(|it| [*it, it + 1]).collect();
                    after.sort_unstable();
                    after.dedup();
                    self.time_triggers.push(TimeTrigger {
                        since,
                        unit_us,
                        after: (!after.is_empty()).then_some(after),
                        score: None,
                        thresholds_of: None,
                    });
                }
            }
        }
    }
}

/// The fingerprint of a segment's members.
fn rules_text(segment: &Segment) -> String {
    let rule = |rule: &Rule| {
        format!(
            "{}; looks at {:?}",
            expr::sql(&rule.condition),
            rule.time_triggers
        )
    };
    format!(
        "enter {}; exit {:?}; hold {:?}",
        rule(&segment.enter),
        segment.exit.as_ref().map(rule),
        segment.hold_at_least
    )
}
