//! Tags, segments and scenes: their names, and their references to each other.

use std::time::Duration;

use super::Check;
use tagflow_config::diagnostic::{Position, unknown};

use crate::spec::{
    Name, Setting, Sink, SinkConfig, TAG_CHANGES, TAGS_CURRENT, Tags, tags::TagDefinition,
};
use tagflow_connectors::parquet::{ParquetConfig, WriteMode};

/// The columns of the profile that are no tags, beside the key.
const PROFILE: [&str; 3] = ["as_of", "incomplete", "segments"];

/// The blocks whose names are also names of nodes in the graph.
const BLOCKS: [&str; 2] = ["tags", "segments"];

/// The most folders of a snapshot.
const MOST_BUCKETS: u64 = 1000;

impl Check<'_, '_> {
    pub(super) fn tags(&mut self) {
        let spec = self.spec;
        let blocks = [
            ("segments", spec.segments.names().collect::<Vec<_>>()),
            ("scenes", spec.scenes.names().collect()),
        ];
        for (block, names) in &blocks {
            for name in names {
                self.name(name, name.at(), block);
            }
        }
        self.profiles();
        self.reserved();
        let Some(tags) = &spec.tags else {
            for (block, names) in &blocks {
                if let Some(name) = names.first()
                    && !spec.is_unreadable(TAG_CHANGES)
                {
                    let message = format!("`{block}` go by tags, and there are none");
                    self.diagnostics
                        .error(name.at(), *block, message)
                        .help("add a block `tags`");
                }
            }
            return;
        };
        for name in tags.define.names() {
            self.name(name, name.at(), "tags.define");
        }
        self.reference(&tags.from, "tags.from");
        self.columns(tags);
        self.derived(tags);
        self.scenes(tags);
    }

    /// Nodes of the graph, and the expectations of tests, have the names of the blocks.
    fn reserved(&mut self) {
        let spec = self.spec;
        let names = spec.relations().chain(spec.tables.names());
        for name in names.chain(spec.sinks.names()) {
            if BLOCKS.contains(&&**name) {
                let message = format!("the name `{name}` belongs to the block `{name}`");
                self.diagnostics
                    .error(name.at(), "", message)
                    .help("state and metrics go by it; give this another");
            }
        }
    }

    /// Each column of the profile has a name of its own.
    fn columns(&mut self, tags: &Tags) {
        let mut seen = PROFILE.map(str::to_owned).to_vec();
        seen.push(tags.key.value().clone());
        for (name, tag) in tags.define.iter() {
            for output in tag.outputs(name) {
                if seen.contains(&output) {
                    let message = match output.as_str() {
                        own if PROFILE.contains(&own) => {
                            format!("the column `{own}` of the profile is Tagflow's own")
                        }
                        key if key == tags.key.as_str() => {
                            format!("`{key}` is the key, so no tag can be called so")
                        }
                        _ => format!("two tags are named `{output}`"),
                    };
                    self.diagnostics
                        .error(name.at(), format!("tags.define.{name}"), message)
                        .help("give the tag another name");
                }
                seen.push(output);
            }
        }
    }

    /// Tags that are derived from others.
    fn derived(&mut self, tags: &Tags) {
        let mut reported: Vec<&str> = Vec::new();
        for (name, tag) in tags.define.iter() {
            let Some(of) = tag.reads() else {
                continue;
            };
            let path = format!("tags.define.{name}");
            if tags.output(of).is_none() {
                self.no_tag(tags, of, &path);
                continue;
            }
            let mut way: Vec<&str> = vec![name];
            let mut next = of.as_str();
            while let Some((found, tag)) = tags.output(next)
                && !way.contains(&found)
                && let Some(of) = tag.reads()
            {
                way.push(found);
                next = of;
            }
            if next == &**name && !reported.contains(&next) {
                let message = format!("tags in a circle: `{}` of `{name}`", way.join("` of `"));
                self.diagnostics.error(of.at(), path, message);
                reported.extend(way);
            }
        }
    }

