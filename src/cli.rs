//! The command line.

use std::{env, ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{
    Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};

use tagflow_engine::EventTime;
use tagflow_pipelines::{LoadOptions, spec::parse_listen};
use tagflow_service::time::parse_time;

use crate::{
    exit::{self, Rerun},
    terminal::ColorWhen,
};

/// Streaming data pipelines for marketing: Kafka in, campaign metrics out as
/// Parquet, every row once.
#[derive(Debug, Parser)]
#[command(name = "tagflow", version, after_help = exit::TABLE, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Log more: -v for events, -vv for every detail. `RUST_LOG` takes precedence.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// When to use colours. `NO_COLOR` turns them off in `auto`.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto)]
    pub(crate) color: ColorWhen,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline.
    Run(Run),
    /// Show the pipelines that run or have run.
    Status(Status),
    /// Prove that a pipeline has lost and duplicated no row.
    Audit(Audit),
    /// Check pipeline files, without a network.
    Validate(Validate),
    /// Run the tests of pipeline files, on a simulated clock.
    Test(Test),
    /// Show the first rows of a source, step or query, and leave no trace.
    Preview(Preview),
    /// Show what a changed pipeline file keeps, adds and resets.
    Diff(Diff),
    /// Show how a pipeline would run: its steps, lanes and state.
    Explain(Explain),
    /// Describe tables.
    Tables(Tables),
    /// Look up tags of users.
    Tags(Tags),
    /// Look up segments.
    Segments(Segments),
    /// Query the written tables with SQL.
    Query(Query),
    /// Send events to a Kafka topic.
    Produce(Produce),
    /// Show Tagflow at work: a broker, events, a pipeline and its tables, all in one.
    Demo(Demo),
    /// Print the JSON Schema of the pipeline file, for editors.
    Schema,
}

impl Command {
    /// The effect of running it again.
    pub(crate) fn rerun(&self) -> Rerun {
        match self {
            Self::Run(_) => Rerun::Resumes,
            Self::Produce(_) => Rerun::Repeats,
            _ => Rerun::Harmless,
        }
    }
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

    /// At the stop, close the open windows instead of keeping them for the next run; later rows for
    /// them are late.
    #[arg(long)]
    pub(crate) drain: bool,

    /// The number of parallel lanes. Default: the file's, otherwise the machine's cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallelism: Option<u16>,

    /// Reset this source, query, step, tag block or sink. A reset source is read from its start
    /// again, which resets all its dependents too. Repeatable.
    #[arg(long, value_name = "NAME")]
    pub(crate) reset: Vec<String>,

    /// With `--reset SOURCE`: remove the files of the tables whose rows are read again, with the
    /// first commit of this run. This cannot be undone.
    #[arg(long, requires = "reset")]
    pub(crate) replace_tables: bool,

    /// Take the pipeline over from a process that runs it. Without this a second run ends with exit
    /// code 5.
    #[arg(long)]
    pub(crate) take_over: bool,

    /// The address for health, metrics and status. Default: the file's, otherwise 127.0.0.1:8642
    /// or, if that is taken, a free port.
    #[arg(long, value_name = "ADDRESS|off")]
    pub(crate) admin: Option<AdminAddress>,
}

/// A pipeline file, with params.
#[derive(Debug, Args)]
pub(crate) struct PipelineFile {
    /// The pipeline file.
    pub(crate) file: PathBuf,

    /// Set a param of the file. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
}

impl PipelineFile {
    /// The options to load the file, with the variables of this process.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            set: self.set.clone(),
            ..LoadOptions::default()
        }
    }
}

/// A pipeline file, as an option after other arguments.
#[derive(Debug, Args)]
pub(crate) struct PipelineOption {
    /// The pipeline file.
    #[arg(long)]
    pub(crate) file: PathBuf,

    /// Set a param of the file. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
}

impl PipelineOption {
    /// The options to load the file, with the variables of this process.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            set: self.set.clone(),
            ..LoadOptions::default()
        }
    }
}

