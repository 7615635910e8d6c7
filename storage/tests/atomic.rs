//! A commit shows whole or not at all, also while tables are being written out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use roost_storage::testkit::conformance::{append, conv, entry, group};
use roost_storage::testkit::run;
use roost_storage::{Append, Appended, EmbeddedOptions, EmbeddedStore, Range, Store};

/// Entries of one append.
const EACH: u64 = 200;

#[test]
fn a_read_never_shows_half_of_an_append_while_tables_are_written_out() {
    let dir = tempfile::tempdir().unwrap();
    // Tables so small that nearly every commit sends one to the disk.
    let options = EmbeddedOptions { disk_reserve_bytes: 0, memtable_bytes: 0, ..EmbeddedOptions::default() };
    let store = EmbeddedStore::open(dir.path(), &options).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    run(async {
        store.create(group("c_1"), vec![]).await.unwrap();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (store, done) = (store.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    while !done.load(Relaxed) {
                        let newest = store.range(&conv("c_1"), Range::Before(u64::MAX), 1).await.unwrap();
                        let head = newest.first().map_or(0, |entry| entry.seq);
                        assert_eq!(head % EACH, 0, "half of an append shows");
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        let text = "x".repeat(4 * 1024);
        for first in (1..=EACH * 40).step_by(EACH as usize) {
            let entries = (first..first + EACH).map(|seq| entry(seq, "u_ada", &text)).collect();
            let stored = store.append(Append { entries, ..append("c_1", first, "") }).await;
            assert!(matches!(stored, Ok(Appended::Stored { .. })), "{stored:?}");
        }
        done.store(true, Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
    });
}
