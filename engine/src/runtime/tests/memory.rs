//! Jobs with a simulated memory use.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{memory::MemoryGauge, status::JobState};

const LIMIT: u64 = 1000 << 20;

/// A memory use that the test sets.
struct Told(AtomicU64);

impl MemoryGauge for Told {
    fn used_bytes(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed))
    }
}

impl Told {
    fn percent(&self, percent: u64) {
        self.0.store(LIMIT / 100 * percent, Ordering::Relaxed);
    }
}

/// A job that commits only to free memory, or at its stop.
fn limited(rows: &[String]) -> (Rig, Arc<Told>) {
    let mut rig = Rig::new();
    let told = Arc::new(Told(AtomicU64::new(0)));
    rig.memory = Some(MemoryLimit {
        bytes: LIMIT,
        gauge: Arc::clone(&told) as Arc<dyn MemoryGauge>,
    });
    rig.bounded = Bounded::No;
    rig.end = End::Drain;
    rig.checkpoint_every = Duration::from_hours(10);
    rig.script.push("p", rows.to_vec());
    (rig, told)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_memory_is_short_and_then_all_is() {
    let rows = orderly(&mut SmallRng::seed_from_u64(3), 200);
    let (early, late) = rows.split_at(100);
    let (rig, told) = limited(early);
    let (mut control, job) = rig.start();
    let job = tokio::spawn(job);
    let status = &mut control.status;
    status.wait_for(|it| it.rows_in == 100).await.unwrap();
    assert!(status.borrow().commit.is_none());

    told.percent(86);
    status
        .wait_for(|it| it.state == JobState::Waiting)
        .await
        .unwrap();
    let said = status.borrow().message.clone().unwrap();
    // Before the commit, it also names the memory that the commit may need.
    assert!(
        said.starts_with("memory is short, so nothing is read: 860 MiB"),
        "{said}"
    );
    assert!(said.ends_with(" of `memory.limit` 1000 MiB"), "{said}");
    assert!(status.borrow().memory.unwrap().paused);
    rig.script.push("p", late.to_vec());
    status.wait_for(|it| it.commit.is_some()).await.unwrap();
    told.percent(82);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(status.borrow().rows_in, 100);

    told.percent(79);
    status.wait_for(|it| it.rows_in == 200).await.unwrap();
    status
        .wait_for(|it| it.state == JobState::Running)
        .await
        .unwrap();
    told.percent(10);
    control.stop.cancel();
    let totals = job.await.unwrap().unwrap().status.totals;
    assert_eq!((totals.rows_in, totals.contributed), (200, 200));
    assert_eq!(rig.counts().await, expected(rows));
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_not_idle_because_nothing_is_read() {
    let (rig, told) = limited(&["10,a,1".to_owned()]);
    let (mut control, job) = rig.start();
    let job = tokio::spawn(job);
    let status = &mut control.status;
    status.wait_for(|it| it.rows_in == 1).await.unwrap();
    told.percent(86);
    status.wait_for(|it| it.commit.is_some()).await.unwrap();
    let idle =
        |it: &crate::status::JobStatus| it.partitions.values().any(|partition| partition.idle);
    for _ in 0..60 {
        let percent = if control.status.borrow().memory.unwrap().paused {
            79
        } else {
            86
        };
        told.percent(percent);
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    assert!(
        !idle(&control.status.borrow()),
        "it was never looked at for a minute"
    );
    told.percent(10);
    control.status.wait_for(idle).await.unwrap();
    control.stop.cancel();
    job.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn state_that_never_fits_ends_the_job_with_what_it_has_committed() {
    let rows = orderly(&mut SmallRng::seed_from_u64(4), 50);
    let (rig, told) = limited(&rows);
    let (mut control, job) = rig.start();
    let job = tokio::spawn(job);
    control
        .status
        .wait_for(|it| it.rows_in == 50)
        .await
        .unwrap();
    told.percent(93);
    let error = job.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`memory.limit`"), "{error}");
    assert_eq!(control.status.borrow().totals.rows_in, 50);
}
