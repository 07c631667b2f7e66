//! The Parquet sink on S3: an S3 server in this process, over loopback.

use std::{net::SocketAddr, sync::Arc};

use arrow::{
    array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray},
    util::pretty::pretty_format_batches,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder as Http,
};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, aws::AmazonS3Builder, path::Path};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tagflow_connectors::parquet::{
    FileOptions, ParquetSinkConfig, ParquetSinkFactory, PartitionColumn,
};
use tagflow_engine::{
    Batch, ErrorKind, EventTime, RandomIds, SystemClock,
    commit::{CommitLog, Committers, LogConfig, Owner, Plan},
    element::BarrierKind,
    files::{StagedFile, prepared},
    sink::{SinkContext, SinkFactory},
    testing::store::conformance,
};
use tokio::{net::TcpListener, task::JoinHandle};

const KEY: &str = "test-key";
const SECRET: &str = "test-secret";
const BUCKET: &str = "lake";

/// An S3 server on a free port of the loopback, with one empty bucket. It stops
/// when it is dropped.
struct Server {
    store: Arc<dyn ObjectStore>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
    _disk: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let disk = tempfile::tempdir().unwrap();
        std::fs::create_dir(disk.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(disk.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = Http::new(TokioExecutor::new());
                    // A client that disconnects is no failure of the server.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self {
            store: client(address, SECRET),
            address,
            accepting,
            _disk: disk,
        }
    }
}

