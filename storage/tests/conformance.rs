//! Both back ends keep every rule of the trait.

use roost_storage::{AnyStore, EmbeddedOptions, EmbeddedStore, MemoryStore};

mod memory {
    use super::*;

    roost_storage::conformance!(async || (MemoryStore::default(), ()));
}

/// Every call reaches the store behind.
mod any {
    use super::*;

    roost_storage::conformance!(async || (AnyStore::Memory(MemoryStore::default()), ()));
}

mod embedded {
    use super::*;

    fn open() -> (EmbeddedStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions { disk_reserve_bytes: 0, marks_wait_ms: 1, ..EmbeddedOptions::default() };
        (EmbeddedStore::open(dir.path(), &options).unwrap(), dir)
    }

    roost_storage::conformance!(async || open());
}

/// The smallest caches, so that rows are read back from the tables all the time.
mod embedded_forgetful {
    use super::*;

    fn open() -> (EmbeddedStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions {
            disk_reserve_bytes: 0,
            marks_wait_ms: 0,
            metas_cached_max: 1,
            rows_cached_max: 1,
            ..EmbeddedOptions::default()
        };
        (EmbeddedStore::open(dir.path(), &options).unwrap(), dir)
    }

    roost_storage::conformance!(async || open());
}
