//! A store that is unavailable for a while as a pipeline runs: the process waits, and no row is
//! lost or duplicated.

use std::{env, thread, time::Duration};

use crate::{
    broker::Broker,
    lake::assert_holds,
    process::{Folder, eventually},
    rows::{on_s3, patient, pipeline, rows},
    s3::S3,
};

/// The duration of the outage: a minute, if the environment sets it.
fn outage() -> Duration {
    let seconds = env::var("TAGFLOW_OUTAGE_S").ok();
    Duration::from_secs(seconds.map_or(4, |seconds| seconds.parse().unwrap()))
}

#[test]
fn a_store_that_refuses_connections_for_a_while_costs_no_row() {
    survives(|store, folder| {
        store.down();
        thread::sleep(outage());
        store.up(folder);
    });
}

#[test]
fn a_store_that_answers_nothing_for_a_while_costs_no_row() {
    survives(|store, _| {
        store.signal("STOP");
        thread::sleep(outage());
        store.signal("CONT");
    });
}

fn survives(fault: impl FnOnce(&mut S3, &Folder)) {
    let mut folder = Folder::new();
    let mut store = S3::serving(&mut folder);
    let all = rows(12_000, 9);
    let broker = Broker::new("sales", 2);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", on_s3(&patient(&pipeline(&source))));
    let (early, late) = all.split_at(4_000);
    let (during, after) = late.split_at(4_000);

    broker.send_rows("sales", 2, early);
    let run = folder.start(&["run", "p.yaml", "--admin", "off"]);
    let files = || folder.files("lake/every_row", ".parquet").len();
    eventually("it commits rows", || (files() > 0).then_some(()));
    broker.send_rows("sales", 2, during);
    fault(&mut store, &folder);
    let before = files();
    broker.send_rows("sales", 2, after);
    eventually("it commits again", || (files() > before).then_some(()));
    run.signal("TERM");
    run.wait().expect(0);
    folder
        .tagflow(&["run", "p.yaml", "--once", "--drain", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);
}
