//! What was read or written last, so that sessions seldom have to ask SQLite.

use std::{collections::HashMap, mem};

use slipway_ports::Key;

/// A bounded map that forgets what was not used for longest, in two halves: when the young one is full it becomes
/// the old one, and what is still used moves over from there.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    young: HashMap<Key, V>,
    old: HashMap<Key, V>,
    bytes: usize,
    limit: usize,
}

impl<V: Clone> Cache<V> {
    /// Holds about `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            bytes: 0,
            limit: limit / 2,
        }
    }

    /// What is known under the key.
    pub(crate) fn get(&mut self, key: &Key, weigh: impl Fn(&V) -> usize) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value.clone(), weigh(&value));
        Some(value)
    }

    /// Remembers `value`, which takes `weight` bytes besides its key.
    pub(crate) fn put(&mut self, key: Key, value: V, weight: usize) {
        const ENTRY: usize = 128;
        self.old.remove(&key);
        self.bytes += ENTRY + key.partition.len() + key.sort.len() + weight;
        self.young.insert(key, value);
        if self.bytes > self.limit {
            self.old = mem::take(&mut self.young);
            self.bytes = 0;
        }
    }

    pub(crate) fn forget(&mut self, key: &Key) {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut cache = Cache::new(20_000);
        cache.put(Key::new("p", "hot"), 1, 0);
        for n in 0..1000 {
            cache.put(Key::new("p", format!("cold{n}")), n, 0);
            assert_eq!(cache.get(&Key::new("p", "hot"), |_| 0), Some(1));
        }
        assert_eq!(cache.get(&Key::new("p", "cold0"), |_| 0), None);
        assert!(cache.young.len() + cache.old.len() < 300);
    }

    #[test]
    fn a_replaced_value_is_not_found_again() {
        let mut cache = Cache::new(1000);
        cache.put(Key::new("p", "k"), 1, 600);
        cache.put(Key::new("p", "k"), 2, 0);
        assert_eq!(cache.get(&Key::new("p", "k"), |_| 0), Some(2));
        cache.forget(&Key::new("p", "k"));
        assert_eq!(cache.get(&Key::new("p", "k"), |_| 0), None);
    }
}
