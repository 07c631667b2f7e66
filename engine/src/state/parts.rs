//! State in a series of parts.

use std::{fmt::Display, mem};

use super::{NewRows, Restore, Snapshot, part_number};
use crate::Result;

/// State that is stored as a series of parts, the oldest first. Each part has some content, which
/// is all its rows or only a summary of them. A part has a number, and its name ends with it. A
/// stored part never changes. A snapshot stores the parts that are new since the one before, and
/// removes those that were taken out.
///
/// ```
/// use tagflow_engine::state::{Parts, Snapshot};
/// # use std::sync::Arc;
/// # use arrow::{array::{ArrayRef, Int64Array}, record_batch::RecordBatch};
/// # fn rows(numbers: &[i64]) -> tagflow_engine::Result<RecordBatch> {
/// #     let numbers: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
/// #     Ok(RecordBatch::try_from_iter([("number", numbers)])?)
/// # }
/// # fn main() -> tagflow_engine::Result<()> {
/// let mut parts: Parts<Vec<i64>> = Parts::default();
/// parts.push(vec![1, 2, 3]);
/// let mut first = Snapshot::default();
/// parts.snapshot("numbers-", &mut first, |numbers| rows(numbers))?; // stores `numbers-1`
///
/// parts.push(vec![4, 5, 6]);
/// let merged = parts.take_newest(1, Vec::len);
/// parts.push(merged.into_iter().flat_map(|(_, numbers)| numbers).collect());
/// let mut second = Snapshot::default();
/// parts.snapshot("numbers-", &mut second, |numbers| rows(numbers))?; // stores `numbers-3`
/// assert_eq!(second.removed, ["numbers-1"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Parts<T> {
    /// By number.
    list: Vec<Part<T>>,
    last_number: u64,
    /// The names of stored parts that were taken out since the last snapshot.
    removed: Vec<String>,
}

#[derive(Debug)]
struct Part<T> {
    number: u64,
    /// The name of the stored part; `None` before a snapshot stores it.
    key: Option<String>,
    content: T,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            last_number: 0,
            removed: Vec::new(),
        }
    }
}

impl<T> Parts<T> {
    /// The number of the next new part.
    pub fn next_number(&self) -> u64 {
        self.last_number + 1
    }

    /// Adds a part, which the next snapshot stores.
    pub fn push(&mut self, content: T) {
        self.last_number += 1;
        self.list.push(Part {
            number: self.last_number,
            key: None,
            content,
        });
    }

    /// Adds the part `key` of an earlier run, and returns its number. It stays stored if the lanes
    /// are the same; otherwise the next snapshot stores it. After a change of the lanes, parts must
    /// be restored in their order.
    pub fn restore(&mut self, key: String, lanes: Restore, content: T) -> u64 {
        if lanes == Restore::Rescaled {
            self.push(content);
            return self.last_number;
        }
        let number = part_number(&key);
        self.last_number = self.last_number.max(number);
        let index = self.list.partition_point(|part| part.number < number);
        let key = Some(key);
        self.list.insert(
            index,
            Part {
                number,
                key,
                content,
            },
        );
        number
    }

    /// Whether there are no parts.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// How many of the newest parts are not stored.
    pub fn unstored(&self) -> usize {
        let newest = self.list.iter().rev();
        newest.take_while(|part| part.key.is_none()).count()
    }

