//! `audit`: an intact lake, and each kind of damage by its name.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::Value;
use tagflow_engine::{
    Epoch,
    commit::Record,
    files::{Change, Note, changes},
};

use crate::{
    process::{Ended, Folder},
    rows::{ndjson, pipeline, rows},
};

const AUDIT: [&str; 4] = ["audit", "sales", "--state", "state"];

/// A lake that is damaged and repaired again.
struct Lake {
    folder: Folder,
}

impl Lake {
    /// Written by several runs, so that it has claims among the commits, and some are collected.
    fn new() -> Self {
        let folder = Folder::new();
        let all = rows(3000, 3);
        let text = pipeline("files: {url: \"./in/*.ndjson\"}");
        folder.write("p.yaml", text.replace("max_open: 200ms", "max_open: 0s"));
        for (file, part) in all.chunks(250).enumerate() {
            folder.write(&format!("in/{file:02}.ndjson"), ndjson(part));
            run(&folder);
        }
        copy(&folder.path("lake"), &folder.path("whole/lake"));
        copy(&folder.path("state"), &folder.path("whole/state"));
        Self { folder }
    }

    /// The output of `audit` after `change`, which is undone.
    fn after(&self, change: impl FnOnce(&Folder), more: &[&str]) -> Ended {
        change(&self.folder);
        let ended = self.folder.tagflow(&[&AUDIT[..], more].concat());
        for name in ["lake", "state"] {
            fs::remove_dir_all(self.folder.path(name)).unwrap();
            copy(
                &self.folder.path(&format!("whole/{name}")),
                &self.folder.path(name),
            );
        }
        ended
    }

    /// Checks that `audit` reports `damage` and nothing else: exactly these lines.
    #[track_caller]
    fn names(&self, damage: impl FnOnce(&Folder), subject: &str, expected: &[&str]) {
        let ended = self.after(damage, &[]).expect(3);
        check(&ended.stdout, subject, expected);
    }

    /// The last published file of a table.
    fn file(&self, table: &str) -> PathBuf {
        let mut files = self.folder.files(&format!("lake/{table}"), ".parquet");
        files.sort_by_key(|file| commit_of(file));
        files.pop().unwrap()
    }

    fn records(&self) -> Vec<PathBuf> {
        self.folder.files("state/sales/log/main", ".json")
    }
}

/// The commit in a file's name: `main-LOG-COMMIT-…`.
fn commit_of(file: &Path) -> u64 {
    let name = file.file_name().unwrap().to_str().unwrap();
    name.split('-').nth(2).unwrap().parse().unwrap()
}

#[track_caller]
fn check(said: &str, subject: &str, expected: &[&str]) {
    let is_finding = |line: &&str| line.starts_with("  wrong: ") || line.starts_with("  odd: ");
    let found: Vec<&str> = said.lines().filter(is_finding).map(str::trim).collect();
    assert_eq!(found.len(), expected.len(), "{said}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "no `{expected}` in\n{said}");
    }
    for line in said.lines().take_while(|line| !line.starts_with("sales: ")) {
        if !is_finding(&line) {
            assert_eq!(line.contains("WRONG"), line.starts_with(subject), "{said}");
        }
    }
}

