//! An exhaustive check of the protocol: every order of two workers' steps, of
//! crashes, take-overs, lost answers and late writes, driven through the very
//! functions of [`decide`], with files that stay and with files that each commit
//! replaces. And nine ways to break it, each of which must show.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{
    decide::{self, Answer, ClaimStep, CommitStep, PublishStep, Slot},
    record::Kind,
};

/// How much happens.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// The rows of the input; each commit takes one.
    rows: u8,
    /// Processes that are started, on two machines.
    starts: u8,
    /// Puts whose answer is lost or wrong, or that land late.
    faults: u8,
    files: Files,
}

/// What becomes of a commit's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Files {
    /// It stays.
    Stay,
    /// The next commit brings its rows again and removes it.
    AreReplaced,
}

/// How often a process tries to claim the log before it gives up.
const CLAIMS: u8 = 2;

/// The protocol, or a way to get it wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Right,
    ClaimsAreCollected,
    NoSecondListing,
    ExistsMeansMine,
    PutsOverwrite,
    RetryInTheNextSlot,
    PublishBeforeCommit,
    RemoveBeforeCopy,
    RemoveBeforeUnstage,
    CopyWhatIsRemovedLater,
}

/// Tells attempts apart: which process made it, and its how manieth.
type Attempt = (u8, u8);

/// A commit's file: the last row in it, and the commit.
type File = (u8, Attempt);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Record {
    attempt: Attempt,
    commit: bool,
    /// Rows up to here have taken effect.
    position: u8,
    /// The file of the last commit, which the next one may replace.
    file: Option<File>,
    /// The file that this commit replaces.
    removed: Option<File>,
    published_upto: u64,
    collected_upto: u64,
}

