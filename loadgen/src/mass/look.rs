//! Looks at what the server, this process and the kernel use, from /proc.

use serde::Serialize;

use crate::host::process::{Reading, meminfo, status, threads_cpu_ns, tick_ns};

/// One look. `None`: not known.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Look {
    /// Of the server: all that is resident, and what of it is anonymous.
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) anonymous_bytes: Option<u64>,
    /// Its CPU time, in whole ticks; and that of the threads that it has now, which is exact.
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) threads_cpu_ns: Option<u64>,
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
            threads_cpu_ns: server.and_then(threads_cpu_ns),
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
    /// CPU time of the server since `before`, in nanoseconds; `None` if it is not known.
    ///
    /// Ticks tell it to a hundredth of a second, which is a good part of a short stage. Threads tell it exactly, but for
    /// those that ended meanwhile: then the two differ by more than ticks can.
    pub(crate) fn cpu_growth_ns(&self, before: &Self) -> Option<f64> {
        let whole = self.growth(before, |look| look.cpu_ns)?;
        let exact = self.growth(before, |look| look.threads_cpu_ns);
        // What runs at the moment is told a tick late, at either end.
        let close = 2.0 * tick_ns() as f64;
        Some(exact.filter(|exact| (exact - whole).abs() <= close).unwrap_or(whole))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn cpu_time_is_that_of_threads_unless_some_of_them_ended() {
        let look = |cpu, threads| Look { cpu_ns: Some(cpu), threads_cpu_ns: threads, ..Look::default() };
        let before = look(50 * MS, Some(31 * MS));
        for (name, after, growth) in [
            ("exact", look(60 * MS, Some(36 * MS)), 5 * MS),
            ("a thread ended", look(150 * MS, Some(20 * MS)), 100 * MS),
            ("not told", look(60 * MS, None), 10 * MS),
        ] {
            assert_eq!(after.cpu_growth_ns(&before), Some(growth as f64), "{name}");
        }
        assert_eq!(Look::default().cpu_growth_ns(&before), None);
    }

    #[test]
    fn the_cpu_time_of_a_process_is_told_in_less_than_ticks() {
        let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let pid = Some(busy.id());
        let mut last = Look::take(pid);
        let told = last.threads_cpu_ns.is_some();
        let growths = std::iter::repeat_with(|| {
            let now = Look::take(pid);
            let growth = now.cpu_growth_ns(&last);
            last = now;
            growth
        });
        let least = growths.flatten().filter(|growth| *growth > 0.0).take(20).fold(f64::INFINITY, f64::min);
        busy.kill().unwrap();
        busy.wait().unwrap();
        if told {
            assert!(least < tick_ns() as f64, "{least} ns");
        }
    }
}