fn run(folder: &Folder) {
    let args = ["run", "p.yaml", "--admin", "off"];
    folder.tagflow(&args).expect(0);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

#[test]
fn a_lake_is_sound_and_each_damage_is_named() {
    let lake = Lake::new();
    let said = lake.after(|_| {}, &["--deep"]).expect(0).stdout;
    check(&said, "none", &[]);
    for line in [
        "log      ok     10 commits up to #24, 12 claims; 2 more collected\n",
        "offsets  ok     12 partitions\n",
        "rows     ok     3,000 in + 3,000 copied = ",
        "sales: the tables hold what the log says\n",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }

    let file = lake.file("every_row");
    let name = object(&file);
    let publishes = format!("file `{name}`, which commit #24 publishes, ");
    lake.names(
        |_| fs::remove_file(&file).unwrap(),
        "tables",
        &[&format!("{publishes}is missing")],
    );
    let bytes = fs::read(&file).unwrap();
    let shorter = format!("{publishes}has 100 bytes instead of {}", bytes.len());
    lake.names(
        |_| fs::write(&file, &bytes[..100]).unwrap(),
        "tables",
        &[&shorter],
    );
    let log = name.rsplit('/').next().unwrap().split('-').nth(1).unwrap();
    let foreign = |name: &str| {
        let name = name.replace("LOG", log);
        move |folder: &Folder| folder.write(&name, "PAR1")
    };
    lake.names(
        foreign("lake/every_row/part-0.parquet"),
        "tables",
        &["part-0.parquet` is of no commit, and readers count its rows; move it away"],
    );
    lake.names(
        foreign("lake/per_minute/main-LOG-99-0-0123abcd.parquet"),
        "tables",
        &["is of commit #99, and the log ends with #24"],
    );
    lake.names(
        foreign("lake/every_row/main-LOG-2-5-0123abcd.parquet"),
        "tables",
        &["has 3 files of collected commits, and these published 2"],
    );
    let old = lake
        .folder
        .files("lake/every_row", &format!("/main-{log}-2-"))
        .pop()
        .unwrap();
    lake.names(
        |_| fs::remove_file(&old).unwrap(),
        "tables",
        &["has 1 files of collected commits, and these published 2"],
    );

    let records = lake.records();
    let record = |seq: &str| {
        let of_seq = |path: &&PathBuf| path.to_str().unwrap().ends_with(&format!("0{seq}.json"));
        records.iter().find(of_seq).unwrap()
    };
    let missing = ["record #20 is missing from the log"];
    lake.names(|_| fs::remove_file(record("20")).unwrap(), "log", &missing);
    let altered = |_: &Folder| {
        let text = fs::read_to_string(record("22")).unwrap();
        fs::write(record("22"), text.replacen("\"in\":250", "\"in\":251", 1)).unwrap();
    };
    let corrupted = ["is corrupted: its checksum does not match"];
    lake.names(altered, "log", &corrupted);
    // Alterations by someone with knowledge of the checksum.
    lake.names(
        |_| rewrite(record("24"), 24, |record| record.counters.clear()),
        "rows",
        &["commit #24 adds up to 3000 in"],
    );
    lake.names(
        |_| {
            rewrite(record("24"), 24, |record| {
                let positions = &mut record.checkpoint.as_mut().unwrap().positions;
                *positions
                    .get_mut("events")
                    .unwrap()
                    .values_mut()
                    .next()
                    .unwrap() = 1;
            });
        },
        "offsets",
        &["commit #24 goes back from offset "],
    );

    let plan = lake
        .folder
        .files("state/sales/plan", ".json")
        .pop()
        .unwrap();
    let said = lake.after(|_| flip(&plan), &[]).expect(3).stdout;
    assert!(
        said.contains("is not what was stored: its checksum does not match"),
        "{said}"
    );

    let part = lake.folder.files("state/sales/state", "").pop().unwrap();
    let name = object(&part);
    lake.names(
        |_| fs::remove_file(&part).unwrap(),
        "state",
        &[&format!("state part `{name}` of `minute")],
    );

    // Only a check of the bytes finds a flipped bit.
    for (subject, path) in [("tables", &file), ("state", &part)] {
        lake.after(|_| flip(path), &[]).expect(0);
        let said = lake.after(|_| flip(path), &["--deep"]).expect(3).stdout;
        check(&said, subject, &["does not have the checksum that it had"]);
    }
    // An altered file with a matching checksum in the record still has the wrong number of rows.
    let rows = |record: &mut Record| {
        let table = "./lake/every_row";
        record.outbox.get_mut(table).unwrap()[0].rows = 7;
        rewrite_note(record, table, |note| {
            note.totals.as_mut().unwrap().rows -= 243;
        });
    };
    let said = lake
        .after(|_| rewrite(record("24"), 24, rows), &["--deep"])
        .expect(3)
        .stdout;
    check(
        &said,
        "rows",
        &[
            "has 250 rows, and its commit says 7",
            "have 3000 rows, and commits published 2757",
        ],
    );
}

#[test]
fn what_is_odd_is_said_and_is_no_failure() {
    let folder = Folder::new();
    folder.write("in/0.ndjson", ndjson(&rows(500, 3)));
    folder.write("p.yaml", pipeline("files: {url: \"./in/*.ndjson\"}"));
    let ended = folder.tagflow(&AUDIT).expect(2);
    assert_eq!(
        ended.stderr,
        "error: pipeline `sales` has not run with its state in `state`\n"
    );
    assert!(!folder.path("state").exists(), "looking creates nothing");
    run(&folder);
    folder.write("lake/every_row/_SUCCESS", "");
    folder.write(&left(&folder), "PAR1");
    folder.write("state/sales/log/main/notes.txt", "");
    for plan in folder.files("state/sales/plan", ".json") {
        fs::remove_file(plan).unwrap();
    }
    // Without its plan the folders of the tables are unknown.
    let said = folder.tagflow(&AUDIT).expect(3).stdout;
    assert!(said.contains("no plan says where that lies"), "{said}");
    assert!(
        said.contains("which records name, is missing; `diff` and `query` need it"),
        "{said}"
    );
    run(&folder);
    folder.write(&left(&folder), "PAR1");
    let said = folder
        .tagflow(&["audit", "--file", "p.yaml"])
        .expect(0)
        .stdout;
    for odd in [
        "notes.txt` is no record; delete it",
        "_SUCCESS` is nothing that Tagflow wrote",
        "left` was staged and never committed; the next start of the pipeline deletes it",
    ] {
        assert!(said.contains(odd), "no `{odd}` in\n{said}");
    }
    let said = folder
        .tagflow(&["audit", "--file", "p.yaml", "--json"])
        .expect(0)
        .stdout;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["ok"], true);
    assert_eq!(said["totals"]["in"], 500);
    assert_eq!(said["findings"][0]["severity"], "odd");
    assert_eq!(said["findings"][0]["subject"], "log");

    // Another pipeline that writes to the same folder.
    let other = fs::read_to_string(folder.path("p.yaml")).unwrap();
    let other = other.replace("name: sales", "name: other");
    let other = other.replace("url: ./lake/", "shared: true, url: ./lake/");
    folder.write("q.yaml", other);
    folder
        .tagflow(&["run", "q.yaml", "--admin", "off"])
        .expect(0);
    let said = folder.tagflow(&AUDIT).expect(0).stdout;
    assert!(
        said.contains("; `every_row` is another pipeline's too"),
        "{said}"
    );
}