impl Record {
    fn kind(self) -> Kind {
        if self.commit {
            Kind::Commit
        } else {
            Kind::Claim
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Worker {
    Down,
    Listing {
        process: u8,
        tries: u8,
    },
    Claiming {
        process: u8,
        tries: u8,
        step: Step,
        claim: Record,
    },
    Owner(Owner),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Owner {
    process: u8,
    tries: u8,
    /// The slot of its last record.
    seq: u64,
    tail: Record,
    published_upto: u64,
    unpublished: Vec<(u64, Record)>,
    /// The next step of it; they are published together.
    publishing: PublishStep,
    /// The commit that it is about, and alone about.
    committing: Option<(Step, Record)>,
}

/// A step on a slot; the orderable likeness of the steps in [`decide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    Put(u64),
    ReadBack(u64),
    Relist(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    log: BTreeMap<u64, Record>,
    /// Puts that got no answer and may still land.
    late: BTreeSet<(u64, Record)>,
    staged: BTreeSet<File>,
    /// What readers see.
    published: BTreeSet<File>,
    /// What they are to see no more.
    removed: BTreeSet<File>,
    /// Readers have seen so many rows at once.
    seen: u8,
    /// An owner found a file neither staged nor published.
    lost: bool,
    /// The file of every commit that ever was in the log.
    committed: BTreeSet<File>,
    workers: [Worker; 2],
    starts: u8,
    faults: u8,
    rows: u8,
    files: Files,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        Self {
            log: BTreeMap::new(),
            late: BTreeSet::new(),
            staged: BTreeSet::new(),
            published: BTreeSet::new(),
            removed: BTreeSet::new(),
            seen: 0,
            lost: false,
            committed: BTreeSet::new(),
            workers: [Worker::Down, Worker::Down],
            starts: bounds.starts,
            faults: bounds.faults,
            rows: bounds.rows,
            files: bounds.files,
        }
    }

    fn tail(&self) -> u64 {
        self.log.keys().next_back().copied().unwrap_or(0)
    }

    fn slot(&self, seq: u64, attempt: Attempt) -> Slot {
        match self.log.get(&seq) {
            None => Slot::Empty,
            Some(found) if found.attempt == attempt => Slot::Mine,
            Some(_) => Slot::Other,
        }
    }

    /// A put reaches the store.
    fn land(&mut self, seq: u64, record: Record, protocol: Protocol) -> Answer {
        if self.log.contains_key(&seq) && protocol != Protocol::PutsOverwrite {
            return Answer::Exists;
        }
        self.log.insert(seq, record);
        if record.commit {
            self.committed.insert((record.position - 1, record.attempt));
        }
        Answer::Created
    }

    /// Every way a put can go.
    fn put(&self, seq: u64, record: Record, protocol: Protocol) -> Vec<(Self, Answer)> {
        let mut landed = self.clone();
        let answer = landed.land(seq, record, protocol);
        let mut ways = vec![(landed.clone(), answer)];
        if self.faults > 0 {
            landed.faults -= 1;
            ways.push((landed.clone(), Answer::Failed));
            ways.push((landed, Answer::Exists));
            let mut nothing = self.clone();
            nothing.faults -= 1;
            ways.push((nothing.clone(), Answer::Exists));
            nothing.late.insert((seq, record));
            ways.push((nothing, Answer::Failed));
        }
        ways
    }

    /// What must not be.
    fn violation(&self, protocol: Protocol) -> Option<String> {
        for row in 0..self.rows {
            for (what, rows) in [
                ("committed", &self.committed),
                ("published", &self.published),
            ] {
                if rows.iter().filter(|(found, _)| *found == row).count() > 1 {
                    return Some(format!("row {row} is {what} twice"));
                }
            }
        }
        if let Some((row, _)) = self.published.intersection(&self.removed).next() {
            return Some(format!(
                "the file of row {row}, which was replaced, is back"
            ));
        }
        if self.lost {
            return Some("a file is neither staged nor published".to_owned());
        }
        if self.rows_seen() < self.seen {
            return Some("rows that readers saw are gone".to_owned());
        }
        let tail = self.log.values().next_back()?;
        for row in 0..tail.position {
            let holds = |last: u8| match self.files {
                Files::Stay => last == row,
                Files::AreReplaced => last >= row,
            };
            let visible = self.published.iter().any(|(last, _)| holds(*last));
            let due = self.log.iter().any(|(&seq, record)| {
                record.commit && holds(record.position - 1) && seq > tail.published_upto
            });
            if !visible && !due {
                return Some(format!("row {row} is lost"));
            }
        }
        let slots: BTreeSet<u64> = self.log.keys().copied().collect();
        if protocol == Protocol::Right
            && let Some(hole) = decide::first_hole(&slots, tail.collected_upto)
        {
            return Some(format!("#{hole} looks like damage"));
        }
        None
    }

    /// How many rows readers see.
    fn rows_seen(&self) -> u8 {
        match self.files {
            Files::Stay => self.published.len() as u8,
            Files::AreReplaced => self
                .published
                .iter()
                .map(|(last, _)| last + 1)
                .max()
                .unwrap_or(0),
        }
    }

    /// Every world that can come next.
    fn successors(&self, protocol: Protocol) -> Vec<(String, Self)> {
        let mut next = Vec::new();
        for late in &self.late {
            let mut world = self.clone();
            world.late.remove(late);
            world.land(late.0, late.1, protocol);
            next.push((format!("the put into #{} lands late", late.0), world));
        }
        for index in 0..self.workers.len() {
            let mut emit = |what: String, mut world: Self, worker: Worker| {
                world.workers[index] = worker;
                // The machines are alike.
                world.workers.sort();
                if protocol == Protocol::Right {
                    // A claim's slot is never free again: what is late for it
                    // is gone.
                    let World { late, log, .. } = &mut world;
                    late.retain(|(seq, _)| log.get(seq).is_none_or(|found| found.commit));
                }
                next.push((what, world));
            };
            if self.workers[index] == Worker::Down {
                if self.starts > 0 {
                    let mut world = self.clone();
                    let process = world.starts;
                    world.starts -= 1;
                    let worker = Worker::Listing { process, tries: 0 };
                    emit(format!("process {process} starts"), world, worker);
                }
                continue;
            }
            emit("crash".to_owned(), self.clone(), Worker::Down);
            self.step(&self.workers[index], protocol, &mut emit);
        }
        next
    }

    fn step(
        &self,
        worker: &Worker,
        protocol: Protocol,
        emit: &mut impl FnMut(String, Self, Worker),
    ) {
        match worker.clone() {
            Worker::Down => {}
            Worker::Listing { process, tries } => {
                let last = self.log.values().next_back().copied();
                let claim = Record {
                    attempt: (process, tries),
                    commit: false,
                    position: last.map_or(0, |last| last.position),
                    file: last.and_then(|last| last.file),
                    removed: None,
                    published_upto: last.map_or(0, |last| last.published_upto),
                    collected_upto: last.map_or(0, |last| last.collected_upto),
                };
                let next = decide::after_listing(self.tail());
                let worker = self.claim(process, tries + 1, next, claim, protocol);
                emit(format!("{process} lists"), self.clone(), worker);
            }
            Worker::Claiming {
                process,
                tries,
                step,
                claim,
            } => match step {
                Step::Put(seq) => {
                    for (world, answer) in self.put(seq, claim, protocol) {
                        let next = decide::after_claim_put(seq, believed(answer, protocol));
                        let worker = world.claim(process, tries, next, claim, protocol);
                        let what = format!("{process} puts its claim into #{seq}: {answer:?}");
                        emit(what, world, worker);
                    }
                }
                Step::ReadBack(seq) => {
                    let next = decide::after_claim_read_back(seq, self.slot(seq, claim.attempt));
                    let worker = self.claim(process, tries, next, claim, protocol);
                    emit(format!("{process} reads #{seq}"), self.clone(), worker);
                }
                Step::Relist(seq) => {
                    let next = decide::after_relist(seq, self.tail());
                    let worker = self.claim(process, tries, next, claim, protocol);
                    emit(format!("{process} lists again"), self.clone(), worker);
                }
            },
            Worker::Owner(owner) => self.own(&owner, protocol, emit),
        }
    }

    /// The worker that is to take this step towards owning the log.
    fn claim(
        &self,
        process: u8,
        tries: u8,
        step: ClaimStep,
        claim: Record,
        protocol: Protocol,
    ) -> Worker {
        let step = match step {
            // Two that start at once may take the log from each other for long.
            ClaimStep::List if tries == CLAIMS => return Worker::Down,
            ClaimStep::List => return Worker::Listing { process, tries },
            ClaimStep::Put { seq } => Step::Put(seq),
            ClaimStep::ReadBack { seq } => Step::ReadBack(seq),
            ClaimStep::Relist { seq } if protocol != Protocol::NoSecondListing => Step::Relist(seq),
            ClaimStep::Relist { seq } | ClaimStep::Own { seq } => {
                let commits = self
                    .log
                    .range(..seq)
                    .filter(|(_, record)| record.commit)
                    .map(|(&seq, _)| seq);
                let due = decide::to_publish(commits, claim.published_upto);
                return Worker::Owner(Owner {
                    process,
                    tries,
                    seq,
                    tail: claim,
                    published_upto: claim.published_upto,
                    unpublished: due.into_iter().map(|seq| (seq, self.log[&seq])).collect(),
                    publishing: PublishStep::Copy,
                    committing: None,
                });
            }
        };
        Worker::Claiming {
            process,
            tries,
            step,
            claim,
        }
    }

    fn own(&self, owner: &Owner, protocol: Protocol, emit: &mut impl FnMut(String, Self, Worker)) {
        match owner.committing {
            Some((Step::Put(slot), record)) => {
                self.put_commit(owner, slot, record, protocol, emit);
            }
            Some((Step::ReadBack(slot) | Step::Relist(slot), record)) => {
                let next = decide::after_commit_read_back(self.slot(slot, record.attempt));
                let what = format!("{} reads #{slot} back: {next:?}", owner.process);
                emit(
                    what,
                    self.clone(),
                    owner.follow(next, slot, record, protocol),
                );
            }
            None => {
                self.publish(owner, protocol, emit);
                if owner.publishing != PublishStep::Copy {
                    return;
                }
                self.collect(owner, protocol, emit);
                if owner.tail.position < self.rows {
                    let record = self.draft(owner);
                    let mut world = self.clone();
                    world.staged.extend(record.file);
                    if protocol == Protocol::PublishBeforeCommit {
                        world.published.extend(record.file);
                    }
                    world.put_commit(owner, owner.seq + 1, record, protocol, emit);
                }
            }
        }
    }

    /// S8
    fn put_commit(
        &self,
        owner: &Owner,
        slot: u64,
        record: Record,
        protocol: Protocol,
        emit: &mut impl FnMut(String, Self, Worker),
    ) {
        for (world, answer) in self.put(slot, record, protocol) {
            let next = decide::after_commit_put(believed(answer, protocol));
            let what = format!("{} puts its commit into #{slot}: {answer:?}", owner.process);
            emit(what, world, owner.follow(next, slot, record, protocol));
        }
    }

    fn draft(&self, owner: &Owner) -> Record {
        let seq = owner.seq + 1;
        let older = self.log.range(..seq).filter(|(_, record)| record.commit);
        let commits: Vec<u64> = older.map(|(&seq, _)| seq).chain([seq]).collect();
        let attempt = (owner.process, owner.tries);
        Record {
            attempt,
            commit: true,
            position: owner.tail.position + 1,
            file: Some((owner.tail.position, attempt)),
            removed: match self.files {
                Files::Stay => None,
                Files::AreReplaced => owner.tail.file,
            },
            published_upto: owner.published_upto,
            collected_upto: decide::collect_bound(
                &commits,
                owner.published_upto,
                owner.tail.collected_upto,
                1,
            ),
        }
    }

    /// S9: a step of it. Where files stay, the steps come at once.
    fn publish(
        &self,
        owner: &Owner,
        protocol: Protocol,
        emit: &mut impl FnMut(String, Self, Worker),
    ) {
        let Some(&(last, _)) = owner.unpublished.last() else {
            return;
        };
        let (mut world, mut owner) = (self.clone(), owner.clone());
        loop {
            let step = in_order(owner.publishing, protocol);
            let commits = owner.unpublished.iter().map(|(_, commit)| commit);
            match step {
                PublishStep::Copy => {
                    if !world.copy(&owner, protocol) {
                        let what = format!("{} is fenced as it publishes", owner.process);
                        return emit(what, world, Worker::Down);
                    }
                }
                PublishStep::Unstage => {
                    for file in commits.filter_map(|commit| commit.file) {
                        world.staged.remove(&file);
                    }
                }
                PublishStep::Remove => {
                    for file in commits.filter_map(|commit| commit.removed) {
                        world.published.remove(&file);
                        world.removed.insert(file);
                    }
                }
                PublishStep::Done => {}
            }
            world.seen = world.seen.max(world.rows_seen());
            let what = format!("{} publishes up to #{last}: {step:?}", owner.process);
            owner.publishing = decide::after_publish_step(owner.publishing);
            if owner.publishing == PublishStep::Done {
                owner.publishing = PublishStep::Copy;
                owner.unpublished.clear();
                owner.published_upto = last;
                return emit(what, world, Worker::Owner(owner));
            }
            if self.files == Files::AreReplaced {
                return emit(what, world, Worker::Owner(owner));
            }
        }
    }

    /// Whether the owner may go on.
    fn copy(&mut self, owner: &Owner, protocol: Protocol) -> bool {
        let commits = owner.unpublished.iter().map(|(_, commit)| commit);
        let removed = commits.clone().filter_map(|commit| commit.removed);
        let removed = removed.filter(|_| protocol != Protocol::CopyWhatIsRemovedLater);
        let files = commits.filter_map(|commit| commit.file);
        for file in decide::to_copy(files.map(|file| (file, file)), &removed.collect()) {
            if self.staged.contains(&file) {
                self.published.insert(file);
            } else if !self.published.contains(&file) {
                let superseded = self.tail() > owner.seq;
                self.lost |= !superseded;
                return !superseded;
            }
        }
        true
    }

    /// S11
    fn collect(
        &self,
        owner: &Owner,
        protocol: Protocol,
        emit: &mut impl FnMut(String, Self, Worker),
    ) {
        let bound = owner.tail.collected_upto;
        let mut world = self.clone();
        world.log.retain(|&seq, record| {
            let kind = if protocol == Protocol::ClaimsAreCollected {
                Kind::Commit
            } else {
                record.kind()
            };
            !decide::collectable(kind, seq, bound)
        });
        if world.log.len() < self.log.len() {
            let what = format!("{} collects", owner.process);
            emit(what, world, Worker::Owner(owner.clone()));
        }
    }
}

impl Owner {
    /// This owner, about to take the next step of a commit.
    fn follow(&self, next: CommitStep, slot: u64, record: Record, protocol: Protocol) -> Worker {
        let mut owner = self.clone();
        if owner.committing.is_none() {
            owner.tries += 1;
        }
        let retried = protocol == Protocol::RetryInTheNextSlot;
        owner.committing = match next {
            CommitStep::Put => Some((Step::Put(slot), record)),
            CommitStep::ReadBack => Some((Step::ReadBack(slot), record)),
            CommitStep::Fenced if retried => Some((Step::Put(slot + 1), record)),
            CommitStep::Fenced => return Worker::Down,
            CommitStep::Committed => {
                owner.seq = slot;
                owner.tail = record;
                owner.unpublished.push((slot, record));
                None
            }
        };
        Worker::Owner(owner)
    }
}

/// The step that a protocol takes where this one would be right.
fn in_order(step: PublishStep, protocol: Protocol) -> PublishStep {
    match (protocol, step) {
        (Protocol::RemoveBeforeCopy, PublishStep::Copy)
        | (Protocol::RemoveBeforeUnstage, PublishStep::Unstage) => PublishStep::Remove,
        (Protocol::RemoveBeforeCopy, PublishStep::Remove) => PublishStep::Copy,
        (Protocol::RemoveBeforeUnstage, PublishStep::Remove) => PublishStep::Unstage,
        (_, right) => right,
    }
}

fn believed(answer: Answer, protocol: Protocol) -> Answer {
    if answer == Answer::Exists && protocol == Protocol::ExistsMeansMine {
        Answer::Created
    } else {
        answer
    }
}

/// What a search through all worlds found.
struct Found {
    worlds: usize,
    /// A world in which readers see every row although a process was replaced.
    finished: bool,
    /// The first violation, and how it came about.
    violation: Option<(String, Vec<String>)>,
}

fn search(protocol: Protocol, bounds: Bounds) -> Found {
    let hash = |world: &World| {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        hasher.finish()
    };
    let first = World::new(bounds);
    let mut seen = HashSet::from([hash(&first)]);
    let mut ways: Vec<(usize, String)> = vec![(0, String::new())];
    let mut queue = VecDeque::from([(0, first)]);
    let mut finished = false;
    while let Some((index, world)) = queue.pop_front() {
        if let Some(violation) = world.violation(protocol) {
            let mut trace = Vec::new();
            let mut at = index;
            while at > 0 {
                trace.push(ways[at].1.clone());
                at = ways[at].0;
            }
            trace.reverse();
            return Found {
                worlds: seen.len(),
                finished,
                violation: Some((violation, trace)),
            };
        }
        finished |= world.rows_seen() == bounds.rows && world.starts == 0;
        for (what, next) in world.successors(protocol) {
            if seen.insert(hash(&next)) {
                ways.push((index, what));
                queue.push_back((ways.len() - 1, next));
            }
        }
    }
    Found {
        worlds: seen.len(),
        finished,
        violation: None,
    }
}

fn check_right(files: Files, rows: u8, starts: u8, faults: u8) {
    let found = search(
        Protocol::Right,
        Bounds {
            rows,
            starts,
            faults,
            files,
        },
    );
    assert_eq!(found.violation, None);
    assert!(found.finished);
    eprintln!("{} worlds", found.worlds);
}

#[test]
fn two_reassignments_and_a_fault_do_no_harm() {
    check_right(Files::Stay, 2, 3, 1);
}

#[test]
fn a_third_commit_and_its_collection_do_no_harm() {
    check_right(Files::Stay, 3, 2, 1);
}

#[test]
#[ignore = "takes a while; the cases above cover its parts"]
fn two_reassignments_during_three_commits_do_no_harm() {
    check_right(Files::Stay, 3, 3, 0);
}

#[test]
fn two_faults_do_no_harm() {
    check_right(Files::Stay, 2, 2, 2);
}

#[test]
fn replaced_files_do_not_come_back_and_leave_no_hole() {
    check_right(Files::AreReplaced, 3, 2, 1);
}

#[test]
fn replaced_files_survive_two_reassignments() {
    check_right(Files::AreReplaced, 2, 3, 0);
}

/// A broken protocol must show within bounds in which the right one was looked
/// through to the end, above: two commits, three assignments and a fault.
fn check_broken(protocol: Protocol) {
    check_broken_with(Files::Stay, protocol, 2, 3, 1);
}

fn check_broken_with(files: Files, protocol: Protocol, rows: u8, starts: u8, faults: u8) {
    let bounds = Bounds {
        rows,
        starts,
        faults,
        files,
    };
    let found = search(protocol, bounds);
    let (violation, trace) = found.violation.expect("a broken protocol shows");
    eprintln!("{protocol:?}: {violation}\n  {}", trace.join("\n  "));
}

#[test]
fn collecting_claims_shows() {
    check_broken(Protocol::ClaimsAreCollected);
}

#[test]
fn listing_only_once_shows() {
    // A claim that is late for a collected slot needs a third commit.
    check_broken_with(Files::Stay, Protocol::NoSecondListing, 3, 2, 1);
}

#[test]
fn taking_exists_for_mine_shows() {
    check_broken(Protocol::ExistsMeansMine);
}

#[test]
fn overwriting_shows() {
    check_broken(Protocol::PutsOverwrite);
}

#[test]
fn retrying_in_the_next_slot_shows() {
    check_broken(Protocol::RetryInTheNextSlot);
}

#[test]
fn publishing_before_the_commit_shows() {
    check_broken(Protocol::PublishBeforeCommit);
}

#[test]
fn removing_before_the_copies_shows() {
    check_broken_with(Files::AreReplaced, Protocol::RemoveBeforeCopy, 2, 3, 0);
}

#[test]
fn removing_before_what_was_staged_goes_shows() {
    check_broken_with(Files::AreReplaced, Protocol::RemoveBeforeUnstage, 2, 3, 0);
}

#[test]
fn copying_what_a_later_commit_removes_shows() {
    check_broken_with(
        Files::AreReplaced,
        Protocol::CopyWhatIsRemovedLater,
        2,
        3,
        0,
    );
}
