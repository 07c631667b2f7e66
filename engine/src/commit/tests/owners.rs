//! Two owners: zombies, races, and writes that land after the world moved on.

use std::{sync::Arc, time::Duration};

use object_store::path::Path;

use super::world::{World, cut, part, record_path};
use crate::{
    Error, ErrorKind,
    commit::{CommitLog, Kind, Reason, Recovered, read_state},
    state::StatePart,
    testing::store::{Fault, FaultyStore, Operation},
};

/// Waits for an operation to be held back.
async fn held(faults: &FaultyStore) {
    while faults.waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_zombie_cannot_commit() {
    let world = World::new();
    let zombie = world.process(1);
    let (mut stale, _) = zombie.open().await.unwrap();
    let mut state = Vec::new();
    zombie
        .epoch(&mut stale, &mut state, 0, Reason::Checkpoint)
        .await
        .unwrap();
    let heir = world.process(2);
    let (mut log, recovered) = heir.open().await.unwrap();
    assert_eq!(recovered.last.unwrap().seq, 2);

    let error = zombie
        .epoch(&mut stale, &mut state.clone(), 1, Reason::Checkpoint)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(
        error.to_string(),
        "another process (host `h`, pid 2) took the pipeline over at #3; this one stops, \
         and nothing is lost or doubled"
    );
    // Nor does it become able to, however long it tries.
    heir.epoch(&mut log, &mut state, 1, Reason::Checkpoint)
        .await
        .unwrap();
    log.publish().await.unwrap();
    let again = stale.commit(cut(2, Reason::Checkpoint, vec![], vec![]));
    assert_eq!(again.await.unwrap_err().kind(), ErrorKind::Fenced);
    // Its late publishing finds everything done.
    stale.publish().await.unwrap();
    stale.collect().await.unwrap();
    assert_eq!(world.rows().await, [0, 1]);
    world.process(3).run(3).await.unwrap();
    world.check(3, "after a zombie").await;
}

#[tokio::test]
async fn a_zombie_that_loads_state_learns_that_it_is_fenced() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    let zombie = world.process(2);
    let (stale, recovered) = zombie.open().await.unwrap();
    world.process(3).run(9).await.unwrap();
    let error = stale.load(&recovered.last.unwrap().state[0]).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn an_owner_with_nothing_to_commit_learns_that_another_has_the_log() {
    let world = World::new();
    let owner = world.process(1);
    let (log, _) = owner.open().await.unwrap();
    log.ensure_owned().await.unwrap();
    let faults = &owner.faults;
    faults.fail(Operation::Get, "/log/", 1, Fault::ErrorBefore);
    log.ensure_owned().await.unwrap();

    world.process(2).run(1).await.unwrap();
    // A store that fails says nothing, and is asked once.
    faults.fail(Operation::Get, "/log/", 1, Fault::ErrorBefore);
    log.ensure_owned().await.unwrap();
    let error = log.ensure_owned().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    let said = "another process (host `h`, pid 2) took the pipeline over at #2";
    assert!(error.to_string().starts_with(said), "{error}");
}

type Opened = Result<(CommitLog, Recovered), Error>;

/// Process 2 is about to claim slot 2 while process 1 owns the log.
async fn stuck_claim(world: &World) -> (FaultyStore, tokio::task::JoinHandle<Opened>) {
    let late = world.process(2);
    let faults = late.faults.clone();
    faults.fail(Operation::Put, "/log/", 1, Fault::Waits);
    let opening = tokio::spawn(async move { late.open().await });
    held(&faults).await;
    (faults, opening)
}

#[tokio::test]
async fn a_claim_that_lands_in_a_collected_slot_starts_over() {
    let world = World::new();
    let owner = world.process(1);
    let (mut log, _) = owner.open().await.unwrap();
    let (faults, opening) = stuck_claim(&world).await;
    let mut state = Vec::new();
    for row in 0..4 {
        owner
            .epoch(&mut log, &mut state, row, Reason::Checkpoint)
            .await
            .unwrap();
        log.publish().await.unwrap();
        log.collect().await.unwrap();
    }
    assert_eq!(world.slots().await, [1, 5]);
    faults.release().await;
    let (_, recovered) = opening.await.unwrap().unwrap();
    assert_eq!(recovered.seq, 6);
    assert_eq!(recovered.last.unwrap().seq, 5);
    // The stray claim stays where it landed and does no harm.
    assert_eq!(world.slots().await, [1, 2, 5, 6]);
    assert_eq!(world.record(2).await.kind, Kind::Claim);
    world.process(3).run(6).await.unwrap();
    world.check(6, "after a stray claim").await;
}

#[tokio::test]
async fn a_claim_that_meets_a_commit_starts_over() {
    let world = World::new();
    let owner = world.process(1);
    let (mut log, _) = owner.open().await.unwrap();
    let (faults, opening) = stuck_claim(&world).await;
    owner
        .epoch(&mut log, &mut Vec::new(), 0, Reason::Checkpoint)
        .await
        .unwrap();
    faults.release().await;
    let (_, recovered) = opening.await.unwrap().unwrap();
    assert_eq!((recovered.seq, recovered.last.unwrap().seq), (3, 2));
}

#[tokio::test]
async fn a_commit_that_lands_before_the_successor_claims_is_adopted() {
    let world = World::new();
    let owner = world.process(1);
    let (mut log, _) = owner.open().await.unwrap();
    owner
        .faults
        .fail(Operation::Put, "/log/", usize::MAX, Fault::LandsLate);
    let lost = owner
        .epoch(&mut log, &mut Vec::new(), 0, Reason::Checkpoint)
        .await;
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::External);
    owner.faults.release().await;
    let (_, recovered) = world.process(2).open().await.unwrap();
    assert_eq!(recovered.last.unwrap().seq, 2);
    assert_eq!(world.rows().await, [0]);
}

