//! The table of crashes, exhaustively: the process dies, or a write fails, at every write.

use std::collections::BTreeMap;

use super::world::World;
use crate::{
    commit::{Reason, pipelines, read_last},
    testing::store::{Fault, Moment, Operation},
};
use object_store::path::Path;

const ROWS: i64 = 4;

async fn writes_of_a_run() -> u64 {
    let world = World::new();
    let process = world.process(1);
    process.run(ROWS).await.unwrap();
    world.check(ROWS, "without a fault").await;
    process.faults.writes()
}

#[tokio::test]
async fn death_at_every_write() {
    let writes = writes_of_a_run().await;
    assert!(writes > 20, "{writes} writes");
    for at in 0..writes {
        for moment in [Moment::Before, Moment::After] {
            let world = World::new();
            let mortal = world.process(1);
            mortal.faults.die_at_write(at, moment);
            // It may have finished before its death.
            let _ = mortal.run(ROWS).await;
            world.process(2).run(ROWS).await.unwrap();
            world.process(3).run(ROWS).await.unwrap();
            world
                .check(ROWS, &format!("death {moment:?} write {at}"))
                .await;
        }
    }
}

#[tokio::test]
async fn death_at_every_write_of_a_recovery() {
    for first in (0..writes_of_a_run().await).step_by(3) {
        for at in 0..10 {
            for moment in [Moment::Before, Moment::After] {
                let world = World::new();
                let mortal = world.process(1);
                mortal.faults.die_at_write(first, Moment::After);
                let _ = mortal.run(ROWS).await;
                let heir = world.process(2);
                heir.faults.die_at_write(at, moment);
                let _ = heir.run(ROWS).await;
                world.process(3).run(ROWS).await.unwrap();
                world
                    .check(ROWS, &format!("death at {first}, then {moment:?} {at}"))
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn one_fault_at_every_write() {
    for at in 0..writes_of_a_run().await {
        for fault in [
            Fault::ErrorBefore,
            Fault::ErrorAfter,
            Fault::ExistsThoughMine,
            Fault::ConflictNothingLanded,
        ] {
            let world = World::new();
            let process = world.process(1);
            process.faults.fail_write(at, fault);
            let case = format!("{fault:?} at write {at}");
            process
                .run(ROWS)
                .await
                .unwrap_or_else(|error| panic!("{case}: {}", error.chain()));
            world.check(ROWS, &case).await;
        }
    }
}

#[tokio::test]
async fn puts_that_land_late_change_nothing() {
    for at in 0..writes_of_a_run().await {
        let world = World::new();
        let process = world.process(1);
        process.faults.fail_write(at, Fault::LandsLate);
        process.run(ROWS).await.unwrap();
        process.faults.release().await;
        world.process(2).run(ROWS + 1).await.unwrap();
        assert_eq!(world.rows().await, (0..=ROWS).collect::<Vec<_>>(), "{at}");
    }
}

#[tokio::test]
async fn a_claim_survives_each_ambiguous_answer() {
    for fault in [
        Fault::ErrorBefore,
        Fault::ErrorAfter,
        Fault::ExistsThoughMine,
        Fault::ConflictNothingLanded,
    ] {
        let world = World::new();
        let process = world.process(1);
        process.faults.fail(Operation::Put, "/log/", 1, fault);
        let (_, recovered) = process.open().await.unwrap();
        assert_eq!(recovered.seq, 1, "{fault:?}");
        assert_eq!(world.slots().await, [1], "{fault:?}");
    }
}

#[tokio::test]
async fn a_commit_survives_each_ambiguous_answer() {
    for fault in [
        Fault::ErrorBefore,
        Fault::ErrorAfter,
        Fault::ExistsThoughMine,
        Fault::ConflictNothingLanded,
    ] {
        let world = World::new();
        let process = world.process(1);
        let (mut log, _) = process.open().await.unwrap();
        process.faults.fail(Operation::Put, "/log/", 3, fault);
        let seq = process
            .epoch(&mut log, &mut Vec::new(), 0, Reason::Checkpoint)
            .await
            .unwrap();
        assert_eq!(seq, 2, "{fault:?}");
        assert_eq!(world.slots().await, [1, 2], "{fault:?}");
        log.deliver().await.unwrap();
        assert_eq!(world.rows().await, [0], "{fault:?}");
    }
}

#[tokio::test]
async fn a_store_that_stays_away_is_an_external_error() {
    let world = World::new();
    let process = world.process(1);
    let (mut log, _) = process.open().await.unwrap();
    process
        .faults
        .fail(Operation::Put, "/log/", usize::MAX, Fault::ErrorBefore);
    let error = process
        .epoch(&mut log, &mut Vec::new(), 0, Reason::Checkpoint)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::External);
    assert!(error.is_retryable());
    assert_eq!(
        error.chain(),
        "cannot create `FaultyStore(InMemory)/state/p/log/main/00000000000000000002.json`: \
         Generic faulty error: injected before the effect"
    );
}

#[tokio::test]
async fn a_full_disk_is_not_tried_again() {
    let world = World::new();
    let process = world.process(1);
    let (mut log, _) = process.open().await.unwrap();
    let before = process.faults.writes();
    process
        .faults
        .fail(Operation::Put, "/log/", usize::MAX, Fault::Full);
    let error = log
        .commit(super::world::cut(
            1,
            Reason::Checkpoint,
            BTreeMap::new(),
            vec![],
        ))
        .await
        .unwrap_err();
    assert!(
        error.chain().contains("no storage space"),
        "{}",
        error.chain()
    );
    assert_eq!(process.faults.writes(), before + 1);
}

#[tokio::test]
async fn a_crash_between_commit_and_publish_is_made_up_for() {
    let world = World::new();
    let process = world.process(1);
    let (mut log, _) = process.open().await.unwrap();
    let mut state = Vec::new();
    for row in 0..2 {
        process
            .epoch(&mut log, &mut state, row, Reason::Checkpoint)
            .await
            .unwrap();
    }
    drop(log);
    assert_eq!(world.rows().await, [0_i64; 0]);
    let (_, recovered) = world.process(2).open().await.unwrap();
    assert_eq!(world.rows().await, [0, 1]);
    assert_eq!(recovered.seq, 4);
    assert_eq!(recovered.last.unwrap().seq, 3);
    assert_eq!(recovered.predecessor.unwrap().pid, 1);
}

#[tokio::test]
async fn the_log_is_read_without_being_taken_over() {
    let world = World::new();
    let root = Path::from("state/p");
    let none = read_last(&world.store, &root, "main").await.unwrap();
    assert_eq!(none, None);
    world.process(1).run(2).await.unwrap();
    let last = read_last(&world.store, &root, "main").await.unwrap();
    assert_eq!(last.unwrap().seq, 3);
    assert_eq!(world.slots().await.last(), Some(&3));
    let names = pipelines(&world.store, &Path::from("state")).await.unwrap();
    assert_eq!(names, ["p"]);
}
