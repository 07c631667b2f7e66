//! The data dictionary: the meaning of each column.

#[cfg(test)]
mod tests;

use std::{fmt::Write as _, time::Duration};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tagflow_connectors::parquet::WriteMode;
use tagflow_engine::time::micros;
use tagflow_schemas::{dead_letter, late, tags as shapes};

use tagflow_pipelines::{
    Pipeline, Spec,
    diagnostic::unknown,
    plan::type_name,
    spec::{
        DEAD_LETTERS, LATE, SEGMENT_CHANGES, SinkConfig, SqlText, TAG_CHANGES, TAGS_CURRENT,
        tags::{Again, AggregateTag, TagAgg, TagDefinition, TagWindow},
    },
};

/// The meanings of a table's columns, by name.
type Meanings = Vec<(String, String)>;

/// The tables whose shape Tagflow defines, or the one named `table`.
///
/// # Errors
/// The available names, if none matches.
pub fn dictionary(table: Option<&str>) -> Result<String, String> {
    let key = Field::new("<key>", DataType::Utf8, false);
    let tables = [
        (
            TAG_CHANGES,
            "one row a change of a tag",
            shapes::changes(&key),
        ),
        (
            TAGS_CURRENT,
            "one row a key, with a column for each tag",
            shapes::profile(&key, &[]),
        ),
        (
            SEGMENT_CHANGES,
            "one row for each time that a key enters or leaves a segment",
            shapes::segments(&key),
        ),
        (
            DEAD_LETTERS,
            "one row an input row that could not be read",
            dead_letter::schema(),
        ),
        (
            LATE,
            "one row an input row that came too late, and query",
            late::schema(),
        ),
    ];
    let mut text = String::new();
    for (name, about, schema) in &tables {
        if table.is_none_or(|table| table == *name) {
            section(
                &mut text,
                &format!("{name}: {about}"),
                schema,
                &meanings(name, key.name()),
            );
        }
    }
    match table {
        Some(table) if text.is_empty() => {
            let names = unknown(
                table,
                tables.iter().map(|(name, ..)| *name).collect::<Vec<_>>(),
            );
            Err(format!("there is no table `{table}`{names}"))
        }
        _ => Ok(text),
    }
}

/// The tables that a pipeline writes, or the one of the sink `table`.
///
/// # Errors
/// The available names, if none matches.
pub fn of(pipeline: &Pipeline, table: Option<&str>) -> Result<String, String> {
    let Pipeline { spec, lowered } = pipeline;
    let mut text = String::new();
    for written in &lowered.tables {
        let name = &*written.name;
        if table.is_some_and(|table| table != name) {
            continue;
        }
        let (from, mut known) = match spec.sinks.get(name) {
            None => (String::new(), meanings(name, "")),
            Some(sink) => (
                format!(": from {}", sink.from.as_str()),
                of_sink(spec, name, &sink.from),
            ),
        };
        known.push(("dt".to_owned(), "the day, a Hive folder".to_owned()));
        section(&mut text, &format!("{name}{from}"), &written.schema, &known);
    }
    match table {
        Some(table) if text.is_empty() => {
            let names = lowered.tables.iter().map(|table| &*table.name);
            let names = unknown(table, names.collect::<Vec<_>>());
            Err(format!("there is no table `{table}`{names}"))
        }
        _ => Ok(text),
    }
}

