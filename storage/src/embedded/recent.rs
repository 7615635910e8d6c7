//! A map that remembers what was used lately, and never more than its limit.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations: what is used moves to the young one; when that is full, the old one is forgotten whole.
///
/// Holds at most `max` pairs, and every pair used since the last `max / 2` insertions.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_max: usize,
}

impl<K: Eq + Hash + Clone, V> Recent<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_max: (max / 2).max(1) }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.young_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_and_keeps_to_its_limit() {
        let mut recent = Recent::new(8);
        for key in 0..100 {
            recent.insert(key, key * 2);
            assert_eq!(recent.get(&0), Some(&0), "0 is in use");
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!(recent.get(&99), Some(&198));
        assert_eq!(recent.get(&50), None);
    }

    #[test]
    fn an_older_value_never_comes_back() {
        let mut recent = Recent::new(2);
        recent.insert(1, "old");
        recent.insert(2, "x");
        recent.insert(1, "new");
        recent.insert(3, "x");
        assert_ne!(recent.get(&1), Some(&"old"));
    }
}
