//! Detection of the user agents of bots.
//!
//! The patterns are those of the package `crawler-user-agents`
//! ([source](https://github.com/monperrus/crawler-user-agents), MIT, see
//! `LICENSE` beside this file); `update.py` regenerates them.

use std::{collections::HashMap, sync::LazyLock};

use arrow::array::{BooleanArray, StringArray};
use regex::{RegexSet, RegexSetBuilder};

/// The size limit of a compiled set. With too little room, the lazily built automaton is
/// discarded and built again and again.
const SIZE_LIMIT: usize = 64 << 20;

static PATTERNS: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSetBuilder::new(include_str!("patterns.txt").lines())
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .expect("the patterns are tested")
});

/// Whether each of `user_agents` is a known bot; false for a null.
pub fn are_bots(user_agents: &StringArray) -> BooleanArray {
    // Few user agents make most rows.
    let mut known: HashMap<&str, bool> = HashMap::new();
    user_agents
        .iter()
        .map(|agent| {
            agent.is_some_and(|agent| {
                let is_bot = known.entry(agent);
                *is_bot.or_insert_with(|| PATTERNS.is_match(agent))
            })
        })
        .collect::<Vec<bool>>()
        .into()
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    #[test]
    fn bots_are_known_by_their_user_agent() {
        assert_eq!(PATTERNS.len(), 1504);
        let samples: Vec<&str> = include_str!("samples.txt").lines().collect();
        let flags = are_bots(&StringArray::from(samples.clone()));
        for (sample, flag) in samples.iter().zip(flags.iter()) {
            assert_eq!(flag, Some(true), "{sample}");
        }
    }

    #[test]
    fn people_are_no_bots() {
        let agents = StringArray::from(vec![
            Some(
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/131.0.0.0 Safari/537.36",
            ),
            Some(
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 \
                 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
            ),
            Some("Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"),
            Some(""),
            None,
        ]);
        let flags = are_bots(&agents);
        assert_eq!((flags.null_count(), flags.true_count()), (0, 0));
    }
}
