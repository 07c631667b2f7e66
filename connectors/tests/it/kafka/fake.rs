//! A broker with configurable answers, for cases that no available broker produces.
//!
//! It has one topic with one partition and knows topics by id. Like some brokers, it answers a fetch
//! of an unknown id with the id 0. It answers a position beyond the end with no rows.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tagflow_engine::source::Offset;

use super::holes::batch;

pub(crate) const TOPIC: &str = "events";

/// The id of its cluster at the start.
pub(crate) const CLUSTER: &str = "fake";
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const API_VERSIONS: i16 = 18;
/// The supported requests, each with its highest version, which is the only one that works. A
/// client reads today's messages only from a broker that can also store them.
const APIS: [(i16, i16); 6] = [
    (PRODUCE, 7),
    (FETCH, 16),
    (LIST_OFFSETS, 2),
    (METADATA, 12),
    (FIND_COORDINATOR, 0),
    (API_VERSIONS, 3),
];
const LATEST: i64 = -1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const UNKNOWN_TOPIC_ID: i16 = 100;
const NO_ID: [u8; 16] = [0; 16];

/// The topic's current state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    /// Distinguishes it from others of its name.
    pub(crate) id: u8,
    /// The number of rows, from offset 0.
    pub(crate) rows: u32,
}

/// The broker; it stops when dropped.
pub(crate) struct FakeBroker {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` after the topic was deleted.
    log: Option<Log>,
    cluster: &'static str,
    is_down: bool,
    is_gone: bool,
    connections: Vec<TcpStream>,
}

impl FakeBroker {
    pub(crate) fn start(log: Log) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            log: Some(log),
            cluster: CLUSTER,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut state = shared.lock().unwrap();
                if state.is_gone {
                    return;
                }
                if state.is_down {
                    continue;
                }
                state.connections.push(stream.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                // A closed connection ends its thread.
                thread::spawn(move || serve(stream, address, &shared));
            }
        });
        Self { address, state }
    }

    pub(crate) fn servers(&self) -> String {
        self.address.to_string()
    }

    /// Replaces the topic, or deletes it.
    pub(crate) fn set_log(&self, log: Option<Log>) {
        self.state.lock().unwrap().log = log;
    }

    /// Changes the id of the cluster. An empty id is none.
    pub(crate) fn set_cluster(&self, cluster: &'static str) {
        self.state.lock().unwrap().cluster = cluster;
    }

    /// Closes all connections and accepts none.
    pub(crate) fn down(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_down = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn up(&self) {
        self.state.lock().unwrap().is_down = false;
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.down();
        self.state.lock().unwrap().is_gone = true;
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, address: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    loop {
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let mut bytes = vec![0; i32::from_be_bytes(size) as usize];
        stream.read_exact(&mut bytes)?;
        let mut request = Request(&bytes);
        let (api, version) = (request.i16(), request.i16());
        assert!(APIS.contains(&(api, version)), "{api} in version {version}");
        let correlation = request.take(4).to_vec();
        let client = request.i16();
        request.take(usize::try_from(client).unwrap_or(0));
        let (log, cluster) = {
            let state = state.lock().unwrap();
            (state.log, state.cluster)
        };
        let mut answer = Answer(correlation);
        match api {
            API_VERSIONS => answer.api_versions(),
            METADATA => answer.metadata(address, cluster, log),
            LIST_OFFSETS => answer.list_offsets(&mut request, log),
            FETCH => answer.fetch(&mut request, address, log),
            FIND_COORDINATOR => {
                answer.i16(COORDINATOR_NOT_AVAILABLE);
                answer.i32(-1).i16(0).i32(-1);
            }
            other => panic!("a request {other} that was not offered"),
        }
        let size = (answer.0.len() as i32).to_be_bytes();
        stream.write_all(&[&size[..], &answer.0].concat())?;
    }
}

/// The unread rest of a request.
struct Request<'a>(&'a [u8]);

impl Request<'_> {
    fn take(&mut self, bytes: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().unwrap())
    }
}

/// An answer under construction. Lengths of compact strings and arrays are one too large, so that 0
/// is null; all here are short.
struct Answer(Vec<u8>);

impl Answer {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    fn byte(&mut self, byte: u8) -> &mut Self {
        self.bytes(&[byte])
    }

    fn i16(&mut self, number: i16) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn i32(&mut self, number: i32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn i64(&mut self, number: i64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.byte(text.len() as u8 + 1).bytes(text.as_bytes())
    }

    fn length(&mut self, length: usize) -> &mut Self {
        let mut left = length + 1;
        while left > 0x7f {
            self.byte(left as u8 | 0x80);
            left >>= 7;
        }
        self.byte(left as u8)
    }

    fn no_tags(&mut self) -> &mut Self {
        self.byte(0)
    }

    fn api_versions(&mut self) {
        self.i16(0).length(APIS.len());
        for (api, version) in APIS {
            self.i16(api).i16(0).i16(version).no_tags();
        }
        self.i32(0).no_tags();
    }

    fn node(&mut self, address: SocketAddr) -> &mut Self {
        self.i32(1).text("127.0.0.1").i32(address.port().into());
        // No rack.
        self.byte(0).no_tags()
    }

    fn metadata(&mut self, address: SocketAddr, cluster: &str, log: Option<Log>) {
        self.no_tags().i32(0).length(1).node(address);
        self.text(cluster).i32(1).length(1);
        match log {
            None => {
                self.i16(UNKNOWN_TOPIC_OR_PARTITION).text(TOPIC);
                self.bytes(&NO_ID).byte(0).length(0);
            }
            Some(log) => {
                self.i16(0).text(TOPIC).bytes(&[log.id; 16]).byte(0);
                // The partition, its leader, and no leader epoch.
                self.length(1).i16(0).i32(0).i32(1).i32(-1);
                self.length(1).i32(1).length(1).i32(1).length(0).no_tags();
            }
        }
        self.i32(i32::MIN).no_tags().no_tags();
    }

    fn list_offsets(&mut self, request: &mut Request<'_>, log: Option<Log>) {
        // Replica, isolation, one topic, its name, one partition, its number.
        request.take(4 + 1 + 4 + 2 + TOPIC.len() + 4 + 4);
        let end = log.map_or(0, |log| i64::from(log.rows));
        let offset = if request.i64() == LATEST { end } else { 0 };
        self.i32(0).i32(1).i16(TOPIC.len() as i16);
        self.bytes(TOPIC.as_bytes()).i32(1).i32(0);
        self.i16(0).i64(-1).i64(offset);
    }

    fn fetch(&mut self, request: &mut Request<'_>, address: SocketAddr, log: Option<Log>) {
        // Tags, waits and sizes, isolation, session, one topic.
        request.take(1 + 4 + 4 + 4 + 1 + 4 + 4);
        let topics = request.take(1)[0] - 1;
        assert!(topics <= 1, "there is one topic");
        let id = (topics == 1).then(|| request.take(16).to_vec());
        self.no_tags().i32(0).i16(0).i32(0);
        let Some(id) = id else {
            self.length(0).no_tags();
            return;
        };
        // One partition, its number, the leader epoch.
        request.take(1 + 4 + 4);
        let from: Offset = request.i64();
        let known = log.filter(|log| id == [log.id; 16]);
        if let Some(log) = known {
            self.length(1).bytes(&id).length(1).i32(0).i16(0);
            let end = i64::from(log.rows);
            self.i64(end).i64(end).i64(0).length(0).i32(-1);
            if from < end {
                let offsets: Vec<Offset> = (0..end).collect();
                let rows = batch(&offsets);
                self.length(rows.len()).bytes(&rows);
            } else {
                thread::sleep(Duration::from_millis(50));
                self.length(0);
            }
            self.no_tags().no_tags().no_tags();
        } else {
            self.length(1).bytes(&NO_ID).length(1).i32(0);
            self.i16(UNKNOWN_TOPIC_ID);
            self.i64(-1).i64(-1).i64(-1).length(0).i32(-1).length(0);
            // Of the partition: its leader. Of the answer: the leader's address.
            self.byte(1).byte(1).byte(9).i32(1).i32(1).no_tags();
            self.no_tags();
            let mut node = Answer(Vec::new());
            node.length(1).node(address);
            self.byte(1).byte(0).byte(node.0.len() as u8).bytes(&node.0);
        }
    }
}
