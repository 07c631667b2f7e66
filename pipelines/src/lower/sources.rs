//! Sources: their connectors, their formats, and the event time of their rows.

use std::{sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, Schema};
use tagflow_connectors::{
    dead_letter::DeadLetterRows,
    files::{CsvRecords, EventTimes, FileFormat, FilesConfig, FilesSource},
    format::{
        ColumnsFormat, CsvFormat, CsvHeader, CsvOptions, DEFAULT_MAX_ROW_BYTES, FoldersFormat,
        JsonFormat, JsonOptions, Mask, RowsDecoder, not_empty,
    },
    generator::{self, GeneratorConfig},
    kafka::{self, KafkaConfig, KafkaSource, StartAt},
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
use tagflow_config::diagnostic::Position;

use crate::{
    spec::{self, Columns, Format, GeneratorSource, Input, Setting, Source},
    sql::{Needs, Rows},
};

impl Lowering<'_> {
    /// Checks the settings of every source, including those without a path to a sink.
    pub(super) fn check_sources(&mut self) {
        for (name, source) in self.spec.sources.iter() {
            if let Err(error) = self.connector(name, source, None) {
                self.report(name.at(), format!("sources.{name}"), &error);
            }
        }
    }

    /// The connector of `source`; `None` where an error has been reported. Only
    /// `columns` of a columnar file are read, all if `None`.
    fn connector(
        &mut self,
        name: &str,
        source: &Source,
        columns: Option<Vec<String>>,
    ) -> Result<Option<Arc<dyn Connector>>> {
        let max_row_bytes = max_row_bytes(source);
        Ok(Some(match source.input() {
            Input::Kafka(settings) => {
                let mut config = kafka_config(settings, max_row_bytes);
                config.queue_bytes = self.spec.part_of_memory(64, config.queue_bytes);
                let problems = config.check();
                if !problems.is_empty() {
                    for (setting, message) in problems {
                        let at = kafka_position(settings, &setting);
                        let path = format!("sources.{name}.kafka.{setting}");
                        let message = as_written(settings, message);
                        self.diagnostics.error(at, path, message);
                    }
                    return Ok(None);
                }
                let clock = Arc::clone(&self.options.clock);
                Arc::new(KafkaSource::new(config, &self.pipeline, clock))
            }
            Input::Files(files) => {
                let config = FilesConfig {
                    max_row_bytes,
                    columns,
                    allow_empty: files.allow_empty.as_ref().is_some_and(|it| **it),
                    ..FilesConfig::new(files.url.as_str(), file_format(&source.format))
                };
                let files = FilesSource::new(config, Arc::clone(&self.options.clock))?;
                Arc::new(match event_times(source) {
                    Some(event_times) => files.ordered_by(event_times),
                    None => files,
                })
            }
            Input::Generator(settings) => Arc::new(generator::GeneratorSource::new(
                generator_config(settings)?,
            )?),
        }))
    }

    /// Adds a source.
    pub(super) fn source(&mut self, needs: &Needs) -> Result<()> {
        let name = needs.relation.as_str();
        let missing = || Error::internal(format!("`{name}` is no source"));
        let source = self.spec.sources.get(name).ok_or_else(missing)?;
        let connector = self
            .connector(name, source, Some(needs.columns.clone()))?
            .ok_or_else(missing)?;
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
        let label = format!("{}; decode {}", describe(source), names.join(", "));
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

fn kafka_config(settings: &spec::KafkaSource, max_row_bytes: usize) -> KafkaConfig {
    let topics = settings.topics.iter().map(|topic| topic.as_str());
    KafkaConfig {
        start: match *settings.start {
            spec::Start::Earliest => StartAt::Earliest,
            spec::Start::Latest => StartAt::Latest,
            spec::Start::Committed => StartAt::Committed,
        },
        group_id: settings
            .group_id
            .as_ref()
            .map(|group| group.value().clone()),
        on_data_loss: match *settings.on_data_loss {
            spec::OnDataLoss::Fail => kafka::OnDataLoss::Fail,
            spec::OnDataLoss::Record => kafka::OnDataLoss::Record,
        },
        properties: settings
            .properties
            .iter()
            .map(|(name, value)| (name.to_string(), value.expose().to_owned()))
            .collect(),
        max_row_bytes,
        ..KafkaConfig::new(settings.brokers.as_str(), topics)
    }
}

/// The position of the setting at `path`, which the connector names: `brokers`, `topics[1]`,
/// `properties.fetch.min.bytes`.
fn kafka_position(settings: &spec::KafkaSource, path: &str) -> Position {
    let topic = path
        .strip_prefix("topics[")
        .and_then(|rest| rest.strip_suffix(']'))
        .and_then(|index| settings.topics.get(index.parse::<usize>().ok()?));
    if let Some(topic) = topic {
        return topic.at();
    }
    let property = path.strip_prefix("properties.").and_then(|wanted| {
        let mut properties = settings.properties.iter();
        properties.find(|(name, _)| ***name == *wanted)
    });
    match (property, path, &settings.group_id) {
        (Some((name, _)), _, _) => name.at(),
        (None, "group_id", Some(group)) => group.at(),
        _ => settings.brokers.at(),
    }
}

/// A message with references in place of their values.
fn as_written(settings: &spec::KafkaSource, mut message: String) -> String {
    let names = [&settings.brokers].into_iter().chain(&settings.group_id);
    for setting in names.chain(&settings.topics) {
        if let Some(reference) = setting.reference() {
            for value in setting.split(',') {
                let shown = format!("`{reference}`");
                message = message.replace(&format!("`{value}`"), &shown);
            }
        }
    }
    message
}

fn generator_config(settings: &GeneratorSource) -> Result<GeneratorConfig> {
    let small = |name: &str, value: u64| {
        u32::try_from(value)
            .map_err(|_| Error::config(format!("`{name}` is at most {}, got {value}", u32::MAX)))
    };
    Ok(GeneratorConfig {
        seed: *settings.seed,
        count: settings.count.as_ref().map(|count| **count),
        rate: settings.rate.as_ref().map(|rate| **rate as f64),
        partitions: small("partitions", *settings.partitions)?,
        users: small("users", *settings.users)?,
        campaigns: small("campaigns", *settings.campaigns)?,
        start: *settings.start,
        spacing: *settings.interval,
        disorder: *settings.disorder,
        late_share: settings.late.get(),
        duplicate_share: settings.duplicates.get(),
        broken_share: settings.broken.get(),
        ..GeneratorConfig::default()
    })
}

/// One line for `explain`.
fn describe(source: &Source) -> String {
    match source.input() {
        Input::Kafka(kafka) => {
            let topics: Vec<&str> = kafka.topics.iter().map(Setting::shown).collect();
            format!("kafka {}", topics.join(", "))
        }
        Input::Files(files) => format!("files {}", files.url.shown()),
        Input::Generator(_) => "generator".to_owned(),
    }
}
