//! Damage that no crash explains stops the job, with an error that names the object.

use object_store::{ObjectStoreExt, path::Path};

use super::world::{World, record_path};
use crate::{
    Error, ErrorKind,
    commit::{Reason, VERSION, record::sha256_hex},
    testing::store::{Fault, Operation},
};

async fn refused(world: &World) -> Error {
    match world.process(9).open().await {
        Ok(_) => panic!("the log was opened"),
        Err(error) => error,
    }
}

async fn overwrite(world: &World, path: &str, text: String) {
    let path = Path::from(path);
    world.store.put(&path, text.into()).await.unwrap();
}

async fn delete(world: &World, path: &str) {
    world.store.delete(&Path::from(path)).await.unwrap();
}

/// A log with claim 1 and commits 2 to 5. Commits 2 and 3 may be collected.
async fn ran() -> World {
    let world = World::new();
    let mut process = world.process(1);
    process.keep_commits = 2;
    let (mut log, _) = process.open().await.unwrap();
    let mut state = Vec::new();
    for row in 0..4 {
        process
            .epoch(&mut log, &mut state, row, Reason::Checkpoint)
            .await
            .unwrap();
        log.deliver().await.unwrap();
    }
    world
}

#[tokio::test]
async fn any_flipped_character_of_the_last_record_is_noticed() {
    let world = ran().await;
    let path = record_path(5);
    let good = world.text(&path).await;
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        overwrite(&world, &path, String::from_utf8(bytes).unwrap()).await;
        let error = refused(&world).await;
        assert_eq!(error.kind(), ErrorKind::Data, "at {at}: {}", error.chain());
        assert!(error.to_string().contains(&path), "{error}");
    }
    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        overwrite(&world, &path, good[..cut].to_owned()).await;
        assert_eq!(
            refused(&world).await.kind(),
            ErrorKind::Data,
            "cut at {cut}"
        );
    }
    overwrite(&world, &path, good).await;
    world.process(9).open().await.unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused_by_name() {
    let world = ran().await;
    let newer = VERSION + 1;
    let body = format!(r#"{{"version":{newer},"whatever":true}}"#);
    let text = format!(
        r#"{{"sha256":"{}","record":{body}}}"#,
        sha256_hex(body.as_bytes())
    );
    overwrite(&world, &record_path(6), text).await;
    let error = refused(&world).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.to_string(),
        format!(
            "commit record `state/p/log/main/00000000000000000006.json` has format version \
             {newer}, and this Tagflow reads up to {VERSION}: run the Tagflow that wrote it, or a \
             newer one"
        )
    );
}

#[tokio::test]
async fn a_hole_is_refused() {
    let world = ran().await;
    delete(&world, &record_path(4)).await;
    let error = refused(&world).await;
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains(&record_path(4)), "{error}");
}

#[tokio::test]
async fn a_collected_commit_is_no_hole() {
    let world = ran().await;
    assert_eq!(world.record(5).await.collected_upto, 3);
    for seq in [2, 3] {
        delete(&world, &record_path(seq)).await;
        world.process(9).open().await.unwrap();
    }
}

#[tokio::test]
async fn a_record_of_another_log_is_refused() {
    let (world, other) = (ran().await, ran().await);
    overwrite(&world, &record_path(4), other.text(&record_path(4)).await).await;
    let error = refused(&world).await;
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("successor"), "{error}");
}

#[tokio::test]
async fn a_record_in_the_wrong_slot_is_refused() {
    let world = ran().await;
    overwrite(&world, &record_path(6), world.text(&record_path(5)).await).await;
    let error = refused(&world).await;
    assert!(
        error.to_string().contains("it says that it is #5"),
        "{error}"
    );
}

#[tokio::test]
async fn a_log_that_has_gone_is_refused() {
    let world = ran().await;
    for seq in 1..=5 {
        delete(&world, &record_path(seq)).await;
    }
    let error = refused(&world).await;
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(
        error
            .to_string()
            .starts_with("the commit log `state/p/log/main` is missing"),
        "{error}"
    );
}

#[tokio::test]
async fn damaged_state_is_refused() {
    let world = ran().await;
    let (log, recovered) = world.process(2).open().await.unwrap();
    let part = &recovered.last.unwrap().state[1];
    let path = format!("state/p/{}", part.path);
    let size = part.bytes as usize;
    for (bytes, why) in [
        (vec![0; size - 1], "bytes instead of"),
        (vec![0; size], "its checksum does not match"),
    ] {
        overwrite(&world, &path, String::from_utf8(bytes).unwrap()).await;
        let error = log.load(part).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.to_string().contains(&path), "{error}");
    }
    delete(&world, &path).await;
    let error = log.load(part).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("is missing"), "{error}");
}

#[tokio::test]
async fn a_committed_file_that_is_nowhere_is_refused() {
    let world = World::new();
    let process = world.process(1);
    let (mut log, _) = process.open().await.unwrap();
    process
        .epoch(&mut log, &mut Vec::new(), 0, Reason::Checkpoint)
        .await
        .unwrap();
    let staged = world.staged().await.pop_first().unwrap();
    delete(&world, &staged).await;
    let error = refused(&world).await;
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("neither staged nor"), "{error}");
}

#[tokio::test]
async fn a_store_that_fails_the_probe_is_refused() {
    let cases = [
        (
            Operation::Put,
            Fault::Overwrites,
            ErrorKind::Config,
            "overwrites",
        ),
        (Operation::List, Fault::Hidden, ErrorKind::Config, "listing"),
        (
            Operation::Put,
            Fault::Denied,
            ErrorKind::External,
            "access is denied; allow reading, writing, listing and deleting there: ",
        ),
        (
            Operation::Put,
            Fault::Full,
            ErrorKind::External,
            "the store takes no more bytes; make room there: ",
        ),
        (
            Operation::Put,
            Fault::ErrorBefore,
            ErrorKind::External,
            "injected",
        ),
        (
            Operation::Put,
            Fault::ConflictNothingLanded,
            ErrorKind::External,
            "keeps answering",
        ),
    ];
    for (operation, fault, kind, why) in cases {
        let world = World::new();
        let process = world.process(1);
        process.faults.fail(operation, "probe", usize::MAX, fault);
        let Err(error) = process.open().await else {
            panic!("{fault:?} passed the probe")
        };
        assert_eq!(error.kind(), kind, "{fault:?}");
        assert!(error.chain().contains(why), "{fault:?}: {}", error.chain());
        assert!(world.slots().await.is_empty());
    }
}
