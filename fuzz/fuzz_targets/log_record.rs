//! Records of the commit log, as bytes and as texts with a valid checksum.
//!
//! No input may panic a reader of the log, including an audit, nor a process that takes
//! over the log. Each record that can be read is written again unchanged.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use sha2::{Digest, Sha256};
use tagflow_engine::{
    EventTime, RandomIds,
    commit::{CommitLog, Committers, LogConfig, Owner, Plan, Record, audit::History, read_last},
    testing::VirtualClock,
};

fuzz_target!(|data: &[u8]| {
    let _ = Record::decode(data, "record", 2);
    let Ok(body) = str::from_utf8(data) else {
        return;
    };
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(body) else {
        return;
    };
    let seq = fields
        .get("seq")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or(2);
    let sha256 = format!("{:x}", Sha256::digest(body));
    let bytes = format!(r#"{{"sha256":"{sha256}","record":{body}}}"#);
    let Ok(record) = Record::decode(bytes.as_bytes(), "record", seq) else {
        return;
    };
    let written = record.encode().expect("what is read can be written");
    assert_eq!(
        Record::decode(&written, "record", seq).expect("and read again"),
        record
    );

    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(read(seq, bytes));
});

/// Lets every reader of logs read this one.
async fn read(seq: u64, bytes: String) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let root = Path::from("state/p");
    let path = Path::from(format!("state/p/log/main/{seq:020}.json"));
    store.put(&path, bytes.into()).await.expect("it is memory");
    let _ = read_last(&store, &root, "main").await;
    let _ = History::read(&store, &root, "main").await;
    let config = LogConfig {
        store,
        root,
        task: "main".to_owned(),
        owner: Owner {
            host: "fuzz".to_owned(),
            pid: 1,
            admin: None,
            started_at: EventTime::from_micros(0),
        },
        plan: Plan {
            hash: "plan".to_owned(),
            json: "{}".into(),
        },
        keep_commits: 2,
        ids: Arc::new(RandomIds),
    };
    let clock = Arc::new(VirtualClock::starting_at(EventTime::from_micros(0)));
    let _ = CommitLog::open(config, Committers::new(), clock).await;
}
