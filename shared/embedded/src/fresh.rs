//! Partitions that were empty when this process first looked at them.
//!
//! An execution writes some hundred records that were never there, each under a guard that says so. Asking SQLite about
//! every one of them is most of what such a write costs; here one question about their partition answers all.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    mem,
};

use slipway_ports::Key;

/// Partitions in one half; what is not used for two halves is forgotten.
const HALF: usize = 256;

/// Knows what was written to partitions that were empty. Forgetting a partition costs a question and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    hasher: RandomState,
    young: HashMap<String, HashSet<u64>>,
    old: HashMap<String, HashSet<u64>>,
}

impl Fresh {
    /// Whether the key was certainly never written.
    pub(crate) fn lacks(&mut self, key: &Key) -> bool {
        let hash = self.hasher.hash_one(&key.sort);
        self.written(&key.partition)
            .is_some_and(|written| !written.contains(&hash))
    }

    /// Whether the partition is known.
    pub(crate) fn knows(&mut self, partition: &str) -> bool {
        self.written(partition).is_some()
    }

    /// Nothing stands in the partition, and nobody is writing to it.
    pub(crate) fn is_empty_now(&mut self, partition: &str) {
        self.old.remove(partition);
        if self.young.len() == HALF {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(partition.to_owned(), HashSet::new());
    }

    /// A key is written. What a failed commit or a removal takes back is asked for again.
    pub(crate) fn note(&mut self, key: &Key) {
        let hash = self.hasher.hash_one(&key.sort);
        if let Some(written) = self.written(&key.partition) {
            written.insert(hash);
        }
    }

    fn written(&mut self, partition: &str) -> Option<&mut HashSet<u64>> {
        if let Some((partition, written)) = self.old.remove_entry(partition) {
            if self.young.len() == HALF {
                self.old = mem::take(&mut self.young);
            }
            self.young.insert(partition, written);
        }
        self.young.get_mut(partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_asked_for() {
        let mut fresh = Fresh::default();
        let (first, second) = (Key::new("p", "a"), Key::new("p", "b"));
        assert!(!fresh.lacks(&first), "nobody has looked at the partition");
        fresh.is_empty_now("p");
        assert!(fresh.lacks(&first) && fresh.lacks(&second));
        fresh.note(&first);
        assert!(!fresh.lacks(&first) && fresh.lacks(&second));
    }

    #[test]
    fn what_is_used_stays_known_and_the_rest_is_forgotten() {
        let mut fresh = Fresh::default();
        fresh.is_empty_now("hot");
        fresh.note(&Key::new("hot", "a"));
        for n in 0..10 * HALF {
            fresh.is_empty_now(&format!("cold{n}"));
            assert!(!fresh.lacks(&Key::new("hot", "a")) && fresh.lacks(&Key::new("hot", "b")));
        }
        assert!(!fresh.knows("cold0"));
        assert!(fresh.young.len() + fresh.old.len() <= 2 * HALF);
    }
}
