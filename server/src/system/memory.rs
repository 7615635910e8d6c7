//! How much memory there is for this process, and how much of it is left: the machine's and its control groups'.

use std::path::PathBuf;

use serde::Serialize;

use super::Root;

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// What the machine has, or less where a control group has a lower limit.
    pub(crate) total_bytes: u64,
    /// What can be taken before the kernel must kill: free, and held by files that can be read again.
    pub(crate) available_bytes: u64,
}

impl Memory {
    /// The scarcer of both.
    fn or_less(self, other: Self) -> Self {
        Self {
            total_bytes: self.total_bytes.min(other.total_bytes),
            available_bytes: self.available_bytes.min(other.available_bytes),
        }
    }
}

/// The control groups that this process is in, the innermost first.
#[derive(Debug)]
pub(crate) struct Groups(Vec<Group>);

#[derive(Debug)]
struct Group {
    dir: PathBuf,
    files: &'static Files,
}

/// How the files of a group are called.
#[derive(Debug)]
struct Files {
    /// The lowest of these that are there is the limit.
    limits: &'static [&'static str],
    usage: &'static str,
    /// In `memory.stat`: pages of files, those not used lately first.
    inactive: &'static str,
    active: &'static str,
}

const V2: Files = Files {
    // Above `memory.high` the group is slowed down until it stands still.
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    inactive: "inactive_file",
    active: "active_file",
};
const V1: Files = Files {
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
    active: "total_active_file",
};

impl Groups {
    /// Looks where this process is; a process is never moved by the container runtimes and init systems there are.
    pub(crate) fn find(root: &Root) -> Self {
        let told = root.text("/proc/self/cgroup").unwrap_or_default();
        let mut groups = Vec::new();
        for line in told.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let (mounts, files): (&[&str], _) = match controllers {
                "" => (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], &V2),
                _ if controllers.split(',').any(|name| name == "memory") => (&["/sys/fs/cgroup/memory"], &V1),
                _ => continue,
            };
            for mount in mounts {
                groups.extend(upwards(path).map(|path| Group { dir: root.at(mount).join(path), files }));
            }
        }
        groups.retain(|group| group.usage().is_some());
        Self(groups)
    }

    /// What is left now. `None`: the kernel does not tell.
    pub(crate) fn memory(&self, root: &Root) -> Option<Memory> {
        let machine = root.text("/proc/meminfo").and_then(|text| machine(&text));
        machine.into_iter().chain(self.0.iter().filter_map(Group::memory)).reduce(Memory::or_less)
    }
}

impl Group {
    fn usage(&self) -> Option<u64> {
        self.number(self.files.usage)
    }

    /// `None`: it has no limit.
    fn memory(&self) -> Option<Memory> {
        let limit_bytes = self.files.limits.iter().filter_map(|file| self.number(file)).min()?;
        let stat = std::fs::read_to_string(self.dir.join("memory.stat")).unwrap_or_default();
        let of = |name: &str| number_after(&stat, name).unwrap_or(0);
        // As MemAvailable is reckoned: half of what is in use by files is wanted again at once.
        let files_bytes = of(self.files.inactive) + of(self.files.active) / 2;
        let used_bytes = self.usage()?.saturating_sub(files_bytes);
        Some(Memory { total_bytes: limit_bytes, available_bytes: limit_bytes.saturating_sub(used_bytes) })
    }

    /// `None`: there is no such file, or it says `max`.
    fn number(&self, file: &str) -> Option<u64> {
        std::fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }
}

/// `/a/b`, `/a` and `/`, without the slash in front. Where a group is told by its name on the host, the mount shows
/// only its own, which is the last of these.
fn upwards(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_start_matches('/');
    std::iter::successors(Some(path), |path| Some(path.rsplit_once('/').map_or("", |(above, _)| above)))
        .scan(false, |was_root, path| (!std::mem::replace(was_root, path.is_empty())).then_some(path))
}

/// What `/proc/meminfo` says.
fn machine(meminfo: &str) -> Option<Memory> {
    let bytes = |name: &str| number_after(meminfo, name).map(|kib| kib * 1024);
    Some(Memory { total_bytes: bytes("MemTotal:")?, available_bytes: bytes("MemAvailable:")? })
}

