//! The output at the start of a run: its tables, the delay until rows are visible, and its admin
//! address.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use tagflow_pipelines::{
    Spec,
    lower::SET_ASIDE_MAX_OPEN,
    spec::{SinkConfig, WriteMode},
};
use tagflow_service::start::TableRef;

/// The greeting of `spec`, which writes `tables`; `admin` is the admin address.
pub(crate) fn of(spec: &Spec, tables: &[TableRef], admin: Option<SocketAddr>) -> String {
    let mut text = format!("{} starts; Ctrl-C commits and stops it\n", *spec.name);
    if let Some(address) = admin {
        let listen = &spec.admin.listen;
        let taken = if listen.is_default() && listen.port() != address.port() {
            format!("  (port {} is taken)", listen.port())
        } else {
            String::new()
        };
        let _ = writeln!(text, "  admin   http://{address}/status{taken}");
    }
    let _ = writeln!(text, "  state   {}", *spec.checkpoint.url);
    let width = |of: fn(&TableRef) -> &str| {
        let lengths = tables.iter().map(|table| of(table).chars().count());
        lengths.max().unwrap_or(0)
    };
    let (names, urls) = (width(|table| &table.name), width(|table| &table.url));
    for (index, table) in tables.iter().enumerate() {
        let label = if index == 0 { "tables" } else { "" };
        let delay = humantime::format_duration(visible_after(spec, &table.name));
        let _ = writeln!(
            text,
            "  {label:6}  {:names$}  {:urls$}  rows show within {delay}",
            table.name, table.url
        );
    }
    text
}

/// The longest time from a row that reaches a table to a file that readers see:
/// the file is finished at the first commit after `max_open`.
pub(crate) fn visible_after(spec: &Spec, table: &str) -> Duration {
    let sink = spec.sinks.get(table).map(|sink| &sink.output);
    let max_open = match sink {
        Some(SinkConfig::Parquet(parquet)) if *parquet.mode == WriteMode::Snapshot => {
            Duration::ZERO
        }
        Some(SinkConfig::Parquet(parquet)) => *parquet.files.max_open,
        Some(_) => Duration::ZERO,
        // Dead letters and late rows.
        None => SET_ASIDE_MAX_OPEN,
    };
    max_open + *spec.checkpoint.every
}

#[cfg(test)]
mod tests {
    use tagflow_pipelines::{LoadOptions, load_str};

    use super::*;

    #[test]
    fn regression_a_run_greets() {
        let file = "name: clicks\nsources: {s: {generator: {}}}\nsinks:\n  quick: {from: s, \
                    parquet: {url: ./lake/quick, files: {max_open: 5s}}}\n  slow: {from: s, \
                    parquet: {url: ./lake/slow}}\n";
        let spec = load_str("clicks.yaml", file, &LoadOptions::default()).unwrap();
        let table = |name: &str| TableRef {
            name: name.into(),
            url: format!("./lake/{name}").into(),
        };
        let tables = ["quick", "slow", "dead_letters"].map(table);
        let taken = "127.0.0.1:40123".parse().unwrap();
        let state = &**spec.checkpoint.url;
        assert_eq!(
            of(&spec, &tables, Some(taken)),
            format!(
                "clicks starts; Ctrl-C commits and stops it\n\
                 \x20 admin   http://127.0.0.1:40123/status  (port 8642 is taken)\n\
                 \x20 state   {state}\n\
                 \x20 tables  quick         ./lake/quick         rows show within 15s\n\
                 \x20         slow          ./lake/slow          rows show within 5m 10s\n\
                 \x20         dead_letters  ./lake/dead_letters  rows show within 1m 10s\n"
            )
        );
        assert!(!of(&spec, &tables, None).contains("admin"));
        let free = "127.0.0.1:8642".parse().unwrap();
        assert!(!of(&spec, &tables, Some(free)).contains("taken"));
    }
}
