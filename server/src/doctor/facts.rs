//! What is looked at. Plain numbers, so that findings can be made of the facts of any machine.

use serde::Serialize;

use crate::system::Memory;

/// A machine, as far as it bears on sessions. `None`: it does not tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    /// As `6.1.0-18-amd64`.
    pub(crate) kernel: Option<String>,
    /// It runs in a container: limits are set by flags of its runtime, sysctls on the host or by flags.
    pub(crate) container: bool,
    /// Cores that threads may run on, a CPU limit of a control group counted.
    pub(crate) cores: usize,
    pub(crate) memory: Option<Memory>,
    /// `RLIMIT_NOFILE`.
    pub(crate) descriptors: Limit,
    /// `RLIMIT_MEMLOCK` in bytes.
    pub(crate) memlock: Limit,
    /// CAP_IPC_LOCK: rings do not count against it.
    pub(crate) ipc_lock: bool,
    pub(crate) io_uring: IoUring,
    pub(crate) sysctls: Sysctls,
    pub(crate) conntrack: Option<Conntrack>,
    /// `always`, `madvise` or `never`.
    pub(crate) huge_pages: Option<String>,
    /// Of the kernel: `tsc`, `kvm-clock`, …
    pub(crate) clock: Option<String>,
    /// Of the data directory.
    pub(crate) fsync: Fsync,
}

/// A limit of this process. `None`: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Limit {
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

impl Limit {
    /// What the server raises it to.
    pub(crate) fn reach(self) -> u64 {
        self.hard.unwrap_or(u64::MAX)
    }
}

/// Whether the driver can use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IoUring {
    Works,
    /// A policy forbids it: of a container's runtime, or a sysctl.
    Forbidden(String),
    /// There is none, or not all that is needed.
    Unfit(String),
}

/// Numbers under `/proc/sys`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sysctls {
    pub(crate) file_max: Option<u64>,
    /// Descriptors in use on the whole machine.
    pub(crate) files_open: Option<u64>,
    pub(crate) nr_open: Option<u64>,
    pub(crate) somaxconn: Option<u64>,
    pub(crate) syn_backlog: Option<u64>,
    pub(crate) device_backlog: Option<u64>,
    /// In pages of 4 KiB.
    pub(crate) tcp_mem: Option<[u64; 3]>,
    pub(crate) tcp_rmem: Option<[u64; 3]>,
    pub(crate) tcp_wmem: Option<[u64; 3]>,
    pub(crate) port_range: Option<[u64; 2]>,
    pub(crate) overcommit: Option<u64>,
    pub(crate) io_uring_disabled: Option<u64>,
}

/// The kernel tracks connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Conntrack {
    pub(crate) max: u64,
    /// Tracked now.
    pub(crate) count: u64,
}

/// How long a small write takes to be durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fsync {
    /// The median and the slowest of some, in microseconds, and where they were taken.
    Micros { median: u64, slowest: u64, dir: String },
    /// It cannot be written there, and why.
    Failed(String),
}
