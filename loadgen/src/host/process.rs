//! What a process and the kernel's network use, read from /proc. Elsewhere than on Linux nothing is known.

use serde::Serialize;

/// A look at a process and at the kernel. `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Reading {
    /// Anonymous memory that is in use: heap and stacks.
    pub anonymous_bytes: Option<u64>,
    /// CPU time since the process began, its threads that ended included.
    pub cpu_ns: Option<u64>,
    /// Slab memory of the whole host: sockets, their descriptors, epoll items.
    pub slab_bytes: Option<u64>,
    /// Memory of TCP buffers of the whole host.
    pub tcp_bytes: Option<u64>,
}

impl Reading {
    /// Looks at the process `pid`, or only at the kernel.
    pub(crate) fn take(pid: Option<u32>) -> Self {
        Self {
            anonymous_bytes: pid.and_then(|pid| status(pid, "RssAnon:")),
            cpu_ns: pid.and_then(cpu),
            slab_bytes: meminfo("Slab:"),
            tcp_bytes: tcp_bytes(),
        }
    }
}

/// What a session takes, from a look without and a look with `sessions` of them.
///
/// The kernel's part is an estimate. Both ends of every connection are on this host, and take about the same; half of
/// the growth of the host's slabs and TCP buffers is counted as the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PerSession {
    pub user_bytes: Option<f64>,
    pub kernel_bytes: Option<f64>,
}

impl PerSession {
    pub(crate) fn between(without: Reading, with: Reading, sessions: u64, here: bool) -> Self {
        if sessions == 0 {
            return Self::default();
        }
        let growth = |of: fn(Reading) -> Option<u64>| Some(of(with)? as f64 - of(without)? as f64);
        let per = |bytes: f64| bytes.max(0.0) / sessions as f64;
        let kernel = growth(|reading| Some(reading.slab_bytes? + reading.tcp_bytes?));
        Self {
            user_bytes: growth(|reading| reading.anonymous_bytes).map(per),
            kernel_bytes: kernel.filter(|_| here).map(|bytes| per(bytes / 2.0)),
        }
    }
}

/// Bytes of a line of /proc/meminfo.
pub(crate) fn meminfo(name: &str) -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, name)
}

/// Bytes of a line of a process's status.
pub(crate) fn status(pid: u32, name: &str) -> Option<u64> {
    kibibytes(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, name)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// CPU time of a process, its threads that ended included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// In its own code, and in the kernel on its behalf.
    pub user_ns: u64,
    pub system_ns: u64,
}

/// In hundredths of a second, or whatever a tick is here.
pub(crate) fn times(pid: u32) -> Option<Times> {
    let (user, system) = ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(Times { user_ns: user * tick_ns(), system_ns: system * tick_ns() })
}

fn cpu(pid: u32) -> Option<u64> {
    times(pid).map(|times| times.user_ns + times.system_ns)
}

/// CPU time of the threads of a process that live now, in nanoseconds. `None` where the kernel does not tell it.
pub(crate) fn threads_cpu_ns(pid: u32) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let each = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
    each.map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// The unit in which the kernel tells the CPU time of a whole process.
pub(crate) fn tick_ns() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second()
}

/// User and system time of /proc/PID/stat. The name of the process may hold blanks and brackets.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ').skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Memory of TCP buffers of the whole host.
pub(crate) fn tcp_bytes() -> Option<u64> {
    let pages = tcp_pages(&std::fs::read_to_string("/proc/net/sockstat").ok()?)?;
    Some(pages * rustix::param::page_size() as u64)
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    line.split(' ').skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_as_the_kernel_writes_them() {
        assert_eq!(kibibytes("VmRSS:\t  10 kB\nRssAnon:\t    2048 kB\n", "RssAnon:"), Some(2048 * 1024));
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 4 0 100 1 2";
        assert_eq!(ticks(stat), Some((31, 11)));
        let sockstat = "sockets: used 40\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 17\nUDP: inuse 1 mem 3\n";
        assert_eq!(tcp_pages(sockstat), Some(17));
        assert_eq!(tcp_pages(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_read() {
        let reading = Reading::take(Some(std::process::id()));
        assert!(reading.anonymous_bytes.is_some_and(|bytes| bytes > 0));
        assert!(reading.cpu_ns.is_some() && reading.slab_bytes.is_some() && reading.tcp_bytes.is_some());
        assert_eq!(Reading::take(Some(u32::MAX)).cpu_ns, None);
    }

    #[test]
    fn half_of_the_kernels_growth_is_the_servers() {
        let reading = |anonymous, slab| Reading {
            anonymous_bytes: Some(anonymous),
            cpu_ns: None,
            slab_bytes: Some(slab),
            tcp_bytes: Some(0),
        };
        let per = PerSession::between(reading(1000, 0), reading(11_000, 80_000), 10, true);
        assert_eq!((per.user_bytes, per.kernel_bytes), (Some(1000.0), Some(4000.0)));
        let remote = PerSession::between(Reading::default(), reading(1, 1), 10, false);
        assert_eq!((remote.user_bytes, remote.kernel_bytes), (None, None));
        assert_eq!(PerSession::between(reading(5, 0), reading(1, 0), 1, true).user_bytes, Some(0.0));
    }
}
