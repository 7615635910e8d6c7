//! What is acknowledged is on the disk, not only in the page cache: a kill of the process cannot tell the two apart,
//! a loss of power does. cachestat(2) (Linux 6.5) says how many pages of a file are still to be written.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "cachestat has no safe wrapper")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use roost_storage::testkit::conformance::{append, group, user};
use roost_storage::testkit::run;
use roost_storage::{Appended, EmbeddedOptions, EmbeddedStore, IndexUpdate, Member, Store};
use roost_wire::pb::Role;

/// Number of the system call, the same on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

/// `struct cachestat` of linux/mman.h: counts of pages.
#[repr(C)]
#[derive(Default)]
struct CacheStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// `struct cachestat_range`; a length of 0 means the whole file.
#[repr(C)]
struct CacheStatRange {
    offset: u64,
    length: u64,
}

/// Pages of `file` that the disk does not have yet.
fn unwritten_pages(file: &File) -> io::Result<u64> {
    let (range, mut stat) = (CacheStatRange { offset: 0, length: 0 }, CacheStat::default());
    // SAFETY: both point at values of the kernel's layout that outlive the call, and the descriptor is open.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut stat, 0) };
    if result == 0 { Ok(stat.dirty + stat.writeback) } else { Err(io::Error::last_os_error()) }
}

/// Whether this kernel and file system tell: a page just written is dirty, and after fsync it is not.
fn can_tell(dir: &Path) -> bool {
    let mut file = File::create(dir.join("probe")).expect("a file");
    file.write_all(&[1; 4096]).expect("written");
    let Ok(before) = unwritten_pages(&file) else { return false };
    file.sync_all().expect("synced");
    before > 0 && unwritten_pages(&file).is_ok_and(|after| after == 0)
}

fn journals(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the store's directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| if path.is_dir() { journals(&path) } else { vec![path] })
        .filter(|path| is_journal(path))
        .collect()
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

#[test]
fn what_is_acknowledged_is_on_the_disk() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    if !can_tell(dir.path()) {
        eprintln!("left out: cachestat(2) of this kernel or file system tells nothing (Linux 6.5 or later, no tmpfs)");
        return;
    }
    let store = EmbeddedStore::open(&dir.path().join("data"), &EmbeddedOptions::default()).expect("a store");
    run(async {
        store.create(group("c_1"), vec![Member { user: user("u_bob"), role: Role::Owner }]).await.expect("created");
        for seq in 1..=20 {
            let index = vec![IndexUpdate { user: user("u_bob"), head: Some(seq), read: None }];
            let text = "x".repeat(seq as usize * 997);
            let stored =
                store.append(roost_storage::Append { index, ..append("c_1", seq, &text) }).await.expect("stored");
            assert!(matches!(stored, Appended::Stored { .. }), "{stored:?}");
            let files = journals(dir.path());
            assert!(!files.is_empty(), "the store keeps its journal in other files than this test knows");
            for path in files {
                let unwritten = unwritten_pages(&File::open(&path).expect("a journal")).expect("cachestat");
                assert_eq!(unwritten, 0, "entry {seq} is acknowledged, and {} is not on the disk", path.display());
            }
        }
    });
}