#[tokio::test]
async fn a_commit_that_lands_after_the_successor_claims_is_void() {
    let world = World::new();
    let owner = world.process(1);
    let (mut log, _) = owner.open().await.unwrap();
    owner.faults.fail(Operation::Put, "/log/", 1, Fault::Waits);
    let faults = owner.faults.clone();
    let committing = tokio::spawn(async move {
        owner
            .epoch(&mut log, &mut Vec::new(), 0, Reason::Checkpoint)
            .await
    });
    held(&faults).await;
    let heir = world.process(2);
    let (heirs, recovered) = heir.open().await.unwrap();
    assert_eq!(recovered.last, None);
    faults.release().await;
    let error = committing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(world.rows().await, [0_i64; 0]);
    drop(heirs);
    world.process(3).run(2).await.unwrap();
    world.check(2, "after a void commit").await;
}

#[tokio::test]
async fn a_try_that_failed_and_landed_is_not_called_another_process() {
    let world = World::new();
    let owner = world.process(1);
    let (mut log, _) = owner.open().await.unwrap();
    owner
        .faults
        .fail(Operation::Put, "/log/", 8, Fault::LandsLate);
    let first = log.commit(cut(1, Reason::Checkpoint, vec![], vec![])).await;
    assert_eq!(first.unwrap_err().kind(), ErrorKind::External);
    owner.faults.release().await;
    let second = log.commit(cut(2, Reason::Checkpoint, vec![], vec![])).await;
    let error = second.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    assert!(error.to_string().starts_with("an earlier try of commit #2"));
}

/// A slow opening finds the commits collected that its claim rests on.
#[tokio::test]
async fn regression_an_owner_that_is_overtaken_while_it_opens_is_fenced() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    let slow = world.process(2);
    let faults = slow.faults.clone();
    // The first read is of the log's last record, and does its work; the second
    // is of the commits.
    faults.fail(Operation::Get, &record_path(3), 1, Fault::Hidden);
    faults.fail(Operation::Get, &record_path(3), 1, Fault::Waits);
    let opening = tokio::spawn(async move { slow.open().await.map(drop) });
    held(&faults).await;
    world.process(3).run(6).await.unwrap();
    assert!(!world.slots().await.contains(&3), "it is collected");
    faults.release().await;
    let error = opening.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_at_once_lose_and_double_nothing() {
    let world = Arc::new(World::new());
    let mut running = tokio::task::JoinSet::new();
    for pid in 1..=4 {
        let world = Arc::clone(&world);
        running.spawn(async move {
            let process = world.process(pid);
            for _ in 0..50 {
                match process.run(12).await {
                    Ok(()) => return,
                    Err(error) => assert!(
                        matches!(error.kind(), ErrorKind::Fenced | ErrorKind::External),
                        "{}",
                        error.chain()
                    ),
                }
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    world.process(9).run(12).await.unwrap();
    assert_eq!(world.rows().await, (0..12).collect::<Vec<_>>());
}

#[test]
fn opening_and_committing_can_be_spawned() {
    fn sendable(_: &impl Send) {}
    let world = World::new();
    let process = world.process(1);
    let task = async {
        let (mut log, _) = process.open().await.unwrap();
        log.commit(cut(0, Reason::Stop, vec![], vec![]))
            .await
            .unwrap();
        log.publish().await.unwrap();
        log.collect().await.unwrap();
    };
    sendable(&task);
}

/// Seed 65428 of the simulation: the claim that was faster shows in its slot, and the
/// listing that is asked next is one from before it.
#[tokio::test]
async fn regression_a_listing_that_lags_behind_the_first_claim_is_no_missing_log() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    let late = world.process(2);
    late.faults.fail(Operation::List, "/log/", 1, Fault::Hidden);
    late.run(3).await.unwrap();
    world.check(3, "a listing without the log").await;
}

#[tokio::test]
async fn anyone_reads_the_state_of_the_last_commit() {
    let world = World::new();
    let root = Path::from("state/p");
    let read = |node: &'static str, wanted: &'static str| {
        read_state(&world.store, &root, "main", node, move |part, lanes| {
            assert_eq!(lanes, 1);
            part.key.starts_with(wanted)
        })
    };
    assert!(read("count", "row.").await.unwrap().is_none());
    world.process(1).run(3).await.unwrap();
    let slots = world.slots().await;
    let keys = |parts: Option<Vec<StatePart>>| -> Vec<String> {
        parts.unwrap().into_iter().map(|part| part.key).collect()
    };
    assert_eq!(
        keys(read("count", "row.").await.unwrap()),
        ["row.1", "row.2"]
    );
    assert_eq!(keys(read("count", "row.2").await.unwrap()), ["row.2"]);
    assert!(keys(read("other", "row.").await.unwrap()).is_empty());
    let parts = read("count", "row.2").await.unwrap().unwrap();
    assert_eq!(parts[0].rows.column(0), part(2).rows.column(0));
    // Nothing is taken over by it.
    assert_eq!(world.slots().await, slots);
}