/// The address of the admin endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    /// No endpoint.
    Off,
    /// This address only.
    At(SocketAddr),
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = parse_listen(text).map(Self::At);
        address.ok_or_else(|| "expected an address like 127.0.0.1:8642 or :8642, or `off`".into())
    }
}

const STATUS_EXAMPLES: &str = "\
Examples:
  tagflow status
  tagflow status campaign-metrics --watch
  tagflow status --state s3://lake/state --json";

/// Show the pipelines that run or have run.
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct Status {
    /// Only this pipeline.
    pub(crate) pipeline: Option<String>,

    #[command(flatten)]
    pub(crate) state: StateFolder,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Repeat every two seconds, until Ctrl-C.
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

/// Prove that a pipeline has lost and duplicated no row.
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

    /// Set a param of the file. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set, requires = "file")]
    pub(crate) set: Vec<(String, String)>,

    /// Compare the checksum of every file and state part, and count the rows
    /// of files.
    #[arg(long)]
    pub(crate) deep: bool,

    /// Delete files that exist again although a commit removed them, then audit once more.
    #[arg(long)]
    pub(crate) repair: bool,

    /// Print JSON.
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
    /// Pipeline files, or folders with pipeline files.
    #[arg(required = true, value_name = "FILE|FOLDER")]
    pub(crate) files: Vec<PathBuf>,

    /// Set a param of the files. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,

    /// The format of problems.
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

/// Run the tests of pipeline files, on a simulated clock.
#[derive(Debug, Args)]
#[command(after_help = TEST_EXAMPLES)]
pub(crate) struct Test {
    /// Pipeline files, or folders with pipeline files.
    #[arg(required = true, value_name = "FILE|FOLDER")]
    pub(crate) paths: Vec<PathBuf>,

    /// Set a param of the files. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,

    /// The number of parallel lanes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallelism: u16,

    /// The format of results.
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

    /// The number of rows.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = parse_rows)]
    pub(crate) rows: usize,

    /// How long to wait for rows. Then windows that are still open show their current results.
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
    /// The old file; alone, the new file, which is compared with its last run.
    #[arg(value_name = "OLD|FILE")]
    pub(crate) old: PathBuf,

    /// The new file.
    #[arg(value_name = "NEW")]
    pub(crate) new: Option<PathBuf>,

    /// Set a param of the files. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProblemFormat {
    /// Text for people.
    Human,
    /// A JSON array of objects.
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

    /// Print a graph for Graphviz.
    #[arg(long)]
    pub(crate) dot: bool,

    /// Print the SQL of each block of `metrics`.
    #[arg(long, conflicts_with = "dot")]
    pub(crate) lowered: bool,

    /// Estimate the memory of each node's state, from assumptions about its rows.
    #[arg(long, conflicts_with_all = ["dot", "lowered"])]
    pub(crate) sizes: bool,

    /// The number of distinct keys.
    #[arg(
        long,
        requires = "sizes",
        value_name = "COUNT",
        default_value_t = 100_000
    )]
    pub(crate) keys: u64,

    /// The number of rows per second of event time at each node.
    #[arg(
        long,
        requires = "sizes",
        value_name = "COUNT",
        default_value_t = 1_000
    )]
    pub(crate) rate: u64,

    /// The length of texts, in bytes.
    #[arg(long, requires = "sizes", value_name = "COUNT", default_value_t = 16)]
    pub(crate) text_bytes: u64,
}

/// Describe tables.
#[derive(Debug, Args)]
pub(crate) struct Tables {
    #[command(subcommand)]
    pub(crate) command: TablesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TablesCommand {
    /// Print the columns of tables, their types, and their meaning.
    Describe(Describe),
}

const DESCRIBE_EXAMPLES: &str = "\
Examples:
  tagflow tables describe                             # the tables whose shape is Tagflow's
  tagflow tables describe tags.changes                # one of them
  tagflow tables describe --file user_tags.yaml       # the tables that a pipeline writes
  tagflow tables describe user_profile --file user_tags.yaml";

/// Print the columns of tables, their types, and their meaning.
#[derive(Debug, Args)]
#[command(after_help = DESCRIBE_EXAMPLES)]
pub(crate) struct Describe {
    /// The table. Default: all.
    pub(crate) table: Option<String>,

