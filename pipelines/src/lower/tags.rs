//! Translates the plan of tags and segments into the operator.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::{
    common::DFSchema,
    logical_expr::{Expr, cast},
    prelude::{col, lit},
};
use tagflow_connectors::parquet::ParquetConfig;
use tagflow_engine::{
    Error, Port, Result,
    graph::{NodeId, NodeKind, OperatorNode, Partitioning},
    time::micros,
};
use tagflow_operators::{
    row_errors::RowErrors,
    tags::{Profile, Tags, TagsSpec},
};

use super::{
    Lowering,
    flow::{Computed, Flow, Offsets},
    sinks::{PlannedSink, newest_profile},
};
use tagflow_config::diagnostic::Position;

use crate::{
    spec::{SEGMENT_CHANGES, Setting, TAG_CHANGES, TAGS_CURRENT},
    sql::{Lineage, Relation, Rows, tags},
};

impl Lowering<'_> {
    /// Plans tags and segments, and registers their tables for sinks.
    pub(super) fn planned_tags(&mut self) {
        let Some(planned) = tags::plan(self.spec, &self.program, &mut self.diagnostics) else {
            return;
        };
        let tags = match Tags::new(planned.spec.clone()) {
            Ok(tags) => tags,
            Err(error) => return self.report(self.tags_at(), "tags".to_owned(), &error),
        };
        let tables = [
            (TAG_CHANGES, tags.changes_schema(), Rows::Events),
            (TAGS_CURRENT, tags.profile_schema(), Rows::Windows),
            (SEGMENT_CHANGES, tags.segments_schema(), Rows::Events),
        ];
        for (name, schema, rows) in tables {
            if self.spec.tag_tables().contains(&name) {
                self.program.add(name, relation(schema, rows));
            }
        }
        self.tags = Some(planned);
    }

    /// Finds the columns of sources that are the unchanged key.
    pub(super) fn find_keys(&mut self) {
        let Some(tags) = &self.spec.tags else {
            return;
        };
        for (source, column) in self.program.carried_from(&tags.from, &tags.key) {
            self.keys.entry(source).or_default().insert(column);
        }
    }

    /// Adds the operator, which some of `sinks` read.
    pub(super) fn tags(&mut self, sinks: &[PlannedSink]) {
        if let Some(planned) = self.tags.take()
            && let Err(error) = self.add_tags(planned, sinks)
        {
            self.report(self.tags_at(), "tags".to_owned(), &error);
        }
    }

    fn add_tags(&mut self, planned: tags::PlannedTags, sinks: &[PlannedSink]) -> Result<()> {
        let from = self.flows.get(&planned.from).cloned().ok_or_else(|| {
            Error::internal(format!("`{}` is read before it is made", planned.from))
        })?;
        let columns = from.resolved(&planned.schema)?;
        let columns_of = planned.columns.iter();
        let is_personal: Vec<bool> = columns_of.map(|(expr, _)| from.is_personal(expr)).collect();
        let computed = planned
            .columns
            .into_iter()
            .map(|(expr, field)| Computed { expr, field });
        let map = from.map(&columns, None, computed.collect(), Offsets::Keep)?;
        let schema = Arc::clone(&map.schema);
        let names: Vec<&str> = planned
            .spec
            .input
            .fields()
            .iter()
            .map(|it| it.name().as_str())
            .collect();
        let label = format!("select {}", names.join(", "));
        let shown = names
            .iter()
            .take(planned.spec.shown)
            .map(|name| (*name).to_owned());
        let personal = shown.filter(|name| from.personal.contains(name));
        let personal: BTreeSet<String> = personal.collect();
        let input = self.add_map("tags.input", label, map, &from);
        self.forward(&from.ends, input);

        let (all, newest): (Vec<_>, Vec<_>) = sinks.iter().partition(|it| it.newest.is_none());
        let outputs: BTreeSet<&str> = all.iter().map(|sink| sink.from.as_str()).collect();
        let newest: BTreeSet<Duration> = newest.iter().filter_map(|it| it.newest).collect();
        let every = self.spec.profile_every();
        let profile = Profile {
            every: outputs.contains(TAGS_CURRENT).then_some(every),
            newest: newest.into_iter().collect(),
        };
        let key = planned.spec.key;
        let mut spec = TagsSpec {
            input: schema,
            personal: personal.clone(),
            profile: profile.clone(),
            ..planned.spec
        };
        let errors = RowErrors {
            personal: &personal | &spec.personal_tags(|column| is_personal[column]),
            ..self.row_errors(&from)
        };
        spec.segments.errors = errors.clone();
        let can_fail = spec.can_fail()?;
        let label = label_of(&spec);
        let node = Arc::clone(&spec.node);
        let tags = Tags::new(spec)?;
        self.known = Some(Arc::clone(&tags));
        let definitions = tags.definitions();
        self.definitions = definitions
            .map(|(name, definition)| (name.to_owned(), definition.to_owned()))
            .collect();
        let events = planned.events.as_deref();
        let node = self.graph.add(node, label, operator(&tags, events));
        let by_key = Partitioning::Hash(vec![key]);
        let edge = ((input, Port::MAIN), (node, Port::MAIN));
        self.graph.connect(edge.0, edge.1, by_key);
        if let Some(population) = tags.population() {
            self.count_keys(population, events, input, node)?;
        }
        self.windows.push(node);
        if can_fail {
            self.rejects(node, &errors);
        }

        let (changes, moves) = (tags.changes_schema(), tags.segments_schema());
        let tables = [
            (TAG_CHANGES, Port::MAIN, changes, Rows::Events),
            (
                TAGS_CURRENT,
                Tags::PROFILE,
                tags.profile_schema(),
                Rows::Windows,
            ),
            (SEGMENT_CHANGES, Tags::SEGMENTS, moves, Rows::Events),
        ];
        let tables = tables.into_iter().filter(|it| outputs.contains(it.0));
        let tables = tables.map(|(name, port, schema, rows)| (name.to_owned(), port, schema, rows));
        let newest = profile.newest.iter().enumerate().map(|(place, every)| {
            let schema = tags.profile_schema();
            (
                newest_profile(*every),
                Tags::newest(place),
                schema,
                Rows::Windows,
            )
        });
        for (name, port, schema, rows) in tables.chain(newest) {
            let flow = Flow {
                ends: vec![node],
                schema,
                rows,
                personal: personal.clone(),
            };
            let ends = vec![self.port(&name, &flow, port)?];
            self.flows.insert(name, Flow { ends, ..flow });
        }
        Ok(())
    }

    /// Adds the node that counts keys for scores by quantiles from the rows of `input`, and sends
    /// the counts to `tags`.
    fn count_keys(
        &mut self,
        spec: TagsSpec,
        events: Option<&str>,
        input: NodeId,
        tags: NodeId,
    ) -> Result<()> {
        let by_key = Partitioning::Hash(vec![spec.key]);
        let (name, label) = (Arc::clone(&spec.node), label_of(&spec));
        let population = Tags::new(spec)?;
        let operator = operator(&population, events);
        let node = self.graph.add(name, label, operator);
        self.graph
            .connect((input, Port::MAIN), (node, Port::MAIN), by_key);
        let counts = ((node, Tags::PROFILE), (tags, Tags::POPULATION));
        self.graph
            .connect(counts.0, counts.1, Partitioning::Broadcast);
        Ok(())
    }

    /// The rows that leave `flow` by `port`, as a node's main output.
    fn port(&mut self, name: &str, flow: &Flow, port: Port) -> Result<NodeId> {
        let planned = flow.resolved(&DFSchema::empty())?;
        let columns = flow.schema.fields().iter().map(|field| Computed {
            expr: Expr::Column(datafusion::common::Column::new_unqualified(field.name())),
            field: Arc::clone(field),
        });
        let map = flow.map(&planned, None, columns.collect(), Offsets::Drop)?;
        let map = self.add_map(name, format!("the rows of {name}"), map, flow);
        for end in &flow.ends {
            let edge = ((*end, port), (map, Port::MAIN));
            self.graph.connect(edge.0, edge.1, Partitioning::Forward);
        }
        Ok(map)
    }

    /// The filter of a table on the rows of `tags.current`: those at its own times.
    pub(super) fn profile_filter(&self, from: &str, parquet: &ParquetConfig) -> Option<Expr> {
        let every = *parquet.every;
        if from != TAGS_CURRENT || every == self.spec.profile_every() {
            return None;
        }
        let as_of = cast(col("as_of"), DataType::Int64);
        Some((as_of % lit(micros(every))).eq(lit(0_i64)))
    }

    fn tags_at(&self) -> Position {
        let tags = self.spec.tags.as_ref();
        tags.map_or(Position::START, |tags| Setting::at(&tags.from))
    }
}

fn relation(schema: SchemaRef, rows: Rows) -> Relation {
    Relation {
        lineage: vec![Lineage::Plain; schema.fields().len()],
        schema,
        rows,
        upsert: None,
    }
}

/// The node of `tags`, whose state also depends on the definition of `events`.
fn operator(tags: &Arc<Tags>, events: Option<&str>) -> NodeKind {
    let fingerprint = tags.fingerprint();
    NodeKind::Operator(OperatorNode {
        factory: tags.factory(),
        fingerprint: Some(match events {
            None => fingerprint,
            Some(events) => format!("{fingerprint}; {events}"),
        }),
    })
}

/// One line for `explain`.
fn label_of(spec: &TagsSpec) -> String {
    let names = |names: Vec<&str>| names.join(", ");
    let tags = names(spec.tags.iter().map(|tag| tag.name.as_str()).collect());
    let key = spec.input.field(spec.key).name();
    let mut label = format!("tags by {key}: {tags}");
    let segments = &spec.segments.segments;
    if !segments.is_empty() {
        let segments = segments.iter().map(|segment| &*segment.name).collect();
        label = format!("{label}; segments: {}", names(segments));
    }
    label
}
