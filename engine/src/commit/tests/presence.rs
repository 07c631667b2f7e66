//! Whether a second process waits, starts or ends.

use super::world::{Process, World};
use crate::{
    ErrorKind, EventTime, Result,
    commit::{CommitLog, Heartbeat, ProcessId, Reason},
};

/// A live process of this machine, and a process of another machine.
fn here() -> ProcessId {
    ProcessId::current()
}

fn elsewhere() -> ProcessId {
    ProcessId {
        machine: Some("elsewhere".to_owned()),
        pid: 7,
        started: Some(7),
    }
}

/// An owner with one sign of life.
async fn owner(world: &World, process: ProcessId) -> (Process, CommitLog, Heartbeat) {
    let owner = world.process(1);
    let (log, _) = owner.open().await.unwrap();
    let heartbeat = log.heartbeat(process);
    heartbeat.beat(EventTime::from_micros(1)).await;
    (owner, log, heartbeat)
}

/// The result of a second process, and whether it had to watch.
async fn second(world: &World) -> (Result<()>, bool) {
    let looked = world.process(2).look().await.unwrap();
    let mut watched = false;
    let learned = looked.wait_for_end(&here(), |_| watched = true).await;
    (learned, watched)
}

#[tokio::test]
async fn an_owner_that_gives_signs_is_left_alone() {
    let world = World::new();
    let (_owner, _log, heartbeat) = owner(&world, elsewhere()).await;
    let beats = async {
        for at in 2..200 {
            heartbeat.beat(EventTime::from_micros(at)).await;
            tokio::task::yield_now().await;
        }
    };
    let ((learned, watched), ()) = tokio::join!(second(&world), beats);
    let error = learned.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("--take-over"), "{error}");
    assert!(watched);
}

#[tokio::test]
async fn a_commit_is_a_sign() {
    let world = World::new();
    let (owner, mut log, _) = owner(&world, elsewhere()).await;
    let commits = async {
        let mut state = Vec::new();
        for row in 0..20 {
            let committed = owner.epoch(&mut log, &mut state, row, Reason::Checkpoint);
            committed.await.unwrap();
        }
    };
    let ((learned, _), ()) = tokio::join!(second(&world), commits);
    assert_eq!(learned.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn an_owner_that_gives_no_signs_is_taken_for_dead() {
    let world = World::new();
    let _owner = owner(&world, elsewhere()).await;
    let (learned, watched) = second(&world).await;
    learned.unwrap();
    assert!(watched);
}

#[tokio::test]
async fn nobody_waits_for_an_owner_that_has_ended() {
    let world = World::new();
    assert!(!second(&world).await.1, "no log");
    let (process, mut log, heartbeat) = owner(&world, here()).await;
    // An end without a stop.
    heartbeat.end().await;
    let (learned, watched) = second(&world).await;
    learned.unwrap();
    assert!(!watched, "it took its signs back");
    // A crash on this machine.
    let dead = ProcessId {
        started: Some(7),
        ..here()
    };
    log.heartbeat(dead).beat(EventTime::from_micros(1)).await;
    let (learned, watched) = second(&world).await;
    learned.unwrap();
    assert!(!watched, "its process is gone");
    // A stop, after which a sign is late.
    heartbeat.beat(EventTime::from_micros(2)).await;
    process
        .epoch(&mut log, &mut Vec::new(), 0, Reason::Stop)
        .await
        .unwrap();
    let (learned, watched) = second(&world).await;
    learned.unwrap();
    assert!(!watched, "it stopped");
}
