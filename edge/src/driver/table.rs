//! What a driver keeps per connection, by the slot of its key.

use roost_wire::link::SessionKey;

/// What a table holds.
pub(crate) trait Row {
    /// The generation of the key it belongs to.
    fn generation(&self) -> u32;
}

/// The shard's slab decides which slots are in use; this follows it.
pub(crate) struct Table<T> {
    rows: Vec<Option<T>>,
    len: usize,
}

impl<T: Row> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { rows: Vec::new(), len: 0 }
    }

    pub(crate) fn put(&mut self, slot: u32, row: T) {
        let slot = slot as usize;
        if slot >= self.rows.len() {
            self.rows.resize_with(slot + 1, || None);
        }
        if self.rows[slot].replace(row).is_none() {
            self.len += 1;
        }
    }

    /// What belongs to `key`; `None` if the key is stale.
    pub(crate) fn get(&mut self, key: SessionKey) -> Option<&mut T> {
        self.rows.get_mut(key.slot() as usize)?.as_mut().filter(|row| row.generation() == key.generation())
    }

    /// Takes what belongs to `key` out.
    pub(crate) fn take(&mut self, key: SessionKey) -> Option<T> {
        self.get(key)?;
        self.len -= 1;
        self.rows[key.slot() as usize].take()
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn keys(&self, shard: u16) -> impl Iterator<Item = SessionKey> {
        let key = move |(slot, row): (usize, &Option<T>)| {
            row.as_ref().map(|row| SessionKey::new(shard, slot as u32, row.generation()))
        };
        self.rows.iter().enumerate().filter_map(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Of(u32);

    impl Row for Of {
        fn generation(&self) -> u32 {
            self.0
        }
    }

    #[test]
    fn a_key_that_outlived_its_connection_finds_nothing() {
        let mut table = Table::new();
        let (old, new) = (SessionKey::new(3, 5, 1), SessionKey::new(3, 5, 2));
        table.put(5, Of(1));
        assert_eq!(table.len(), 1);
        assert!(table.get(old).is_some() && table.get(new).is_none());
        assert_eq!(table.take(old), Some(Of(1)));
        table.put(5, Of(2));
        assert!(table.get(old).is_none() && table.take(old).is_none());
        assert_eq!((table.keys(3).collect::<Vec<_>>(), table.len()), (vec![new], 1));
    }
}
