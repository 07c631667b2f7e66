//! What is known of users: from a pipeline that runs, and from its last commit.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value, json};
use tagflow_engine::{
    Error, EventTime, Result,
    commit::StateRef,
    inquiry::Inquiry,
    state::{StatePart, lane_of},
};
use tagflow_operators::tags::{Known, Tags, Told};

pub use tagflow_operators::tags::{Lookup, Profiled, TagTile, TagValue};

use crate::{
    Pipeline, Spec,
    inspect::StateFolder,
    query::{Tables, tables_of},
    spec::{Output, SEGMENT_CHANGES, Scene, Sink, TAG_CHANGES},
};

/// How often tables are read when commits come in between.
const ATTEMPTS: usize = 5;

/// The node of tags.
const NODE: &str = "tags";

/// The users of a pipeline that runs.
#[derive(Debug, Clone)]
pub struct Live {
    /// Where its operators are asked.
    pub inquiry: Inquiry,
    /// The pipeline.
    pub spec: Arc<Spec>,
}

impl Live {
    /// What is known of a key now, or what `scene` sees of it; none of one that is not
    /// known. Where the pipeline restarts or nobody owns the key yet, there is no answer.
    ///
    /// # Errors
    /// `Config` where the pipeline has no tags, there is no such scene, the key cannot be
    /// one, or the time has gone by.
    pub async fn get(&self, lookup: &Lookup, scene: Option<&str>) -> Result<Answer> {
        if self.spec.tags.is_none() {
            return Err(without_tags(&self.spec));
        }
        let scene = scene.map(|scene| find(&self.spec, scene)).transpose()?;
        let question = serde_json::to_string(lookup)
            .map_err(|error| Error::internal("a question is no JSON").with_source(error))?;
        let Some(answer) = self.inquiry.ask(NODE, &question).await else {
            return Ok(Answer::None);
        };
        let known: Option<Profiled> = serde_json::from_str(&answer?)
            .map_err(|error| Error::internal("an answer cannot be read").with_source(error))?;
        Ok(match known {
            None => Answer::Unknown,
            Some(mut known) => {
                if let Some(scene) = scene {
                    narrow(&self.spec, scene, &mut known);
                }
                Answer::Known(known)
            }
        })
    }
}

/// What a pipeline that runs says of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// This.
    Known(Profiled),
    /// That it had no event, or all is forgotten.
    Unknown,
    /// Nothing.
    None,
}

/// The users of a pipeline at its last commit.
///
/// # Errors
/// `Config` where the pipeline has no tags, or no commit, or its tags have changed
/// since; `Data` where the state is damaged; `External` where the store fails.
pub async fn known(pipeline: &Pipeline) -> Result<Known> {
    let (tags, state) = open(pipeline)?;
    let parts = state.state(&pipeline.spec.name, NODE, |_, _| true).await?;
    Known::new(tags, committed(pipeline, &state, parts)?)
}

/// The users of a pipeline at its last commit, of whom only `key` is looked for: of
/// keys, the parts of one lane are read.
///
/// # Errors
/// As those of [`known`]; `Config` too where the key cannot be one.
pub async fn known_of(pipeline: &Pipeline, key: &str) -> Result<Known> {
    let (tags, state) = open(pipeline)?;
    let group = tags.key_group(key)?;
    let is_wanted = |part: &StateRef, lanes: usize| {
        !Tags::is_of_keys(&part.key) || part.lane == lane_of(group, lanes)
    };
    let parts = state.state(&pipeline.spec.name, NODE, is_wanted).await?;
    let parts = committed(pipeline, &state, parts)?;
    Known::new(tags, tags.of_key(key, parts)?)
}

/// What was known of a key at a time before the last commit, from the tables of
/// `tags.changes` and `segments.changes`, and from their rows that wait for a file; none
/// of a key that was not known. See [`Tags::told`].
///
/// # Errors
/// `Config` where the pipeline has no such Parquet tables, or the key cannot be one;
/// `Data` where a table or the state is damaged; `External` where the store fails, or
/// the pipeline commits faster than can be read.
pub async fn known_before(
    pipeline: &Pipeline,
    key: &str,
    as_of: EventTime,
) -> Result<Option<Profiled>> {
    let (tags, state) = open(pipeline)?;
    tags.key_group(key)?;
    let quoted = |text: &str, quote: char| text.replace(quote, &format!("{quote}{quote}"));
    let is_meant = format!(
        "arrow_cast(\"{}\", 'Utf8') = '{}' AND effective_at <= '{as_of}'",
        quoted(tags.key_name(), '"'),
        quoted(key, '\''),
    );
    let name = &*pipeline.spec.name;
    for _ in 0..ATTEMPTS {
        let before = state.last(name).await?.map(|record| record.seq);
        let told = Told {
            changes: rows_of(pipeline, &state, TAG_CHANGES, &is_meant).await?,
            moves: if pipeline.spec.segments.is_empty() {
                Vec::new()
            } else {
                rows_of(pipeline, &state, SEGMENT_CHANGES, &is_meant).await?
            },
        };
        // A commit moves rows from the state into files.
        if state.last(name).await?.map(|record| record.seq) == before {
            return tags.told(&told, key, as_of);
        }
    }
    Err(Error::external(format!(
        "`{name}` commits faster than its tables can be read; ask again"
    )))
}

