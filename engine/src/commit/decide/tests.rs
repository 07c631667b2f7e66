//! Laws of the single decisions. `model` checks their combination.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn only_a_created_record_counts_unread() {
    for answer in [Answer::Exists, Answer::Failed] {
        assert_eq!(after_commit_put(answer), CommitStep::ReadBack);
        assert_eq!(after_claim_put(7, answer), ClaimStep::ReadBack { seq: 7 });
    }
    assert_eq!(after_commit_put(Answer::Created), CommitStep::Committed);
    assert_eq!(
        after_claim_put(7, Answer::Created),
        ClaimStep::Relist { seq: 7 }
    );
}

#[test]
fn what_a_slot_holds_decides() {
    let cases = [
        (Slot::Empty, CommitStep::Put, ClaimStep::Put { seq: 7 }),
        (
            Slot::Mine,
            CommitStep::Committed,
            ClaimStep::Relist { seq: 7 },
        ),
        (Slot::Other, CommitStep::Fenced, ClaimStep::List),
    ];
    for (slot, commit, claim) in cases {
        assert_eq!(after_commit_read_back(slot), commit);
        assert_eq!(after_claim_read_back(7, slot), claim);
    }
}

#[test]
fn a_claim_owns_the_log_only_at_its_end() {
    assert_eq!(after_listing(6), ClaimStep::Put { seq: 7 });
    assert_eq!(after_relist(7, 7), ClaimStep::Own { seq: 7 });
    assert_eq!(after_relist(7, 8), ClaimStep::List);
    // The claim was just read there, so this listing is not reliable.
    assert_eq!(after_relist(7, 6), ClaimStep::List);
}

#[test]
fn a_log_is_missing_only_where_one_was() {
    assert!(log_is_missing(1, 0));
    assert!(!log_is_missing(0, 0));
    assert!(!log_is_missing(1, 1));
}

#[test]
fn a_file_is_published_as_committed_or_lost() {
    assert_eq!(after_copy(Copied::Done), FileStep::Published);
    for (answer, found, step) in [
        (Copied::SourceMissing, Some(5), FileStep::Published),
        (Copied::SourceMissing, Some(4), FileStep::Lost),
        (Copied::SourceMissing, None, FileStep::Lost),
        (Copied::Exists, Some(5), FileStep::Published),
        (Copied::Exists, Some(6), FileStep::Lost),
        (Copied::Exists, None, FileStep::Copy),
    ] {
        assert_eq!(after_copy(answer), FileStep::Measure);
        assert_eq!(
            after_measure(answer, found, 5, false),
            step,
            "{answer:?} {found:?}"
        );
        let superseded = (answer, found) == (Copied::SourceMissing, None);
        let step = if superseded {
            FileStep::Superseded
        } else {
            step
        };
        assert_eq!(after_measure(answer, found, 5, true), step);
    }
}

#[test]
fn a_dead_part_is_one_that_the_next_commit_dropped() {
    let (old, next) = (BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 4]));
    assert_eq!(dead_parts(&old, &next).collect::<Vec<_>>(), [&1, &3]);
}

proptest! {
    #[test]
    fn the_first_hole_is_found(slots in prop::collection::btree_set(1_u64..12, 0..12), collected in 0_u64..12) {
        let tail = slots.last().copied().unwrap_or(0);
        let naive = (collected + 1..=tail).find(|slot| !slots.contains(slot));
        prop_assert_eq!(first_hole(&slots, collected), naive);
    }

    #[test]
    fn what_is_due_is_delivered_in_order(commits in prop::collection::btree_set(1_u64..50, 0..20), upto in 0_u64..50) {
        let due = to_deliver(commits.iter().rev().copied(), upto);
        prop_assert!(due.is_sorted());
        for commit in commits {
            prop_assert_eq!(due.contains(&commit), commit > upto);
        }
    }

    #[test]
    fn the_bound_keeps_what_is_needed(
        commits in prop::collection::btree_set(1_u64..50, 1..20),
        published in 0_u64..50,
        collected in 0_u64..50,
        keep in 1_usize..5,
    ) {
        let commits: Vec<u64> = commits.into_iter().collect();
        let last = *commits.last().unwrap();
        // An owner's bound never includes the commits in its log.
        let collected = collected.min(commits[0] - 1);
        let bound = collect_bound(&commits, published, collected, keep);
        prop_assert!(bound >= collected);
        prop_assert!(bound == collected || bound <= published);
        prop_assert!(bound < last, "the last commit stays");
        let kept = commits.iter().filter(|&&seq| seq > bound).count();
        prop_assert!(kept >= keep.min(commits.len()));
        prop_assert!(!collectable(Kind::Claim, bound, bound));
        prop_assert!(!collectable(Kind::Commit, bound + 1, bound));
        prop_assert!(collectable(Kind::Commit, bound, bound));
    }

    #[test]
    fn orphans_are_older_and_unnamed(
        found in prop::collection::vec((0_u64..6, 0_u32..30), 0..30),
        named in prop::collection::btree_set(0_u32..30, 0..10),
        claim in 0_u64..6,
    ) {
        let gone = orphans(claim, found.iter().copied(), &named);
        let naive: Vec<u32> = found
            .iter()
            .filter(|(by, object)| *by < claim && !named.contains(object))
            .map(|(_, object)| *object)
            .collect();
        prop_assert_eq!(gone, naive);
    }
}