/// The meanings of a sink's columns, those of its folders first.
fn of_sink(spec: &Spec, name: &str, from: &str) -> Meanings {
    let mut known = Meanings::new();
    if let Some(SinkConfig::Parquet(parquet)) = spec.sinks.get(name).map(|sink| &sink.output) {
        for (folder, text) in parquet.partition_by.iter() {
            let meaning = format!("{}, a Hive folder", text.text().trim());
            known.push((folder.to_string(), meaning));
        }
        if *parquet.mode == WriteMode::Snapshot {
            let meaning = format!(
                "one of {} Hive folders, by the hash of the key",
                *parquet.buckets
            );
            known.push(("bucket".to_owned(), meaning));
        }
    }
    if let Some(tags) = &spec.tags {
        known.extend(meanings(from, &tags.key));
        if from == TAGS_CURRENT {
            let tags = tags.define.iter();
            known.extend(tags.flat_map(|(name, tag)| of_tag(name, tag)));
        }
    }
    let of_windows = [
        ("window_start", "when the window begins"),
        ("window_end", "when it ends, not itself a part of it"),
        (
            "revision",
            "how often it has come out: below 0 before its close, above 0 as a correction",
        ),
        ("is_final", "whether the window had closed"),
    ];
    known.extend(of_windows.map(|(name, meaning)| (name.to_owned(), meaning.to_owned())));
    known
}

/// The meanings of a table that Tagflow defines.
fn meanings(table: &str, key: &str) -> Meanings {
    let columns: &[(&str, &str)] = match table {
        TAG_CHANGES => &shapes::CHANGES,
        TAGS_CURRENT => &shapes::PROFILE,
        SEGMENT_CHANGES => &shapes::SEGMENTS,
        DEAD_LETTERS => &dead_letter::COLUMNS,
        LATE => &late::COLUMNS,
        _ => &[],
    };
    let named = |name: &str| {
        if name == shapes::KEY {
            key.to_owned()
        } else {
            name.to_owned()
        }
    };
    let columns = columns.iter();
    columns
        .map(|(name, meaning)| (named(name), (*meaning).to_owned()))
        .collect()
}

/// The columns of a tag, each with its meaning.
fn of_tag(name: &str, tag: &TagDefinition) -> Meanings {
    let one = |meaning: String| vec![(name.to_owned(), meaning)];
    let lasting = |ttl: Option<Duration>| match ttl {
        None => String::new(),
        Some(ttl) => format!("; for {}", shown(ttl)),
    };
    let filtered = |filter: Option<&str>| match filter {
        None => String::new(),
        Some(filter) => format!(" where {}", filter.trim()),
    };
    match tag {
        TagDefinition::Aggregate(tag) => {
            let outputs = TagDefinition::Aggregate(tag.clone()).outputs(name);
            let filter = filtered(tag.filter.as_ref().map(SqlText::text));
            let ttl = lasting(tag.ttl.as_deref().copied());
            let whole = || vec![format!("{}{filter}, over all events{ttl}", aggregate(tag))];
            let meanings = tag.windows.as_ref().map_or_else(whole, |windows| {
                let of = |window: &TagWindow| {
                    format!("{}{filter}, {}{ttl}", aggregate(tag), over(tag, window))
                };
                windows.iter().map(|window| of(window)).collect()
            });
            outputs.into_iter().zip(meanings).collect()
        }
        TagDefinition::TimeSince(tag) => one(format!(
            "the time since {}, in units of {}",
            tag.time_since.as_str(),
            shown(tag.unit.duration())
        )),
        TagDefinition::TopK(tag) => {
            let filter = filtered(tag.filter.as_ref().map(SqlText::text));
            let top = &tag.top_k;
            let weights = tag.weights.as_ref().map_or_else(String::new, |weights| {
                let weights: Vec<String> = weights
                    .iter()
                    .map(|(name, weight)| format!("{name} {}", **weight))
                    .collect();
                format!(
                    "; weights by {}: {}",
                    tag.weigh_by.as_str(),
                    weights.join(", ")
                )
            });
            one(format!(
                "the {} of {}{filter} with the highest weight, which halves every {}, the heaviest first{weights}",
                *top.k,
                top.arg.text().trim(),
                shown(*top.half_life)
            ))
        }
        TagDefinition::Funnel(tag) => {
            let steps: Vec<String> = tag
                .funnel
                .steps
                .iter()
                .map(|(name, text)| format!("{name} ({})", text.text().trim()))
                .collect();
            one(format!(
                "the furthest step reached in order within {}: {}",
                shown(*tag.funnel.within),
                steps.join(", then ")
            ))
        }
        TagDefinition::Absence(tag) => {
            let absence = &tag.absence;
            let again = match *absence.again {
                Again::Each => "each waits",
                Again::First => "the first waits",
                Again::Restart => "the last waits",
            };
            one(format!(
                "whether no `{}` followed a `{}` within {}, of several in a row {again}{}",
                absence.expect.text().trim(),
                absence.after.text().trim(),
                shown(*absence.within),
                lasting(tag.ttl.as_deref().copied())
            ))
        }
        TagDefinition::Score(tag) => {
            let numbers = tag.cuts.iter().flatten().map(|cut| cut.value().to_string());
            let numbers: Vec<String> = numbers.collect();
            let (highest_score, cuts) = match &tag.quantiles {
                None => (
                    numbers.len() as u64 + 1,
                    format!("cut at {}", numbers.join(", ")),
                ),
                Some(parts) => {
                    let cuts = "each the same share of all keys as of the last midnight UTC";
                    (**parts, cuts.to_owned())
                }
            };
            let highest = if *tag.reversed {
                "low values are high"
            } else {
                "high values are high"
            };
            one(format!(
                "a score of {} from 1 to {highest_score}, {cuts}; {highest}",
                tag.score.as_str(),
            ))
        }
    }
}

