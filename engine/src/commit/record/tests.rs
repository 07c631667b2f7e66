//! The stored form is a contract: what one version wrote, every later one reads.

use crate::{RandomIds, source::PartitionId};

use super::*;

const STORED: &str = r#"{"sha256":"SUM","record":{"version":1,"kind":"commit","seq":3,"attempt":"67e55044-10b1-426f-9247-bb680e5fe0c8","previous":"c0ffee00-10b1-426f-9247-bb680e5fe0c8","claim_seq":2,"owner":{"host":"h","pid":7,"admin":"127.0.0.1:9000","started_at":5},"plan_hash":"abc","at":9,"checkpoint":{"seq":3,"at":9,"epoch":4,"reason":"stop","lanes":2,"positions":{"events":{"topic/0":12}},"watermarks":{"events":{"topic/0":-9223372036854775808}},"finished":{"events":["topic/0"]},"state":[{"node":"n","lane":1,"key":"k","path":"state/main/2/u","bytes":10,"sha256":"aa"}],"fingerprints":{"n":"f"},"totals":{"in":2,"copied":0,"released":0,"contributed":1,"filtered":1,"late":0,"dead_letter":0,"duplicate":0,"held":0}},"files":[{"table":"s3://b/t","staged":"_staging/p/main/2/u","final":"dt=1/main-3-0-67e55044.parquet","rows":1,"bytes":2,"sha256":"bb"}],"counters":{"events":{"topic/0":{"in":2,"copied":0,"released":0,"contributed":1,"filtered":1,"late":0,"dead_letter":0,"duplicate":0,"held":0}}},"published_upto":1,"collected_upto":0}}"#;

fn record() -> Record {
    let counts_of_one = Counts {
        rows_in: 2,
        contributed: 1,
        filtered: 1,
        ..Counts::default()
    };
    let mut ledger = Ledger::default();
    *ledger.of(&Arc::new(PartitionId::new("events", "topic/0"))) = counts_of_one;
    let partition = |value| BTreeMap::from([("topic/0".into(), value)]);
    Record {
        version: 1,
        kind: Kind::Commit,
        seq: 3,
        attempt: attempt("67e55044-10b1-426f-9247-bb680e5fe0c8"),
        previous: Some(attempt("c0ffee00-10b1-426f-9247-bb680e5fe0c8")),
        claim_seq: 2,
        owner: Owner {
            host: "h".to_owned(),
            pid: 7,
            admin: Some("127.0.0.1:9000".to_owned()),
            started_at: EventTime::from_micros(5),
        },
        plan_hash: "abc".to_owned(),
        at: EventTime::from_micros(9),
        checkpoint: Some(Checkpoint {
            seq: 3,
            at: EventTime::from_micros(9),
            epoch: Epoch(4),
            reason: Reason::Stop,
            lanes: 2,
            positions: BTreeMap::from([("events".into(), partition(12))]),
            watermarks: BTreeMap::from([(
                "events".into(),
                BTreeMap::from([("topic/0".into(), EventTime::MIN)]),
            )]),
            finished: BTreeMap::from([("events".into(), BTreeSet::from(["topic/0".into()]))]),
            state: vec![StateRef {
                node: "n".to_owned(),
                lane: 1,
                key: "k".to_owned(),
                path: "state/main/2/u".to_owned(),
                bytes: 10,
                sha256: "aa".to_owned(),
            }],
            fingerprints: BTreeMap::from([("n".to_owned(), "f".to_owned())]),
            totals: counts_of_one,
            tables: None,
        }),
        files: vec![FileRef {
            table: "s3://b/t".into(),
            staged: "_staging/p/main/2/u".to_owned(),
            published: "dt=1/main-3-0-67e55044.parquet".to_owned(),
            rows: 1,
            bytes: 2,
            sha256: "bb".to_owned(),
        }],
        removed: vec![],
        reset: BTreeSet::new(),
        counters: counts(&ledger),
        published_upto: 1,
        collected_upto: 0,
    }
}

fn attempt(text: &str) -> Attempt {
    Attempt::try_from(text.to_owned()).unwrap()
}