    /// A pipeline file, whose tables and tags are described.
    #[arg(long, short)]
    pub(crate) file: Option<PathBuf>,

    /// Set a param of the file. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set, requires = "file")]
    pub(crate) set: Vec<(String, String)>,
}

const QUERY_EXAMPLES: &str = "\
Without SQL it opens a prompt on a terminal, and reads statements from standard
input elsewhere.

The tables are the pipelines' sinks by name, and `dead_letters` and `late`. A
table that several pipelines have is written \"pipeline\".\"table\". Any Parquet
file, folder or glob can be asked too: its path or URL in quotes after FROM.

Examples:
  tagflow query \"select campaign_id, sum(clicks) from campaign_metrics group by 1\"
  tagflow query \"show tables\"
  tagflow query \"describe campaign_metrics\"
  tagflow query -f report.sql
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

/// Look up tags of users.
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

    /// As of this time: RFC 3339, or a date at midnight UTC. Times before the last commit are read
    /// from the tables of changes. Default: now, or the last commit's.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) as_of: Option<EventTime>,

    /// Show the parts of this tag's value.
    #[arg(long, value_name = "TAG")]
    pub(crate) why: Option<String>,

    /// Only the part that this scene of the pipeline file may read.
    #[arg(long, value_name = "SCENE")]
    pub(crate) scene: Option<String>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Look up segments.
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

/// Query the written tables with SQL.
#[derive(Debug, Args)]
#[command(after_help = QUERY_EXAMPLES)]
pub(crate) struct Query {
    /// The query, or several separated by `;`. A pipeline file before it stands for `--file`.
    #[arg(value_name = "SQL", num_args = 0..=2)]
    pub(crate) sql: Vec<String>,

    /// Read the queries from this file; `-` is standard input.
    #[arg(
        short = 'f',
        long = "from-file",
        value_name = "SQL-FILE",
        conflicts_with = "sql"
    )]
    pub(crate) from: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) state: StateFolder,

    /// Only the tables of this pipeline file, with its own state folder.
    #[arg(long, value_name = "PIPELINE-FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The format of the answer.
    #[arg(long, value_enum, default_value_t = AnswerFormat::Table)]
    pub(crate) format: AnswerFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerFormat {
    /// Aligned columns.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object per line.
    Json,
}

const PRODUCE_EXAMPLES: &str = "\
Each call sends all events from the first one on: a second call with the same
file doubles them. Generated events are new each time, and their times end now.

Examples:
  tagflow produce events.ndjson --topic behaviour-events --key user_id
  tagflow produce --generate 100000 --topic behaviour-events --rate 5000";

/// Send events to a Kafka topic.
#[derive(Debug, Args)]
#[command(after_help = PRODUCE_EXAMPLES)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["file", "generate"]))]
pub(crate) struct Produce {
    /// A file with one JSON object per line; `-` reads standard input.
    pub(crate) file: Option<PathBuf>,

    /// Generate this many behaviour events of the last ten minutes instead, or of now with
    /// `--rate`; none is older than the newest event in the topic.
    #[arg(long, value_name = "N")]
    pub(crate) generate: Option<u64>,

    /// The time of the first generated event. Equal starts give equal events, a
    /// millisecond apart.
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "generate")]
    pub(crate) start: Option<EventTime>,

    /// Send lines as they are, even if they are not JSON objects.
    #[arg(long, requires = "file")]
    pub(crate) raw: bool,

    /// The topic.
    #[arg(long)]
    pub(crate) topic: String,

    /// The field whose value is the message's key. Events with equal keys are sent to the same
    /// partition, in order. Default for generated events: `user_id`.
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,

    /// Bootstrap brokers, several separated by commas.
    #[arg(long, env = "KAFKA_BROKERS", default_value = "localhost:9092")]
    pub(crate) brokers: String,

    /// A property of librdkafka. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_set)]
    pub(crate) property: Vec<(String, String)>,

    /// Create the topic with this many partitions, unless it exists.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) partitions: Option<u16>,

    /// The most events per second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
}