fn aggregate(tag: &AggregateTag) -> String {
    let arg = tag.arg.as_ref().map_or("", |text| text.text().trim());
    match *tag.agg {
        TagAgg::Count if arg.is_empty() => "how many events".to_owned(),
        TagAgg::Count => format!("how many events with {arg}"),
        TagAgg::Sum => format!("the sum of {arg}"),
        TagAgg::Min => format!("the least {arg}"),
        TagAgg::Max => format!("the greatest {arg}"),
        TagAgg::Avg => format!("the mean of {arg}"),
        TagAgg::Std => format!("the sample standard deviation of {arg}"),
        TagAgg::Distinct => {
            let bound = tag.exact_up_to();
            let error = 100.0 / (bound as f64).sqrt();
            format!(
                "how many different {arg} (exact up to {bound}, then an estimate with a relative \
                 standard error of {error:.1} %)"
            )
        }
        TagAgg::First => format!("the first {arg}"),
        TagAgg::Last => format!("the last {arg}"),
        TagAgg::LastK => format!(
            "the last {} {arg}, the newest first",
            tag.k.as_deref().copied().unwrap_or(1)
        ),
    }
}

/// The events of a tag, in words.
fn over(tag: &AggregateTag, window: &TagWindow) -> String {
    let Some(width) = window.width() else {
        return "over all events".to_owned();
    };
    let tile = if *tag.exact {
        "exact".to_owned()
    } else {
        format!("events leave by tiles of {}", shown(tag.tile(width)))
    };
    format!("over the last {} ({tile})", shown(width))
}

/// A table: its columns, their types, and their meanings.
fn section(text: &mut String, title: &str, schema: &SchemaRef, meanings: &Meanings) {
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "{title}");
    let columns = columns(schema);
    let width = |of: fn(&(String, String)) -> usize| columns.iter().map(of).max().unwrap_or(0);
    let (names, types) = (
        width(|it| it.0.chars().count()),
        width(|it| it.1.chars().count()),
    );
    for (name, kind) in &columns {
        let meaning = meanings.iter().find(|(known, _)| known == name);
        let meaning = meaning.map_or("", |(_, meaning)| meaning);
        let line = format!("  {name:<names$}  {kind:<types$}  {meaning}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// In the largest unit that divides it: 90 days are no months.
fn shown(duration: Duration) -> String {
    let units = [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
    ];
    let micros = micros(duration);
    let unit = units.iter().find(|(_, unit)| micros % unit == 0);
    let (name, unit) = unit.unwrap_or(&("us", 1));
    format!("{}{name}", micros / unit)
}

fn columns(schema: &Schema) -> Vec<(String, String)> {
    let fields = schema.fields().iter();
    fields
        .map(|field| (field.name().clone(), type_name(field.data_type())))
        .collect()
}
