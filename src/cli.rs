//! The command line.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};

use tagflow_engine::EventTime;
use tagflow_pipelines::LoadOptions;

use crate::exit;

/// Streaming data pipelines for marketing: Kafka in, campaign metrics out as
/// Parquet, every row once.
#[derive(Debug, Parser)]
#[command(name = "tagflow", version, after_help = exit::TABLE, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Say more: -v for what happens, -vv for every detail. `RUST_LOG` goes
    /// before it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline.
    Run(Run),
    /// Show what runs and what has run.
    Status(Status),
    /// Prove that a pipeline has lost and doubled nothing.
    Audit(Audit),
    /// Check pipeline files, without a network.
    Validate(Validate),
    /// Run the tests of pipeline files, on a clock of their own.
    Test(Test),
    /// Show the first rows of a source, step or query, and leave no trace.
    Preview(Preview),
    /// Show what a changed pipeline file keeps, adds and resets.
    Diff(Diff),
    /// Show how a pipeline would run: its steps, lanes and state.
    Explain(Explain),
    /// Say what is in tables.
    Tables(Tables),
    /// Ask what is known of users.
    Tags(Tags),
    /// Ask about segments.
    Segments(Segments),
    /// Ask the written tables with SQL.
    Query(Query),
    /// Send events to a Kafka topic.
    Produce(Produce),
    /// See it work: a broker, events, a pipeline and its tables, all in one.
    Demo(Demo),
    /// Print the JSON Schema of the pipeline file, for editors.
    Schema,
}

const RUN_EXAMPLES: &str = "\
It goes on where the last run stopped. Ctrl-C lets it commit what it has read
and ends it; a second Ctrl-C ends it at once, and the next run goes on from the
last commit: nothing is lost or doubled either way.

Examples:
  tagflow run campaign_metrics.yaml
  tagflow run campaign_metrics.yaml --once --drain
  tagflow run campaign_metrics.yaml --set day=2026-01-05 --parallelism 4";

/// Run a pipeline.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) pipeline: PipelineFile,

    /// Read to the present end of each partition, commit, and exit.
    #[arg(long)]
    pub(crate) once: bool,

    /// At the stop, close the windows that are open instead of keeping them
    /// for the next run; rows that come for them later are late.
    #[arg(long)]
    pub(crate) drain: bool,

    /// How many lanes work side by side. Default: the file's, else the
    /// machine's cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallelism: Option<u16>,

    /// Drop the state of this query, or the positions of this source, and
    /// begin it anew. May be given again.
    #[arg(long, value_name = "NAME")]
    pub(crate) reset: Vec<String>,

    /// Where health, metrics and status are served. Default: the file's, else
    /// 127.0.0.1:8642 or, where that is taken, a free port.
    #[arg(long, value_name = "ADDRESS|off")]
    pub(crate) admin: Option<AdminAddress>,
}

/// A pipeline file, and what to add to it.
#[derive(Debug, Args)]
pub(crate) struct PipelineFile {
    /// The pipeline file.
    pub(crate) file: PathBuf,

    /// Sets a param of the file. May be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
}

impl PipelineFile {
    /// How the file is loaded: with the variables of this process.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            set: self.set.clone(),
            ..LoadOptions::default()
        }
    }
}

/// A pipeline file, where something else is asked for first.
#[derive(Debug, Args)]
pub(crate) struct PipelineOption {
    /// The pipeline file.
    #[arg(long)]
    pub(crate) file: PathBuf,

    /// Sets a param of the file. May be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
}

impl PipelineOption {
    /// How the file is loaded: with the variables of this process.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            set: self.set.clone(),
            ..LoadOptions::default()
        }
    }
}

/// Where the admin endpoint listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    /// Nowhere.
    Off,
    /// There and only there.
    At(SocketAddr),
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| "expected an address like 127.0.0.1:8642, or `off`".into())
    }
}

const STATUS_EXAMPLES: &str = "\
Examples:
  tagflow status
  tagflow status campaign-metrics --watch
  tagflow status --state s3://lake/state --json";

/// Show what runs and what has run.
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct Status {
    /// Only this pipeline.
    pub(crate) pipeline: Option<String>,

    #[command(flatten)]
    pub(crate) state: StateFolder,

    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Again every two seconds, until Ctrl-C.
    #[arg(long)]
    pub(crate) watch: bool,
}

const AUDIT_EXAMPLES: &str = "\
It reads the commit log and lists the tables' folders, and writes nothing; the
pipeline may run meanwhile. Every record must be there and as it was written,
every commit must go on where the one before ended and account for each row,
and in the tables must lie the files that commits name, and no others. With
--deep it reads their bytes too. The exit code is 3 where something is wrong.

