//! Jobs with sinks that cannot deliver.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{
    status::{JobState, JobStatus},
    testing::store::{Fault as StoreFault, FaultyStore, Operation},
};

/// The sink that cannot deliver while the switch is on.
const SINK: &str = "counts";

/// A rig whose sink [`SINK`] is down while the switch is on.
fn down(rows: &[String]) -> (Rig, Arc<AtomicBool>) {
    let mut rig = Rig::new();
    let switch = Arc::new(AtomicBool::new(true));
    let store = FaultyStore::new(Arc::clone(&rig.store));
    let is_down = Arc::clone(&switch);
    store.direct(move |operation, path| {
        let concerned = operation == Operation::Copy && path.as_ref().starts_with(SINK);
        (concerned && is_down.load(Ordering::Relaxed)).then_some(StoreFault::ErrorBefore)
    });
    rig.store = Arc::new(store);
    rig.bounded = Bounded::No;
    rig.checkpoint_every = Duration::from_millis(500);
    rig.end = End::Drain;
    rig.script.push("p", rows.to_vec());
    (rig, switch)
}

fn pending(status: &JobStatus) -> u64 {
    status.sinks.get(SINK).map_or(0, |it| it.pending_commits)
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_holds_up_no_other() {
    let mut rows = orderly(&mut SmallRng::seed_from_u64(5), 100);
    rows.push("no row".to_owned());
    let (rig, switch) = down(&rows);
    let (mut control, job) = rig.start();
    let job = tokio::spawn(job);
    let status = &mut control.status;
    let failed = |it: &JobStatus| {
        let sink = it.sinks.get(SINK);
        sink.is_some_and(|sink| sink.failures > 1) && it.rows_in == 101
    };
    status.wait_for(failed).await.unwrap();
    {
        let status = status.borrow();
        assert_eq!(status.state, JobState::Running);
        let message = status.message.clone().unwrap();
        assert!(
            message.starts_with("sink `counts` has yet to deliver "),
            "{message}"
        );
        let sink = &status.sinks[SINK];
        assert!(sink.pending_rows > 0 && sink.pending_bytes > 0);
        assert!(sink.pending_since.is_some() && sink.last_error.is_some());
        assert!(sink.delivered_seq < status.sinks["dead"].delivered_seq);
    }
    assert_eq!(rig.counts().await, Vec::<String>::new());
    assert_eq!(rig.sink("dead").published().await.unwrap().len(), 1);

    switch.store(false, Ordering::Relaxed);
    status.wait_for(|it| pending(it) == 0).await.unwrap();
    status.wait_for(|it| it.message.is_none()).await.unwrap();
    control.stop.cancel();
    let status = job.await.unwrap().unwrap().status;
    assert_eq!(
        status.sinks[SINK].delivered_seq,
        status.commit.unwrap().seq,
        "all is delivered"
    );
    rows.pop();
    assert_eq!(rig.counts().await, expected(rows));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_too_much_is_undelivered() {
    let rows = orderly(&mut SmallRng::seed_from_u64(6), 400);
    let mut parts = rows.chunks(40);
    let (mut rig, switch) = down(parts.next().unwrap());
    let bounds = DeliveryBounds {
        max_pending_commits: 3,
        ..DeliveryBounds::default()
    };
    rig.deliver = BTreeMap::from([(SINK.to_owned(), bounds)]);
    let (mut control, job) = rig.start();
    let job = tokio::spawn(job);
    let status = &mut control.status;
    let mut unread = parts.clone();
    for part in parts {
        let read = status.borrow().rows_in;
        rig.script.push("p", part.to_vec());
        unread.next();
        let goes_on = |it: &JobStatus| it.rows_in > read || it.state == JobState::Waiting;
        if status.wait_for(goes_on).await.unwrap().state == JobState::Waiting {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (read, message) = {
        let status = status.borrow();
        assert!(pending(&status) >= 3);
        (status.rows_in, status.message.clone().unwrap())
    };
    assert!(
        message.starts_with("nothing is read, because sink `counts` has yet to deliver"),
        "{message}"
    );
    for part in unread {
        rig.script.push("p", part.to_vec());
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(
        status.borrow().rows_in <= read + 40,
        "nothing more was read"
    );

    switch.store(false, Ordering::Relaxed);
    status.wait_for(|it| it.rows_in == 400).await.unwrap();
    control.stop.cancel();
    job.await.unwrap().unwrap();
    assert_eq!(rig.counts().await, expected(rows));
}

#[tokio::test(start_paused = true)]
async fn the_next_run_delivers_the_rest() {
    let rows = orderly(&mut SmallRng::seed_from_u64(7), 100);
    let (rig, switch) = down(&rows);
    let (mut control, job) = rig.start();
    let job = tokio::spawn(job);
    let status = &mut control.status;
    status.wait_for(|it| it.rows_in == 100).await.unwrap();
    control.stop.cancel();
    let error = job.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    let text = error.to_string();
    assert!(text.contains("the next run delivers it"), "{text}");
    assert_eq!(rig.counts().await, Vec::<String>::new());

    switch.store(false, Ordering::Relaxed);
    let (control, job) = rig.start();
    control.stop.cancel();
    job.await.unwrap();
    assert_eq!(rig.counts().await, expected(rows));
}

/// A run begins to read although a sink of the run before cannot deliver yet.
#[tokio::test(start_paused = true)]
async fn a_start_does_not_wait_for_a_sink_that_is_down() {
    let rows = orderly(&mut SmallRng::seed_from_u64(8), 100);
    let (early, late) = rows.split_at(50);
    let (rig, switch) = down(early);
    let (mut control, job) = rig.start();
    let job = tokio::spawn(job);
    control.status.wait_for(|it| pending(it) > 0).await.unwrap();
    job.abort();
    let _ = job.await;

    rig.script.push("p", late.to_vec());
    let (mut control, job) = rig.start();
    let job = tokio::spawn(job);
    let status = &mut control.status;
    let goes_on = |it: &JobStatus| it.rows_in > 0 && pending(it) > 1;
    status.wait_for(goes_on).await.unwrap();
    switch.store(false, Ordering::Relaxed);
    status.wait_for(|it| pending(it) == 0).await.unwrap();
    control.stop.cancel();
    job.await.unwrap().unwrap();
    assert_eq!(rig.counts().await, expected(rows));
}