/// The number in the line that begins with the word `name`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const GIB: u64 = 1 << 30;
    const MEMINFO: &str = "MemTotal:       8388608 kB\nMemFree:  1 kB\nMemAvailable:   4194304 kB\nBuffers: 3 kB\n";

    /// A machine with these files.
    fn machine_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files.iter().chain([&("proc/meminfo", MEMINFO)]) {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::new(folder.path());
        (folder, root)
    }

    fn memory(files: &[(&str, &str)]) -> Option<Memory> {
        let (_folder, root) = machine_with(files);
        Groups::find(&root).memory(&root)
    }

    #[test]
    fn what_is_left_is_the_least_of_the_machine_and_of_every_group() {
        let machine = Memory { total_bytes: 8 * GIB, available_bytes: 4 * GIB };
        let of = |total_bytes, available_bytes| Memory { total_bytes, available_bytes };
        for (name, files, want) in [
            ("no groups", vec![], machine),
            (
                "a container: its group is the root that it sees",
                vec![
                    ("proc/self/cgroup", "0::/\n"),
                    ("sys/fs/cgroup/memory.max", "1073741824\n"),
                    ("sys/fs/cgroup/memory.high", "max\n"),
                    ("sys/fs/cgroup/memory.current", "805306368\n"),
                    ("sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 134217728\nactive_file 268435456\n"),
                ],
                of(GIB, GIB / 2),
            ),
            (
                "named as on the host, of which the mount shows nothing but the group",
                vec![
                    ("proc/self/cgroup", "0::/docker/0ac4\n"),
                    ("sys/fs/cgroup/memory.max", "1073741824"),
                    ("sys/fs/cgroup/memory.current", "1"),
                ],
                of(GIB, GIB - 1),
            ),
            (
                "no limit",
                vec![
                    ("proc/self/cgroup", "0::/"),
                    ("sys/fs/cgroup/memory.max", "max"),
                    ("sys/fs/cgroup/memory.current", "805306368"),
                ],
                machine,
            ),
            (
                "a group above has the lower limit",
                vec![
                    ("proc/self/cgroup", "0::/system.slice/roost.service"),
                    ("sys/fs/cgroup/system.slice/roost.service/memory.max", "6442450944"),
                    ("sys/fs/cgroup/system.slice/roost.service/memory.current", "1073741824"),
                    ("sys/fs/cgroup/system.slice/memory.max", "2147483648"),
                    ("sys/fs/cgroup/system.slice/memory.current", "1610612736"),
                ],
                of(2 * GIB, GIB / 2),
            ),
            (
                "the mark above which a group is slowed down",
                vec![
                    ("proc/self/cgroup", "0::/"),
                    ("sys/fs/cgroup/memory.max", "2147483648"),
                    ("sys/fs/cgroup/memory.high", "1073741824"),
                    ("sys/fs/cgroup/memory.current", "1073741825"),
                ],
                of(GIB, 0),
            ),
            (
                "version 1",
                vec![
                    ("proc/self/cgroup", "5:devices:/\n4:cpu,memory:/job/1\n0::/\n"),
                    ("sys/fs/cgroup/memory/job/1/memory.limit_in_bytes", "2147483648"),
                    ("sys/fs/cgroup/memory/job/1/memory.usage_in_bytes", "1073741824"),
                    ("sys/fs/cgroup/memory/job/1/memory.stat", "inactive_file 5\ntotal_inactive_file 1073741824\n"),
                ],
                of(2 * GIB, 2 * GIB),
            ),
        ] {
            assert_eq!(memory(&files), Some(want), "{name}");
        }
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_not_guessed() {
        assert_eq!(machine("MemTotal: 5 kB\n"), None);
        assert_eq!(
            Groups::find(&Root::new(Path::new("/nonexistent"))).memory(&Root::new(Path::new("/nonexistent"))),
            None
        );
    }

    #[test]
    fn every_group_above_is_looked_at_once() {
        assert_eq!(upwards("/a/b").collect::<Vec<_>>(), ["a/b", "a", ""]);
        assert_eq!(upwards("/").collect::<Vec<_>>(), [""]);
    }
}
