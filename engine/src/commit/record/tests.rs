//! The stored form is a contract: every later version reads the records of a version.

use crate::{
    RandomIds,
    files::{Change, FileSet, FileSets, Ghost, Note, RemovedFile, TableTotals},
    source::PartitionId,
};

use super::*;

const STORED: &str = r#"{"sha256":"SUM","record":{"version":4,"kind":"commit","seq":3,"attempt":"67e55044-10b1-426f-9247-bb680e5fe0c8","previous":"c0ffee00-10b1-426f-9247-bb680e5fe0c8","claim_seq":2,"owner":{"host":"h","pid":7,"admin":"127.0.0.1:9000","started_at":5},"plan_hash":"abc","at":9,"checkpoint":{"seq":3,"at":9,"epoch":4,"reason":"stop","lanes":2,"positions":{"events":{"topic/0":12}},"watermarks":{"events":{"topic/0":-9223372036854775808}},"finished":{"events":["topic/0"]},"state":[{"node":"n","lane":1,"key":"k","path":"state/main/2/u","bytes":10,"sha256":"aa"}],"fingerprints":{"n":"f"},"totals":{"in":2,"copied":0,"released":0,"contributed":1,"filtered":1,"late":0,"dead_letter":0,"duplicate":0,"held":0}},"outbox":{"s3://b/t":[{"rows":1,"bytes":2,"content":"{\"add\":{\"staged\":\"_staging/p/main/2/u\",\"final\":\"dt=1/main-3-0-67e55044.lines\",\"sha256\":\"bb\"}}"}]},"counters":{"events":{"topic/0":{"in":2,"copied":0,"released":0,"contributed":1,"filtered":1,"late":0,"dead_letter":0,"duplicate":0,"held":0}}},"published_upto":1,"collected_upto":0}}"#;

/// The same record as a build before wrote it.
const STORED_1: &str = r#"{"sha256":"SUM","record":{"version":1,"kind":"commit","seq":3,"attempt":"67e55044-10b1-426f-9247-bb680e5fe0c8","previous":"c0ffee00-10b1-426f-9247-bb680e5fe0c8","claim_seq":2,"owner":{"host":"h","pid":7,"admin":"127.0.0.1:9000","started_at":5},"plan_hash":"abc","at":9,"checkpoint":{"seq":3,"at":9,"epoch":4,"reason":"stop","lanes":2,"positions":{"events":{"topic/0":12}},"watermarks":{"events":{"topic/0":-9223372036854775808}},"finished":{"events":["topic/0"]},"state":[{"node":"n","lane":1,"key":"k","path":"state/main/2/u","bytes":10,"sha256":"aa"}],"fingerprints":{"n":"f"},"totals":{"in":2,"copied":0,"released":0,"contributed":1,"filtered":1,"late":0,"dead_letter":0,"duplicate":0,"held":0}},"files":[{"table":"s3://b/t","staged":"_staging/p/main/2/u","final":"dt=1/main-3-0-67e55044.lines","rows":1,"bytes":2,"sha256":"bb"}],"counters":{"events":{"topic/0":{"in":2,"copied":0,"released":0,"contributed":1,"filtered":1,"late":0,"dead_letter":0,"duplicate":0,"held":0}}},"published_upto":1,"collected_upto":0}}"#;

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
        version: VERSION,
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
            systems: BTreeMap::new(),
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
            notes: None,
        }),
        follows: None,
        outbox: BTreeMap::from([("s3://b/t".into(), vec![added()])]),
        reset: BTreeSet::new(),
        counters: counts(&ledger),
        published_upto: 1,
        collected_upto: 0,
    }
}

fn added() -> Committable {
    let change = Change::Add {
        staged: "_staging/p/main/2/u".to_owned(),
        published: "dt=1/main-3-0-67e55044.lines".to_owned(),
        sha256: "bb".to_owned(),
    };
    change.committable(1, 2).unwrap()
}

fn attempt(text: &str) -> Attempt {
    Attempt::try_from(text.to_owned()).unwrap()
}

fn stored() -> String {
    with_checksum(STORED)
}

