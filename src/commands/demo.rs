//! `tagflow demo`.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc, time::Duration};

use tagflow_engine::{
    Clock as _, SystemClock,
    runtime::{End, Outcome, Until, supervise},
};
use tagflow_pipelines::{
    Pipeline,
    demo::{self, Folders, Item, Sent, settle},
    inspect::StateFolder,
    launch::{Launch, LaunchOptions, launch},
    query::{Tables, tables_of},
};
use tokio::time::Instant;

use crate::{
    admin::{Endpoint, IfTaken},
    cli::Demo,
    exit::Exit,
    figures, output,
    session::{self, Ended},
    summary,
};

const TOP: &str = "\
select campaign_id, sum(impressions) as impressions, sum(clicks) as clicks,
       round(10000.0 * sum(clicks) / sum(impressions), 1) as clicks_per_10k,
       sum(revenue) as revenue
from campaign_metrics group by 1 order by 2 desc, 1 limit 10";

pub(crate) async fn execute(args: Demo) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let folders = Folders::default();
    folders.prepare()?;
    let demo = demo::Demo::start(args.events, SystemClock.now())?;
    eprintln!(
        "a Kafka-compatible broker listens at {} (inside this process)\n\
         {} events go to it, and {} reads them as it would from any broker\n\
         tables go to {}, state to {}; what an earlier demo left there is gone",
        demo.brokers(),
        figures::count(args.events),
        demo::FILE,
        folders.lake.display(),
        folders.state.display(),
    );
    let options = demo.load_options(&folders);
    let pipeline = Pipeline::open_str(demo::FILE, demo::PIPELINE, &options)?;
    let listen = *pipeline.spec.admin.listen.value();
    let endpoint = Endpoint::bind(listen, IfTaken::UseAnother).await?;
    let options = LaunchOptions {
        lanes: None,
        until: Until::Stopped,
        end: End::Drain,
        reset: BTreeSet::new(),
        admin: Some(endpoint.address()),
        // The broker forgets what has been read: there is no way back.
        restarts: 0,
    };
    let Launch { supervised, tables } = launch(pipeline, options, Arc::new(SystemClock))?;
    let (control, job) = supervise(supervised);
    let sender = demo.sender()?.run(control.status.clone());
    let stop = control.stop.clone();
    let sending = tokio::spawn(async move {
        let sent = sender.await;
        stop.cancel();
        sent
    });
    let outcome = match session::run(control, Box::pin(job), Some(endpoint)).await? {
        Ended::Stopped(outcome) => outcome,
        Ended::Aborted => return Ok(Exit::Aborted),
    };
    let Some(sent) = sending.await?? else {
        eprintln!("stopped before all events were read: there is nothing to compare");
        return Ok(Exit::Success);
    };
    let state = folders.state.display().to_string();
    eprint!("{}", summary::of(&outcome, End::Drain, &tables, &state));
    show(&sent, &outcome, &folders, begun.elapsed()).await
}

/// Prints the top campaigns and the balance.
async fn show(
    sent: &Sent,
    outcome: &Outcome,
    folders: &Folders,
    took: Duration,
) -> anyhow::Result<Exit> {
    let state = folders.state.display().to_string();
    let mut tables = Tables::new(tables_of(&StateFolder::open(&state)?, None).await?);
    let top = tables.ask(TOP).await?.table()?;
    let balance = settle(sent, &outcome.status.totals, &mut tables).await?;
    output::print(&format!(
        "\ntop campaigns\n{top}\n{}",
        balance_text(sent, &balance)
    ))?;
    let lake = folders.lake.display();
    output::print(&format!(
        "\nask for more:\n\
         \x20 tagflow query --state {state} 'select * from campaign_metrics limit 10'\n\
         \x20 tagflow query --state {state} 'select reason, count(*) from dead_letters group by 1'\n\
         \x20 duckdb -c \"from read_parquet('{lake}/campaign_metrics/**/*.parquet', hive_partitioning = true) limit 10\"\n\
         \ndone in {}\n",
        figures::duration(took)
    ))?;
    if balance.iter().all(Item::is_even) {
        return Ok(Exit::Success);
    }
    eprintln!("error: what was read does not add up to what was sent; the differences are above");
    Ok(Exit::Data)
}

fn balance_text(sent: &Sent, balance: &[Item]) -> String {
    let kinds = &sent.kinds;
    let mut text = format!(
        "sent: {} events, of them {} in time, {} late by ten minutes, {} twice, {} broken\n",
        figures::count(kinds.rows()),
        figures::count(kinds.good),
        figures::count(kinds.late),
        figures::count(kinds.duplicate),
        figures::count(kinds.broken),
    );
    for item in balance {
        let Item {
            what,
            expected,
            found,
        } = item;
        let verdict = if item.is_even() { "ok" } else { "DIFFERS" };
        let _ = writeln!(text, "  {verdict:<7} {what:<34} {expected:>12} {found:>12}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_points_at_what_differs() {
        let balance = [
            Item {
                what: "events sent, rows read",
                expected: 10,
                found: 10,
            },
            Item {
                what: "clicks, in the tables",
                expected: 5,
                found: 4,
            },
        ];
        let text = balance_text(&Sent::default(), &balance);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  ok      events sent, rows read                       10           10",
                "  DIFFERS clicks, in the tables                         5            4",
            ]
        );
    }
}