Examples:
  tagflow audit campaign-metrics
  tagflow audit --file campaign_metrics.yaml --deep
  tagflow audit campaign-metrics --state s3://lake/state --json";

/// Prove that a pipeline has lost and doubled nothing.
#[derive(Debug, Args)]
#[command(after_help = AUDIT_EXAMPLES)]
pub(crate) struct Audit {
    /// The pipeline's name.
    #[arg(required_unless_present = "file")]
    pub(crate) pipeline: Option<String>,

    #[command(flatten)]
    pub(crate) state: StateFolder,

    /// The pipeline of this file, with its own state folder.
    #[arg(long, conflicts_with = "pipeline")]
    pub(crate) file: Option<PathBuf>,

    /// Sets a param of the file. May be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set, requires = "file")]
    pub(crate) set: Vec<(String, String)>,

    /// Compare the checksum of every file and state part, and count the rows
    /// of files.
    #[arg(long)]
    pub(crate) deep: bool,

    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The folder with the logs of pipelines.
#[derive(Debug, Args)]
pub(crate) struct StateFolder {
    /// The folder of the pipelines' state: a path or URL, as `checkpoint.url`
    /// of their files.
    #[arg(
        long,
        value_name = "URL",
        env = "TAGFLOW_STATE",
        default_value = "./.tagflow"
    )]
    pub(crate) state: String,
}

/// Check pipeline files, without a network.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tagflow validate pipelines/*.yaml\n  tagflow validate \
                        campaign_metrics.yaml --format github"
)]
pub(crate) struct Validate {
    /// The pipeline files.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Sets a param of the files. May be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,

    /// How problems are written.
    #[arg(long, value_enum, default_value_t = ProblemFormat::Human)]
    pub(crate) format: ProblemFormat,
}

const TEST_EXAMPLES: &str = "\
The tests are the `tests` block of each file. Rows come from the tests, time
stands still, and nothing is read or written elsewhere: no broker, no table, no
state folder. A folder stands for the .yaml and .yml files in it and below.

Examples:
  tagflow test campaign_metrics.yaml
  tagflow test examples/ --format github";

/// Run the tests of pipeline files, on a clock of their own.
#[derive(Debug, Args)]
#[command(after_help = TEST_EXAMPLES)]
pub(crate) struct Test {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE|FOLDER")]
    pub(crate) paths: Vec<PathBuf>,

    /// Sets a param of the files. May be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,

    /// How many lanes work side by side.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallelism: u16,

    /// How results are written.
    #[arg(long, value_enum, default_value_t = ProblemFormat::Human)]
    pub(crate) format: ProblemFormat,
}

const PREVIEW_EXAMPLES: &str = "\
It reads the pipeline's own sources, from where they would start without a
commit. Nothing is written: no table, no state, no position of a consumer group.

Examples:
  tagflow preview campaign_metrics.yaml events
  tagflow preview campaign_metrics.yaml campaign_minute --rows 50 --for 1m";

/// Show the first rows of a source, step or query, and leave no trace.
#[derive(Debug, Args)]
#[command(after_help = PREVIEW_EXAMPLES)]
pub(crate) struct Preview {
    #[command(flatten)]
    pub(crate) pipeline: PipelineFile,

    /// The source, step or query.
    pub(crate) node: String,

    /// How many rows.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = parse_rows)]
    pub(crate) rows: usize,

    /// How long to wait for them. Then the windows that are still open show
    /// what they hold.
    #[arg(long = "for", value_name = "DURATION", default_value = "10s")]
    pub(crate) patience: humantime::Duration,
}

const DIFF_EXAMPLES: &str = "\
State belongs to a definition: a query keeps its open windows as long as what
determines them is the same, whatever else changes in the file.

Examples:
  tagflow diff campaign_metrics.yaml            # against what last ran
  tagflow diff before.yaml after.yaml";

/// Show what a changed pipeline file keeps, adds and resets.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub(crate) struct Diff {
    /// The file as it was; alone, the file as it is, against what its commit
    /// log last ran.
    #[arg(value_name = "OLD|FILE")]
    pub(crate) old: PathBuf,

    /// The file as it is.
    #[arg(value_name = "NEW")]
    pub(crate) new: Option<PathBuf>,

    /// Sets a param of the files. May be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProblemFormat {
    /// For the eye.
    Human,
    /// An array of objects.
    Json,
    /// Workflow commands, which GitHub shows at the lines of a pull request.
    Github,
}

