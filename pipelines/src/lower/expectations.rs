//! Checks the expectations of tests: their columns must exist, and their values must fit.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use tagflow_schemas::{dead_letter, late};

use super::{
    Lowering,
    side_outputs::FOLDER,
    sinks::{PlannedSink, schema_of},
};
use crate::{
    expected::Expected,
    spec::{Action, DEAD_LETTERS, LATE, TAGS_CURRENT},
    sql::Output,
};

impl Lowering<'_> {
    /// Checks the rows that tests expect, and records the shapes of the nodes.
    pub(super) fn expectations(&mut self, sinks: &[PlannedSink]) {
        let spec = self.spec;
        let steps = spec.tests.iter().flat_map(|test| &test.steps);
        for step in steps {
            let Action::Expect(expect) = &step.action else {
                continue;
            };
            if let Some(profile) = self.shape(TAGS_CURRENT, sinks)
                && !expect.tags.is_empty()
            {
                for row in expect.tags.iter().map(|(_, row)| row) {
                    Expected::read(row, &profile, TAGS_CURRENT, &mut self.diagnostics);
                }
                self.shapes.insert(TAGS_CURRENT.to_owned(), profile);
            }
            for (name, expectation) in expect.nodes.iter() {
                let Some(shape) = self.shape(name, sinks) else {
                    continue;
                };
                for row in expectation.rows() {
                    Expected::read(row, &shape, name, &mut self.diagnostics);
                }
                self.shapes.insert(name.to_string(), shape);
            }
        }
    }

    /// The columns of a node; `None` if no node has this name, or it is in error.
    fn shape(&self, name: &str, sinks: &[PlannedSink]) -> Option<SchemaRef> {
        match name {
            DEAD_LETTERS => return Some(dead_letter::schema()),
            LATE => return Some(with_folder(&late::schema())),
            _ => {}
        }
        if let Some(sink) = sinks.iter().find(|sink| sink.name == *name) {
            return Some(schema_of(&sink.columns));
        }
        let output = Output::of(self.program.relation(name)?).ok()?;
        Some(Arc::clone(output.schema()))
    }
}

/// `schema` with the column of the table's folders.
fn with_folder(schema: &SchemaRef) -> SchemaRef {
    let day = Arc::new(Field::new(FOLDER, DataType::Date32, true));
    let fields = schema.fields().iter().map(Arc::clone);
    let fields: Fields = fields.chain([day]).collect();
    Arc::new(Schema::new(fields))
}