const DEMO_EXAMPLES: &str = "\
It starts a Kafka-compatible broker inside this process, sends generated events
to it, and runs examples/campaign_metrics.yaml with a commit every second
(`--set commit_every=1s`). Tables go to ./lake/demo, state to ./.tagflow/demo;
what an earlier demo left there is removed first.";

/// Show Tagflow at work: a broker, events, a pipeline and its tables, all in one.
#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct Demo {
    /// The number of events.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) events: u64,
}

/// Parses the command line. Help and errors follow `--color` too.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = env::args_os().collect();
    let mut command = Cli::command().color(color_choice(&args));
    let matches = command.try_get_matches_from_mut(args);
    let cli = matches.and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches);
        cli.map_err(|error| error.format(&mut command))
    });
    cli.map_err(without_false_tip)
}

/// The `--color` of a command line, which may be wrong elsewhere.
fn color_choice(args: &[OsString]) -> ColorChoice {
    let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let mut choices = args.iter().enumerate().filter_map(|(place, arg)| {
        let value = match arg.strip_prefix("--color") {
            Some("") => args.get(place + 1)?,
            Some(value) => value.strip_prefix('=')?,
            None => return None,
        };
        ColorWhen::from_str(value, false).ok()
    });
    match choices.next_back() {
        Some(ColorWhen::Always) => ColorChoice::Always,
        Some(ColorWhen::Never) => ColorChoice::Never,
        Some(ColorWhen::Auto) | None => ColorChoice::Auto,
    }
}

/// The error of a command line, without the misleading tip to pass an unknown option as a value.
/// For options that other tools use to name a file, it adds a useful tip.
fn without_false_tip(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let is_false = |tips: &ContextValue| tips.to_string().contains("use '-- ");
    if error.get(ContextKind::Suggested).is_some_and(is_false) {
        error.remove(ContextKind::Suggested);
    }
    let option = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    let names_a_file = ["--config", "-c", "--file", "-f", "--pipeline"];
    if option.is_some_and(|option| names_a_file.contains(&option.as_str())) {
        let tip = "a file stands by itself: `tagflow run campaign_metrics.yaml`";
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// At least one.
fn parse_rows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if rows > 0 => Ok(rows),
        _ => Err("expected a whole number, 1 or more".into()),
    }
}

/// `name=value`.
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
    fn colors_are_chosen_in_any_place() {
        let choice = |args: &str| {
            let args = args.split(' ').map(OsString::from);
            color_choice(&args.collect::<Vec<_>>())
        };
        assert_eq!(choice("tagflow runn --color=always"), ColorChoice::Always);
        assert_eq!(choice("tagflow --color never --help"), ColorChoice::Never);
        assert_eq!(choice("tagflow run --color"), ColorChoice::Auto);
        assert_eq!(choice("tagflow run --color=blue"), ColorChoice::Auto);
        assert_eq!(choice("tagflow run p.yaml"), ColorChoice::Auto);
    }

    #[test]
    fn regression_an_unknown_option_has_a_tip_that_helps() {
        let message = |args: &[&str]| {
            let parsed = Cli::try_parse_from([&["tagflow"], args].concat());
            without_false_tip(parsed.unwrap_err()).to_string()
        };
        for option in ["--config", "--file"] {
            let message = message(&["run", option, "p.yaml"]);
            assert!(message.contains("a file stands by itself"), "{message}");
            assert!(!message.contains("use '-- "), "{message}");
        }
        let unknown = message(&["run", "--nonsense", "p.yaml"]);
        assert!(!unknown.contains("use '-- "), "{unknown}");
        let near = message(&["run", "p.yaml", "--onze"]);
        assert!(near.contains("'--once'"), "{near}");
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
        let here = AdminAddress::At("127.0.0.1:8642".parse().unwrap());
        assert_eq!(":8642".parse(), Ok(here));
        assert_eq!("localhost:8642".parse(), Ok(here));
        for wrong in ["8642", ":", "localhost", "::8642", ":70000", "host:8642"] {
            assert!(wrong.parse::<AdminAddress>().is_err(), "{wrong}");
        }
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
