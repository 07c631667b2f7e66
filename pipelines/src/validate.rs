//! Checks across the blocks of a file that need neither SQL nor a network.

mod tags;
mod test_cases;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use tagflow_config::diagnostic::{Diagnostics, Position, closest, unknown};
use tagflow_connectors::{files, storage};
use tagflow_schemas::ColumnType;

use crate::spec::{Deliver, Dimension, Format, Name, OPEN_TO_OTHERS, Setting, Sink, Source, Spec};

/// Adds all errors and warnings of `spec` to `diagnostics`.
pub(crate) fn validate(spec: &Spec, diagnostics: &mut Diagnostics) {
    let mut check = Check { spec, diagnostics };
    check.names();
    check.collisions();
    check.metrics();
    for (name, source) in spec.sources.iter() {
        check.source(name, source);
    }
    for (name, table) in spec.tables.iter() {
        check.dimension(name, table);
    }
    check.tags();
    check.references();
    check.cycles();
    check.tables();
    check.limits();
    check.test_cases();
}

struct Check<'s, 'd> {
    spec: &'s Spec,
    diagnostics: &'d mut Diagnostics,
}

/// The longest name.
const LONGEST_NAME: usize = 63;

/// More lanes than key groups would be idle.
const MOST_LANES: u64 = 256;

/// The binary alone needs almost this much.
const LEAST_MEMORY_BYTES: u64 = 128 << 20;

impl Check<'_, '_> {
    fn names(&mut self) {
        let spec = self.spec;
        if !spec.name.is_default() {
            self.name(&spec.name, spec.name.at(), "name");
        }
        for name in spec.params.names() {
            self.name(name, name.at(), "params");
        }
        for (block, names) in [
            ("sources", spec.sources.names().collect::<Vec<_>>()),
            ("tables", spec.tables.names().collect()),
            ("steps", spec.steps.names().collect()),
            ("queries", spec.queries.names().collect()),
            ("metrics", spec.metrics.names().collect()),
            ("sinks", spec.sinks.names().collect()),
        ] {
            for name in names {
                self.name(name, name.at(), block);
            }
        }
    }

    fn name(&mut self, name: &str, at: Position, path: &str) {
        let is_first = |first: char| first.is_ascii_lowercase() || first.is_ascii_digit();
        let is_name = name.starts_with(is_first)
            && name.len() <= LONGEST_NAME
            && name.chars().all(|it| is_first(it) || "_-".contains(it));
        if !is_name {
            let message = format!(
                "`{name}` is not a name: lower-case letters, digits, `_` and `-`, a letter or \
                 digit first, at most {LONGEST_NAME}"
            );
            self.diagnostics.error(at, path, message);
        }
    }

    /// SQL and `from` share one namespace.
    fn collisions(&mut self) {
        let spec = self.spec;
        let mut seen: Vec<&Name> = Vec::new();
        for name in spec.relations().chain(spec.tables.names()) {
            match seen.iter().find(|other| other[..] == name[..]) {
                Some(other) => {
                    let message = format!(
                        "the name `{name}` is taken, at {}; sources, tables, steps, queries \
                         and metrics share their names",
                        other.at()
                    );
                    self.diagnostics.error(name.at(), "", message);
                }
                None => seen.push(name),
            }
        }
    }

    /// The columns of a `metrics` table have distinct names.
    fn metrics(&mut self) {
        let spec = self.spec;
        for (block, metrics) in spec.metrics.iter() {
            let measures = metrics.measures.iter().flat_map(|(name, measure)| {
                let sketch = measure.sketch_column(name);
                [
                    Some((name.to_string(), name.at())),
                    sketch.map(|it| (it, name.at())),
                ]
            });
            let derived = metrics.derived.names();
            let derived = derived.map(|name| Some((name.to_string(), name.at())));
            let key = metrics.key.iter();
            let columns = key
                .map(|column| (column.value().clone(), column.at()))
                .chain(measures.chain(derived).flatten());
            let mut seen = vec!["window".to_owned()];
            for (column, at) in columns {
                if seen.contains(&column) {
                    let message = format!("two columns of `{block}` are named `{column}`");
                    self.diagnostics
                        .error(at, format!("metrics.{block}"), message);
                }
                seen.push(column);
            }
            for name in metrics.measures.names().chain(metrics.derived.names()) {
                self.name(name, name.at(), &format!("metrics.{block}"));
            }
        }
    }

