//! `tagflow produce`.

use std::{path::Path, time::Duration};

use tagflow_engine::{Clock as _, SystemClock};
use tagflow_service::produce::{Generated, Input, ProduceOptions, Produced, Progress, produce};
use tokio::time::Instant;

use crate::{cli::Produce, exit::Exit, human};

pub(crate) async fn execute(args: Produce) -> anyhow::Result<Exit> {
    let input = match (args.file, args.generate) {
        (Some(path), _) if path == Path::new("-") => Input::Stdin,
        (Some(path), _) => Input::File(path),
        (None, count) => Input::Generated(Generated {
            count: count.unwrap_or_default(),
            now: SystemClock.now(),
            start: args.start,
        }),
    };
    let options = ProduceOptions {
        brokers: args.brokers,
        properties: args.property.into_iter().collect(),
        topic: args.topic,
        partitions: args.partitions,
        key: args.key,
        rate: args.rate,
        raw: args.raw,
    };
    let begun = Instant::now();
    let mut shown = None;
    let produced = produce(input, &options, |progress| {
        if shown.as_ref() != Some(&progress)
            && let Some(line) = line(&progress, &options.brokers)
        {
            eprintln!("{line}");
            shown = Some(progress);
        }
    })
    .await?;
    eprintln!("{}", summary(&produced, &options, begun.elapsed()));
    Ok(Exit::Success)
}

/// The line about the progress, if there is any.
fn line(progress: &Progress, brokers: &str) -> Option<String> {
    if let Some(problem) = &progress.problem {
        return Some(format!("waiting for Kafka at `{brokers}`: {problem}"));
    }
    let delivered = human::count(progress.delivered);
    (progress.delivered > 0).then(|| format!("sent {delivered} events"))
}

fn summary(produced: &Produced, options: &ProduceOptions, took: Duration) -> String {
    let sent = &produced.sent;
    let rate = sent.events as f64 / took.as_secs_f64().max(1e-3);
    let keyless = match &options.key {
        Some(field) if sent.without_key > 0 => {
            let rows = human::count(sent.without_key);
            format!("; {rows} have no `{field}` and so no key")
        }
        _ => String::new(),
    };
    format!(
        "sent {} events ({}) to `{}` in {}, {}/s{keyless}",
        human::count(sent.events),
        human::bytes(sent.bytes),
        options.topic,
        human::duration(took),
        human::rate(rate),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tagflow_service::produce::Sent;

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
            raw: false,
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
