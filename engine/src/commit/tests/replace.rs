//! Files that replace files, through every crash: in the end only the newest is
//! there.

use object_store::{ObjectStoreExt, path::Path};

use super::world::{Process, World};
use crate::{
    ErrorKind,
    commit::{Reason, Record},
    testing::store::{Fault, Moment, Operation},
};

const ROWS: i64 = 4;

fn process(world: &World, pid: u32) -> Process {
    Process {
        replaces: true,
        ..world.process(pid)
    }
}

async fn check(world: &World, rows: i64, case: &str) {
    world.check_rows(vec![rows - 1], case).await;
}

async fn writes_of_a_run() -> u64 {
    let world = World::new();
    let process = process(&world, 1);
    process.run(ROWS).await.unwrap();
    check(&world, ROWS, "without a fault").await;
    process.faults.writes()
}

#[tokio::test]
async fn death_at_every_write() {
    for at in 0..writes_of_a_run().await {
        for moment in [Moment::Before, Moment::After] {
            let world = World::new();
            let mortal = process(&world, 1);
            mortal.faults.die_at_write(at, moment);
            // It may have been done by the time it died.
            let _ = mortal.run(ROWS).await;
            let seen = world.rows().await;
            assert!(
                seen.len() <= 2,
                "{seen:?} after death {moment:?} write {at}"
            );
            process(&world, 2).run(ROWS).await.unwrap();
            let case = format!("death {moment:?} write {at}");
            check(&world, ROWS, &case).await;
            process(&world, 3).run(ROWS + 1).await.unwrap();
            check(&world, ROWS + 1, &case).await;
        }
    }
}

#[tokio::test]
async fn death_at_every_write_of_a_recovery() {
    for first in 0..writes_of_a_run().await {
        for at in 0..12 {
            let world = World::new();
            let mortal = process(&world, 1);
            mortal.faults.die_at_write(first, Moment::After);
            let _ = mortal.run(ROWS).await;
            let heir = process(&world, 2);
            heir.faults.die_at_write(at, Moment::After);
            let _ = heir.run(ROWS).await;
            process(&world, 3).run(ROWS).await.unwrap();
            check(&world, ROWS, &format!("death at {first}, then at {at}")).await;
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
            let process = process(&world, 1);
            process.faults.fail_write(at, fault);
            process.run(ROWS).await.unwrap();
            check(&world, ROWS, &format!("{fault:?} at write {at}")).await;
        }
    }
}

/// Commits rows without publishing them.
async fn committed(process: &Process, rows: i64) -> crate::commit::CommitLog {
    let (mut log, _) = process.open().await.unwrap();
    let mut state = Vec::new();
    for row in 0..rows {
        process
            .epoch(&mut log, &mut state, row, Reason::Checkpoint)
            .await
            .unwrap();
    }
    log
}

#[tokio::test]
async fn what_a_later_commit_removes_is_never_shown() {
    let world = World::new();
    let process = process(&world, 1);
    let mut log = committed(&process, 3).await;
    process
        .faults
        .fail(Operation::Delete, "/dt=", usize::MAX, Fault::ErrorBefore);
    // Its deletes fail, so what it did copy would still be there.
    assert!(log.publish().await.is_err());
    assert_eq!(world.rows().await, [2]);
}

/// A store that lets a write land long after it was tried anew can make a staged file
/// reappear, and a zombie copies it.
#[tokio::test]
async fn regression_the_next_owner_removes_a_replaced_file_that_was_copied_back() {
    let world = World::new();
    let zombie = process(&world, 1);
    let mut stale = committed(&zombie, 1).await;
    let staged = world.staged().await.pop_first().unwrap();
    let written = world.text(&staged).await;
    process(&world, 2).run(2).await.unwrap();
    check(&world, 2, "after the file was replaced").await;

    let staged = Path::from(staged);
    world.store.put(&staged, written.into()).await.unwrap();
    stale.publish().await.unwrap();
    assert_eq!(world.rows().await, [0, 1], "it is back");
    process(&world, 3).open().await.unwrap();
    assert_eq!(world.rows().await, [1]);
}

#[tokio::test]
async fn a_zombie_brings_no_replaced_file_back_and_takes_no_newer_one_away() {
    let world = World::new();
    let zombie = process(&world, 1);
    let mut stale = committed(&zombie, 2).await;
    let heir = process(&world, 2);
    heir.run(5).await.unwrap();
    check(&world, 5, "before the zombie wakes").await;
    let error = stale.publish().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
    check(&world, 5, "after it").await;
}

#[tokio::test]
async fn a_zombie_between_copy_and_removal_does_no_harm() {
    let world = World::new();
    let zombie = process(&world, 1);
    let mut stale = committed(&zombie, 1).await;
    stale.publish().await.unwrap();
    let mut state = world.record(2).await.checkpoint.unwrap().state;
    zombie
        .epoch(&mut stale, &mut state, 1, Reason::Checkpoint)
        .await
        .unwrap();
    zombie
        .faults
        .fail(Operation::Delete, "/dt=0/", 1, Fault::Waits);
    let waking = tokio::spawn(async move { stale.publish().await });
    while zombie.faults.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    // The new file is there, the old one still.
    assert_eq!(world.rows().await, [0, 1]);
    process(&world, 2).run(4).await.unwrap();
    zombie.faults.release().await;
    waking.await.unwrap().unwrap();
    check(&world, 4, "after it").await;
}

#[tokio::test]
async fn a_replaced_file_is_named_in_the_record() {
    let world = World::new();
    process(&world, 1).run(2).await.unwrap();
    let Record { files, removed, .. } = world.record(3).await;
    assert_eq!(removed.len(), 1);
    assert!(removed[0].published.starts_with("dt=0/"), "{removed:?}");
    assert_eq!(removed[0].table, files[0].table);
    assert!(
        world
            .objects("lake/t")
            .await
            .contains(&format!("lake/t/{}", files[0].published))
    );
}

#[tokio::test]
async fn a_checkpoint_counts_what_was_put_and_what_was_taken() {
    for replaces in [false, true] {
        let world = World::new();
        let process = Process {
            replaces,
            ..world.process(1)
        };
        // Of one digit, two and three.
        process.run(101).await.unwrap();
        let last = *world.slots().await.last().unwrap();
        let checkpoint = world.record(last).await.checkpoint.unwrap();
        let totals = checkpoint.tables.unwrap();
        let table = &totals[process.table];
        assert_eq!((table.files, table.rows), (101, 101));
        assert_eq!(table.bytes, 10 + 2 * 90 + 3);
        assert_eq!(table.removed, if replaces { 100 } else { 0 });
        assert_eq!(table.sets.is_some(), !replaces);
    }
}