    fn source(&mut self, name: &Name, source: &Source) {
        self.event_time(name, source);
        let path = format!("sources.{name}");
        let input = source.input.component();
        if !input.has_formats() && !matches!(source.format, Format::Json(_)) {
            let message = format!("the format `{}` is for `files` only", source.format.name());
            self.diagnostics
                .error(name.at(), format!("{path}.format"), message)
                .help("write `format: {json: {}}`");
        }
        self.delimiter(&source.format, &path);
        self.dots(source, &path);
        self.at_least_one(&source.max_row_bytes, source.max_row_bytes.bytes(), &path);
        input.check(&format!("{path}.{}", source.input.name()), self.diagnostics);
    }

    fn dimension(&mut self, name: &Name, table: &Dimension) {
        let path = format!("tables.{name}");
        files::check_url(&table.url, &format!("{path}.url"), self.diagnostics);
        self.delimiter(&table.format, &path);
        if table.key.is_empty() {
            self.diagnostics
                .error(name.at(), format!("{path}.key"), "the key has no columns")
                .help("name the columns that a row is looked up by: `key: [campaign_id]`");
        }
        for column in &table.key {
            if table.columns.get(column).is_none() {
                let columns = table.columns.as_slice().iter();
                let names = unknown(column, columns.map(|it| it.name.as_str()));
                let shown = column.shown();
                let message = format!("column `{shown}` not found in `{name}`{names}");
                self.diagnostics
                    .error(column.at(), format!("{path}.key"), message);
            }
        }
        if table.refresh.as_millis() < 1000 {
            let message = "a table cannot be looked at more often than every 1s";
            self.diagnostics
                .error(table.refresh.at(), format!("{path}.refresh"), message);
        }
    }

    fn delimiter(&mut self, format: &Format, path: &str) {
        if let Format::Csv(csv) = format
            && (csv.delimiter.len() != 1
                || !csv.delimiter.is_ascii()
                || csv.delimiter.contains(['"', '\r', '\n']))
        {
            self.diagnostics.error(
                csv.delimiter.at(),
                format!("{path}.format.csv.delimiter"),
                "a delimiter is one ASCII character, and neither a quote nor a line break",
            );
        }
    }

    /// The name of a JSON field is no path.
    fn dots(&mut self, source: &Source, path: &str) {
        if !matches!(source.format, Format::Json(_)) {
            return;
        }
        for (column, at) in source.columns.iter() {
            if let Some((outer, _)) = column.name.split_once('.') {
                let name = &column.name;
                let message = format!(
                    "`{name}` is a field of just this name: a field within `{outer}` is not read \
                     by it"
                );
                let path = format!("{path}.columns.{name}");
                self.diagnostics
                    .warning(at, path, message)
                    .help(format!("read the whole object: `{outer}: json?`"));
            }
        }
    }

    fn event_time(&mut self, name: &Name, source: &Source) {
        let event_time = &source.time.event_time;
        let mistake = match source.columns.get(event_time) {
            None => {
                let columns = source.columns.as_slice().iter();
                let names: Vec<_> = columns.map(|column| column.name.as_str()).collect();
                let names = unknown(event_time, names);
                let shown = event_time.shown();
                Some((
                    format!("column `{shown}` not found in `{name}`{names}"),
                    None,
                ))
            }
            Some(column) if !matches!(column.kind, ColumnType::Timestamp(_)) => Some((
                format!("event time `{}` is of type `{}`", column.name, column.kind),
                Some("make the column a timestamp, such as `timestamp(ms)`"),
            )),
            Some(column) if column.nullable => Some((
                format!("event time `{}` cannot be nullable", column.name),
                Some("take the `?` off; a row without it is a dead letter"),
            )),
            Some(_) => None,
        };
        if let Some((message, help)) = mistake {
            let path = format!("sources.{name}.time.event_time");
            let diagnostic = self.diagnostics.error(event_time.at(), path, message);
            diagnostic.help = help.map(str::to_owned);
        }
    }