/// The rows of the table of `from` that `is_meant`, and those that wait to be in it.
async fn rows_of(
    pipeline: &Pipeline,
    state: &StateFolder,
    from: &str,
    is_meant: &str,
) -> Result<Vec<RecordBatch>> {
    let spec = &pipeline.spec;
    let is_table = |sink: &Sink| *sink.from == *from && matches!(sink.output(), Output::Parquet(_));
    let mut sinks = spec.sinks.iter();
    let Some((sink, _)) = sinks.find(|(_, sink)| is_table(sink)) else {
        return Err(Error::config(format!(
            "what was before the last commit is in the table of `{from}`, and `{}` writes none: \
             give it a sink with `from: {from}` and `parquet`",
            *spec.name
        )));
    };
    let waiting = state
        .state(&spec.name, sink, |_, _| true)
        .await?
        .unwrap_or_default();
    let mut rows: Vec<RecordBatch> = waiting.into_iter().map(|part| part.rows).collect();
    let sql = format!("SELECT * FROM \"{sink}\" WHERE {is_meant}");
    let tables = tables_of(state, Some(&spec.name)).await?;
    rows.extend_from_slice(Tables::new(tables).ask(&sql).await?.batches());
    Ok(rows)
}

fn open(pipeline: &Pipeline) -> Result<(&Arc<Tags>, StateFolder)> {
    let Pipeline { spec, lowered } = pipeline;
    let tags = lowered.known.as_ref().ok_or_else(|| without_tags(spec))?;
    Ok((tags, StateFolder::open(&spec.checkpoint.url)?))
}

fn committed(
    pipeline: &Pipeline,
    state: &StateFolder,
    parts: Option<Vec<StatePart>>,
) -> Result<Vec<StatePart>> {
    parts.ok_or_else(|| {
        Error::config(format!(
            "`{}` has no commit in `{}`; run it first",
            *pipeline.spec.name,
            state.url()
        ))
    })
}

fn without_tags(spec: &Spec) -> Error {
    Error::config(format!("`{}` has no `tags`", *spec.name))
}

/// Leaves of what is known only what a scene sees.
///
/// # Errors
/// `Config` where there is no such scene.
pub fn through(spec: &Spec, scene: &str, known: &mut Profiled) -> Result<()> {
    narrow(spec, find(spec, scene)?, known);
    Ok(())
}

fn find<'a>(spec: &'a Spec, scene: &str) -> Result<&'a Scene> {
    spec.scenes.get(scene).ok_or_else(|| {
        let names: Vec<String> = spec
            .scenes
            .names()
            .map(|name| format!("`{name}`"))
            .collect();
        Error::config(format!(
            "there is no scene `{scene}` (have: {})",
            names.join(", ")
        ))
    })
}

fn narrow(spec: &Spec, Scene { tags, segments }: &Scene, known: &mut Profiled) {
    let block = spec.tags.as_ref();
    known.tags.retain(|tag| {
        let base = block.and_then(|block| block.output(&tag.name));
        tags.iter()
            .any(|seen| **seen == tag.name || base.is_some_and(|(base, _)| **seen == *base))
    });
    known
        .segments
        .retain(|(name, _)| segments.iter().any(|seen| **seen == *name));
}

/// What is known of a key, as services and programs read it. Where `is_live`, it is of a
/// pipeline that runs, and not of its last commit.
///
/// # Errors
/// `Internal` where a value is no JSON.
pub fn json(key: &str, known: &Profiled, is_live: bool) -> Result<Value> {
    let mut tags = Map::new();
    for tag in &known.tags {
        tags.insert(tag.name.clone(), tag_json(tag)?);
    }
    let segments = known.segments.iter();
    let segments = segments.map(|(name, since)| (name.clone(), since.to_string().into()));
    Ok(json!({
        "key": key,
        "as_of": known.as_of.to_string(),
        "is_live": is_live,
        "tags": tags,
        "segments": segments.collect::<Map<String, Value>>(),
    }))
}

fn tag_json(tag: &TagValue) -> Result<Value> {
    let value = |json: &str| {
        serde_json::from_str::<Value>(json).map_err(|error| {
            Error::internal(format!("a value of `{}` is no JSON", tag.name)).with_source(error)
        })
    };
    let time = |time: Option<EventTime>| time.map(|time| time.to_string());
    let tiles = tag.tiles.iter().map(|tile| {
        Ok(json!({
            "start": tile.start.to_string(),
            "end": tile.end.to_string(),
            "value": value(&tile.json)?,
        }))
    });
    Ok(json!({
        "value": value(&tag.json)?,
        "since": time(tag.since),
        "falls_at": time(tag.falls_at),
        "complete_since": time(tag.complete_since),
        "tiles": tiles.collect::<Result<Vec<Value>>>()?,
    }))
}
