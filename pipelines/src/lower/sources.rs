//! Sources: their connectors, their formats, and the event time of their rows.

use std::{sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, Schema};
use tagflow_connectors::{
    component::SourceContext,
    dead_letter::DeadLetterRows,
    files::{CsvRecords, EventTimes, FileFormat},
    format::{
        ColumnsFormat, CsvFormat, CsvHeader, CsvOptions, DEFAULT_MAX_ROW_BYTES, FoldersFormat,
        JsonFormat, JsonOptions, Mask, RowsDecoder, not_empty,
    },
};
use tagflow_engine::{
    Error, EventTime, Port, Result,
    graph::{
        DecoderFactory, NodeKind, OFFSET_COLUMN, OnError, SourceNode, TimePolicy, WhenIdle,
        WithOffsets,
    },
    source::Source as Connector,
};
use tagflow_schemas::Column;

use super::{Lowering, flow::Flow};

use crate::{
    spec::{self, Columns, Format, Source},
    sql::{Needs, Rows},
};

impl Lowering<'_> {
    /// Checks the settings of every source, including those without a path to a sink.
    pub(super) fn check_sources(&mut self) {
        for (name, source) in self.spec.sources.iter() {
            if let Err(error) = self.connector(source, None) {
                self.report(name.at(), format!("sources.{name}"), &error);
            }
        }
    }

    /// The connector of `source`. Only `columns` of a columnar file are read, all if `None`.
    fn connector(
        &self,
        source: &Source,
        columns: Option<Vec<String>>,
    ) -> Result<Arc<dyn Connector>> {
        source.input.component().connect(&SourceContext {
            pipeline: Arc::clone(&self.pipeline),
            clock: Arc::clone(&self.options.clock),
            format: file_format(&source.format),
            max_row_bytes: max_row_bytes(source),
            columns,
            event_times: event_times(source),
            memory: self.spec.memory_limit(),
        })
    }

    /// Adds a source.
    pub(super) fn source(&mut self, needs: &Needs) -> Result<()> {
        let name = needs.relation.as_str();
        let missing = || Error::internal(format!("`{name}` is no source"));
        let source = self.spec.sources.get(name).ok_or_else(missing)?;
        let connector = self.connector(source, Some(needs.columns.clone()))?;
        let columns: Vec<Column> = source
            .columns
            .as_slice()
            .iter()
            .filter(|column| needs.columns.contains(&column.name))
            .cloned()
            .collect();
        let event_time = &source.time.event_time;
        let time = columns
            .iter()
            .position(|column| column.name == **event_time)
            .ok_or_else(|| Error::internal(format!("`{name}` does not decode its event time")))?;

        let mut fields: Vec<Field> = columns.iter().map(Column::field).collect();
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let label = format!(
            "{}; decode {}",
            source.input.component().describe(),
            names.join(", ")
        );
        // It identifies late rows and dead letters.
        fields.push(Field::new(OFFSET_COLUMN, DataType::Int64, false));
        let pipeline = Arc::clone(&self.pipeline);
        let clock = Arc::clone(&self.options.clock);
        let mask = mask(source);
        let keys = self.keys.remove(name).unwrap_or_default();
        let node = self.graph.add(
            name,
            label,
            NodeKind::Source(SourceNode {
                source: connector,
                decoder: {
                    let decoder = decoder(
                        &source.format,
                        &source.columns,
                        columns,
                        max_row_bytes(source),
                    );
                    let mask = mask.clone();
                    Arc::new(move || Ok(mask.over(not_empty(decoder()?, keys.clone()))))
                },
                dead_letters: Arc::new(move || {
                    Ok(Box::new(DeadLetterRows::new(
                        Arc::clone(&pipeline),
                        Arc::clone(&clock),
                        mask.clone(),
                    )))
                }),
                time: time_policy(source, time, needs.grain),
            }),
        );
        if *source.on_error == spec::OnError::DeadLetter {
            self.rejecting.push((node, Port::SIDE));
        }
        self.flows.insert(
            name.to_owned(),
            Flow {
                ends: vec![node],
                schema: Arc::new(Schema::new(fields)),
                rows: Rows::Events,
                personal: source.columns.personal().iter().cloned().collect(),
            },
        );
        Ok(())
    }
}

