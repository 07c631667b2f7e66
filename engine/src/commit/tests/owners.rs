//! Two owners: zombies, races, and writes that finish after a takeover.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use object_store::{ObjectStore, ObjectStoreExt, path::Path};

use super::world::{World, cut, part, record_path};
use crate::{
    Error, ErrorKind,
    commit::{
        CommitLog, CommitRequest, Kind, Reason, Record, Recovered, audit::History, read_last,
        read_state,
    },
    source::Positions,
    state::StatePart,
    testing::store::{Fault, FaultyStore, Operation},
};

/// Waits until an operation is held back.
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
    // It never becomes able to, however often it tries.
    heir.epoch(&mut log, &mut state, 1, Reason::Checkpoint)
        .await
        .unwrap();
    log.deliver().await.unwrap();
    let again = stale.commit(cut(2, Reason::Checkpoint, BTreeMap::new(), vec![]));
    assert_eq!(again.await.unwrap_err().kind(), ErrorKind::Fenced);
    // Its late publishing finds every step done.
    stale.deliver().await.unwrap();
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
    // A failing store gives no information, and gets one request.
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
        log.deliver().await.unwrap();
        log.collect().await.unwrap();
    }
    assert_eq!(world.slots().await, [1, 5]);
    faults.release().await;
    let (_, recovered) = opening.await.unwrap().unwrap();
    assert_eq!(recovered.seq, 6);
    assert_eq!(recovered.last.unwrap().seq, 5);
    // The stray claim stays in its slot and does no harm.
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
    let first = log
        .commit(cut(1, Reason::Checkpoint, BTreeMap::new(), vec![]))
        .await;
    assert_eq!(first.unwrap_err().kind(), ErrorKind::External);
    owner.faults.release().await;
    let second = log
        .commit(cut(2, Reason::Checkpoint, BTreeMap::new(), vec![]))
        .await;
    let error = second.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    assert!(error.to_string().starts_with("an earlier try of commit #2"));
}

/// A slow opening finds that the commits of its claim are collected.
#[tokio::test]
async fn regression_an_owner_that_is_overtaken_while_it_opens_is_fenced() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    let slow = world.process(2);
    let faults = slow.faults.clone();
    // The first reads are for the log's last record, before and for the claim, and succeed. The
    // next one is for the commits.
    faults.fail(Operation::Get, &record_path(3), 2, Fault::Hidden);
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
        log.commit(cut(0, Reason::Stop, BTreeMap::new(), vec![]))
            .await
            .unwrap();
        log.deliver().await.unwrap();
        log.collect().await.unwrap();
    };
    sendable(&task);
}

/// Seed 65428 of the simulation: the faster claim is in its slot, but the next listing is older
/// than the claim.
#[tokio::test]
async fn regression_a_listing_that_lags_behind_the_first_claim_is_no_missing_log() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    let late = world.process(2);
    late.faults.fail(Operation::List, "/log/", 1, Fault::Hidden);
    late.run(3).await.unwrap();
    world.check(3, "a listing without the log").await;
}

/// Ten thousand files, and a process that is killed again and again.
#[tokio::test]
async fn regression_a_claim_does_not_repeat_all_positions() {
    let world = World::new();
    let files = (0..10_000).map(|file| (format!("in/{file:06}.ndjson").into(), 1_000));
    let positions: Positions = files.collect();
    let (mut log, _) = world.process(1).open().await.unwrap();
    let many = CommitRequest {
        positions: BTreeMap::from([("s".into(), positions.clone())]),
        ..cut(1, Reason::Checkpoint, BTreeMap::new(), vec![])
    };
    log.commit(many).await.unwrap();
    for seq in 3..6 {
        let (_, recovered) = world.process(seq).open().await.unwrap();
        let last = recovered.last.unwrap();
        assert_eq!((last.seq, &last.positions["s"]), (2, &positions));
        let stored = world.text(&record_path(seq.into())).await;
        assert!(stored.len() < 1_000, "{} bytes", stored.len());
        let read = read_last(&world.store, &Path::from("state/p"), "main").await;
        assert_eq!(read.unwrap().unwrap().checkpoint.unwrap(), last);
    }
}

/// Older builds wrote all of the checkpoint into a claim.
#[tokio::test]
async fn a_claim_of_an_older_build_is_read() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    drop(world.process(2).open().await.unwrap());
    let claim = world.record(4).await;
    assert_eq!((claim.kind, claim.follows), (Kind::Claim, Some(3)));
    let older = Record {
        version: 1,
        checkpoint: world.record(3).await.checkpoint,
        follows: None,
        ..claim
    };
    let path = Path::from(record_path(4));
    let bytes = older.encode().unwrap();
    world.store.put(&path, bytes.into()).await.unwrap();
    world.process(3).run(4).await.unwrap();
    world.check(4, "after a claim of an older build").await;
    let audit = History::read(&world.store, &Path::from("state/p"), "main").await;
    let findings = audit.unwrap().unwrap().findings().to_vec();
    assert!(findings.is_empty(), "{findings:?}");
}

/// The owner collects the commit that the last claim followed while someone looks it up.
#[tokio::test]
async fn a_commit_that_is_collected_while_it_is_read_is_no_damage() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    let owner = world.process(2);
    let (mut log, recovered) = owner.open().await.unwrap();
    let mut state = recovered.last.unwrap().state;
    let slow = FaultyStore::new(Arc::clone(&world.store));
    slow.fail(Operation::Get, &record_path(3), 1, Fault::Waits);
    let store: Arc<dyn ObjectStore> = Arc::new(slow.clone());
    let reading =
        tokio::spawn(async move { read_last(&store, &Path::from("state/p"), "main").await });
    held(&slow).await;
    for row in 2..5 {
        let epoch = owner.epoch(&mut log, &mut state, row, Reason::Checkpoint);
        epoch.await.unwrap();
        log.deliver().await.unwrap();
        log.collect().await.unwrap();
    }
    assert!(!world.slots().await.contains(&3), "it is collected");
    slow.release().await;
    let read = reading.await.unwrap().unwrap().unwrap();
    assert_eq!((read.seq, read.checkpoint.unwrap().seq), (7, 7));
}

#[tokio::test]
async fn a_claim_whose_commit_is_missing_is_refused() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    drop(world.process(2).open().await.unwrap());
    let path = Path::from(record_path(3));
    world.store.delete(&path).await.unwrap();
    let error = read_last(&world.store, &Path::from("state/p"), "main").await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains(path.as_ref()), "{error}");
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
    assert_eq!(
        parts[0].rows.column(0),
        part(2).load().unwrap().rows.column(0)
    );
    // It claims nothing.
    assert_eq!(world.slots().await, slots);
}
