//! Parts of a snapshot, as bytes with a right checksum.
//!
//! No input may make the reader panic. A panic of Arrow that the reader catches is
//! ignored, although the fuzzer's hook would abort on it; an uncaught panic still aborts.

#![no_main]

use std::{panic, sync::Arc};

use libfuzzer_sys::fuzz_target;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use sha2::{Digest, Sha256};
use tagflow_engine::commit::read_state;

fuzz_target!(init: panic::set_hook(Box::new(|_| {})), |data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(read(data));
});

async fn read(part: &[u8]) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let sha256 = format!("{:x}", Sha256::digest(part));
    let record = include_str!("state_part.json")
        .trim()
        .replace("\"BYTES\"", &part.len().to_string())
        .replace("SHA256", &sha256);
    let checksum = format!("{:x}", Sha256::digest(&record));
    let envelope = format!(r#"{{"sha256":"{checksum}","record":{record}}}"#);
    let log = Path::from(format!("state/p/log/main/{:020}.json", 2));
    let place = Path::from("state/p/state/main/1/part");
    store
        .put(&log, envelope.into())
        .await
        .expect("it is memory");
    store
        .put(&place, part.to_vec().into())
        .await
        .expect("it is memory");
    let root = Path::from("state/p");
    match read_state(&store, &root, "main", "node", |_, _| true).await {
        Ok(parts) => assert_eq!(parts.map(|parts| parts.len()), Some(1)),
        Err(error) => assert!(
            error.to_string().contains("is corrupted"),
            "{}",
            error.chain()
        ),
    }
}
