//! A disk that is full, and one whose sync fails.

use std::fs;
use std::path::Path;
use std::process::Command;

use roost_storage::embedded::CommitFault;
use roost_storage::testkit::conformance::{append, conv, entry, group};
use roost_storage::testkit::run;
use roost_storage::{Append, Appended, EmbeddedOptions, EmbeddedStore, Mark, Range, Result, Store, StoreError, User};
use roost_wire::UserId;

const MIB: u64 = 1024 * 1024;

fn open(dir: &Path, disk_reserve_bytes: u64) -> EmbeddedStore {
    EmbeddedStore::open(dir, &EmbeddedOptions { disk_reserve_bytes, ..EmbeddedOptions::default() }).unwrap()
}

async fn head(store: &EmbeddedStore) -> u64 {
    store.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().head
}

/// Appends until an error; the number of acknowledged entries and the error.
async fn fill(store: &EmbeddedStore, from: u64) -> (u64, StoreError) {
    let text = "x".repeat(16 * 1024);
    for seq in from.. {
        match store.append(append("c_1", seq, &text)).await {
            Ok(Appended::Stored { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => return (seq - 1, error),
        }
        assert!(seq < 100_000, "the disk is never full");
    }
    unreachable!()
}

fn ada() -> User {
    User { user: UserId::new("u_ada").unwrap(), name: "Ada".into(), created_ms: 1, last_seen_ms: 2 }
}

#[test]
fn a_full_disk_refuses_every_kind_of_write_and_takes_them_again_later() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = open(dir.path(), MIB);
        store.create(group("c_1"), vec![]).await.unwrap();
        store.append(append("c_1", 1, "a")).await.unwrap();
        store.faults().set_free_bytes(Some(MIB - 1));
        let mark = Mark { user: ada().user, conv: conv("c_1"), delivered: Some(1), read: None };
        assert_eq!(store.append(append("c_1", 2, "b")).await, Err(StoreError::DiskFull));
        assert_eq!(store.create(group("c_2"), vec![]).await, Err(StoreError::DiskFull));
        assert_eq!(store.put_users(vec![ada()]).await, Err(StoreError::DiskFull));
        assert_eq!(store.mark(vec![mark]).await, Err(StoreError::DiskFull));
        assert_eq!(head(&store).await, 1);
        assert_eq!(store.range(&conv("c_1"), Range::After(0), 9).await.unwrap(), [entry(1, "u_ada", "a")]);
        assert_eq!(store.metas(&[conv("c_2")]).await.unwrap(), [None]);
        assert_eq!(store.stopped(), None);
        store.faults().set_free_bytes(Some(MIB));
        assert!(matches!(store.append(append("c_1", 2, "b")).await, Ok(Appended::Stored { .. })));
        assert_eq!(store.metrics().disk_full.load(std::sync::atomic::Ordering::Relaxed), 4);
    });
}

#[test]
fn after_a_failed_sync_the_outcome_is_unknown_and_nothing_more_is_written() {
    for (fault, kept) in [(CommitFault::SyncLost, false), (CommitFault::SyncKept, true)] {
        let dir = tempfile::tempdir().unwrap();
        run(async {
            let store = open(dir.path(), 0);
            store.create(group("c_1"), vec![]).await.unwrap();
            store.append(append("c_1", 1, "a")).await.unwrap();
            store.faults().fail_next_commit(fault);
            let result = store.append(append("c_1", 2, "b")).await;
            assert!(matches!(result, Err(StoreError::Unknown(_))), "{fault:?}: {result:?}");
            assert_eq!(head(&store).await, 1, "what may be lost is not shown");
            for _ in 0..3 {
                let result = store.append(append("c_1", 2, "c")).await;
                assert!(matches!(result, Err(StoreError::Unavailable(_))), "{fault:?}: {result:?}");
            }
            let result = store.put_users(vec![ada()]).await;
            assert!(matches!(result, Err(StoreError::Unavailable(_))), "{fault:?}: {result:?}");
            assert!(store.stopped().is_some_and(|why| why.to_string().contains("injected")));
            assert_eq!(store.range(&conv("c_1"), Range::After(0), 9).await.unwrap().len(), 1, "reads go on");
        });
        run(async {
            let store = open(dir.path(), 0);
            assert_eq!(store.stopped(), None);
            let log = store.range(&conv("c_1"), Range::After(0), 9).await.unwrap();
            let want: &[_] = &[entry(1, "u_ada", "a"), entry(2, "u_ada", "b")];
            assert_eq!(log, want[..1 + usize::from(kept)], "{fault:?}");
            assert!(matches!(fill_one(&store).await, Ok(Appended::Stored { .. })));
        });
    }
}

