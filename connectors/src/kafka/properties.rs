//! The librdkafka properties that users may set.

use std::collections::BTreeMap;

use rdkafka::{ClientConfig, error::KafkaError};

/// The side that a property configures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A source's.
    Consumer,
    /// A producer's.
    Producer,
}

/// The properties allowed on either side; a trailing dot allows all names below.
const SHARED: &[&str] = &[
    "api.version.request",
    "api.version.request.timeout.ms",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "debug",
    "enable.metrics.push",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "message.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.",
    "security.protocol",
    "socket.",
    "ssl.",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.sparse",
];

const CONSUMER: &[&str] = &["fetch.", "max.partition.fetch.bytes", "queued."];

const PRODUCER: &[&str] = &[
    "batch.",
    "compression.",
    "delivery.timeout.ms",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "partitioner",
    "queue.buffering.",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
];

/// The properties that Tagflow sets itself, with the reason.
const FIXED: &[(&str, &str)] = &[
    ("acks", "an event counts as sent when all replicas have it"),
    (
        "allow.auto.create.topics",
        "a misspelled topic must be an error",
    ),
    (
        "auto.commit.interval.ms",
        "positions live in the commit log",
    ),
    (
        "auto.offset.reset",
        "set `start` and `on_data_loss` instead; a silent reset loses rows",
    ),
    ("bootstrap.servers", "set `brokers` instead"),
    ("check.crcs", "damaged rows must not be read"),
    ("enable.auto.commit", "positions live in the commit log"),
    (
        "enable.auto.offset.store",
        "positions live in the commit log",
    ),
    (
        "enable.idempotence",
        "a retried send must not double an event",
    ),
    (
        "enable.partition.eof",
        "the end of a partition is how `--once` and idleness are known",
    ),
    ("group.id", "set `group_id` instead"),
    (
        "group.instance.id",
        "partitions are assigned from the commit log, not by the group",
    ),
    (
        "group.protocol",
        "partitions are assigned from the commit log, not by the group",
    ),
    (
        "isolation.level",
        "rows of aborted transactions must not be read",
    ),
    (
        "max.poll.interval.ms",
        "partitions are assigned from the commit log, not by the group",
    ),
    ("metadata.broker.list", "set `brokers` instead"),
    (
        "partition.assignment.strategy",
        "partitions are assigned from the commit log",
    ),
    (
        "request.required.acks",
        "an event counts as sent when all replicas have it",
    ),
    (
        "session.timeout.ms",
        "partitions are assigned from the commit log, not by the group",
    ),
    (
        "statistics.interval.ms",
        "lag and new partitions are taken from the statistics",
    ),
    (
        "topic.metadata.refresh.interval.ms",
        "set `discovery_interval` instead",
    ),
    (
        "transactional.id",
        "exactly once rests on the commit log, not on transactions",
    ),
];

/// All errors in `properties`, by name.
pub(super) fn check(side: Side, properties: &BTreeMap<String, String>) -> Vec<(String, String)> {
    properties
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), problem(side, name, value)?)))
        .collect()
}

fn problem(side: Side, name: &str, value: &str) -> Option<String> {
    if let Some((_, reason)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
        return Some(format!("`{name}` cannot be set: {reason}"));
    }
    let own = match side {
        Side::Consumer => CONSUMER,
        Side::Producer => PRODUCER,
    };
    let allowed = SHARED.iter().chain(own).any(|allowed| {
        if allowed.ends_with('.') {
            name.starts_with(allowed)
        } else {
            name == *allowed
        }
    });
    if !allowed {
        let near = nearest(own, name);
        return Some(format!(
            "`{name}` is not a property that can be passed through{near}"
        ));
    }
    let rejection = ClientConfig::new()
        .set(name, value)
        .create_native_config()
        .err()?;
    Some(match rejection {
        // The client quotes the value in its message; a secret must not be printed.
        KafkaError::ClientConfig(_, message, ..) if !is_secret(name) => {
            let near = if message.contains("No such") {
                nearest(own, name)
            } else {
                String::new()
            };
            format!("{}{near}", lowercase_first(message.trim_end_matches('.')))
        }
        _ => format!("the Kafka client does not accept this value of `{name}`"),
    })
}

/// Frequently set properties that [`SHARED`], [`CONSUMER`] and [`PRODUCER`] allow by their prefix
/// alone.
const COMMON: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "sasl.kerberos.keytab",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.certificate.stores",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
];