/// A stored record with the checksum of its body.
fn with_checksum(stored: &str) -> String {
    let start = stored.find(r#"{"version""#).unwrap();
    let body = &stored[start..stored.len() - 1];
    stored.replace("SUM", &sha256_hex(body.as_bytes()))
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
    fn check(change: impl FnOnce(&mut Record), what: &str) {
        let mut record = record();
        change(&mut record);
        let bytes = record.encode().unwrap();
        let error = Record::decode(&bytes, "r", record.seq).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    let own = "names a slot that cannot be its own";
    check(|record| record.claim_seq = 3, own);
    check(|record| record.claim_seq = u64::MAX, own);
    check(|record| record.checkpoint = None, own);
    check(|record| record.checkpoint.as_mut().unwrap().seq = 2, own);
    check(|record| record.kind = Kind::Claim, own);
    check(|record| record.follows = Some(2), own);
    let claim = |record: &mut Record| {
        record.kind = Kind::Claim;
        record.claim_seq = 3;
    };
    check(claim, own);
    let follows = |seq| {
        move |record: &mut Record| {
            (record.kind, record.claim_seq) = (Kind::Claim, 3);
            (record.checkpoint, record.follows) = (None, Some(seq));
        }
    };
    check(follows(0), own);
    check(follows(3), own);
    let both = |record: &mut Record| {
        (record.kind, record.claim_seq) = (Kind::Claim, 3);
        record.checkpoint.as_mut().unwrap().seq = 2;
        record.follows = Some(2);
    };
    check(both, own);
    let last = |record: &mut Record| {
        record.seq = u64::MAX;
        record.checkpoint.as_mut().unwrap().seq = u64::MAX;
    };
    check(last, own);
    let more = "more is published or collected than there was";
    check(|record| record.published_upto = 3, more);
    check(|record| record.collected_upto = 2, more);
}

/// The stored form of versions 1 to 3 is a contract, too.
fn check_older(stored: &str, expected: &Record) {
    let read = Record::decode(with_checksum(stored).as_bytes(), "r", expected.seq).unwrap();
    assert_eq!(read, *expected);
}

#[test]
fn a_record_of_version_1_reads() {
    let expected = Record {
        version: 1,
        ..record()
    };
    check_older(STORED_1, &expected);
}

#[test]
fn a_record_of_version_2_reads_with_its_removals_totals_and_ghosts() {
    let stored = STORED_1
        .replace(r#""version":1"#, r#""version":2"#)
        .replace(
            r#""held":0}},"files""#,
            r#""held":0},"tables":{"s3://b/t":{"files":3,"rows":7,"bytes":99,"removed":1}}},"files""#,
        )
        .replace(
            r#","counters""#,
            r#","removed":[{"table":"s3://b/t","final":"dt=1/old.lines"}],"reset":["events"],"ghosts":[{"table":"s3://b/t","final":"dt=1/old.lines","since":5,"removed":true}],"counters""#,
        );
    let mut expected = Record {
        version: 2,
        reset: BTreeSet::from(["events".into()]),
        ..record()
    };
    let published = "dt=1/old.lines".to_owned();
    let removed = Change::Remove(RemovedFile {
        published: published.clone(),
    });
    let removed = removed.committable(0, 0).unwrap();
    expected
        .outbox
        .insert("s3://b/t".into(), vec![added(), removed]);
    let note = Note {
        totals: Some(TableTotals {
            files: 3,
            rows: 7,
            bytes: 99,
            removed: 1,
            sets: None,
        }),
        ghosts: vec![Ghost {
            published,
            since: EventTime::from_micros(5),
            removed: true,
        }],
    };
    let notes = BTreeMap::from([("s3://b/t".into(), note.write().unwrap())]);
    expected.checkpoint.as_mut().unwrap().notes = Some(notes);
    check_older(&stored, &expected);
}

#[test]
fn a_record_of_version_3_reads_with_its_systems_and_file_sets() {
    let sum = "0".repeat(63) + "7";
    let tables = format!(
        r#""tables":{{"s3://b/t":{{"files":1,"rows":1,"bytes":2,"removed":0,"sets":{{"listed":"{sum}","contents":"{sum}"}}}}}}}},"files""#
    );
    let stored = STORED_1
        .replace(r#""version":1"#, r#""version":3"#)
        .replace(
            r#""watermarks""#,
            r#""systems":{"events":{"topic":"abc"}},"watermarks""#,
        )
        .replace(r#""held":0}},"files""#, &format!(r#""held":0}},{tables}"#));
    let mut expected = Record {
        version: 3,
        ..record()
    };
    let checkpoint = expected.checkpoint.as_mut().unwrap();
    let cluster = BTreeMap::from([("topic".into(), "abc".into())]);
    checkpoint.systems = BTreeMap::from([("events".into(), cluster)]);
    let set = FileSet::try_from(sum).unwrap();
    let note = Note {
        totals: Some(TableTotals {
            files: 1,
            rows: 1,
            bytes: 2,
            removed: 0,
            sets: Some(FileSets {
                listed: set,
                contents: set,
            }),
        }),
        ghosts: Vec::new(),
    };
    let notes = BTreeMap::from([("s3://b/t".into(), note.write().unwrap())]);
    checkpoint.notes = Some(notes);
    check_older(&stored, &expected);
}

#[test]
fn a_claim_of_version_3_reads() {
    let start = STORED_1.find(r#""checkpoint":{"#).unwrap();
    let end = STORED_1.find(r#""counters""#).unwrap();
    let stored = STORED_1
        .replace(
            &STORED_1[start..end],
            r#""checkpoint":null,"follows":3,"files":[],"#,
        )
        .replace(
            r#""version":1,"kind":"commit","seq":3"#,
            r#""version":3,"kind":"claim","seq":4"#,
        )
        .replace(r#""claim_seq":2"#, r#""claim_seq":4"#);
    let expected = Record {
        version: 3,
        kind: Kind::Claim,
        seq: 4,
        claim_seq: 4,
        checkpoint: None,
        follows: Some(3),
        outbox: BTreeMap::new(),
        ..record()
    };
    check_older(&stored, &expected);
}

#[test]
fn a_newer_version_is_refused() {
    let newer = Record {
        version: VERSION + 1,
        ..record()
    };
    let error = Record::decode(&newer.encode().unwrap(), "r", 3).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Config);
    assert!(
        error.to_string().contains("has format version 5"),
        "{error}"
    );
}

#[test]
fn notes_and_resets_are_stored_where_there_are_some() {
    let mut noted = record();
    noted.reset = BTreeSet::from(["events".into()]);
    let notes = BTreeMap::from([("s3://b/t".into(), "a note".to_owned())]);
    noted.checkpoint.as_mut().unwrap().notes = Some(notes);
    let bytes = noted.encode().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    for stored in [
        r#""notes":{"s3://b/t":"a note"}},"outbox""#,
        r#""reset":["events"],"counters""#,
    ] {
        assert!(text.contains(stored), "{text}");
    }
    assert_eq!(Record::decode(&bytes, "r", 3).unwrap(), noted);
}

#[test]
fn a_claim_names_the_commit_before_it() {
    let claim = Record {
        kind: Kind::Claim,
        seq: 4,
        claim_seq: 4,
        checkpoint: None,
        follows: Some(3),
        ..record()
    };
    let bytes = claim.encode().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let stored = r#""checkpoint":null,"follows":3,"outbox""#;
    assert!(text.contains(stored), "{text}");
    assert_eq!(Record::decode(&bytes, "r", 4).unwrap(), claim);
    assert_eq!(claim.last_commit(), Some(3));
    // An older build repeats the checkpoint.
    let older = Record {
        checkpoint: record().checkpoint,
        follows: None,
        ..claim
    };
    assert_eq!(older.last_commit(), Some(3));
    let bytes = older.encode().unwrap();
    assert_eq!(Record::decode(&bytes, "r", 4).unwrap(), older);
}

#[test]
fn systems_are_stored_where_a_source_knows_them() {
    let mut known = record();
    let checkpoint = known.checkpoint.as_mut().unwrap();
    let cluster = BTreeMap::from([("topic".into(), "abc".into())]);
    checkpoint.systems = BTreeMap::from([("events".into(), cluster)]);
    let bytes = known.encode().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let stored = r#""systems":{"events":{"topic":"abc"}},"watermarks""#;
    assert!(text.contains(stored), "{text}");
    assert_eq!(Record::decode(&bytes, "r", 3).unwrap(), known);
}

#[test]
fn an_attempt_has_a_short_name() {
    assert_eq!(record().attempt.short(), "67e55044");
    assert_ne!(Attempt::unique(&RandomIds), Attempt::unique(&RandomIds));
}