/// A file that an owner of the log has staged and abandoned.
fn left(folder: &Folder) -> String {
    let first = folder.path("state/sales/log/main/00000000000000000001.json");
    let log: String = read(&first, 1).attempt.into();
    format!("lake/every_row/_staging/sales/main/{}/0/left", &log[..8])
}

/// Audits a log of many uncollected commits; `TAGFLOW_AUDIT_COMMITS` sets their number.
#[test]
fn a_long_log_is_read_at_once() {
    let commits = std::env::var("TAGFLOW_AUDIT_COMMITS");
    let commits: u64 = commits.map_or(40, |commits| commits.parse().unwrap());
    let folder = Folder::new();
    folder.write("in.ndjson", ndjson(&rows(500, 3)));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    run(&folder);
    let records = folder.files("state/sales/log/main", ".json");
    let last = records.last().unwrap();
    let mut record = read(last, records.len() as u64);
    let table = "./lake/every_row";
    let sha256 = changes(record.output(table)).unwrap().0.remove(0).sha256;
    let mut attempt = 0_u128;
    for seq in record.seq + 1..=record.seq + commits {
        attempt += 1;
        let name = format!("main-{seq}-0-{attempt:08x}.parquet");
        let bytes = format!("{seq}");
        folder.write(&format!("lake/every_row/{name}"), &bytes);
        record.previous = Some(record.attempt);
        record.attempt = format!("{attempt:032x}").try_into().unwrap();
        record.seq = seq;
        let change = Change::Add {
            staged: format!("_staging/sales/main/1/{seq}"),
            published: name,
            sha256: sha256.clone(),
        };
        let committable = change.committable(1, bytes.len() as u64).unwrap();
        record.outbox = BTreeMap::from([(table.into(), vec![committable])]);
        (record.published_upto, record.counters) = (seq - 1, BTreeMap::new());
        let checkpoint = record.checkpoint.as_mut().unwrap();
        (checkpoint.seq, checkpoint.epoch) = (seq, Epoch(checkpoint.epoch.0 + 1));
        let (files, _) = changes(record.output(table)).unwrap();
        rewrite_note(&mut record, table, |note| {
            note.totals = note.totals.map(|totals| totals.after(&files, &[]));
        });
        let path = last.with_file_name(format!("{seq:020}.json"));
        fs::write(path, record.encode().unwrap()).unwrap();
    }
    let begun = Instant::now();
    let said = folder.tagflow(&AUDIT).expect(0).stdout;
    println!(
        "{commits} commits more were audited in {:?}:\n{said}",
        begun.elapsed()
    );
    let expected = format!("up to #{}, 1 claim\n", record.seq);
    assert!(said.contains(&expected), "no {expected:?} in\n{said}");
    fs::remove_file(last.with_file_name(format!("{:020}.json", record.seq - commits / 2))).unwrap();
    let said = folder.tagflow(&AUDIT).expect(3).stdout;
    let expected = format!(
        "record #{} is missing from the log",
        record.seq - commits / 2
    );
    assert!(said.contains(&expected), "no {expected:?} in\n{said}");
}

/// A path as findings name it.
fn object(path: &Path) -> String {
    path.to_str().unwrap().trim_start_matches('/').to_owned()
}

fn read(path: &Path, seq: u64) -> Record {
    Record::decode(&fs::read(path).unwrap(), "record", seq).unwrap()
}

/// Rewrites a record with a matching checksum.
fn rewrite(path: &Path, seq: u64, change: impl FnOnce(&mut Record)) {
    let mut record = read(path, seq);
    change(&mut record);
    fs::write(path, record.encode().unwrap()).unwrap();
}

/// Changes the note of a table in a record.
fn rewrite_note(record: &mut Record, table: &str, change: impl FnOnce(&mut Note)) {
    let checkpoint = record.checkpoint.as_mut().unwrap();
    let mut note = Note::read(checkpoint.past(table)).unwrap();
    change(&mut note);
    let notes = checkpoint.notes.as_mut().unwrap();
    notes.insert(table.into(), note.write().unwrap());
}

/// Flips one bit of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}
