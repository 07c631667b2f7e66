//! Logs and tables after any crash have no findings, and damage that no crash explains is found.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use object_store::{ObjectStoreExt, path::Path};

use super::world::{World, cut, files_of, position, record_path};
use crate::{
    commit::{
        LogId, Reason, Record,
        audit::{Depth, Finding, History, Severity, Subject},
    },
    files::audit::Place,
    ledger::Counts,
    testing::store::{Fault, Moment},
};

const TABLE: &str = "memory:///lake/t";
const ROWS: i64 = 4;

async fn history(world: &World) -> Option<History> {
    let root = Path::from("state/p");
    History::read(&world.store, &root, "main").await.unwrap()
}

/// All findings; none if there is no log yet.
async fn audit(world: &World, shared: bool) -> Vec<Finding> {
    let Some(history) = history(world).await else {
        return Vec::new();
    };
    let mut findings = history.findings().to_vec();
    let place = Place {
        url: TABLE.into(),
        store: Arc::clone(&world.store),
        root: Path::from("lake/t"),
        others: vec![Path::from("lake/t/inner")],
        shared,
        suffix: "lines",
    };
    let table = history.check_table(&place, Depth::Bytes).await.unwrap();
    findings.extend(table.findings);
    let state = history.check_state(Depth::Bytes).await.unwrap();
    findings.extend(state.findings);
    findings
}

/// Three owners one after the other, without a stop: claims #1, #4 and #7, and two commits of each
/// owner. The first three commits are collected.
async fn ran(replaces: bool) -> World {
    let world = World::new();
    for owner in 1..=3 {
        let mut process = world.process(owner);
        (process.keep_commits, process.replaces) = (3, replaces);
        let (mut log, recovered) = process.open().await.unwrap();
        let last = recovered.last.as_ref();
        let mut state = last.map_or_else(Vec::new, |last| last.state.clone());
        for row in position(last)..i64::from(owner) * 2 {
            let epoch = process.epoch(&mut log, &mut state, row, Reason::Checkpoint);
            epoch.await.unwrap();
            log.deliver().await.unwrap();
            log.collect().await.unwrap();
        }
    }
    world
}

#[tokio::test]
async fn what_runs_leave_is_sound() {
    for replaces in [false, true] {
        let world = ran(replaces).await;
        assert_eq!(world.slots().await, [1, 4, 6, 7, 8, 9]);
        for shared in [false, true] {
            assert_eq!(audit(&world, shared).await, []);
        }
        let span = history(&world).await.unwrap().span();
        assert_eq!(
            (span.last, span.claims, span.commits, span.collected),
            (9, 3, 3, 3)
        );
    }
    assert!(history(&World::new()).await.is_none());
}

#[tokio::test]
async fn death_at_any_write_leaves_nothing_wrong_and_the_heir_nothing_odd() {
    for replaces in [false, true] {
        let mut writes = 1;
        let mut at = 0;
        while at < writes {
            for moment in [Moment::Before, Moment::After] {
                let world = World::new();
                let case = format!("death {moment:?} write {at}");
                let mut mortal = world.process(1);
                mortal.replaces = replaces;
                mortal.faults.die_at_write(at, moment);
                if mortal.run(ROWS).await.is_ok() {
                    writes = at;
                } else {
                    writes = at + 2;
                }
                let found = audit(&world, false).await;
                let wrong = found.iter().find(|of| of.severity == Severity::Wrong);
                assert_eq!(wrong, None, "{case}");
                for heir in 2..=3 {
                    let mut heir = world.process(heir);
                    heir.replaces = replaces;
                    heir.run(ROWS).await.unwrap();
                }
                assert_eq!(audit(&world, false).await, [], "{case}, and an heir");
            }
            at += 1;
        }
        assert!(at > 20, "{at} writes");
    }
}

#[tokio::test]
async fn puts_that_land_late_are_explained() {
    for at in 0..24 {
        let world = World::new();
        let process = world.process(1);
        process.faults.fail_write(at, Fault::LandsLate);
        process.run(ROWS).await.unwrap();
        process.faults.release().await;
        world.process(2).run(ROWS + 1).await.unwrap();
        let found = audit(&world, false).await;
        let wrong = found.iter().find(|of| of.severity == Severity::Wrong);
        assert_eq!(wrong, None, "write {at}");
    }
}