    /// Reports that `wanted` is the column of no tag.
    fn no_tag(&mut self, tags: &Tags, wanted: &Setting<String>, path: &str) {
        let is_unreadable =
            |name: &Name| tags.define.is_unreadable(name) && wanted.starts_with(&**name);
        if tags.define.names().any(is_unreadable) {
            return;
        }
        let shown = wanted.shown();
        let message = if let Some(tag) = tags.define.get(wanted) {
            let outputs = tag.outputs(wanted).join("`, `");
            format!("`{shown}` has several windows; say which: `{outputs}`")
        } else {
            let outputs = tags.outputs();
            let names = unknown(wanted, outputs.iter().map(String::as_str));
            format!("tag `{shown}` not found{names}")
        };
        self.diagnostics.error(wanted.at(), path, message);
    }

    fn scenes(&mut self, tags: &Tags) {
        let spec = self.spec;
        for (name, scene) in spec.scenes.iter() {
            for tag in &scene.tags {
                if tags.define.get(tag).is_none() && tags.output(tag).is_none() {
                    self.no_tag(tags, tag, &format!("scenes.{name}.tags"));
                }
            }
            for segment in &scene.segments {
                let is_there = spec.segments.get(segment).is_some();
                if !is_there && !spec.segments.is_unreadable(segment) {
                    let names = spec.segments.names();
                    let names = unknown(segment, names.map(|name| &**name));
                    let message = format!("segment `{}` not found{names}", segment.shown());
                    let path = format!("scenes.{name}.segments");
                    self.diagnostics.error(segment.at(), path, message);
                }
            }
        }
    }

    /// The intervals and the targets of full profiles.
    fn profiles(&mut self) {
        let spec = self.spec;
        let mut periods: Vec<(&Setting<Duration>, String)> = Vec::new();
        for (name, sink) in spec.sinks.iter() {
            if let SinkConfig::Parquet(parquet) = &sink.output {
                let path = format!("sinks.{name}.parquet");
                self.profile(sink, parquet, &path);
                if *sink.from == TAGS_CURRENT && *parquet.mode != WriteMode::Snapshot {
                    periods.push((&parquet.every, format!("{path}.every")));
                }
            }
        }
        let Some(shortest) = periods.iter().map(|(every, _)| ***every).min() else {
            return;
        };
        for (every, path) in periods {
            if !every.as_nanos().is_multiple_of(shortest.as_nanos().max(1)) {
                let shortest = humantime::format_duration(shortest);
                let message = format!("`every` is a multiple of the {shortest} of another table");
                self.diagnostics.error(every.at(), path, message);
            }
        }
    }

    fn profile(&mut self, sink: &Sink, parquet: &ParquetConfig, path: &str) {
        let is_of_profile = *sink.from == TAGS_CURRENT;
        let is_snapshot = *parquet.mode == WriteMode::Snapshot;
        let mut mistakes: Vec<(Position, &str, String)> = Vec::new();
        if is_snapshot && !is_of_profile {
            let message = format!("`snapshot` is for rows of `{TAGS_CURRENT}`");
            mistakes.push((parquet.mode.at(), "mode", message));
        }
        if !parquet.every.is_default() && !is_of_profile {
            let message = format!("`every` is for rows of `{TAGS_CURRENT}`");
            mistakes.push((parquet.every.at(), "every", message));
        }
        if parquet.every.as_secs() < 1 {
            let message = "a profile cannot come out more often than every 1s".to_owned();
            mistakes.push((parquet.every.at(), "every", message));
        }
        if !parquet.buckets.is_default() && !is_snapshot {
            let message = "`buckets` is for `mode: snapshot`".to_owned();
            mistakes.push((parquet.buckets.at(), "buckets", message));
        }
        if !(1..=MOST_BUCKETS).contains(parquet.buckets.value()) {
            let message = format!("`buckets` is from 1 to {MOST_BUCKETS}");
            mistakes.push((parquet.buckets.at(), "buckets", message));
        }
        if let Some(folder) = parquet.partition_by.names().next()
            && is_snapshot
        {
            let message = "the folders of a snapshot are its `buckets`".to_owned();
            mistakes.push((folder.at(), "partition_by", message));
        }
        for (at, field, message) in mistakes {
            self.diagnostics
                .error(at, format!("{path}.{field}"), message);
        }
    }
}

impl TagDefinition {
    /// The tag that this one is derived from.
    pub(super) fn reads(&self) -> Option<&Setting<String>> {
        match self {
            Self::TimeSince(tag) => Some(&tag.time_since),
            Self::Score(tag) => Some(&tag.score),
            Self::Aggregate(_) | Self::TopK(_) | Self::Funnel(_) | Self::Absence(_) => None,
        }
    }
}
