//! Two logs of the same name with the same table.

use object_store::{ObjectStoreExt, path::Path};

use super::world::{Process, World};
use crate::{
    ErrorKind,
    commit::{CommitLog, Reason},
    files::MARKER,
};

/// A process of another log of the same name.
fn elsewhere(world: &World, pid: u32) -> Process {
    Process {
        root: "other/p",
        ..world.process(pid)
    }
}

fn shared(process: Process) -> Process {
    Process {
        shared: true,
        ..process
    }
}

/// The error of a process that may not start.
async fn refused(process: &Process) -> String {
    let Err(error) = process.open().await else {
        panic!("it starts")
    };
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

/// Deletes all objects in a folder.
async fn lose(world: &World, folder: &str) {
    for path in world.objects(folder).await {
        world.store.delete(&Path::from(path)).await.unwrap();
    }
}

#[tokio::test]
async fn regression_the_start_of_one_log_keeps_the_staged_files_of_another() {
    let world = World::new();
    let first = shared(world.process(1));
    let (mut log, _) = first.open().await.unwrap();
    let mut state = Vec::new();
    for row in 0..2 {
        first
            .epoch(&mut log, &mut state, row, Reason::Checkpoint)
            .await
            .unwrap();
    }
    let mut others: Vec<CommitLog> = Vec::new();
    for pid in 2..7 {
        others.push(shared(elsewhere(&world, pid)).open().await.unwrap().0);
    }
    assert_ne!(others[0].short_id(), log.short_id());
    assert_eq!(others[0].short_id(), others[4].short_id());
    assert_eq!(world.staged().await.len(), 2);
    log.deliver().await.unwrap();
    assert_eq!(world.rows().await, [0, 1]);
}

#[tokio::test]
async fn regression_two_logs_that_share_a_table_name_their_files_apart() {
    let world = World::new();
    shared(world.process(1)).run(3).await.unwrap();
    shared(elsewhere(&world, 2)).run(3).await.unwrap();
    assert_eq!(world.rows().await, [0, 0, 1, 1, 2, 2]);
}

#[tokio::test]
async fn a_table_belongs_to_the_log_that_wrote_it_first() {
    let world = World::new();
    world.process(1).run(1).await.unwrap();
    let said = refused(&elsewhere(&world, 2)).await;
    for part in [
        "table `t` in `memory:///lake/t` belongs to another commit log",
        "pipeline `p` with its state in `",
        "/state/p`, first run on host `h`",
        "/other/p`. Run with that state",
        "`shared: true`",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    assert!(
        world.objects("other/p/log").await.is_empty(),
        "a log was begun"
    );
    world.process(3).run(2).await.unwrap();
    world.check(2, "after a stranger was refused").await;
}

#[tokio::test]
async fn regression_a_lost_state_folder_is_not_begun_anew_over_a_full_table() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    lose(&world, "state").await;
    let said = refused(&world.process(2)).await;
    assert!(said.contains("belongs to another commit log"), "{said}");
    // The marker of an older build: none.
    lose(&world, &format!("lake/t/{MARKER}")).await;
    let marker = Path::from("lake/t").join(MARKER);
    world.store.delete(&marker).await.unwrap();
    let said = refused(&world.process(3)).await;
    assert!(said.contains("has files already (`dt="), "{said}");
    assert!(said.contains("Restore the state folder"), "{said}");
    // After the table is moved away, a new one begins.
    lose(&world, "lake/t").await;
    world.process(4).run(2).await.unwrap();
    world.check(2, "after a new start").await;
}

#[tokio::test]
async fn a_table_without_a_marker_is_taken_by_the_log_that_wrote_it() {
    let world = World::new();
    world.process(1).run(2).await.unwrap();
    let marker = Path::from("lake/t").join(MARKER);
    world.store.delete(&marker).await.unwrap();
    world.process(2).run(3).await.unwrap();
    world.check(3, "after an upgrade").await;
    let said = refused(&elsewhere(&world, 3)).await;
    assert!(said.contains("belongs to another commit log"), "{said}");
}

#[tokio::test]
async fn a_look_takes_nothing_over() {
    let world = World::new();
    let owner = world.process(1);
    let (mut log, _) = owner.open().await.unwrap();
    let looked = world.process(2).look().await.unwrap();
    assert_eq!(looked.owner().unwrap().pid, 1);
    let ownership = log.ownership();
    owner
        .epoch(&mut log, &mut Vec::new(), 0, Reason::Checkpoint)
        .await
        .unwrap();
    assert!(ownership.lost().await.is_none());
    let (_, recovered) = looked.claim().await.unwrap();
    assert_eq!(recovered.last.unwrap().seq, 2, "it saw the newer commit");
    let lost = ownership.lost().await.unwrap();
    assert_eq!(lost.kind(), ErrorKind::Fenced);
}