/// Damages the result of [`ran`], and expects these findings.
struct Damaged {
    world: World,
    shared: bool,
}

impl Damaged {
    async fn new(replaces: bool) -> Self {
        Self {
            world: ran(replaces).await,
            shared: false,
        }
    }

    async fn put(self, path: &str, text: &str) -> Self {
        let path = Path::from(path);
        self.world
            .store
            .put(&path, text.to_owned().into())
            .await
            .unwrap();
        self
    }

    async fn delete(self, path: &str) -> Self {
        self.world.store.delete(&Path::from(path)).await.unwrap();
        self
    }

    /// Writes a record again, with a fitting checksum.
    async fn rewrite(self, seq: u64, change: impl FnOnce(&mut Record)) -> Self {
        let mut record = self.world.record(seq).await;
        change(&mut record);
        let text = String::from_utf8(record.encode().unwrap().to_vec()).unwrap();
        self.put(&record_path(seq), &text).await
    }

    /// The file that commit `seq` published.
    async fn file(&self, seq: u64) -> String {
        let record = self.world.record(seq).await;
        format!("lake/t/{}", files_of(&record).0[0].published)
    }

    /// A file of a collected commit.
    async fn collected(&self) -> String {
        let files = self.world.objects("lake/t").await;
        let mut files = files.into_iter();
        files.find(|path| path.contains("-2-0-")).unwrap()
    }

    /// A state part that the last commit names.
    async fn part(&self) -> String {
        let last = self.world.record(9).await.checkpoint.unwrap();
        format!("state/p/{}", last.state[0].path)
    }

    /// These are all the findings.
    async fn has(self, expected: &[(Severity, Subject, &str)]) {
        let found = audit(&self.world, self.shared).await;
        assert_eq!(found.len(), expected.len(), "{found:#?}, not {expected:?}");
        for (found, (severity, subject, part)) in found.iter().zip(expected) {
            let about = (found.severity, found.subject);
            assert_eq!(about, (*severity, *subject), "{found:?}");
            assert!(found.message.contains(part), "no `{part}` in {found:?}");
        }
    }

    async fn has_wrong(self, subject: Subject, expected: &[&str]) {
        let wrong = expected
            .iter()
            .map(|part| (Severity::Wrong, subject, *part));
        self.has(&wrong.collect::<Vec<_>>()).await;
    }
}

async fn damaged() -> Damaged {
    Damaged::new(false).await
}

#[tokio::test]
async fn damage_to_the_log_is_named() {
    let log = Subject::Log;
    damaged()
        .await
        .delete(&record_path(8))
        .await
        .has_wrong(log, &["record #8 is missing"])
        .await;
    let holes = damaged()
        .await
        .delete(&record_path(7))
        .await
        .delete(&record_path(8))
        .await;
    holes
        .has_wrong(
            log,
            &[
                "records #7 to #8 are missing",
                "record #7, the claim of commit #9, is missing",
            ],
        )
        .await;
    let first = damaged().await.delete(&record_path(1)).await;
    first.has_wrong(log, &["claim #1 is missing"]).await;
    let torn = damaged().await.put(&record_path(8), "{").await;
    torn.has_wrong(log, &["is corrupted: it is not a record"])
        .await;
    let notes = damaged().await.put("state/p/log/main/notes.txt", "x").await;
    notes
        .has(&[(Severity::Odd, log, "notes.txt` is no record")])
        .await;

    let other = ran(false).await.record(8).await;
    let swapped = damaged()
        .await
        .rewrite(8, |record| record.attempt = other.attempt)
        .await;
    swapped
        .has_wrong(log, &["commit #9 was not written to commit #8 as it is"])
        .await;
    let claim = damaged().await.rewrite(7, |record| {
        record.follows = Some(5);
    });
    claim
        .await
        .has_wrong(
            log,
            &[
                "claim #7 does not name the last commit as of commit #6",
                "claim #7 says less than commit #6",
            ],
        )
        .await;
    let intruder = damaged()
        .await
        .rewrite(9, |record| record.claim_seq = 4)
        .await;
    intruder
        .has_wrong(
            log,
            &["commit #9 follows commit #8, which another owner wrote"],
        )
        .await;
    let early = damaged()
        .await
        .rewrite(8, |record| record.published_upto = 8)
        .await;
    early
        .has_wrong(log, &["is corrupted: it says that more is published"])
        .await;
    let back = damaged().await.rewrite(9, |record| {
        record.checkpoint.as_mut().unwrap().epoch = crate::Epoch(1);
    });
    back.await
        .has_wrong(log, &["commit #9 says less than commit #8"])
        .await;
}

