//! What is known of users, from a pipeline's last commit.

use tagflow_engine::{Error, Result};
use tagflow_operators::tags::Known;

pub use tagflow_operators::tags::{Profiled, TagTile, TagValue};

use crate::{Pipeline, Spec, inspect::StateFolder, spec::Scene};

/// The node of tags.
const NODE: &str = "tags";

/// The users of a pipeline at its last commit.
///
/// # Errors
/// `Config` where the pipeline has no tags, or no commit, or its tags have changed
/// since; `Data` where the state is damaged; `External` where the store fails.
pub async fn known(pipeline: &Pipeline) -> Result<Known> {
    let spec = &pipeline.spec;
    let Some(tags) = &pipeline.lowered.known else {
        return Err(Error::config(format!("`{}` has no `tags`", *spec.name)));
    };
    let state = StateFolder::open(&spec.checkpoint.url)?;
    let Some(parts) = state.state(&spec.name, NODE).await? else {
        return Err(Error::config(format!(
            "`{}` has no commit in `{}`; run it first",
            *spec.name,
            state.url()
        )));
    };
    Known::new(tags, parts)
}

/// Leaves of what is known only what a scene sees.
///
/// # Errors
/// `Config` where there is no such scene.
pub fn through(spec: &Spec, scene: &str, known: &mut Profiled) -> Result<()> {
    let Some(Scene { tags, segments }) = spec.scenes.get(scene) else {
        let names: Vec<String> = spec
            .scenes
            .names()
            .map(|name| format!("`{name}`"))
            .collect();
        return Err(Error::config(format!(
            "there is no scene `{scene}` (have: {})",
            names.join(", ")
        )));
    };
    let block = spec.tags.as_ref();
    known.tags.retain(|tag| {
        let base = block.and_then(|block| block.output(&tag.name));
        tags.iter()
            .any(|seen| **seen == tag.name || base.is_some_and(|(base, _)| **seen == *base))
    });
    known
        .segments
        .retain(|(name, _)| segments.iter().any(|seen| **seen == *name));
    Ok(())
}