/// Show how a pipeline would run: its steps, lanes and state.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tagflow explain campaign_metrics.yaml\n  tagflow explain \
                        campaign_metrics.yaml --dot | dot -Tsvg > campaign_metrics.svg"
)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) pipeline: PipelineFile,

    /// As a graph for Graphviz.
    #[arg(long)]
    pub(crate) dot: bool,

    /// The SQL that each block of `metrics` stands for.
    #[arg(long, conflicts_with = "dot")]
    pub(crate) lowered: bool,

    /// How much memory the state of each node will take, by what is assumed of its
    /// rows.
    #[arg(long, conflicts_with_all = ["dot", "lowered"])]
    pub(crate) sizes: bool,

    /// How many different keys there are.
    #[arg(
        long,
        requires = "sizes",
        value_name = "COUNT",
        default_value_t = 100_000
    )]
    pub(crate) keys: u64,

    /// How many rows a second of event time come into each node.
    #[arg(
        long,
        requires = "sizes",
        value_name = "COUNT",
        default_value_t = 1_000
    )]
    pub(crate) rate: u64,

    /// How long texts are, in bytes.
    #[arg(long, requires = "sizes", value_name = "COUNT", default_value_t = 16)]
    pub(crate) text_bytes: u64,
}

/// Say what is in tables.
#[derive(Debug, Args)]
pub(crate) struct Tables {
    #[command(subcommand)]
    pub(crate) command: TablesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TablesCommand {
    /// Print the columns of tables, their types, and what they mean.
    Describe(Describe),
}

const DESCRIBE_EXAMPLES: &str = "\
Examples:
  tagflow tables describe                             # the tables whose shape is Tagflow's
  tagflow tables describe tags.changes                # one of them
  tagflow tables describe --file user_tags.yaml       # the tables that a pipeline writes
  tagflow tables describe user_profile --file user_tags.yaml";

/// Print the columns of tables, their types, and what they mean.
#[derive(Debug, Args)]
#[command(after_help = DESCRIBE_EXAMPLES)]
pub(crate) struct Describe {
    /// The table; all of them where none is named.
    pub(crate) table: Option<String>,

    /// A pipeline file, whose tables and tags are described.
    #[arg(long, short)]
    pub(crate) file: Option<PathBuf>,

    /// Sets a param of the file. May be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set, requires = "file")]
    pub(crate) set: Vec<(String, String)>,
}

const QUERY_EXAMPLES: &str = "\
The tables are the pipelines' sinks by name, and `dead_letters` and `late`. A
table that several pipelines have is written \"pipeline\".\"table\". Any Parquet
file, folder or glob can be asked too: its path or URL in quotes after FROM.

Examples:
  tagflow query \"select campaign_id, sum(clicks) from campaign_metrics group by 1\"
  tagflow query \"select reason, count(*) from dead_letters group by 1\" --format csv
  tagflow query \"select count(*) from './lake/campaign_metrics/**/*.parquet'\"";

const TAGS_EXAMPLES: &str = "\
What a user's tags are now, if the pipeline runs and its admin endpoint can be
reached, else at the last commit; or at a later time if no event comes.

Examples:
  tagflow tags get u1 --file user_tags.yaml
  tagflow tags get u1 --file user_tags.yaml --as-of 2026-02-01T00:00:00Z
  tagflow tags get u1 --file user_tags.yaml --why spend_30d
  tagflow tags get u1 --file user_tags.yaml --scene checkout --json";

/// Ask what is known of users.
#[derive(Debug, Args)]
#[command(after_help = TAGS_EXAMPLES)]
pub(crate) struct Tags {
    #[command(subcommand)]
    pub(crate) command: TagsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TagsCommand {
    /// Show a user's tags and segments.
    Get(TagsGet),
}

/// Show a user's tags and segments.
#[derive(Debug, Args)]
#[command(after_help = TAGS_EXAMPLES)]
pub(crate) struct TagsGet {
    /// The value of the tags' key.
    pub(crate) user: String,

    #[command(flatten)]
    pub(crate) pipeline: PipelineOption,

    /// As of this time: RFC 3339, or a date at midnight UTC. What was before
    /// the last commit is read from the tables of changes. Default: now, or
    /// the last commit's.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) as_of: Option<EventTime>,

    /// Show what this tag's value is made of.
    #[arg(long, value_name = "TAG")]
    pub(crate) why: Option<String>,

