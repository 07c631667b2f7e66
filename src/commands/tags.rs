//! `tagflow tags`.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};
use tagflow_engine::{Error, EventTime};
use tagflow_pipelines::{
    Pipeline,
    known::{Profiled, TagValue, known, through},
};

use crate::{
    cli::{Tags, TagsCommand, TagsGet},
    exit::Exit,
    figures, output,
};

pub(crate) async fn execute(args: Tags) -> anyhow::Result<Exit> {
    let TagsCommand::Get(args) = args.command;
    let pipeline = Pipeline::open(&args.pipeline.file, &args.pipeline.load_options())?;
    let mut known = known(&pipeline).await?;
    let Some(mut profile) = known.get(&args.user, args.as_of)? else {
        let message = format!("`{}` is not known as of {}", args.user, known.as_of());
        return Err(Error::config(message).into());
    };
    if let Some(scene) = &args.scene {
        through(&pipeline.spec, scene, &mut profile)?;
    }
    let text = match &args.why {
        Some(tag) => why(&args, &profile, tag)?,
        None if args.json => format!(
            "{}\n",
            serde_json::to_string_pretty(&as_json(&args.user, &profile)?)?
        ),
        None => table(&args.user, &profile),
    };
    output::print(&text)?;
    Ok(Exit::Success)
}

/// A line a tag.
fn table(user: &str, profile: &Profiled) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "TAG",
        "VALUE",
        "SINCE",
        "FALLS AT",
        "COMPLETE SINCE",
    ]);
    for tag in &profile.tags {
        table.add_row([
            tag.name.clone(),
            tag.json.clone(),
            or_nothing(tag.since),
            or_nothing(tag.falls_at),
            or_nothing(tag.complete_since),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = format!("{user} as of {}\n\n", profile.as_of);
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if !profile.segments.is_empty() {
        text.push('\n');
    }
    for (segment, since) in &profile.segments {
        let _ = writeln!(text, "in {segment} since {since}");
    }
    text
}

/// What a tag's value is made of.
fn why(args: &TagsGet, profile: &Profiled, name: &str) -> anyhow::Result<String> {
    let Some(tag) = profile.tags.iter().find(|tag| tag.name == name) else {
        let names = profile.tags.iter().map(|tag| format!("`{}`", tag.name));
        let names: Vec<String> = names.collect();
        let message = format!("there is no tag `{name}` (have: {})", names.join(", "));
        return Err(Error::config(message).into());
    };
    if args.json {
        return Ok(format!(
            "{}\n",
            serde_json::to_string_pretty(&tag_json(tag)?)?
        ));
    }
    let mut text = format!("{name} = {} as of {}\n", tag.json, profile.as_of);
    if let Some(since) = tag.since {
        let _ = writeln!(text, "since {since}");
    }
    if let Some(falls_at) = tag.falls_at {
        let _ = writeln!(text, "falls at {falls_at} if no event comes");
    }
    if let Some(complete_since) = tag.complete_since {
        let _ = writeln!(text, "knows its events from {complete_since} on");
    }
    for tile in &tag.tiles {
        let _ = writeln!(text, "  {} to {}  {}", tile.start, tile.end, tile.json);
    }
    Ok(text)
}

fn as_json(user: &str, profile: &Profiled) -> anyhow::Result<Value> {
    let mut tags = Map::new();
    for tag in &profile.tags {
        tags.insert(tag.name.clone(), tag_json(tag)?);
    }
    let segments = profile.segments.iter();
    let segments = segments.map(|(name, since)| (name.clone(), since.to_string().into()));
    Ok(json!({
        "key": user,
        "as_of": profile.as_of.to_string(),
        "tags": tags,
        "segments": segments.collect::<Map<String, Value>>(),
    }))
}

fn tag_json(tag: &TagValue) -> anyhow::Result<Value> {
    let value: Value = serde_json::from_str(&tag.json)?;
    let time = |time: Option<EventTime>| time.map(|time| time.to_string());
    let tiles = tag.tiles.iter().map(|tile| {
        let value: Value = serde_json::from_str(&tile.json)?;
        Ok(json!({"start": tile.start.to_string(), "end": tile.end.to_string(), "value": value}))
    });
    let tiles = tiles.collect::<anyhow::Result<Vec<Value>>>()?;
    Ok(json!({
        "value": value,
        "since": time(tag.since),
        "falls_at": time(tag.falls_at),
        "complete_since": time(tag.complete_since),
        "tiles": tiles,
    }))
}

fn or_nothing(time: Option<EventTime>) -> String {
    time.map_or_else(|| figures::NOTHING.into(), |time| time.to_string())
}