    /// The contents of the parts.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.list.iter().map(|part| &part.content)
    }

    /// The contents of the parts with their numbers. What is stored must not change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        let parts = self.list.iter_mut();
        parts.map(|part| (part.number, &mut part.content))
    }

    /// The index of the part with this number.
    pub fn index_of(&self, number: u64) -> Option<usize> {
        let index = self.list.binary_search_by_key(&number, |part| part.number);
        index.ok()
    }

    /// The content of the part with this number.
    pub fn get(&self, number: u64) -> Option<&T> {
        self.index_of(number).map(|index| &self.list[index].content)
    }

    /// The content of the part with this number. Its rows must not change.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let index = self.index_of(number)?;
        Some(&mut self.list[index].content)
    }

    /// The content of the part with this number, for a change of its rows. The next snapshot stores
    /// the part again.
    pub fn change(&mut self, number: u64) -> Option<&mut T> {
        let index = self.index_of(number)?;
        let part = &mut self.list[index];
        self.removed.extend(part.key.take());
        Some(&mut part.content)
    }

    /// The content of the newest part, for a change of its rows, if it is not stored.
    pub fn unstored_mut(&mut self) -> Option<&mut T> {
        let newest = self.list.last_mut()?;
        newest.key.is_none().then_some(&mut newest.content)
    }

    /// Takes out all parts that `is_over` selects, from the newest on.
    pub fn remove_if(&mut self, mut is_over: impl FnMut(u64, &T) -> bool) {
        self.list.reverse();
        let over = self
            .list
            .extract_if(.., |part| is_over(part.number, &part.content));
        self.removed.extend(over.filter_map(|part| part.key));
        self.list.reverse();
    }

    /// Takes out the newest parts, so that they become one part: the newest `least`, and each part
    /// before them that is not larger than the newer ones together. Takes nothing if that is a
    /// single part. A row is thus stored again only when the size of its part has doubled (O'Neil
    /// et al., "The log-structured merge-tree", 1996).
    pub fn take_newest(&mut self, least: usize, size: impl Fn(&T) -> usize) -> Vec<(u64, T)> {
        let size = |part: &Part<T>| size(&part.content);
        let mut from = self.list.len().saturating_sub(least);
        let mut newer: usize = self.list[from..].iter().map(size).sum();
        while let Some(part) = self.list[..from].last()
            && size(part) <= newer
        {
            from -= 1;
            newer += size(part);
        }
        if self.list.len() - from < 2 {
            return Vec::new();
        }
        self.take_from(from)
    }

    /// Takes out all parts.
    pub fn take_all(&mut self) -> Vec<T> {
        let all = self.take_from(0).into_iter();
        all.map(|(_, content)| content).collect()
    }

    /// Adds the changes since the last snapshot to `snapshot`. The names of new parts begin with
    /// `prefix`. `rows` returns the rows of a new part.
    ///
    /// # Errors
    /// Those of `rows`.
    pub fn snapshot<R: Into<NewRows>>(
        &mut self,
        prefix: impl Display,
        snapshot: &mut Snapshot,
        mut rows: impl FnMut(&mut T) -> Result<R>,
    ) -> Result<()> {
        snapshot.removed.append(&mut self.removed);
        for part in &mut self.list {
            if part.key.is_none() {
                let key = format!("{prefix}{}", part.number);
                snapshot.put_rows(key.clone(), rows(&mut part.content)?);
                part.key = Some(key);
            }
        }
        Ok(())
    }

    /// Takes out the names of all stored parts, for a snapshot that removes them.
    pub fn take_names(&mut self) -> Vec<String> {
        let stored = self.list.iter_mut().filter_map(|part| part.key.take());
        self.removed.extend(stored);
        mem::take(&mut self.removed)
    }

    fn take_from(&mut self, index: usize) -> Vec<(u64, T)> {
        let taken = self.list.drain(index..).map(|part| {
            self.removed.extend(part.key);
            (part.number, part.content)
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Int64Array},
        record_batch::RecordBatch,
    };

    use super::*;

    /// The names of the stored and of the removed parts.
    fn store(parts: &mut Parts<i64>) -> [Vec<String>; 2] {
        let mut snapshot = Snapshot::default();
        let rows = |number: &mut i64| {
            let numbers: ArrayRef = Arc::new(Int64Array::from(vec![*number]));
            Ok(RecordBatch::try_from_iter([("number", numbers)])?)
        };
        parts.snapshot("n-", &mut snapshot, rows).unwrap();
        let put = snapshot.put.into_iter();
        let put = put.map(|part| part.load().unwrap().key).collect();
        [put, snapshot.removed]
    }

    #[test]
    fn a_snapshot_has_only_the_changes() {
        let mut parts = Parts::default();
        parts.push(1);
        parts.push(2);
        assert_eq!(store(&mut parts), [vec!["n-1", "n-2"], vec![]]);
        assert_eq!(store(&mut parts), [vec![""; 0], vec![]]);
        *parts.change(1).unwrap() = 10;
        assert_eq!(store(&mut parts), [["n-1"], ["n-1"]]);
        parts.remove_if(|_, number| *number == 2);
        assert_eq!(store(&mut parts), [vec![], vec!["n-2"]]);
        assert_eq!(parts.take_names(), ["n-1"]);
    }

    #[test]
    fn parts_are_merged_when_they_have_doubled() {
        let mut parts = Parts::default();
        let size = |number: &i64| *number as usize;
        let mut merges = Vec::new();
        for _ in 0..8 {
            parts.push(1);
            let merged = parts.take_newest(1, size);
            let sum: i64 = merged.iter().map(|(_, number)| number).sum();
            merges.push(sum);
            if sum > 0 {
                parts.push(sum);
            }
        }
        assert_eq!(merges, [0, 2, 0, 4, 0, 2, 0, 8]);
        assert_eq!(parts.iter().copied().collect::<Vec<_>>(), [8]);
        parts.push(1);
        assert_eq!(parts.take_newest(2, size).len(), 2);
        assert!(parts.take_newest(2, size).is_empty());
    }

    #[test]
    fn restored_parts_stay_stored_unless_the_lanes_change() {
        let mut parts = Parts::default();
        for (key, number) in [("n-10", 3), ("n-2", 1), ("n-7", 2)] {
            parts.restore(key.to_owned(), Restore::InPlace, number);
        }
        assert_eq!(parts.iter().copied().collect::<Vec<_>>(), [1, 2, 3]);
        parts.push(4);
        assert_eq!(parts.unstored(), 1);
        assert_eq!(store(&mut parts), [vec!["n-11"], vec![]]);
        assert_eq!(parts.get(7), Some(&2));

        let mut parts = Parts::default();
        for key in ["n-2", "n-2"] {
            parts.restore(key.to_owned(), Restore::Rescaled, 1);
        }
        assert_eq!(store(&mut parts), [vec!["n-1", "n-2"], vec![]]);
    }
}
