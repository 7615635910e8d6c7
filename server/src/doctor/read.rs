//! Reads the facts. Everything here is thin: what facts mean is told by `findings`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use roost_edge::driver::Unfit;
use rustix::process::{Resource, getrlimit};

use super::facts::{Conntrack, Facts, Fsync, IoUring, Limit, Sysctls};
use crate::system::{Groups, Root};

/// fsyncs that are timed.
const FSYNCS: usize = 9;
/// Bytes written before each.
const FSYNC_BYTES: usize = 4096;
/// Its bit in `CapEff` (capabilities(7)).
const CAP_IPC_LOCK: u64 = 1 << 14;

/// The facts of this machine, with data to be kept in `data`.
pub(crate) fn facts(root: &Root, data: &Path) -> Facts {
    Facts {
        kernel: root.text("/proc/sys/kernel/osrelease"),
        container: in_container(root),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory: Groups::find(root).memory(root),
        descriptors: limit(Resource::Nofile),
        memlock: limit(Resource::Memlock),
        ipc_lock: capabilities(root).is_some_and(|held| held & CAP_IPC_LOCK != 0),
        io_uring: io_uring(),
        sysctls: sysctls(root),
        conntrack: conntrack(root),
        huge_pages: root.text("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text)),
        clock: root.text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        fsync: fsync(data),
    }
}

fn limit(resource: Resource) -> Limit {
    let limit = getrlimit(resource);
    Limit { soft: limit.current, hard: limit.maximum }
}

fn in_container(root: &Root) -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| root.at(mark).exists());
    let groups = root.text("/proc/1/cgroup").unwrap_or_default();
    marks || ["docker", "kubepods", "containerd", "lxc"].iter().any(|name| groups.contains(name))
}

fn capabilities(root: &Root) -> Option<u64> {
    let status = root.text("/proc/self/status")?;
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(held.trim(), 16).ok()
}

/// Tries it on a thread that ends: when a ring goes, the kernel interrupts the system calls of whoever made it.
fn io_uring() -> IoUring {
    match std::thread::spawn(roost_edge::driver::probe).join() {
        Ok(Ok(())) => IoUring::Works,
        Ok(Err(unfit @ Unfit::Forbidden)) => IoUring::Forbidden(unfit.to_string()),
        Ok(Err(unfit)) => IoUring::Unfit(unfit.to_string()),
        Err(_) => IoUring::Unfit("looking for it failed".into()),
    }
}

fn sysctls(root: &Root) -> Sysctls {
    let number = |name: &str| root.number(&format!("/proc/sys/{name}"));
    Sysctls {
        file_max: number("fs/file-max"),
        // Allocated, free (always 0), and the limit once more.
        files_open: root.numbers::<3>("/proc/sys/fs/file-nr").map(|[open, ..]| open),
        nr_open: number("fs/nr_open"),
        somaxconn: number("net/core/somaxconn"),
        syn_backlog: number("net/ipv4/tcp_max_syn_backlog"),
        device_backlog: number("net/core/netdev_max_backlog"),
        tcp_mem: root.numbers("/proc/sys/net/ipv4/tcp_mem"),
        tcp_rmem: root.numbers("/proc/sys/net/ipv4/tcp_rmem"),
        tcp_wmem: root.numbers("/proc/sys/net/ipv4/tcp_wmem"),
        port_range: root.numbers("/proc/sys/net/ipv4/ip_local_port_range"),
        overcommit: number("vm/overcommit_memory"),
        io_uring_disabled: number("kernel/io_uring_disabled"),
    }
}

fn conntrack(root: &Root) -> Option<Conntrack> {
    let number = |name: &str| root.number(&format!("/proc/sys/net/netfilter/{name}"));
    Some(Conntrack { max: number("nf_conntrack_max")?, count: number("nf_conntrack_count").unwrap_or(0) })
}

/// Of `always [madvise] never` the one in brackets.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// Times fsyncs of a file in `data`, or in the nearest directory above that is there.
fn fsync(data: &Path) -> Fsync {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let dir = absolute.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let path = dir.join(format!(".roost-doctor-{}", std::process::id()));
    let timed = File::create_new(&path).and_then(|mut file| times(&mut file));
    // It is there if it could be made; otherwise there is nothing to remove.
    let _ = std::fs::remove_file(&path);
    match timed {
        Ok(micros) => Fsync::Micros {
            median: micros[micros.len() / 2],
            slowest: micros[micros.len() - 1],
            dir: dir.display().to_string(),
        },
        Err(error) => Fsync::Failed(format!("{}: {error}", dir.display())),
    }
}

/// Microseconds of each fsync, sorted.
fn times(file: &mut File) -> io::Result<[u64; FSYNCS]> {
    let mut micros = [0; FSYNCS];
    for time in &mut micros {
        let began = Instant::now();
        file.write_all(&[b'r'; FSYNC_BYTES])?;
        file.sync_data()?;
        *time = began.elapsed().as_micros() as u64;
    }
    micros.sort_unstable();
    Ok(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_stands_in_brackets() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("nothing"), None);
    }

    #[test]
    fn fsyncs_are_timed_in_a_directory_that_is_not_there_yet_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let Fsync::Micros { median, slowest, dir } = fsync(&folder.path().join("a/b")) else { panic!() };
        assert!(median <= slowest && dir == folder.path().display().to_string(), "{dir}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn facts_of_another_root_are_read_from_there() {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 50 kB\n"),
            ("proc/1/cgroup", "0::/kubepods/x\n"),
            ("proc/self/status", "CapEff:\t0000000000004000\n"),
            ("proc/sys/net/ipv4/tcp_mem", "1\t2\t3\n"),
            ("proc/sys/fs/file-nr", "7\t0\t9\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let facts = facts(&Root::new(folder.path()), folder.path());
        assert_eq!(facts.memory.map(|memory| memory.available_bytes), Some(50 * 1024));
        assert!(facts.container && facts.ipc_lock);
        assert_eq!((facts.sysctls.tcp_mem, facts.sysctls.files_open), (Some([1, 2, 3]), Some(7)));
        assert_eq!((facts.sysctls.somaxconn, facts.conntrack.map(|table| table.max)), (None, Some(262_144)));
    }
}