fn time_policy(source: &Source, column: usize, grain: Duration) -> TimePolicy {
    let time = &source.time;
    TimePolicy {
        column,
        delay: *time.delay,
        idle_after: *time.idle_after,
        when_idle: match *time.when_idle {
            spec::WhenIdle::Hold => WhenIdle::Hold,
            spec::WhenIdle::Clock => WhenIdle::Clock,
        },
        max_future: time
            .max_future
            .as_ref()
            .map_or(Duration::MAX, |setting| **setting),
        earliest: time
            .earliest
            .as_ref()
            .map_or(EventTime::from_micros(0), |setting| **setting),
        max_drift: time.max_drift.as_ref().map(|setting| **setting),
        granularity: grain.max(Duration::from_micros(1)),
        on_error: on_error(source),
        offsets: WithOffsets::Yes,
    }
}

/// The setting of `source` for bad rows.
pub(super) fn on_error(source: &Source) -> OnError {
    match *source.on_error {
        spec::OnError::DeadLetter => OnError::DeadLetter,
        spec::OnError::Fail => OnError::Fail,
    }
}

/// How to find the event times of a file before it is read.
fn event_times(source: &Source) -> Option<EventTimes> {
    let column = source
        .columns
        .as_slice()
        .iter()
        .find(|column| column.name == **source.time.event_time)?;
    Some(EventTimes {
        column: column.name.clone(),
        decoder: decoder(
            &source.format,
            &source.columns,
            vec![column.clone()],
            max_row_bytes(source),
        ),
        delay: *source.time.delay,
    })
}

fn max_row_bytes(source: &Source) -> usize {
    source.max_row_bytes.bytes() as usize
}

/// Decoders for those `columns` of `all` that the rows contain. Columns from folder names are not
/// decoded from the rows.
pub(super) fn decoder(
    format: &Format,
    all: &Columns,
    columns: Vec<Column>,
    max_row_bytes: usize,
) -> DecoderFactory {
    let of_rows = rows_decoder(format, all, max_row_bytes);
    let zone = format.assume_timezone();
    Arc::new(move || {
        let of_rows = Arc::clone(&of_rows);
        Ok(Box::new(FoldersFormat::new(
            columns.clone(),
            zone,
            of_rows,
        )?))
    })
}

/// Decoders of the rows' own columns, given the names of the others.
fn rows_decoder(format: &Format, all: &Columns, max_row_bytes: usize) -> RowsDecoder {
    let assume_timezone = format.assume_timezone();
    match format {
        Format::Json(_) => {
            let options = JsonOptions {
                max_row_bytes,
                assume_timezone,
            };
            Arc::new(move |columns, _| Ok(Box::new(JsonFormat::new(columns, options.clone()))))
        }
        Format::Csv(csv) => {
            let (all, csv) = (all.as_slice().to_vec(), csv.clone());
            Arc::new(move |columns, folders: &[String]| {
                let mut names = all
                    .iter()
                    .map(|column| column.name.clone())
                    .collect::<Vec<_>>();
                names.retain(|name| !folders.contains(name));
                let options = csv_options(&names, &csv, max_row_bytes);
                Ok(Box::new(CsvFormat::new(columns, options)))
            })
        }
        Format::Parquet(_) => {
            Arc::new(move |columns, _| Ok(Box::new(ColumnsFormat::new(columns, assume_timezone))))
        }
    }
}

fn csv_options(names: &[String], csv: &spec::CsvFormat, max_row_bytes: usize) -> CsvOptions {
    CsvOptions {
        header: if *csv.header {
            CsvHeader::Line
        } else {
            CsvHeader::Names(names.to_vec())
        },
        delimiter: csv.delimiter.bytes().next().unwrap_or(b','),
        max_row_bytes,
        assume_timezone: csv.assume_timezone.as_ref().map(|zone| **zone),
        ..CsvOptions::default()
    }
}

/// The masked columns in the source's dead letters.
fn mask(source: &Source) -> Mask {
    let mask = Mask::new(source.columns.personal().iter().cloned());
    match &source.format {
        Format::Csv(csv) => {
            let columns = source.columns.as_slice().iter();
            let names: Vec<_> = columns.map(|column| column.name.clone()).collect();
            mask.csv(csv_options(&names, csv, max_row_bytes(source)))
        }
        Format::Json(_) | Format::Parquet(_) => mask,
    }
}

pub(super) fn file_format(format: &Format) -> FileFormat {
    match format {
        Format::Csv(csv) => {
            let options = csv_options(&[], csv, DEFAULT_MAX_ROW_BYTES);
            FileFormat::Csv(CsvRecords {
                header: *csv.header,
                delimiter: options.delimiter,
                quote: options.quote,
            })
        }
        Format::Json(_) => FileFormat::Lines,
        Format::Parquet(_) => FileFormat::Parquet,
    }
}
