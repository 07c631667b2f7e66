//! Which objects are deleted, which stay, and how long.

use super::world::{World, files_of};
use crate::{
    ErrorKind, Priority,
    commit::{Kind, Reason},
    testing::store::{Fault, Operation},
};

#[tokio::test]
async fn claims_are_never_collected() {
    let world = World::new();
    for owner in 1..=5 {
        world
            .process(owner)
            .run(i64::from(owner) * 3)
            .await
            .unwrap();
    }
    let slots = world.slots().await;
    let mut claims = Vec::new();
    for seq in &slots {
        if world.record(*seq).await.kind == Kind::Claim {
            claims.push(*seq);
        }
    }
    assert_eq!(claims, [1, 5, 9, 13, 17]);
    assert_eq!(slots, [1, 5, 9, 13, 17, 20]);
    world.check(15, "after five owners").await;
}

#[tokio::test]
async fn as_many_commits_are_kept_as_asked_for() {
    let world = World::new();
    let mut process = world.process(1);
    process.keep_commits = 3;
    process.run(9).await.unwrap();
    assert_eq!(world.slots().await, [1, 8, 9, 10]);
    world.check(9, "with three commits kept").await;
}

#[tokio::test]
async fn an_unpublished_commit_is_kept() {
    let world = World::new();
    let process = world.process(1);
    let (mut log, _) = process.open().await.unwrap();
    let mut state = Vec::new();
    for row in 0..5 {
        process
            .epoch(&mut log, &mut state, row, Reason::Checkpoint)
            .await
            .unwrap();
        log.collect().await.unwrap();
    }
    assert_eq!(world.slots().await, [1, 2, 3, 4, 5, 6]);
    world.process(2).run(5).await.unwrap();
    assert_eq!(world.rows().await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_collection_that_failed_is_made_up_for() {
    let world = World::new();
    let process = world.process(1);
    process
        .faults
        .fail(Operation::Delete, "/log/", usize::MAX, Fault::ErrorBefore);
    let (mut log, _) = process.open().await.unwrap();
    let mut state = Vec::new();
    for row in 0..4 {
        process
            .epoch(&mut log, &mut state, row, Reason::Checkpoint)
            .await
            .unwrap();
        log.deliver().await.unwrap();
        let _ = log.collect().await;
    }
    assert_eq!(world.slots().await, [1, 2, 3, 4, 5]);
    world.process(2).run(6).await.unwrap();
    assert_eq!(world.slots().await, [1, 6, 8]);
    world.check(6, "after a failed collection").await;
}

#[tokio::test]
async fn orphans_go_when_the_next_owner_comes() {
    let world = World::new();
    let process = world.process(1);
    let (log, _) = process.open().await.unwrap();
    process.stage(&log, 7).await.unwrap();
    log.put_state("n", 0, super::world::part(7), || Priority::Normal)
        .await
        .unwrap();
    let (heir, _) = world.process(2).open().await.unwrap();
    assert!(world.staged().await.is_empty());
    assert!(world.objects("state/p/state").await.is_empty());
    // The uploads of the new owner stay.
    let process = world.process(2);
    process.stage(&heir, 8).await.unwrap();
    heir.put_state("n", 0, super::world::part(8), || Priority::Normal)
        .await
        .unwrap();
    let log = heir.short_id();
    assert_eq!(heir.staging().as_ref(), format!("_staging/p/main/{log}/2"));
    assert_eq!(world.staged().await.len(), 1);
}

#[tokio::test]
async fn a_table_may_go_after_a_stop_and_not_after_a_crash() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    let mut moved = world.process(2);
    moved.table = "memory:///elsewhere";
    moved.open().await.unwrap();

    let world = World::new();
    let process = world.process(1);
    let (mut log, _) = process.open().await.unwrap();
    process
        .epoch(&mut log, &mut Vec::new(), 0, Reason::Checkpoint)
        .await
        .unwrap();
    let mut moved = world.process(2);
    moved.table = "memory:///elsewhere";
    let Err(error) = moved.open().await else {
        panic!("a committed file was forgotten")
    };
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`memory:///lake/t`"), "{error}");
}

#[tokio::test]
async fn a_published_file_is_named_after_its_commit() {
    let world = World::new();
    world.process(1).run(1).await.unwrap();
    let record = world.record(2).await;
    let short = |attempt| String::from(attempt)[..8].to_owned();
    let (log, unique) = (short(world.record(1).await.attempt), short(record.attempt));
    assert_eq!(
        files_of(&record).0[0].published,
        format!("dt=0/main-{log}-2-0-{unique}.lines")
    );
    assert!(
        world
            .objects("lake/t")
            .await
            .contains(&format!("lake/t/{}", files_of(&record).0[0].published))
    );
}
