//! Checks of `tests` that need no SQL: names, and a clock that only advances.

use std::collections::HashSet;

use tagflow_engine::EventTime;

use super::Check;
use tagflow_config::diagnostic::{Position, unknown};

use crate::{
    counters::COUNTERS,
    spec::{
        Action, Content, DEAD_LETTERS, Expect, Expectation, Format, LATE, Name, TAG_CHANGES,
        TestCase, Tick, WatermarkStep,
    },
};

impl Check<'_, '_> {
    pub(super) fn test_cases(&mut self) {
        let spec = self.spec;
        let mut names = HashSet::new();
        for test in &spec.tests {
            if !names.insert(test.name.as_str()) {
                let message = format!("another test is called `{}`", test.name.shown());
                self.diagnostics.error(test.name.at(), "tests", message);
            }
            self.clock(test);
            for step in &test.steps {
                match &step.action {
                    Action::Send(sent) => {
                        for (name, rows) in sent.iter() {
                            if self.spec.tables.get(name).is_none() {
                                self.sent_to(name);
                            }
                            for row in rows {
                                if let Content::Text(_) = row.content {
                                    self.text_to(name, row.at);
                                }
                            }
                        }
                    }
                    Action::Watermark(WatermarkStep::Of(sources)) => {
                        sources.names().for_each(|name| self.sent_to(name));
                    }
                    Action::Expect(expect) => self.expect(expect),
                    Action::Watermark(WatermarkStep::All(_))
                    | Action::Clock(_)
                    | Action::Restart => {}
                }
            }
        }
    }

    /// The clock begins at the first time in the test.
    fn clock(&mut self, test: &TestCase) {
        let ticks = || {
            test.steps.iter().filter_map(|step| match &step.action {
                Action::Clock(tick) => Some(tick),
                _ => None,
            })
        };
        let told = ticks().find_map(|tick| match **tick {
            Tick::To(time) => Some(time),
            Tick::By(_) => None,
        });
        let mut now = told.unwrap_or(EventTime::from_micros(0));
        for tick in ticks() {
            now = match **tick {
                Tick::By(duration) => now.saturating_add(duration),
                Tick::To(time) if time < now => {
                    let message = format!("the clock cannot go back: it shows {now} here");
                    self.diagnostics.error(tick.at(), "tests", message);
                    now
                }
                Tick::To(time) => time,
            };
        }
    }

    fn sent_to(&mut self, name: &Name) {
        let sources = &self.spec.sources;
        if sources.get(name).is_some() || sources.is_unreadable(name) {
            return;
        }
        let names: Vec<_> = sources.names().map(|name| &**name).collect();
        let names = unknown(name, names);
        let message = format!("`{name}` is no source{names}");
        self.diagnostics.error(name.at(), "tests", message);
    }

    /// A columnar file has no broken rows.
    fn text_to(&mut self, name: &Name, at: Position) {
        let source = self.spec.sources.get(name).map(|source| &source.format);
        let table = self.spec.tables.get(name).map(|table| &table.format);
        if let Some(Format::Parquet(_)) = source.or(table) {
            let message = "a row of a Parquet file is a map of columns and values";
            self.diagnostics.error(at, "tests", message);
        }
    }

    fn expect(&mut self, expect: &Expect) {
        let spec = self.spec;
        for (name, expectation) in expect.nodes.iter() {
            let is_known = [DEAD_LETTERS, LATE].contains(&&**name)
                || spec.is_node(name)
                || spec.sinks.get(name).is_some();
            if !is_known && !spec.is_unreadable(name) && !spec.sinks.is_unreadable(name) {
                let relations = spec.relations().map(|name| &**name);
                let sinks = spec.sinks.names().map(|name| &**name);
                let others = [DEAD_LETTERS, LATE, "tags", "segments", "counters"];
                let tags = spec.tag_tables().iter().copied();
                let names: Vec<_> = relations.chain(tags).chain(sinks).chain(others).collect();
                let message = format!("nothing is called `{name}`{}", unknown(name, names));
                self.diagnostics.error(name.at(), "tests", message);
            }
            self.expectation(expectation);
        }
        self.expected_tags(expect);
        for name in expect.counters.names() {
            let names = COUNTERS.map(|(name, _)| name);
            if !names.contains(&&**name) {
                let message = format!("nothing is counted as `{name}`{}", unknown(name, names));
                self.diagnostics.error(name.at(), "tests", message);
            }
        }
    }

    fn expected_tags(&mut self, expect: &Expect) {
        let spec = self.spec;
        if spec.is_unreadable(TAG_CHANGES) {
            return;
        }
        for row in expect.tags.iter().map(|(_, row)| row) {
            if let Content::Text(_) = row.content {
                let message = "the tags of a key are a map of names and values";
                self.diagnostics.error(row.at, "tests", message);
            }
            for (name, _) in row.fields() {
                // The plan knows the names and types of tags, and checks them.
                if spec.tags.is_none() {
                    let message = format!("tag `{name}` not found: there is no block `tags`");
                    self.diagnostics.error(name.at(), "tests", message);
                }
            }
        }
        for name in expect.segments.names() {
            if spec.segments.get(name).is_none() && !spec.segments.is_unreadable(name) {
                let names = spec.segments.names().map(|name| &**name);
                let message = format!("segment `{name}` not found{}", unknown(name, names));
                self.diagnostics.error(name.at(), "tests", message);
            }
        }
    }

    fn expectation(&mut self, expectation: &Expectation) {
        for row in expectation.rows() {
            if let Content::Text(_) = row.content {
                let message = "an expected row is a map of columns and values";
                self.diagnostics.error(row.at, "tests", message);
            }
        }
    }
}
