//! Files that replace files, with every crash: in the end only the newest one exists.

use object_store::{ObjectStoreExt, path::Path};

use super::world::{Process, World, files_of};
use crate::{
    ErrorKind,
    commit::Reason,
    files::Note,
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
            // It may have finished before its death.
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
async fn commits_are_delivered_in_order() {
    let world = World::new();
    let process = process(&world, 1);
    let mut log = committed(&process, 3).await;
    process
        .faults
        .fail(Operation::Delete, "/dt=", 8, Fault::ErrorBefore);
    // The second commit cannot delete the file of the first, so the third stays staged.
    assert!(log.deliver().await.is_err());
    assert_eq!(world.rows().await, [0, 1]);
    assert_eq!(world.staged().await.len(), 1);
    log.deliver().await.unwrap();
    check(&world, 3, "after the store works again").await;
}

/// The next owner meets commits that are delivered and whose files are replaced. Only the record
/// does not show it yet.
#[tokio::test]
async fn delivered_commits_are_delivered_again() {
    let world = World::new();
    let first = process(&world, 1);
    let mut log = committed(&first, 3).await;
    log.deliver().await.unwrap();
    check(&world, 3, "after the first owner").await;
    process(&world, 2).open().await.unwrap();
    check(&world, 3, "after the second owner").await;
}

/// A store that finishes a write long after its retry can restore a staged file, and a zombie
/// copies it.
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
    stale.deliver().await.unwrap();
    assert_eq!(world.rows().await, [0, 1], "it is back");
    process(&world, 3).open().await.unwrap();
    assert_eq!(world.rows().await, [1]);
}

/// A server-side copy of a killed owner finishes after its successor has replaced the file.
#[tokio::test]
async fn regression_a_late_copy_of_a_dead_owner_is_removed_again() {
    let world = World::new();
    let dead = process(&world, 1);
    drop(committed(&dead, 1).await);
    let file = files_of(&world.record(2).await).0.remove(0);
    let heir = process(&world, 2);
    let (mut log, recovered) = heir.open().await.unwrap();
    let mut state = recovered.last.unwrap().state;
    for row in 1..4 {
        heir.epoch(&mut log, &mut state, row, Reason::Checkpoint)
            .await
            .unwrap();
        log.deliver().await.unwrap();
        log.collect().await.unwrap();
        // The copy finishes late.
        let back = Path::parse(format!("lake/t/{}", file.published)).unwrap();
        if row > 1 {
            assert_eq!(world.rows().await, [row], "the ghost is gone");
        }
        world.store.put(&back, "0".into()).await.unwrap();
    }
    assert_eq!(world.rows().await, [0, 3]);
    // The record of the removal is collected, so a repair by `audit` must know the file.
    heir.epoch(&mut log, &mut state, 4, Reason::Stop)
        .await
        .unwrap();
    log.deliver().await.unwrap();
    log.collect().await.unwrap();
    check(&world, 5, "after a late copy").await;

    // No process runs when it finishes once more, and the record of its removal is collected.
    let tail = world.record(*world.slots().await.last().unwrap()).await;
    let (_, removed) = files_of(&tail);
    assert!(removed.iter().all(|it| it.published != file.published));
    let back = Path::parse(format!("lake/t/{}", file.published)).unwrap();
    world.store.put(&back, "0".into()).await.unwrap();
    assert_eq!(world.rows().await, [0, 4]);
    process(&world, 3).open().await.unwrap();
    assert_eq!(world.rows().await, [4]);
}

#[tokio::test]
async fn a_zombie_brings_no_replaced_file_back_and_takes_no_newer_one_away() {
    let world = World::new();
    let zombie = process(&world, 1);
    let mut stale = committed(&zombie, 2).await;
    let heir = process(&world, 2);
    heir.run(5).await.unwrap();
    check(&world, 5, "before the zombie wakes").await;
    let error = stale.deliver().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
    check(&world, 5, "after it").await;
}

#[tokio::test]
async fn a_zombie_between_copy_and_removal_does_no_harm() {
    let world = World::new();
    let zombie = process(&world, 1);
    let mut stale = committed(&zombie, 1).await;
    stale.deliver().await.unwrap();
    let mut state = world.record(2).await.checkpoint.unwrap().state;
    zombie
        .epoch(&mut stale, &mut state, 1, Reason::Checkpoint)
        .await
        .unwrap();
    zombie
        .faults
        .fail(Operation::Delete, "/dt=0/", 1, Fault::Waits);
    let waking = tokio::spawn(async move { stale.deliver().await });
    while zombie.faults.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    // The new file exists, and the old one still does.
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
    let (files, removed) = files_of(&world.record(3).await);
    assert_eq!(removed.len(), 1);
    assert!(removed[0].published.starts_with("dt=0/"), "{removed:?}");
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
        // Numbers with one, two and three digits.
        process.run(101).await.unwrap();
        let last = *world.slots().await.last().unwrap();
        let checkpoint = world.record(last).await.checkpoint.unwrap();
        let note = Note::read(checkpoint.past(process.table)).unwrap();
        let table = note.totals.unwrap();
        assert_eq!((table.files, table.rows), (101, 101));
        assert_eq!(table.bytes, 10 + 2 * 90 + 3);
        assert_eq!(table.removed, if replaces { 100 } else { 0 });
        assert_eq!(table.sets.is_some(), !replaces);
    }
}