/// `; did you mean …?`, if a property has a similar name.
fn nearest(own: &[&'static str], name: &str) -> String {
    let names = SHARED.iter().chain(own).chain(COMMON);
    let whole = names.filter(|known| !known.ends_with('.'));
    let like = whole.map(|known| (strsim::jaro_winkler(known, name), known));
    match like.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, known)) if likeness > 0.9 => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

fn is_secret(name: &str) -> bool {
    [
        "password", "secret", "key", "token", "config", "pem", "jaas",
    ]
    .iter()
    .any(|word| name.contains(word))
}

fn lowercase_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

/// The error in a list of brokers.
pub(super) fn check_brokers(brokers: &str) -> Option<String> {
    if brokers.trim().is_empty() {
        return Some("at least one broker is needed, as `host:port`".to_owned());
    }
    brokers.split(',').map(str::trim).find_map(|broker| {
        let address = broker
            .rsplit_once("://")
            .map_or(broker, |(_, address)| address);
        let port = match address.rsplit_once(':') {
            // The colons of an IPv6 address without a port separate no port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => Some(port),
            _ => None,
        };
        let wrong = address.is_empty()
            || address.starts_with(':')
            || port.is_some_and(|port| port.parse::<u16>().is_err());
        wrong.then(|| format!("`{broker}` is not an address of the form `host:port`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(side: Side, name: &str, value: &str) -> Option<String> {
        problem(side, name, value)
    }

    #[test]
    fn what_is_allowed_passes() {
        for (name, value) in [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.password", "x"),
            ("ssl.ca.location", "/etc/ssl/certs/ca-certificates.crt"),
            ("fetch.min.bytes", "1"),
            ("queued.min.messages", "1000"),
            ("client.id", "me"),
            ("socket.keepalive.enable", "true"),
        ] {
            assert_eq!(of(Side::Consumer, name, value), None, "{name}");
        }
        assert_eq!(of(Side::Producer, "linger.ms", "5"), None);
    }

    #[test]
    fn what_is_fixed_is_refused_with_the_reason() {
        assert_eq!(
            of(Side::Consumer, "auto.offset.reset", "latest").unwrap(),
            "`auto.offset.reset` cannot be set: set `start` and `on_data_loss` instead; a silent \
             reset loses rows"
        );
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        for name in [
            "plugin.library.paths",
            "linger.ms",
            "log.queue",
            "test.mock.num.brokers",
        ] {
            assert_eq!(
                of(Side::Consumer, name, "1").unwrap(),
                format!("`{name}` is not a property that can be passed through")
            );
        }
    }

    #[test]
    fn regression_a_misspelt_property_names_the_right_one() {
        for (wrong, right) in [
            ("security.protocl", "security.protocol"),
            ("security.protokoll", "security.protocol"),
            ("sasl.mechanizm", "sasl.mechanism"),
            ("sasl.user.name", "sasl.username"),
            ("ssl.ca.lokation", "ssl.ca.location"),
            ("fetch.mim.bytes", "fetch.min.bytes"),
            ("client.idd", "client.id"),
        ] {
            let message = of(Side::Consumer, wrong, "x").unwrap();
            let expected = format!("; did you mean `{right}`?");
            assert!(message.ends_with(&expected), "{message}");
        }
        for name in COMMON {
            let known = ClientConfig::new().set(*name, "").create_native_config();
            if let Err(KafkaError::ClientConfig(_, message, ..)) = known {
                assert!(!message.contains("No such"), "{message}");
            }
        }
    }

    #[test]
    fn a_wrong_value_is_found_without_network() {
        let message = of(Side::Consumer, "fetch.min.bytes", "many").unwrap();
        assert!(message.contains("fetch.min.bytes"), "{message}");
        let unknown = of(Side::Consumer, "ssl.nonsense", "x").unwrap();
        assert!(unknown.contains("ssl.nonsense"), "{unknown}");
        let secret = of(Side::Consumer, "sasl.nonsense.password", "hunter2").unwrap();
        assert!(!secret.contains("hunter2"), "{secret}");
    }

    #[test]
    fn brokers_are_host_and_port() {
        for good in [
            "a:9092",
            "a:9092, b:9093",
            "SASL_SSL://a:9092",
            "[::1]:9092",
            "kafka",
        ] {
            assert_eq!(check_brokers(good), None, "{good}");
        }
        for bad in ["", "a:port", "a:99999", ":9092", "a:9092,"] {
            assert!(check_brokers(bad).is_some(), "{bad}");
        }
    }
}
