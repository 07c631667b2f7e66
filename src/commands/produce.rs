//! `tagflow produce`.

use std::{path::Path, time::Duration};

use tagflow_pipelines::produce::{Input, ProduceOptions, Produced, produce};
use tokio::time::Instant;

use crate::{cli::Produce, exit::Exit, figures};

/// The time between two lines about the progress.
const EVERY: Duration = Duration::from_secs(2);

pub(crate) async fn execute(args: Produce) -> anyhow::Result<Exit> {
    let input = match (args.file, args.generate) {
        (Some(path), _) if path == Path::new("-") => Input::Stdin,
        (Some(path), _) => Input::File(path),
        (None, count) => Input::Generated(count.unwrap_or_default()),
    };
    let options = ProduceOptions {
        brokers: args.brokers,
        properties: args.property.into_iter().collect(),
        topic: args.topic,
        partitions: args.partitions,
        key: args.key,
        rate: args.rate,
    };
    let begun = Instant::now();
    let mut said = begun;
    let produced = produce(input, &options, |sent| {
        if said.elapsed() >= EVERY {
            said = Instant::now();
            eprintln!("sent {} events", figures::count(sent.events));
        }
    })
    .await?;
    eprintln!("{}", summary(&produced, &options, begun.elapsed()));
    Ok(Exit::Success)
}

fn summary(produced: &Produced, options: &ProduceOptions, took: Duration) -> String {
    let sent = &produced.sent;
    let rate = sent.events as f64 / took.as_secs_f64().max(1e-3);
    let keyless = match &options.key {
        Some(field) if sent.without_key > 0 => {
            let rows = figures::count(sent.without_key);
            format!("; {rows} have no `{field}` and so no key")
        }
        _ => String::new(),
    };
    format!(
        "sent {} events ({}) to `{}` in {}, {}/s{keyless}",
        figures::count(sent.events),
        figures::bytes(sent.bytes),
        options.topic,
        figures::duration(took),
        figures::rate(rate),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tagflow_pipelines::produce::Sent;

    use super::*;

    #[test]
    fn the_summary_tells_what_was_sent() {
        let options = ProduceOptions {
            brokers: "b:9092".into(),
            properties: BTreeMap::new(),
            topic: "events".into(),
            partitions: None,
            key: Some("user".into()),
            rate: None,
        };
        let sent = Sent {
            events: 5000,
            bytes: 1_200_000,
            without_key: 3,
        };
        let produced = Produced { sent, topic: None };
        assert_eq!(
            summary(&produced, &options, Duration::from_millis(2500)),
            "sent 5,000 events (1.2 MB) to `events` in 2.5s, 2,000/s; 3 have no `user` and so no key"
        );
    }
}
