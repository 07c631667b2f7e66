//! `tagflow tags`.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use reqwest::StatusCode;
use serde_json::Value;
use tagflow_engine::Error;
use tagflow_pipelines::{Pipeline, spec};
use tagflow_service::{
    profiles::{KeyProfile, Lookup, json, known_before, known_of, through},
    state_folder::StateFolder,
    status::ask_owner,
};

use crate::{
    cli::{Tags, TagsCommand, TagsGet},
    exit::Exit,
    human, output,
    terminal::Stream,
};

pub(crate) async fn execute(args: Tags) -> anyhow::Result<Exit> {
    let TagsCommand::Get(args) = args.command;
    let pipeline = Pipeline::open(&args.pipeline.file, &args.pipeline.load_options())?;
    let known = match before(&args, &pipeline).await? {
        Some(known) => known,
        None => match live(&args, &pipeline).await? {
            Some(known) => known,
            None => committed(&args, &pipeline).await?,
        },
    };
    let names = order(&pipeline, &known);
    let text = match &args.why {
        Some(tag) => why(&args, &known, tag, &names)?,
        None if args.json => format!("{}\n", serde_json::to_string_pretty(&known)?),
        None => table(&args.user, &known, &names),
    };
    output::print(&text)?;
    Ok(Exit::Success)
}

/// The profile at a time before the last commit; `None` if none is requested.
async fn before(args: &TagsGet, pipeline: &Pipeline) -> anyhow::Result<Option<Value>> {
    let Some(as_of) = args.as_of else {
        return Ok(None);
    };
    // Others report a missing or unreadable commit.
    let committed = known_of(pipeline, &args.user).await;
    if committed.map_or(true, |known| as_of >= known.as_of()) {
        return Ok(None);
    }
    let Some(profile) = known_before(pipeline, &args.user, as_of).await? else {
        let message = format!("`{}` was not known as of {as_of}", args.user);
        return Err(Error::config(message).into());
    };
    let mut known = seen(args, pipeline, profile)?;
    known["is_told"] = true.into();
    Ok(Some(known))
}

/// The answer of the process that runs the pipeline; `None` if it is unreachable.
async fn live(args: &TagsGet, pipeline: &Pipeline) -> anyhow::Result<Option<Value>> {
    if pipeline.spec.tags.is_none() {
        return Ok(None);
    }
    let state = StateFolder::open(&pipeline.spec.checkpoint.url)?;
    let Some(record) = state.last(&pipeline.spec.name).await? else {
        return Ok(None);
    };
    let as_of = args.as_of.map(|time| ("as_of", time.to_string()));
    let scene = args.scene.clone().map(|scene| ("scene", scene));
    let parameters: Vec<_> = as_of.into_iter().chain(scene).collect();
    let Some(answer) = ask_owner(&record, &["tags", &args.user], &parameters).await else {
        return Ok(None);
    };
    let code = answer.status();
    let said: Value = answer.json().await?;
    match code {
        StatusCode::OK => Ok(Some(said)),
        // It is starting or stopping.
        StatusCode::SERVICE_UNAVAILABLE => Ok(None),
        _ => Err(Error::config(said["error"].as_str().unwrap_or_default()).into()),
    }
}

/// The profile at the last commit.
async fn committed(args: &TagsGet, pipeline: &Pipeline) -> anyhow::Result<Value> {
    let mut known = known_of(pipeline, &args.user).await?;
    let lookup = Lookup {
        key: args.user.clone(),
        as_of: args.as_of,
    };
    let Some(profile) = known.get(&lookup)? else {
        let message = format!("`{}` is not known as of {}", args.user, known.as_of());
        return Err(Error::config(message).into());
    };
    seen(args, pipeline, profile)
}

/// The part that the scene may read, if there is one.
fn seen(args: &TagsGet, pipeline: &Pipeline, mut profile: KeyProfile) -> anyhow::Result<Value> {
    if let Some(scene) = &args.scene {
        through(&pipeline.spec, scene, &mut profile)?;
    }
    Ok(json(&args.user, &profile, false)?)
}

