//! The check of the conservation law at a barrier. Pure.

use std::{collections::BTreeMap, sync::Arc};

use crate::{Error, Result, ledger::Ledger, source::PartitionId};

/// Checks that `ledger`, the counts of all nodes, accounts for each row in `read`.
///
/// # Errors
/// `Internal`: rows would be lost or duplicated, so nothing may be committed.
pub(super) fn check(read: &BTreeMap<Arc<PartitionId>, u64>, ledger: &Ledger) -> Result<()> {
    for partition in read
        .keys()
        .chain(ledger.iter().map(|(partition, _)| partition))
    {
        let read = read.get(partition).copied().unwrap_or(0);
        let counts = ledger.get(partition);
        if read != counts.rows_in || !counts.balances() {
            return Err(Error::internal(format!(
                "the rows of `{partition}` do not add up, so nothing is committed: {read} read, \
                 {counts}",
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_loss_is_seen() {
        let partition = Arc::new(PartitionId::new("events", "t/0"));
        let read = BTreeMap::from([(Arc::clone(&partition), 10)]);
        let mut ledger = Ledger::default();
        let counts = ledger.of(&partition);
        (counts.rows_in, counts.copied) = (10, 2);
        (counts.contributed, counts.filtered, counts.late) = (6, 3, 1);
        (counts.dead_letter, counts.duplicate) = (1, 1);
        (counts.released, counts.held) = (2, 2);
        check(&read, &ledger).unwrap();

        let mut lost = ledger.clone();
        lost.of(&partition).filtered -= 1;
        assert!(
            check(&read, &lost)
                .unwrap_err()
                .to_string()
                .contains("do not add up")
        );
        let mut forgotten = ledger.clone();
        forgotten.of(&partition).held -= 1;
        assert!(check(&read, &forgotten).is_err());
        let mut doubled = ledger.clone();
        doubled.of(&partition).contributed += 1;
        assert!(check(&read, &doubled).is_err());
        assert!(
            check(&BTreeMap::new(), &ledger).is_err(),
            "rows that nobody read"
        );
        assert!(
            check(&read, &Ledger::default()).is_err(),
            "rows that nobody counted"
        );
    }
}
