//! A hash of a set of files, of constant size: a sum of hashes.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::CommittedFile;

/// The sum, modulo 2^256, of the SHA-256 of each file of a set. Files are added in any order, and
/// one does not need the others (MSet-Add-Hash: Clarke et al., "Incremental Multiset Hash
/// Functions", ASIACRYPT 2003). Two sets with the same sum are equal, with a negligible error
/// probability. It does not resist files that are chosen to collide.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileSet([u64; 4]);

impl FileSet {
    /// Adds a file by its name and size in a listing.
    pub(super) fn add_listed(&mut self, published: &str, bytes: u64) {
        self.add(&format!("{bytes} {published}"));
    }

    /// Adds a file with the checksum of its bytes.
    pub(super) fn add_content(&mut self, published: &str, sha256: &str) {
        self.add(&format!("{sha256} {published}"));
    }

    fn add(&mut self, file: &str) {
        let hash = Sha256::digest(file);
        let mut carry = false;
        let (words, _) = hash.as_chunks::<8>();
        for (sum, word) in self.0.iter_mut().zip(words) {
            let (partial, first) = sum.overflowing_add(u64::from_le_bytes(*word));
            let (total, second) = partial.overflowing_add(u64::from(carry));
            *sum = total;
            carry = first || second;
        }
    }
}

/// The files of a table, by listing and by content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSets {
    /// Their names and sizes.
    pub listed: FileSet,
    /// Their names and the checksums of their bytes.
    pub contents: FileSet,
}

impl FileSets {
    /// Adds a file that a commit publishes.
    pub fn add(&mut self, file: &CommittedFile) {
        self.listed.add_listed(&file.published, file.bytes);
        self.contents.add_content(&file.published, &file.sha256);
    }
}

impl fmt::Debug for FileSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl From<FileSet> for String {
    /// 64 hex digits, the highest word first.
    fn from(set: FileSet) -> Self {
        let [lowest, low, high, highest] = set.0;
        format!("{highest:016x}{high:016x}{low:016x}{lowest:016x}")
    }
}

impl TryFrom<String> for FileSet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut words = [0; 4];
        let wrong = || format!("`{text}` is not 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (word, digits) in words.iter_mut().rev().zip(text.as_bytes().chunks(16)) {
            let digits = str::from_utf8(digits).map_err(|_| wrong())?;
            *word = u64::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, u64)]) -> FileSet {
        let mut set = FileSet::default();
        for (name, bytes) in files {
            set.add_listed(name, *bytes);
        }
        set
    }

    #[test]
    fn the_order_does_not_count_and_everything_else_does() {
        let both = set(&[("a", 1), ("b", 2)]);
        assert_eq!(set(&[("b", 2), ("a", 1)]), both);
        for other in [
            &[("a", 1)][..],
            &[("a", 2), ("b", 1)],
            &[("a", 1), ("b", 2), ("b", 2)],
            &[("a", 1), ("c", 2)],
            &[],
        ] {
            assert_ne!(set(other), both, "{other:?}");
        }
    }

    #[test]
    fn a_sum_carries_over_and_is_read_back() {
        let many: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let mut sum = FileSet([u64::MAX; 4]);
        // One less than zero, so that the first file carries through all words.
        let mut expected = FileSet::default();
        sum.add("first");
        expected.add("first");
        let words = |set: FileSet| set.0.map(u128::from);
        let [low, ..] = words(expected);
        assert_eq!(words(sum)[0], low - 1);
        assert_eq!(words(sum)[1..], words(expected)[1..]);
        for name in &many {
            sum.add(name);
            let text = String::from(sum);
            assert_eq!(FileSet::try_from(text), Ok(sum));
        }
        for wrong in ["", "abc", &"g".repeat(64), &"é".repeat(32)] {
            assert!(FileSet::try_from(wrong.to_owned()).is_err());
        }
    }
}