#[tokio::test]
async fn a_lost_end_of_the_log_shows_in_the_table() {
    let lost = damaged().await.delete(&record_path(9)).await;
    let found = audit(&lost.world, false).await;
    let says = "is of commit #9, and the log ends with #8";
    assert!(
        found.iter().any(|found| found.message.contains(says)),
        "{found:?}"
    );
}

#[tokio::test]
async fn rows_and_offsets_that_do_not_add_up_are_named() {
    let counts = |rows_in, contributed| Counts {
        rows_in,
        contributed,
        ..Counts::default()
    };
    // The counts of commit #9, and the totals of the last checkpoint.
    let counted = |one: Counts, all: Counts| {
        damaged_with(move |record| {
            record.counters = [("s".into(), [("0".into(), one)].into())].into();
            record.checkpoint.as_mut().unwrap().totals = all;
        })
    };
    counted(counts(1, 1), counts(1, 1)).await.has(&[]).await;
    counted(counts(1, 0), counts(1, 1))
        .await
        .has_wrong(
            Subject::Rows,
            &[
                "commit #9 does not account for each row of `s:0`: 1 in",
                "commit #9 adds up to",
            ],
        )
        .await;
    counted(counts(1, 1), counts(0, 0))
        .await
        .has_wrong(Subject::Rows, &["commit #9 adds up to 0 in"])
        .await;
    counted(counts(2, 2), counts(2, 2))
        .await
        .has_wrong(
            Subject::Offsets,
            &["commit #9 counts 2 rows of `s:0`, and goes on by 1 offsets only, from 5 to 6"],
        )
        .await;

    let stands_at = |offset| {
        damaged_with(move |record| {
            let positions = &mut record.checkpoint.as_mut().unwrap().positions;
            *positions = [("s".into(), [("0".into(), offset)].into())].into();
        })
    };
    stands_at(4)
        .await
        .has_wrong(
            Subject::Offsets,
            &["commit #9 goes back from offset 5 to 4 of `s:0`"],
        )
        .await;
    let reset = stands_at(4)
        .await
        .rewrite(9, |record| record.reset = BTreeSet::from(["s".into()]));
    reset.await.has(&[]).await;
    damaged_with(|record| record.checkpoint.as_mut().unwrap().positions.clear())
        .await
        .has_wrong(Subject::Offsets, &["commit #9 forgets where `s:0` stood"])
        .await;
}

async fn damaged_with(change: impl FnOnce(&mut Record)) -> Damaged {
    damaged().await.rewrite(9, change).await
}

