//! Looks at what the server, this process and the kernel use, from /proc.

use serde::Serialize;

use crate::host::process::{Reading, meminfo, status};

/// One look. `None`: not known.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Look {
    /// Of the server: all that is resident, and what of it is anonymous.
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) anonymous_bytes: Option<u64>,
    pub(crate) cpu_ns: Option<u64>,
    /// Of this process.
    pub(crate) own_rss_bytes: Option<u64>,
    pub(crate) own_cpu_ns: Option<u64>,
    /// Of the host: slab memory that the kernel cannot give up (sockets, files, polls), and TCP buffers.
    pub(crate) slab_bytes: Option<u64>,
    pub(crate) tcp_bytes: Option<u64>,
    pub(crate) available_bytes: Option<u64>,
}

impl Look {
    /// Looks at the process `server`, if it is known, and at the rest.
    pub(crate) fn take(server: Option<u32>) -> Self {
        let reading = Reading::take(server);
        let own = Reading::take(Some(std::process::id()));
        Self {
            rss_bytes: server.and_then(|pid| status(pid, "VmRSS:")),
            anonymous_bytes: reading.anonymous_bytes,
            cpu_ns: reading.cpu_ns,
            own_rss_bytes: status(std::process::id(), "VmRSS:"),
            own_cpu_ns: own.cpu_ns,
            slab_bytes: meminfo("SUnreclaim:"),
            tcp_bytes: reading.tcp_bytes,
            available_bytes: meminfo("MemAvailable:"),
        }
    }

    /// How much `of` grew since `before`; `None` if one of them is not known.
    pub(crate) fn growth(&self, before: &Self, of: fn(&Self) -> Option<u64>) -> Option<f64> {
        Some(of(self)? as f64 - of(before)? as f64)
    }
}