    fn at_least_one<T>(&mut self, setting: &Setting<T>, value: u64, path: &str) {
        if value == 0 {
            self.diagnostics
                .error(setting.at(), path, "must be at least 1");
        }
    }

    fn references(&mut self) {
        let spec = self.spec;
        if spec.sources.is_empty() && spec.sources.names().next().is_none() {
            self.none_of("sources", spec.sources.is_unreadable(""));
        }
        if spec.sinks.is_empty() && spec.sinks.names().next().is_none() {
            self.none_of("sinks", spec.sinks.is_unreadable(""));
        }
        for (name, step) in spec.steps.iter() {
            self.reference(&step.from, &format!("steps.{name}.from"));
        }
        for (name, metrics) in spec.metrics.iter() {
            for (measure, text) in metrics.measures.iter() {
                self.reference(
                    &text.from,
                    &format!("metrics.{name}.measures.{measure}.from"),
                );
            }
        }
        for (name, sink) in spec.sinks.iter() {
            if !spec.tag_tables().contains(&sink.from.as_str()) {
                self.reference(&sink.from, &format!("sinks.{name}.from"));
            }
        }
    }

    /// `is_reported`: the block is missing or in error itself.
    fn none_of(&mut self, block: &str, is_reported: bool) {
        if !is_reported {
            let message = format!("`{block}` is empty; a pipeline needs at least one");
            self.diagnostics.error(Position::START, block, message);
        }
    }

    fn reference(&mut self, from: &Setting<String>, path: &str) {
        let spec = self.spec;
        let is_known = spec.relations().any(|name| **name == **from);
        if is_known || spec.is_unreadable(from) {
            return;
        }
        let mut names: Vec<_> = spec.relations().map(|name| &**name).collect();
        if path.starts_with("sinks.") {
            names.extend(spec.tag_tables());
        }
        let list = names.join(", ");
        let message = match closest(from, names.iter().copied()) {
            _ if spec.tag_tables().contains(&from.as_str()) => format!(
                "`{}` is for sinks; rows come from (have: {list})",
                from.shown()
            ),
            _ if spec.sinks.get(from).is_some() => {
                format!(
                    "`{}` is a sink; rows come from (have: {list})",
                    from.shown()
                )
            }
            _ if spec.tables.get(from).is_some() => format!(
                "`{}` is a table, which a query joins with a stream; rows come from (have: {list})",
                from.shown()
            ),
            Some(meant) => format!(
                "nothing is called `{}`; did you mean `{meant}`? (have: {list})",
                from.shown()
            ),
            None => format!("nothing is called `{}` (have: {list})", from.shown()),
        };
        self.diagnostics.error(from.at(), path, message);
    }

    /// Steps that read from each other. Cycles through queries are found when the SQL is planned.
    fn cycles(&mut self) {
        let spec = self.spec;
        let mut reported = HashSet::new();
        for (start, _) in spec.steps.iter() {
            let mut path: Vec<&str> = Vec::new();
            let mut at: &str = start;
            while let Some(step) = spec.steps.get(at)
                && !path.contains(&at)
            {
                path.push(at);
                at = step.from.as_str();
            }
            let is_taken = spec.sources.names().any(|name| name[..] == start[..]);
            let is_on_cycle = at == &**start && spec.steps.get(at).is_some() && !is_taken;
            if is_on_cycle && !path.iter().any(|name| reported.contains(name)) {
                let way = path.join("` from `");
                let message = format!("steps in a circle: `{way}` from `{start}`");
                let at = spec
                    .steps
                    .get(start)
                    .map_or(start.at(), |step| step.from.at());
                self.diagnostics
                    .error(at, format!("steps.{start}.from"), message);
                reported.extend(path);
            }
        }
    }