#[tokio::test]
async fn damage_to_a_table_is_named() {
    let tables = Subject::Tables;

    let gone = damaged().await;
    let file = gone.file(9).await;
    gone.delete(&file)
        .await
        .has_wrong(tables, &["which commit #9 publishes, is missing"])
        .await;
    let longer = damaged().await;
    let file = longer.file(9).await;
    longer
        .put(&file, "55")
        .await
        .has_wrong(tables, &["has 2 bytes instead of 1"])
        .await;
    let flipped = damaged().await;
    let file = flipped.file(9).await;
    flipped
        .put(&file, "9")
        .await
        .has_wrong(tables, &["does not have the checksum"])
        .await;

    for foreign in ["lake/t/part-0.lines", "lake/t/dt=1/main-9-1-0123abcd.lines"] {
        let world = damaged().await.put(foreign, "x").await;
        world
            .has_wrong(tables, &["is of no commit, and readers count its rows"])
            .await;
        let mut shared = damaged().await.put(foreign, "x").await;
        shared.shared = true;
        shared.has(&[]).await;
    }
    let nested = damaged().await.put("lake/t/inner/part-0.lines", "x").await;
    nested.has(&[]).await;
    for odd in ["lake/t/_SUCCESS", "lake/t/_old/part-0.lines"] {
        let world = damaged().await.put(odd, "x").await;
        world
            .has(&[(Severity::Odd, tables, "is nothing that Tagflow wrote")])
            .await;
    }

    for more in [
        "lake/t/dt=0/main-3-4-0123abcd.lines",
        "lake/t/0123456789abcdef0123456789abcdef.lines",
    ] {
        let world = damaged().await.put(more, "x").await;
        world
            .has_wrong(
                tables,
                &["has 4 files of collected commits, and these published 3"],
            )
            .await;
    }
    let less = damaged().await;
    let collected = less.collected().await;
    less.delete(&collected)
        .await
        .has_wrong(
            tables,
            &["has 2 files of collected commits, and these published 3"],
        )
        .await;
    for (bytes, says) in [
        ("22", "some have other names or sizes"),
        ("9", "some do not have the checksum that they had"),
    ] {
        let changed = damaged().await;
        let collected = changed.collected().await;
        let changed = changed.put(&collected, bytes).await;
        changed.has_wrong(tables, &[says]).await;
    }
    let replaced = damaged().await;
    let collected = replaced.collected().await;
    replaced
        .delete(&collected)
        .await
        .put("lake/t/dt=0/main-2-0-0123abcd.lines", "0")
        .await
        .has_wrong(tables, &["some have other names or sizes"])
        .await;
    damaged_with(|record| record.outbox.get_mut(TABLE).unwrap()[0].rows = 7)
        .await
        .has_wrong(tables, &["commit #9 counts other files than it names"])
        .await;

    let replaced = Damaged::new(true).await;
    let removed = files_of(&replaced.world.record(8).await).1[0]
        .published
        .clone();
    replaced
        .put(&format!("lake/t/{removed}"), "4")
        .await
        .has_wrong(
            tables,
            &["which commit #8 removed, is there, so that its rows count twice"],
        )
        .await;
    let staged = damaged().await;
    let log = LogId::of(staged.world.record(1).await.attempt).short();
    let staged = staged
        .put(&format!("lake/t/_staging/p/main/{log}/4/x"), "x")
        .await;
    staged
        .has(&[(Severity::Odd, tables, "was staged and never committed")])
        .await;
    let staged = damaged().await.put("lake/t/_staging/q/main/4/x", "x").await;
    staged
        .has(&[(
            Severity::Odd,
            tables,
            "was staged by another log, or by an older build",
        )])
        .await;
}

#[tokio::test]
async fn damage_to_state_is_named() {
    let lost = damaged().await;
    let part = lost.part().await;
    lost.delete(&part)
        .await
        .has_wrong(Subject::State, &["of `count` is missing"])
        .await;
    let torn = damaged().await;
    let part = torn.part().await;
    torn.put(&part, "x")
        .await
        .has_wrong(Subject::State, &["has 1 bytes instead of"])
        .await;
    let flipped = damaged().await;
    let part = flipped.part().await;
    let bytes = flipped
        .world
        .store
        .get(&Path::from(part.as_str()))
        .await
        .unwrap();
    let zeros = "0".repeat(bytes.bytes().await.unwrap().len());
    flipped
        .put(&part, &zeros)
        .await
        .has_wrong(Subject::State, &["does not have the checksum"])
        .await;
    let orphan = damaged().await.put("state/p/state/main/4/x", "x").await;
    orphan
        .has(&[(
            Severity::Odd,
            Subject::State,
            "is state that no commit names",
        )])
        .await;
    let own = damaged().await.put("state/p/state/main/7/x", "x").await;
    own.has(&[]).await;
}

#[tokio::test]
async fn a_reset_is_told_once() {
    let world = ran(false).await;
    let (mut log, _) = world.process(4).open().await.unwrap();
    let mut back = cut(2, Reason::Checkpoint, BTreeMap::new(), Vec::new());
    (back.epoch, back.reset) = (crate::Epoch(9), BTreeSet::from(["s".into()]));
    log.commit(back).await.unwrap();
    assert_eq!(audit(&world, false).await, []);
    let tail = world.record(11).await;
    assert_eq!(tail.reset, BTreeSet::from(["s".into()]));
}
