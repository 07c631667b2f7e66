//! A compacted topic: offsets without messages, in the middle of the log.
//!
//! The mock cluster does not compact. So the test sends it the result of compaction in wire format:
//! a batch with fewer records than offsets.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use tagflow_connectors::kafka::OnDataLoss;
use tagflow_engine::source::{Offset, Positions, Rows, SourceEvent};

use super::harness::*;

/// Offsets 0, 4 and 5 remain of the first six, and ten more follow.
const LEFT: [Offset; 3] = [0, 4, 5];

#[tokio::test]
async fn a_compacted_hole_is_no_loss() {
    let broker = broker(&[("events", 1)]);
    let server = broker.bootstrap_servers().to_owned();
    // The mock counts records, not offsets: it takes the next three for those that the first batch
    // has already.
    for offsets in [LEFT, [0, 1, 2]] {
        let server = server.clone();
        let sent = tokio::task::spawn_blocking(move || send(&server, "events", &offsets));
        sent.await.unwrap();
    }
    produce(&broker, "events", numbered(6..16)).await;

    for (from, expected) in [
        (None, [LEFT.to_vec(), (6..16).collect()].concat()),
        // From an offset without a message.
        (Some(2), (4..16).collect()),
    ] {
        let mut config = config(&broker, &["events"]);
        config.on_data_loss = OnDataLoss::Fail.into();
        let at = from.map_or_else(Positions::new, |from| positions(&[("events/0", from)]));
        let mut reader = open(config, &at).await.unwrap();
        let begin = from.unwrap_or(0);
        let expected_begin = BTreeMap::from([("events/0".to_owned(), begin)]);
        assert_eq!(assigned(&mut reader).await, expected_begin);
        assert_eq!(offsets_to_end(&mut reader).await, expected);
    }
}

/// The offsets of all rows up to the end.
async fn offsets_to_end(reader: &mut Reader) -> Vec<Offset> {
    let mut read = Vec::new();
    loop {
        match next(reader).await.unwrap() {
            SourceEvent::Chunk(chunk) => {
                let Rows::Encoded(rows) = &chunk.rows else {
                    panic!("Kafka rows are encoded")
                };
                for (row, offset) in rows.offsets.iter().enumerate() {
                    let expected = format!("row-{offset}");
                    assert_eq!(rows.row(row), Some(expected.as_bytes()));
                    read.push(*offset);
                }
                assert_eq!(chunk.next, read[read.len() - 1] + 1);
            }
            SourceEvent::CaughtUp { end: 16, .. } => return read,
            SourceEvent::CaughtUp { .. } | SourceEvent::Lag { .. } | SourceEvent::System { .. } => {
            }
            other => unexpected(&other),
        }
    }
}

/// Sends one batch with records at these offsets, relative to its start.
fn send(server: &str, topic: &str, offsets: &[Offset]) {
    let batch = batch(offsets);
    let mut request = Vec::new();
    request.extend(0_i16.to_be_bytes()); // Produce
    request.extend(7_i16.to_be_bytes()); // its version
    request.extend(1_i32.to_be_bytes()); // correlation
    request.extend((-1_i16).to_be_bytes()); // no client id
    request.extend((-1_i16).to_be_bytes()); // no transaction
    request.extend((-1_i16).to_be_bytes()); // all must acknowledge
    request.extend(5_000_i32.to_be_bytes()); // within 5 s
    request.extend(1_i32.to_be_bytes()); // one topic
    request.extend((topic.len() as i16).to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(1_i32.to_be_bytes()); // one partition
    request.extend(0_i32.to_be_bytes()); // number 0
    request.extend((batch.len() as i32).to_be_bytes());
    request.extend(batch);

    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let size = (request.len() as i32).to_be_bytes();
    stream.write_all(&[&size[..], &request].concat()).unwrap();
    let mut size = [0; 4];
    stream.read_exact(&mut size).unwrap();
    let mut answer = vec![0; i32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).unwrap();
    // Correlation, topics, the topic's name, partitions, the number.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[at..at + 2], [0, 0], "the mock refuses the batch");
}

/// A batch of Kafka's message format 2, uncompressed.
pub(crate) fn batch(offsets: &[Offset]) -> Vec<u8> {
    let mut summed = Vec::new();
    let last = offsets[offsets.len() - 1] as i32;
    summed.extend(0_i16.to_be_bytes()); // attributes
    summed.extend(last.to_be_bytes());
    summed.extend(1_700_000_000_000_i64.to_be_bytes()); // first and
    summed.extend(1_700_000_000_000_i64.to_be_bytes()); // last time
    summed.extend((-1_i64).to_be_bytes()); // no producer id
    summed.extend((-1_i16).to_be_bytes()); // epoch
    summed.extend((-1_i32).to_be_bytes()); // sequence
    summed.extend((offsets.len() as i32).to_be_bytes());
    for offset in offsets {
        let value = format!("row-{offset}");
        let mut record = vec![0]; // attributes
        zigzag(&mut record, 0); // time
        zigzag(&mut record, *offset);
        zigzag(&mut record, -1); // no key
        zigzag(&mut record, value.len() as i64);
        record.extend(value.as_bytes());
        zigzag(&mut record, 0); // no headers
        zigzag(&mut summed, record.len() as i64);
        summed.extend(record);
    }
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes()); // the broker says where it begins
    batch.extend((4 + 1 + 4 + summed.len() as i32).to_be_bytes());
    batch.extend(0_i32.to_be_bytes()); // leader epoch
    batch.push(2); // format
    batch.extend(crc32c(&summed).to_be_bytes());
    batch.extend(summed);
    batch
}

fn zigzag(bytes: &mut Vec<u8>, number: i64) {
    let mut left = (number << 1 ^ number >> 63) as u64;
    while left > 0x7f {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

/// CRC-32C (Castagnoli), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| crc >> 1 ^ (0x82f6_3b78 * (crc & 1));
    let add = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !bytes.iter().fold(!0, add)
}