/// `STORED` with the checksum of its body.
fn stored() -> String {
    let start = STORED.find(r#"{"version""#).unwrap();
    let body = &STORED[start..STORED.len() - 1];
    STORED.replace("SUM", &sha256_hex(body.as_bytes()))
}

#[test]
fn the_stored_form_is_stable() {
    let bytes = record().encode().unwrap();
    assert_eq!(std::str::from_utf8(&bytes).unwrap(), stored());
}

#[test]
fn a_record_reads_back() {
    let read = Record::decode(stored().as_bytes(), "r", 3).unwrap();
    assert_eq!(read, record());
    assert_eq!(
        read.checkpoint.unwrap().position("events", "topic/0"),
        Some(12)
    );
}

#[test]
fn the_same_content_written_differently_is_refused() {
    let pretty = stored().replacen("\"seq\":3", "\"seq\": 3", 1);
    let error = Record::decode(pretty.as_bytes(), "r", 3).unwrap_err();
    assert_eq!(
        error.to_string(),
        "commit record `r` is corrupted: its checksum does not match; \
         restore it from a backup of the state folder"
    );
}

#[test]
fn regression_slots_that_no_process_writes_are_refused() {
    let check = |change: fn(&mut Record), what: &str| {
        let mut record = record();
        change(&mut record);
        let bytes = record.encode().unwrap();
        let error = Record::decode(&bytes, "r", record.seq).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    };
    let own = "names a slot that cannot be its own";
    check(|record| record.claim_seq = 3, own);
    check(|record| record.claim_seq = u64::MAX, own);
    check(|record| record.checkpoint = None, own);
    check(|record| record.checkpoint.as_mut().unwrap().seq = 2, own);
    check(|record| record.kind = Kind::Claim, own);
    let claim = |record: &mut Record| {
        record.kind = Kind::Claim;
        record.claim_seq = 3;
    };
    check(claim, own);
    let last = |record: &mut Record| {
        record.seq = u64::MAX;
        record.checkpoint.as_mut().unwrap().seq = u64::MAX;
    };
    check(last, own);
    let more = "more is published or collected than there was";
    check(|record| record.published_upto = 3, more);
    check(|record| record.collected_upto = 2, more);
}

#[test]
fn removals_are_stored_where_there_are_some() {
    let mut replacing = record();
    replacing.removed = vec![RemovedFile {
        table: "s3://b/t".into(),
        published: "dt=1/old.parquet".to_owned(),
    }];
    let bytes = replacing.encode().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let stored = r#""removed":[{"table":"s3://b/t","final":"dt=1/old.parquet"}],"counters""#;
    assert!(text.contains(stored), "{text}");
    assert_eq!(Record::decode(&bytes, "r", 3).unwrap(), replacing);
}

#[test]
fn what_audits_need_is_stored_where_there_is_some() {
    let mut counted = record();
    counted.reset = BTreeSet::from(["events".into()]);
    let totals = TableTotals {
        files: 3,
        rows: 7,
        bytes: 99,
        removed: 1,
        sets: None,
    };
    if let Some(checkpoint) = &mut counted.checkpoint {
        checkpoint.tables = Some(BTreeMap::from([("s3://b/t".into(), totals)]));
    }
    let bytes = counted.encode().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    for stored in [
        r#""tables":{"s3://b/t":{"files":3,"rows":7,"bytes":99,"removed":1}}},"files""#,
        r#""reset":["events"],"counters""#,
    ] {
        assert!(text.contains(stored), "{text}");
    }
    assert_eq!(Record::decode(&bytes, "r", 3).unwrap(), counted);

    let checkpoint = counted.checkpoint.as_mut().unwrap();
    let mut sets = FileSets::default();
    sets.add(&counted.files[0]);
    checkpoint.tables = Some(BTreeMap::from([(
        "s3://b/t".into(),
        TableTotals {
            sets: Some(sets),
            ..totals
        },
    )]));
    let bytes = counted.encode().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let [listed, contents] = [sets.listed, sets.contents].map(String::from);
    let stored = format!(r#""removed":1,"sets":{{"listed":"{listed}","contents":"{contents}"}}}}"#);
    assert!(text.contains(&stored), "{text}");
    assert_eq!(Record::decode(&bytes, "r", 3).unwrap(), counted);
}

#[test]
fn an_attempt_has_a_short_name() {
    assert_eq!(record().attempt.short(), "67e55044");
    assert_ne!(Attempt::unique(&RandomIds), Attempt::unique(&RandomIds));
}