    /// Only what this scene of the pipeline file sees.
    #[arg(long, value_name = "SCENE")]
    pub(crate) scene: Option<String>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Ask about segments.
#[derive(Debug, Args)]
pub(crate) struct Segments {
    #[command(subcommand)]
    pub(crate) command: SegmentsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SegmentsCommand {
    /// Count the users in a segment at the last commit.
    Size(SegmentsSize),
}

/// Count the users in a segment at the last commit.
#[derive(Debug, Args)]
pub(crate) struct SegmentsSize {
    /// The segment.
    pub(crate) segment: String,

    #[command(flatten)]
    pub(crate) pipeline: PipelineOption,
}

/// Ask the written tables with SQL.
#[derive(Debug, Args)]
#[command(after_help = QUERY_EXAMPLES)]
pub(crate) struct Query {
    /// The query.
    pub(crate) sql: String,

    #[command(flatten)]
    pub(crate) state: StateFolder,

    /// Only the tables of this pipeline file, with its own state folder.
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,

    /// How the answer is written.
    #[arg(long, value_enum, default_value_t = AnswerFormat::Table)]
    pub(crate) format: AnswerFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerFormat {
    /// Columns for the eye.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// An object a line.
    Json,
}

const PRODUCE_EXAMPLES: &str = "\
Examples:
  tagflow produce events.ndjson --topic behaviour-events --key user_id
  tagflow produce --generate 100000 --topic behaviour-events --rate 5000";

/// Send events to a Kafka topic.
#[derive(Debug, Args)]
#[command(after_help = PRODUCE_EXAMPLES)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["file", "generate"]))]
pub(crate) struct Produce {
    /// A file with an event a line; `-` reads standard input.
    pub(crate) file: Option<PathBuf>,

    /// Makes this many behaviour events up instead.
    #[arg(long, value_name = "N")]
    pub(crate) generate: Option<u64>,

    /// The topic.
    #[arg(long)]
    pub(crate) topic: String,

    /// The field whose value is the message's key: events with equal keys go
    /// to one partition, in order. Default for generated events: `user_id`.
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,

    /// Bootstrap brokers, several with commas between.
    #[arg(long, env = "KAFKA_BROKERS", default_value = "localhost:9092")]
    pub(crate) brokers: String,

    /// A property of librdkafka. May be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) property: Vec<(String, String)>,

    /// Creates the topic with this many partitions, unless it exists.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) partitions: Option<u16>,

    /// Events a second at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
}

const DEMO_EXAMPLES: &str = "\
It starts a Kafka-compatible broker inside this process, sends generated events
to it, and runs examples/campaign_metrics.yaml with a commit every second
(`--set commit_every=1s`). Tables go to ./lake/demo, state to ./.tagflow/demo;
what an earlier demo left there is removed first.";

/// See it work: a broker, events, a pipeline and its tables, all in one.
#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct Demo {
    /// How many events to send.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) events: u64,
}

/// At least one.
fn parse_rows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if rows > 0 => Ok(rows),
        _ => Err("expected a whole number, 1 or more".into()),
    }
}

/// `name=value`.
pub(crate) fn parse_time(text: &str) -> Result<EventTime, String> {
    let time = text
        .parse::<humantime::Timestamp>()
        .map(std::time::SystemTime::from)
        .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")));
    let time = time.map_err(|_| "expected a time like `2026-01-05T12:00:00Z` or a date")?;
    let micros = match time.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()),
        Err(before) => i64::try_from(before.duration().as_micros()).map(|micros| -micros),
    };
    let micros = micros.map_err(|_| "the time is too far off")?;
    Ok(EventTime::from_micros(micros))
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_set_keeps_what_follows_the_first_equals_sign() {
        assert_eq!(parse_set("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_set("a="), Ok(("a".into(), String::new())));
        assert!(parse_set("=b").is_err());
        assert!(parse_set("ab").is_err());
    }

    #[test]
    fn an_admin_address_is_an_address_or_off() {
        assert_eq!("off".parse(), Ok(AdminAddress::Off));
        let address = "[::1]:80".parse().unwrap();
        assert_eq!("[::1]:80".parse(), Ok(AdminAddress::At(address)));
        assert!("8642".parse::<AdminAddress>().is_err());
    }

    #[test]
    fn produce_takes_one_input() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["tagflow", "produce"], args].concat());
        assert!(parse(&["--topic", "t", "f.ndjson"]).is_ok());
        assert!(parse(&["--topic", "t", "--generate", "5"]).is_ok());
        assert!(parse(&["--topic", "t"]).is_err());
        assert!(parse(&["--topic", "t", "f.ndjson", "--generate", "5"]).is_err());
    }
}
