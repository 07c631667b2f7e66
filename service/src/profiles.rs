//! The profiles of users: from a live pipeline, and from its last commit.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value, json};
use tagflow_engine::{
    Error, EventTime, Result,
    commit::StateRef,
    state::{StatePart, lane_of},
    state_query::StateQuery,
};
use tagflow_operators::tags::{ChangeHistory, SnapshotReader, Tags};

pub use tagflow_operators::tags::{KeyProfile, Lookup, TagTile, TagValue};

use crate::{
    query::{Tables, tables_of},
    state_folder::StateFolder,
};
use tagflow_pipelines::{
    Pipeline, Spec,
    spec::{SEGMENT_CHANGES, Scene, Sink, SinkConfig, TAG_CHANGES},
};

/// How often to read tables again if commits happen meanwhile.
const ATTEMPTS: usize = 5;

/// The node of tags.
const NODE: &str = "tags";

/// The users of a live pipeline.
#[derive(Debug, Clone)]
pub struct Live {
    /// Queries the state of its operators.
    pub inquiry: StateQuery,
    /// The pipeline.
    pub spec: Arc<Spec>,
}

impl Live {
    /// The profile of a key now, or the part that `scene` may read; `Unknown` for an unknown key.
    /// There is no answer while the pipeline restarts or no lane owns the key yet.
    ///
    /// # Errors
    /// `Config` where the pipeline has no tags, the scene does not exist, the key is
    /// invalid, or the time has passed.
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
        let known: Option<KeyProfile> = serde_json::from_str(&answer?)
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

/// The tags of a key in a running job, as of its watermark.
///
/// # Errors
/// `Config` where the key cannot be one; `Internal` where nobody answers.
pub(crate) async fn ask(inquiry: &StateQuery, key: &str) -> Result<Option<KeyProfile>> {
    let lookup = Lookup {
        key: key.to_owned(),
        as_of: Some(EventTime::MIN),
    };
    let question = serde_json::to_string(&lookup)
        .map_err(|error| Error::internal("a question is no JSON").with_source(error))?;
    let answer = inquiry.ask(NODE, &question).await;
    let answer = answer.ok_or_else(|| Error::internal("no lane knows the key"))??;
    serde_json::from_str(&answer)
        .map_err(|error| Error::internal("an answer cannot be read").with_source(error))
}

/// The answer of a live pipeline about a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Its profile.
    Known(KeyProfile),
    /// The key has no event, or its state has expired.
    Unknown,
    /// No answer.
    None,
}

/// The users of a pipeline at its last commit.
///
/// # Errors
/// `Config` where the pipeline has no tags, or no commit, or its tags have changed since;
/// `Data` where the state is damaged; `External` where the store fails.
pub async fn known(pipeline: &Pipeline) -> Result<SnapshotReader> {
    let (tags, state) = open(pipeline)?;
    let parts = state.state(&pipeline.spec.name, NODE, |_, _| true).await?;
    SnapshotReader::new(tags, committed(pipeline, &state, parts)?)
}

/// The users of a pipeline at its last commit, for a lookup of `key` only: it reads the keys of a
/// single lane.
///
/// # Errors
/// As [`known`]; also `Config` where the key is invalid.
pub async fn known_of(pipeline: &Pipeline, key: &str) -> Result<SnapshotReader> {
    let (tags, state) = open(pipeline)?;
    let group = tags.key_group(key)?;
    let is_wanted = |part: &StateRef, lanes: usize| {
        !Tags::is_of_keys(&part.key) || part.lane == lane_of(group, lanes)
    };
    let parts = state.state(&pipeline.spec.name, NODE, is_wanted).await?;
    let parts = committed(pipeline, &state, parts)?;
    SnapshotReader::new(tags, tags.of_key(key, parts)?)
}

/// The profile of a key at a time before the last commit; `None` for an unknown key. Its sources
/// are the tables of `tags.changes` and `segments.changes`, and their rows that are not in a file
/// yet. See [`Tags::told`].
///
/// # Errors
/// `Config` where the pipeline has no such Parquet tables, or the key is invalid; `Data`
/// where a table or the state is damaged; `External` where the store fails, or the pipeline commits
/// faster than it can be read.
pub async fn known_before(
    pipeline: &Pipeline,
    key: &str,
    as_of: EventTime,
) -> Result<Option<KeyProfile>> {
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
        let told = ChangeHistory {
            changes: rows_of(pipeline, &state, TAG_CHANGES, &is_meant).await?,
            moves: if pipeline.spec.segments.is_empty() {
                Vec::new()
            } else {
                rows_of(pipeline, &state, SEGMENT_CHANGES, &is_meant).await?
            },
        };
        // A commit moves rows from the state into files.
        if state.last(name).await?.map(|record| record.seq) == before {
            let since = known_of(pipeline, key).await?.known_since(key)?;
            return tags.told(&told, key, as_of, since);
        }
    }
    Err(Error::external(format!(
        "`{name}` commits faster than its tables can be read; ask again"
    )))
}

/// The rows of the table of `from` for which `is_meant` is true, and those that wait for a file.
async fn rows_of(
    pipeline: &Pipeline,
    state: &StateFolder,
    from: &str,
    is_meant: &str,
) -> Result<Vec<RecordBatch>> {
    let spec = &pipeline.spec;
    let is_table =
        |sink: &Sink| *sink.from == *from && matches!(sink.output, SinkConfig::Parquet(_));
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

/// Reduces the profile to the part that a scene may read.
///
/// # Errors
/// `Config` where the scene does not exist.
pub fn through(spec: &Spec, scene: &str, known: &mut KeyProfile) -> Result<()> {
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

fn narrow(spec: &Spec, Scene { tags, segments }: &Scene, known: &mut KeyProfile) {
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

/// The profile of a key as JSON, for services and programs. `is_live` marks the profile of a live
/// pipeline, as opposed to its last commit.
///
/// # Errors
/// `Internal` where a value is no JSON.
pub fn json(key: &str, known: &KeyProfile, is_live: bool) -> Result<Value> {
    let mut tags = Map::new();
    for tag in &known.tags {
        tags.insert(tag.name.clone(), tag_json(tag)?);
    }
    let segments = known.segments.iter();
    let segments = segments.map(|(name, since)| (name.clone(), since.to_string().into()));
    let mut whole = json!({
        "key": key,
        "as_of": known.as_of.to_string(),
        "is_live": is_live,
        "tags": tags,
        "segments": segments.collect::<Map<String, Value>>(),
    });
    if known.waiting_events > 0 {
        whole["waiting_events"] = known.waiting_events.into();
    }
    Ok(whole)
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
        "falls_at": time(tag.expires_at),
        "complete_since": time(tag.complete_since),
        "tiles": tiles.collect::<Result<Vec<Value>>>()?,
    }))
}
