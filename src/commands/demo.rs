//! `tagflow demo`.

use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use tagflow_engine::{
    Clock as _, SystemClock,
    runtime::{End, IfLive, OldFiles, Outcome, Until, supervise},
};
use tagflow_pipelines::Pipeline;
use tagflow_service::{
    demo::{self, Folders, Item, Sent, reconcile},
    http::{Endpoint, IfTaken},
    query::{Tables, tables_of},
    start::{Launch, LaunchOptions, launch},
    state_folder::StateFolder,
};
use tokio::time::Instant;

use crate::{
    cli::Demo,
    exit::Exit,
    human, output,
    session::{self, Ended},
    summary,
    terminal::Stream,
};

const TOP: &str = "\
select campaign_id, sum(impressions) as impressions, sum(clicks) as clicks,
       round(10000.0 * sum(clicks) / sum(impressions), 1) as clicks_per_10k,
       sum(revenue) as revenue
from campaign_metrics group by 1 order by 2 desc, 1 limit 10";

const TAGS: &str = "\
select tag, cause, count(*) as changes, count(distinct user_id) as users
from tag_changes group by 1, 2 order by 3 desc, 1, 2 limit 10";

pub(crate) async fn execute(args: Demo) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let (folders, tags_folders) = (Folders::default(), Folders::of_tags());
    folders.prepare()?;
    tags_folders.prepare()?;
    let demo = demo::Demo::start(args.events, SystemClock.now())?;
    eprintln!(
        "a Kafka-compatible broker listens at {} (inside this process)\n\
         two pipelines read {} events from it:\n\
         \x20 {}\n\
         \x20 {}\n\
         tables are in {} and {}\n\
         state is in {} and {}\n\
         files of an earlier demo there are removed",
        demo.brokers(),
        human::count(args.events),
        demo::FILE,
        demo::TAGS_FILE,
        folders.lake.display(),
        tags_folders.lake.display(),
        folders.state.display(),
        tags_folders.state.display(),
    );
    let options = demo.load_options(&folders);
    let pipeline = Pipeline::open_str(demo::FILE, demo::PIPELINE, &options)?;
    let listen = *pipeline.spec.admin.listen.value();
    let endpoint = Endpoint::bind(listen, IfTaken::UseAnother).await?;
    let options = |admin| LaunchOptions {
        lanes: None,
        until: Until::Stopped,
        end: End::Drain,
        reset: BTreeSet::new(),
        old_files: OldFiles::Keep,
        if_live: IfLive::Refuse,
        admin,
        // The broker deletes rows that were read, so a restart cannot resume.
        restarts: 0,
    };
    let tags = demo.tags_options(&tags_folders);
    let tags = Pipeline::open_str(demo::TAGS_FILE, demo::TAGS_PIPELINE, &tags)?;
    let tags = launch(tags, options(None), Arc::new(SystemClock))?;
    let (tags_control, tags) = supervise(tags.supervised);
    let tags = tokio::spawn(tags);
    let Launch {
        supervised,
        tables,
        spec,
    } = launch(
        pipeline,
        options(Some(endpoint.address())),
        Arc::new(SystemClock),
    )?;
    let (control, job) = supervise(supervised);
    let jobs = vec![control.status.clone(), tags_control.status];
    let sender = demo.sender()?.run(jobs);
    let stop = control.stop.clone();
    let sending = tokio::spawn(async move {
        let sent = sender.await;
        stop.cancel();
        tags_control.stop.cancel();
        sent
    });
    let outcome = match session::run(control, Box::pin(job), Some(endpoint), spec).await? {
        Ended::Stopped(outcome) => outcome,
        Ended::Aborted => return Ok(Exit::Aborted),
    };
    let sent = sending.await??;
    let tagged = tags.await??;
    let Some(sent) = sent else {
        eprintln!("stopped before all events were read: there is nothing to compare");
        return Ok(Exit::Success);
    };
    let state = folders.state.display().to_string();
    eprint!("{}", summary::of(&outcome, &tables, &state));
    let tags = Tagged {
        state: tags_folders.state.clone(),
        read: tagged.status.totals.rows_in,
        changes: ask_tags(&tags_folders).await?,
    };
    show(&sent, &outcome, &tags, &folders, begun.elapsed()).await
}

/// The tags of users.
struct Tagged {
    /// The folder of its state.
    state: PathBuf,
    /// The number of rows it read.
    read: u64,
    /// The changes, as a table.
    changes: String,
}

async fn ask_tags(folders: &Folders) -> anyhow::Result<String> {
    let state = StateFolder::open(&folders.state.display().to_string())?;
    let mut tables = Tables::new(tables_of(&state, None).await?);
    Ok(tables.ask(TAGS).await?.table(Stream::Out.width())?)
}

/// Prints the top campaigns, the changes of tags, and the balance.
async fn show(
    sent: &Sent,
    outcome: &Outcome,
    tags: &Tagged,
    folders: &Folders,
    took: Duration,
) -> anyhow::Result<Exit> {
    let state = folders.state.display().to_string();
    let mut tables = Tables::new(tables_of(&StateFolder::open(&state)?, None).await?);
    let top = tables.ask(TOP).await?.table(Stream::Out.width())?;
    let mut balance = reconcile(sent, &outcome.status.totals, &mut tables).await?;
    balance.push(Item {
        what: "events sent, rows read for tags",
        expected: sent.kinds.rows() as i64,
        found: tags.read as i64,
    });
    output::print(&format!(
        "\ntop campaigns\n{top}\nchanges of users' tags, by tag and cause\n{}\n{}",
        tags.changes,
        balance_text(sent, &balance)
    ))?;
    let lake = folders.lake.display();
    let tags = tags.state.display();
    output::print(&format!(
        "\nask for more:\n\
         \x20 tagflow query --state {state} 'select * from campaign_metrics limit 10'\n\
         \x20 tagflow query --state {state} 'select reason, count(*) from dead_letters group by 1'\n\
         \x20 tagflow query --state {tags} 'select * from tag_changes limit 10'\n\
         \x20 duckdb -c \"from read_parquet('{lake}/campaign_metrics/**/*.parquet', hive_partitioning = true) limit 10\"\n\
         \ndone in {}\n",
        human::duration(took)
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
        human::count(kinds.rows()),
        human::count(kinds.good),
        human::count(kinds.late),
        human::count(kinds.duplicate),
        human::count(kinds.broken),
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
