//! The demo: a broker inside the process, events that are sent no faster than they are read, and a
//! check of all totals.

mod account;
mod folders;
mod reconcile;
mod sender;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tagflow_config::Ratio;
use tagflow_connectors::{
    generator::{Events, GeneratorConfig},
    kafka::MockBroker,
};
use tagflow_engine::{EventTime, Result};

use tagflow_pipelines::LoadOptions;

pub use account::Account;
pub use folders::Folders;
pub use reconcile::{Item, reconcile};
pub use sender::{Sender, Sent};

/// The pipeline file of the demo, by its name in messages.
pub const FILE: &str = "examples/campaign_metrics.yaml";
/// Its text.
pub const PIPELINE: &str = include_str!("../../../examples/campaign_metrics.yaml");

/// The file of the second pipeline on the same events.
pub const TAGS_FILE: &str = "examples/user_tags.yaml";
/// Its text.
pub const TAGS_PIPELINE: &str = include_str!("../../../examples/user_tags.yaml");

/// The topic that both files read.
const TOPIC: &str = "behaviour-events";
const PARTITIONS: u16 = 4;

/// The event time between two events: 300,000 make 50 minutes.
const SPACING: Duration = Duration::from_millis(10);

/// Short, so that the short demo shows a commit before its end.
const COMMIT_EVERY: &str = "1s";

/// The shares of rows that are late, repeated and broken.
const LATE: Ratio = Ratio::new(0.002).expect("a share");
const DUPLICATES: Ratio = Ratio::new(0.003).expect("a share");
const BROKEN: Ratio = Ratio::new(0.001).expect("a share");

/// A broker with an empty topic, and the events to send to it.
pub struct Demo {
    broker: MockBroker,
    config: GeneratorConfig,
}

impl Demo {
    /// A demo with `events` events, the last at `now`.
    ///
    /// # Errors
    /// `External` where the broker cannot listen.
    pub fn start(events: u64, now: EventTime) -> Result<Self> {
        let broker = MockBroker::start(1)?;
        broker.create_topic(TOPIC, PARTITIONS)?;
        let span = SPACING.saturating_mul(u32::try_from(events).unwrap_or(u32::MAX));
        let config = GeneratorConfig {
            campaigns: 200.into(),
            users: 20_000.into(),
            start: now.saturating_sub(span).into(),
            interval: SPACING.into(),
            late: LATE.into(),
            late_by: Duration::from_mins(10),
            duplicates: DUPLICATES.into(),
            broken: BROKEN.into(),
            ..GeneratorConfig::many(events)
        };
        Ok(Self { broker, config })
    }

    /// The address of the broker.
    pub fn brokers(&self) -> &str {
        self.broker.bootstrap_servers()
    }

    /// The options to load [`PIPELINE`]: its variables name this broker and `folders`.
    pub fn load_options(&self, folders: &Folders) -> LoadOptions {
        LoadOptions {
            set: vec![("commit_every".to_owned(), COMMIT_EVERY.to_owned())],
            ..self.tags_options(folders)
        }
    }

    /// The options to load [`TAGS_PIPELINE`], in the same way.
    pub fn tags_options(&self, folders: &Folders) -> LoadOptions {
        let variables: BTreeMap<&str, String> = BTreeMap::from([
            ("KAFKA_BROKERS", self.brokers().to_owned()),
            ("LAKE_URL", folders.lake.display().to_string()),
            ("TAGFLOW_STATE", folders.state.display().to_string()),
        ]);
        LoadOptions {
            set: Vec::new(),
            env: Arc::new(move |name| variables.get(name).cloned()),
        }
    }

    /// The sender of the events.
    ///
    /// # Errors
    /// `Config` where the client refuses its settings.
    pub fn sender(&self) -> Result<Sender> {
        Sender::new(self.brokers(), TOPIC, Events::new(self.config.clone())?)
    }
}
