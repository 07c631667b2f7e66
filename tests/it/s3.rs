//! An S3 server in its own process: it outlives the killed processes of the tests.

use std::{
    env,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder as Http,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;

use crate::process::{Folder, Running, eventually};

const KEY: &str = "test-key";
const SECRET: &str = "test-secret";
/// The listening address for the server; it serves its working directory.
const ADDRESS: &str = "TAGFLOW_TEST_S3";

/// A server whose buckets are the folders of a [`Folder`].
pub(crate) struct S3 {
    address: SocketAddr,
    process: Running,
}

impl S3 {
    /// Serves `folder` with the bucket `lake`, and sets the variables for `tagflow`.
    pub(crate) fn serving(folder: &mut Folder) -> Self {
        std::fs::create_dir_all(folder.path("lake")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        for (name, value) in [
            ("AWS_ENDPOINT_URL", format!("http://{address}").as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ] {
            folder.set(name, value);
        }
        Self {
            address,
            process: start(folder, address),
        }
    }

    /// Kills the server: no connection is answered any more.
    pub(crate) fn down(&mut self) {
        self.process.signal("KILL");
        eventually("the server is gone", || {
            TcpStream::connect(self.address).is_err().then_some(())
        });
    }

    /// Restarts it at the same address with the same data.
    pub(crate) fn up(&mut self, folder: &Folder) {
        self.process = start(folder, self.address);
    }

    /// Sends the server a signal: after `STOP` it accepts connections and answers none, until
    /// `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }
}

fn start(folder: &Folder, address: SocketAddr) -> Running {
    let mut server = Command::new(env::current_exe().unwrap());
    server
        .args(["--ignored", "--exact", "s3::server"])
        .current_dir(folder.path(""))
        .env(ADDRESS, address.to_string());
    let process = Running::of(&mut server);
    eventually("the server answers", || TcpStream::connect(address).ok());
    process
}

#[test]
#[ignore = "not a test: the server, which tests start as a process of its own"]
fn server() {
    let Ok(address) = env::var(ADDRESS) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut service = S3ServiceBuilder::new(FileSystem::new(".").unwrap());
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = service.build();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let service = service.clone();
            tokio::spawn(async move {
                let http = Http::new(TokioExecutor::new());
                // A client that is killed is no failure of the server.
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
}
