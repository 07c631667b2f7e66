//! The same log on every store with a test double.

use std::sync::Arc;

use object_store::{
    ObjectStore, local::LocalFileSystem, memory::InMemory, path::Path, prefix::PrefixStore,
};

use super::world::World;
use crate::{
    commit::Reason,
    testing::store::{Copies, FaultyStore, Moment, conformance},
};

/// Checks every guarantee that a store must give.
async fn conforms(store: Arc<dyn ObjectStore>, name: &str) {
    conformance(store.as_ref(), &Path::from("suite")).await;
    let world = World::on(store);
    for (pid, upto) in [(1, 2), (2, 5)] {
        world.process(pid).run(upto).await.unwrap();
    }
    let mortal = world.process(3);
    mortal.faults.die_at_write(8, Moment::After);
    let _ = mortal.run(9).await;
    let zombie = world.process(4);
    let (mut stale, _) = zombie.open().await.unwrap();
    world.process(5).run(9).await.unwrap();
    let mut state = Vec::new();
    let fenced = zombie.epoch(&mut stale, &mut state, 9, Reason::Checkpoint);
    assert_eq!(
        fenced.await.unwrap_err().kind(),
        crate::ErrorKind::Fenced,
        "{name}"
    );
    world.process(6).run(10).await.unwrap();
    world.check(10, name).await;
}

#[tokio::test]
async fn every_store_conforms() {
    conforms(Arc::new(InMemory::new()), "memory").await;
    conforms(Arc::new(PrefixStore::new(InMemory::new(), "a/b")), "prefix").await;
    let faulty = FaultyStore::new(Arc::new(InMemory::new()));
    conforms(Arc::new(faulty), "a store without a fault").await;
    let faulty = FaultyStore::new(Arc::new(InMemory::new())).with_copies(Copies::Overwrite);
    conforms(Arc::new(faulty), "a store whose copies overwrite").await;
    let folder = tempfile::tempdir().unwrap();
    let local = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    conforms(Arc::new(local), "local").await;
}

/// A copy onto a link to the same file would leave a second link behind.
#[tokio::test]
async fn publishing_again_on_local_files_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let world = World::on(Arc::new(local));
    let process = world.process(1);
    let (mut log, _) = process.open().await.unwrap();
    process
        .epoch(&mut log, &mut Vec::new(), 0, Reason::Checkpoint)
        .await
        .unwrap();
    let at = process.faults.writes();
    // After the copy, while the staged file still exists.
    process.faults.die_at_write(at, Moment::After);
    log.deliver().await.unwrap_err();
    assert_eq!(world.staged().await.len(), 1);
    world.process(2).open().await.unwrap();
    let published = std::fs::read_dir(folder.path().join("lake/t/dt=0")).unwrap();
    assert_eq!(published.count(), 1);
    assert_eq!(world.rows().await, [0]);
}

#[tokio::test]
async fn a_read_only_folder_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let read_only = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(folder.path(), read_only).unwrap();
    if std::fs::write(folder.path().join("x"), "").is_ok() {
        eprintln!("NOT RUN: the superuser may write to a read-only folder");
        return;
    }
    let local = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let Err(error) = World::on(Arc::new(local)).process(1).open().await else {
        panic!("opened in a read-only folder")
    };
    assert_eq!(error.kind(), crate::ErrorKind::External);
    assert!(!error.is_retryable());
}