/// A client of the server at `address` with this secret.
fn client(address: SocketAddr, secret: &str) -> Arc<dyn ObjectStore> {
    let store = AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}"))
        .with_allow_http(true)
        .with_virtual_hosted_style_request(false)
        .with_region("us-east-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id(KEY)
        .with_secret_access_key(secret);
    Arc::new(store.build().unwrap())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Copies a staged file to where readers look.
async fn publish(store: &dyn ObjectStore, root: &Path, file: &StagedFile, name: &str) -> Path {
    let folder = root.parts().chain(file.folder.parts());
    let published: Path = folder.chain([name.into()]).collect();
    store.copy(&file.staged, &published).await.unwrap();
    published
}

async fn read(store: &dyn ObjectStore, path: &Path) -> Vec<RecordBatch> {
    let bytes = store.get(path).await.unwrap().bytes().await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staged_files_are_copied_and_read_back() {
    let server = Server::start().await;
    let store = server.store.as_ref();
    // Incompressible, so that the second folder takes more than one part.
    let noise = |n: u64| format!("{:032x}", u128::from(n).wrapping_pow(7)).repeat(16);
    let channels = ["search/brand", "display"];
    let rows = |from: u64, len: u64, channel: usize| {
        let n = Int64Array::from_iter_values((from..from + len).map(|n| n as i64));
        let text = StringArray::from_iter_values((from..from + len).map(noise));
        let channel = StringArray::from(vec![channels[channel]; len as usize]);
        let dt = Date32Array::from(vec![20_458; len as usize]);
        RecordBatch::try_from_iter([
            ("dt", Arc::new(dt) as ArrayRef),
            ("channel", Arc::new(channel)),
            ("n", Arc::new(n)),
            ("text", Arc::new(text)),
        ])
        .unwrap()
    };
    let partition = |name: &str, column| PartitionColumn {
        name: name.to_owned(),
        column,
    };
    let root = Path::from("campaigns");
    let factory = ParquetSinkFactory::new(ParquetSinkConfig {
        name: Arc::from("campaigns"),
        url: Arc::from("s3://lake/campaigns"),
        store: server.store.clone(),
        root: root.clone(),
        schema: rows(0, 0, 0).schema(),
        partition_by: vec![partition("dt", 0), partition("channel", 1)],
        newest: None,
        shared: false,
        files: FileOptions {
            compression: "none".parse().unwrap(),
            row_group_rows: 5_000,
            ..FileOptions::default()
        },
    })
    .unwrap();
    let mut sink = factory
        .open(SinkContext {
            node: Arc::from("campaigns"),
            lane: 0,
            lanes: 1,
            staging: Path::from("_staging/main/1"),
            log: Arc::from("106106ab"),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
        })
        .unwrap();
    sink.write(Batch::derived(rows(0, 10, 0))).await.unwrap();
    for batch in 0..10 {
        let batch = rows(batch * 2_500, 2_500, 1);
        sink.write(Batch::derived(batch)).await.unwrap();
    }
    let cut = sink.prepare_commit(BarrierKind::Stop).await.unwrap();

    let (files, _) = prepared(&cut.committables, &root).unwrap();
    let [large, small] = files.as_slice() else {
        panic!("two files, not {files:?}")
    };
    assert!(large.bytes > 10 << 20, "{} bytes", large.bytes);
    assert_eq!(
        small.folder.as_ref(),
        "dt=2026-01-05/channel=search%2Fbrand"
    );
    for (file, expected, channel) in [(large, 25_000, 1), (small, 10, 0)] {
        let path = publish(store, &root, file, "main-1-0.parquet").await;
        let read = read(store, &path).await;
        let expected = rows(0, expected, channel).project(&[2, 3]).unwrap();
        let text = |rows: &[RecordBatch]| pretty_format_batches(rows).unwrap().to_string();
        assert!(text(&read) == text(&[expected]), "other rows in {path}");
    }
    let listed: Vec<_> = store
        .list(Some(&Path::from("campaigns/dt=2026-01-05")))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(listed.len(), 2);
    let prefix = Path::parse(format!("campaigns/{}", small.folder)).unwrap();
    assert_eq!(store.list(Some(&prefix)).count().await, 1);
}

/// With one client, because the server checks put-if-absent as the next test describes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let server = Server::start().await;
    conformance(server.store.as_ref(), &Path::from("suite")).await;
}

/// The one conditional write that the commit log relies on. This server checks first and writes
/// then, so several concurrent writers win (in 198 of 200 races of four); sequentially it behaves
/// like S3.
#[tokio::test]
async fn put_if_absent_has_one_winner() {
    let server = Server::start().await;
    let key = Path::from("state/log/00000000000000000001.json");
    let create = |bytes: &'static [u8]| {
        let put = Bytes::from_static(bytes).into();
        server.store.put_opts(&key, put, PutMode::Create.into())
    };
    create(b"first").await.unwrap();
    for _ in 0..3 {
        let error = create(b"second").await.unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    }
    let stored = server.store.get(&key).await.unwrap().bytes().await.unwrap();
    assert_eq!(stored, "first");
    let listed: Vec<_> = server
        .store
        .list(Some(&Path::from("state")))
        .collect()
        .await;
    assert_eq!(listed.len(), 1, "list shows it at once");
}

/// A pipeline without write access to its state folder does not start.
#[tokio::test]
async fn a_log_where_access_is_denied_is_refused() {
    let server = Server::start().await;
    let config = LogConfig {
        store: client(server.address, "another-secret"),
        root: Path::from("state/p"),
        task: "main".to_owned(),
        owner: Owner {
            host: "here".to_owned(),
            pid: 1,
            admin: None,
            started_at: EventTime::from_micros(0),
        },
        plan: Plan {
            hash: "abc".to_owned(),
            json: "{}".into(),
        },
        keep_commits: 1,
        ids: Arc::new(RandomIds),
    };
    let Err(error) = CommitLog::open(config, Committers::new(), Arc::new(SystemClock)).await else {
        panic!("opened without access")
    };
    assert_eq!(error.kind(), ErrorKind::External);
    assert!(!error.is_retryable(), "trying again is of no use");
    let message = error.to_string();
    assert!(
        message.starts_with("cannot create `AmazonS3(lake)/state/p/probe/"),
        "{message}"
    );
    assert!(
        message.ends_with(": access is denied; allow reading, writing, listing and deleting there"),
        "{message}"
    );
}
