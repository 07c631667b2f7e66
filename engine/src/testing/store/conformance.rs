//! The conformance suite for object stores.

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, path::Path};

/// Checks the guarantees that Tagflow needs of a store, in an empty folder, and leaves the folder
/// empty.
///
/// # Panics
/// If the store violates a guarantee.
pub async fn conformance(store: &dyn ObjectStore, folder: &Path) {
    put_if_absent_has_one_winner(store, &folder.clone().join("log")).await;
    objects_are_read_as_they_were_written(store, &folder.clone().join("a b=ü%")).await;
    uploads_appear_whole(store, &folder.clone().join("staging")).await;
    copies_stay(store, &folder.clone().join("table")).await;
    assert_eq!(list(store, folder).await, [], "something is left");
}

async fn put_if_absent_has_one_winner(store: &dyn ObjectStore, folder: &Path) {
    let key = folder.clone().join("00000000000000000001.json");
    let create = |text: &'static str| store.put_opts(&key, text.into(), PutMode::Create.into());
    create("first").await.expect("there is none yet");
    for _ in 0..3 {
        let again = create("second").await;
        assert!(
            matches!(
                again,
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. })
            ),
            "{again:?}"
        );
    }
    assert_eq!(read(store, &key).await, "first");
    assert_eq!(
        list(store, folder).await,
        std::slice::from_ref(&key),
        "it is listed at once"
    );
    delete(store, std::slice::from_ref(&key)).await;
    create("third").await.expect("there is none any more");
    assert_eq!(read(store, &key).await, "third");
    delete(store, &[key]).await;
}

async fn objects_are_read_as_they_were_written(store: &dyn ObjectStore, folder: &Path) {
    let (inner, outer) = (folder.clone().join("x").join("1"), folder.clone().join("2"));
    let missing = folder.clone().join("none");
    assert!(matches!(
        store.get(&missing).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        store.head(&missing).await,
        Err(Error::NotFound { .. })
    ));
    for text in ["", "other", "the last"] {
        for path in [&inner, &outer] {
            store.put(path, text.into()).await.expect("it takes bytes");
            assert_eq!(read(store, path).await, text);
            let size = store.head(path).await.expect("it is there").size;
            assert_eq!(size, text.len() as u64);
        }
    }
    let part = store.get_range(&outer, 4..8).await.expect("it has so many");
    assert_eq!(part, "last");
    assert_eq!(list(store, folder).await, [outer.clone(), inner.clone()]);
    let near = store
        .list_with_delimiter(Some(folder))
        .await
        .expect("it lists");
    assert_eq!(near.common_prefixes, [folder.clone().join("x")]);
    let near: Vec<_> = near
        .objects
        .into_iter()
        .map(|object| object.location)
        .collect();
    assert_eq!(near, std::slice::from_ref(&outer));
    // A folder's name is no prefix of another's.
    let inside = folder.to_string();
    let prefix = Path::parse(&inside[..inside.len() - 1]);
    let prefix = prefix.expect("a shorter path is one");
    assert_eq!(list(store, &prefix).await, []);
    // A missing object is no error.
    delete(store, &[inner.clone(), missing, outer]).await;
    delete(store, &[inner]).await;
}

async fn uploads_appear_whole(store: &dyn ObjectStore, folder: &Path) {
    let path = folder.clone().join("large");
    // The minimum size of a part on S3, except for the last one.
    let part = Bytes::from(vec![7; 5 << 20]);
    let mut upload = store.put_multipart(&path).await.expect("it takes parts");
    upload
        .put_part(part.clone().into())
        .await
        .expect("it takes one");
    upload
        .put_part("end".into())
        .await
        .expect("it takes another");
    assert_eq!(list(store, folder).await, [], "an object before its end");
    upload.complete().await.expect("it ends");
    let read = read(store, &path).await;
    assert!(
        read.len() == part.len() + 3 && read.ends_with(b"end"),
        "other bytes"
    );
    delete(store, &[path]).await;
}

async fn copies_stay(store: &dyn ObjectStore, folder: &Path) {
    let (from, to) = (folder.clone().join("staged"), folder.clone().join("final"));
    store
        .put(&from, "rows".into())
        .await
        .expect("it takes bytes");
    // Not every store can refuse to copy onto an existing object.
    match store.copy_if_not_exists(&from, &to).await {
        Ok(()) => {
            let again = store.copy_if_not_exists(&from, &to).await;
            assert!(
                matches!(
                    again,
                    Err(Error::AlreadyExists { .. } | Error::Precondition { .. })
                ),
                "{again:?}"
            );
        }
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
            store.copy(&from, &to).await.expect("it copies");
        }
        Err(error) => panic!("{error}"),
    }
    delete(store, std::slice::from_ref(&from)).await;
    assert_eq!(read(store, &to).await, "rows");
    let missing = store.copy(&from, &to).await;
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
    assert_eq!(read(store, &to).await, "rows");
    delete(store, &[to]).await;
}

async fn read(store: &dyn ObjectStore, path: &Path) -> Bytes {
    let object = store.get(path).await.expect("it is there");
    object.bytes().await.expect("it is read to its end")
}

/// The objects in a folder, sorted by path.
async fn list(store: &dyn ObjectStore, folder: &Path) -> Vec<Path> {
    let listed = store.list(Some(folder)).map_ok(|object| object.location);
    let mut listed: Vec<Path> = listed.try_collect().await.expect("it lists");
    listed.sort();
    listed
}

async fn delete(store: &dyn ObjectStore, paths: &[Path]) {
    let paths: Vec<_> = paths.iter().cloned().map(Ok).collect();
    let mut deleted = store.delete_stream(Box::pin(stream::iter(paths)));
    loop {
        match deleted.try_next().await {
            Ok(Some(_)) | Err(Error::NotFound { .. }) => {}
            Ok(None) => break,
            Err(error) => panic!("{error}"),
        }
    }
}