async fn fill_one(store: &EmbeddedStore) -> Result<Appended> {
    store.append(append("c_1", head(store).await + 1, "after")).await
}

#[test]
fn a_failed_commit_answers_each_of_its_writes_for_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = open(dir.path(), 0);
        store.create(group("c_1"), vec![]).await.unwrap();
        store.append(append("c_1", 1, "a")).await.unwrap();
        store.faults().fail_next_commit(CommitFault::SyncLost);
        let wrong = Append { entries: vec![], ..append("c_1", 2, "") };
        let (good, late, bad, unknown) = tokio::join!(
            store.append(append("c_1", 2, "good")),
            store.append(append("c_1", 1, "late")),
            store.append(wrong),
            store.append(append("c_9", 1, "x")),
        );
        // They need not share a commit: those after the failed one are refused.
        assert!(matches!(good, Err(StoreError::Unknown(_))), "{good:?}");
        assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
        assert!(matches!(bad, Err(StoreError::BadRequest(_) | StoreError::Unavailable(_))), "{bad:?}");
        assert!(matches!(unknown, Err(StoreError::NoConversation | StoreError::Unavailable(_))), "{unknown:?}");
    });
}

#[test]
fn a_writer_that_panics_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = open(dir.path(), 0);
        store.create(group("c_1"), vec![]).await.unwrap();
        store.faults().fail_next_commit(CommitFault::Panic);
        let result = store.append(append("c_1", 1, "a")).await;
        assert!(matches!(result, Err(StoreError::Unknown(_))), "{result:?}");
        let result = store.append(append("c_1", 1, "a")).await;
        assert!(matches!(result, Err(StoreError::Unavailable(_) | StoreError::Unknown(_))), "{result:?}");
        assert_eq!(head(&store).await, 0, "reads go on");
    });
    drop(open(dir.path(), 0));
}

/// A small disk in memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and the reason on standard error, where mounting is not permitted.
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                eprintln!("SKIPPED: mounting is refused: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: no mount: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing_and_recovers_with_room() {
    let Some(disk) = SmallDisk::mount(48 * MIB) else { return };
    let (dir, ballast) = (disk.0.path().join("store"), disk.0.path().join("ballast"));
    fs::write(&ballast, vec![1; 16 * MIB as usize]).unwrap();
    let acknowledged = run(async {
        let store = open(&dir, 16 * MIB);
        store.create(group("c_1"), vec![]).await.unwrap();
        let (first, error) = fill(&store, 1).await;
        assert_eq!(error, StoreError::DiskFull);
        assert!(first > 100, "{first} entries of 16 KiB fit");
        assert_eq!(head(&store).await, first, "reads go on");
        fs::remove_file(&ballast).unwrap();
        let (second, error) = fill(&store, first + 1).await;
        assert!(second > first + 100, "writes go on with the new room");
        assert_eq!(error, StoreError::DiskFull);
        second
    });
    run(async {
        let store = open(&dir, 0);
        let log = store.range(&conv("c_1"), Range::After(0), usize::MAX).await.unwrap();
        assert_eq!(log.len() as u64, acknowledged);
    });
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount(32 * MIB) else { return };
    let (dir, ballast) = (disk.0.path().join("store"), disk.0.path().join("ballast"));
    fs::write(&ballast, vec![1; 8 * MIB as usize]).unwrap();
    let acknowledged = run(async {
        let store = open(&dir, 0); // no reserve: the engine meets the full disk itself
        store.create(group("c_1"), vec![]).await.unwrap();
        let (acknowledged, error) = fill(&store, 1).await;
        assert!(matches!(error, StoreError::Unknown(_) | StoreError::Unavailable(_)), "{error}");
        assert_eq!(head(&store).await, acknowledged, "what may be lost is not shown");
        fs::remove_file(&ballast).unwrap();
        let again = store.append(append("c_1", acknowledged + 1, "x")).await;
        assert!(matches!(again, Err(StoreError::Unavailable(_))), "not before a restart: {again:?}");
        acknowledged
    });
    run(async {
        let store = open(&dir, 0);
        let log = store.range(&conv("c_1"), Range::After(0), usize::MAX).await.unwrap();
        // The one whose outcome was unknown may be there.
        assert!((acknowledged..=acknowledged + 1).contains(&(log.len() as u64)), "{} of {acknowledged}", log.len());
        assert!(matches!(fill_one(&store).await, Ok(Appended::Stored { .. })));
    });
}