    /// Each table has a folder of its own.
    fn tables(&mut self) {
        let spec = self.spec;
        let mut tables: Vec<(String, &Setting<String>)> = Vec::new();
        for (name, sink) in spec.sinks.iter() {
            if let Some(deliver) = &sink.deliver {
                self.deliver(&format!("sinks.{name}.deliver"), sink, deliver);
            }
            if let Some(url) = sink.output.component().table() {
                tables.push((format!("sinks.{name}.{}.url", sink.output.name()), url));
            }
        }
        tables.push((
            "errors.dead_letters.url".into(),
            &spec.errors.dead_letters.url,
        ));
        tables.push(("errors.late.url".into(), &spec.errors.late.url));
        for (index, (path, url)) in tables.iter().enumerate() {
            storage::check_url(url, path, self.diagnostics);
            let folder = folder(url);
            let before = tables.iter().take(index);
            for (other_path, other) in before {
                let other = self::folder(other);
                if folder == other {
                    let message =
                        format!("`{}` is the table of `{other_path}` already", url.shown());
                    self.diagnostics.error(url.at(), path.as_str(), message);
                } else if is_inside(folder, other) || is_inside(other, folder) {
                    let message = format!(
                        "the table `{}` and that of `{other_path}` lie one inside the other",
                        url.shown()
                    );
                    self.diagnostics.error(url.at(), path.as_str(), message);
                }
            }
        }
        storage::check_url(&spec.checkpoint.url, "checkpoint.url", self.diagnostics);
    }

    fn limits(&mut self) {
        let spec = self.spec;
        if let Some(lanes) = &spec.parallelism
            && !(1..=MOST_LANES).contains(&**lanes)
        {
            let message = format!("`parallelism` is from 1 to {MOST_LANES}, got {}", **lanes);
            self.diagnostics.error(lanes.at(), "parallelism", message);
        }
        if let Some(memory) = &spec.memory
            && memory.limit.bytes() < LEAST_MEMORY_BYTES
        {
            let message = "Tagflow needs at least 128MiB of memory";
            self.diagnostics
                .error(memory.limit.at(), "memory.limit", message);
        }
        if spec.checkpoint.every.as_millis() < 100 {
            let path = "checkpoint.every";
            let message = "a checkpoint cannot be more often than every 100ms";
            self.diagnostics
                .error(spec.checkpoint.every.at(), path, message);
        }
        for (name, sink) in spec.sinks.iter() {
            let path = format!("sinks.{name}.{}", sink.output.name());
            sink.output.component().check(&path, self.diagnostics);
        }
        self.check_state_url(spec);
        if !spec.admin.listen.ip().is_loopback() {
            self.diagnostics
                .warning(spec.admin.listen.at(), "admin.listen", OPEN_TO_OTHERS)
                .help("`127.0.0.1:8642` is for this machine only");
        }
    }
}

impl Check<'_, '_> {
    fn deliver(&mut self, path: &str, sink: &Sink, deliver: &Deliver) {
        let Deliver {
            max_pending_commits: commits,
            max_pending_bytes: bytes,
        } = deliver;
        if !sink.output.component().delivers() {
            let message = "this sink delivers nothing, so it has no `deliver`";
            self.diagnostics
                .error(commits.at(), path, message)
                .help("remove `deliver`");
        }
        self.at_least_one(commits, **commits, path);
        self.at_least_one(bytes, bytes.bytes(), path);
    }

    /// Warns of state on this machine for a table that other machines reach.
    fn check_state_url(&mut self, spec: &Spec) {
        let url = &spec.checkpoint.url;
        let remote = spec
            .sinks
            .iter()
            .find(|(_, sink)| {
                let table = sink.output.component().table();
                table.is_some_and(|url| is_remote(url))
            })
            .map(|(name, _)| name);
        if let (Some(name), false) = (remote, is_remote(url)) {
            let message = format!(
                "the state in `{}` is on this machine alone, and table `{name}` is not: \
                 a run on another machine, or after this folder is lost, cannot go on",
                url.shown()
            );
            self.diagnostics
                .warning(url.at(), "checkpoint.url", message)
                .help("put the state beside the tables: `checkpoint: {url: s3://bucket/state}`");
        }
    }
}

/// Whether other machines can reach a folder.
fn is_remote(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| !["file", "memory"].contains(&scheme))
}

/// A table's URL in one form.
fn folder(url: &str) -> &str {
    url.trim_start_matches("file://")
        .trim_start_matches("./")
        .trim_end_matches('/')
}

fn is_inside(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.starts_with('/'))
}