/// The known tags, in the order of the pipeline file.
fn order(pipeline: &Pipeline, known: &Value) -> Vec<String> {
    let defined = pipeline.spec.tags.iter().flat_map(spec::Tags::outputs);
    let mut names: Vec<String> = defined.collect();
    let there = known["tags"].as_object();
    names.retain(|name| there.is_some_and(|there| there.contains_key(name)));
    let others = there.into_iter().flat_map(|there| there.keys());
    let others: Vec<String> = others.filter(|it| !names.contains(it)).cloned().collect();
    names.extend(others);
    names
}

/// One line per tag; empty columns are omitted.
fn table(user: &str, known: &Value, names: &[String]) -> String {
    let header = ["TAG", "VALUE", "SINCE", "FALLS AT", "COMPLETE SINCE"];
    let row = |name: &String| {
        let tag = &known["tags"][name];
        [
            name.clone(),
            shown(&tag["value"]),
            to_the_second(&tag["since"]),
            to_the_second(&tag["falls_at"]),
            to_the_second(&tag["complete_since"]),
        ]
    };
    let rows: Vec<_> = names.iter().map(row).collect();
    let is_used =
        |column: &usize| *column < 2 || rows.iter().any(|row| row[*column] != human::NOTHING);
    let columns: Vec<usize> = (0..header.len()).filter(is_used).collect();
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.iter().map(|&column| header[column]));
    for row in &rows {
        table.add_row(columns.iter().map(|&column| &row[column]));
    }
    if let Some(width) = Stream::Out.width() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let source = if known["is_live"] == true {
        "of the running pipeline"
    } else if known["is_told"] == true {
        "from the tables of changes"
    } else {
        "at the last commit"
    };
    let mut text = format!("{user} as of {}, {source}\n\n", or_nothing(&known["as_of"]));
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let segments = known["segments"].as_object();
    if segments.is_some_and(|segments| !segments.is_empty()) {
        text.push('\n');
    }
    for (segment, since) in segments.into_iter().flatten() {
        let _ = writeln!(text, "in {segment} since {}", or_nothing(since));
    }
    text
}

/// The parts of a tag's value.
fn why(args: &TagsGet, known: &Value, name: &str, names: &[String]) -> anyhow::Result<String> {
    let Some(tag) = known["tags"].get(name) else {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("there is no tag `{name}` (have: {})", names.join(", "));
        return Err(Error::config(message).into());
    };
    if args.json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(tag)?));
    }
    let mut text = format!(
        "{name} = {} as of {}\n",
        shown(&tag["value"]),
        or_nothing(&known["as_of"])
    );
    if let Some(since) = tag["since"].as_str() {
        let _ = writeln!(text, "since {since}");
    }
    if let Some(falls_at) = tag["falls_at"].as_str() {
        let _ = writeln!(text, "falls at {falls_at} if no event comes");
    }
    if let Some(complete_since) = tag["complete_since"].as_str() {
        let _ = writeln!(text, "knows its events from {complete_since} on");
    }
    for tile in tag["tiles"].as_array().into_iter().flatten() {
        let (start, end) = (or_nothing(&tile["start"]), or_nothing(&tile["end"]));
        let _ = writeln!(text, "  {start} to {end}  {}", shown(&tile["value"]));
    }
    Ok(text)
}

/// A value as text, without the quotes of JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => human::NOTHING.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `2026-01-06 08:29:51`: a time in UTC, as `status` shows times.
fn to_the_second(time: &Value) -> String {
    let text = or_nothing(time);
    match text.split_once('T') {
        Some((date, time)) => format!("{date} {}", time.get(..8).unwrap_or(time)),
        None => text,
    }
}

fn or_nothing(time: &Value) -> String {
    time.as_str().unwrap_or(human::NOTHING).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn regression_values_have_no_quotes_and_columns_without_any_value_are_left_out() {
        let known = json!({
            "as_of": "2026-01-06T12:30:00Z",
            "tags": {
                "spend": {"value": "1842.35", "since": "2026-01-05T10:00:00.123Z"},
                "orders": {"value": 2, "since": null},
                "last_item": {"value": null},
            },
        });
        let names = ["spend", "orders", "last_item"].map(str::to_owned);
        assert_eq!(
            table("u1", &known, &names),
            "u1 as of 2026-01-06T12:30:00Z, at the last commit\n\n\
             TAG        VALUE    SINCE\n\
             spend      1842.35  2026-01-05 10:00:00\n\
             orders     2        -\n\
             last_item  -        -\n"
        );
    }
}
