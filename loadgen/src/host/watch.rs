//! Looks at the server and at this process while a run goes on: once a second at /proc, every few seconds at the server's
//! own counters. Elsewhere than on Linux there are the counters alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::metrics::{self, Series};
use super::process::{Times, meminfo, status, tcp_bytes, times};
use super::slab;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Counters are asked for at every so many looks.
const SCRAPE_EVERY: u32 = 4;
/// And at this one: the connections of a short run are there by then.
const SCRAPE_FIRST: u32 = 2;
/// Looks kept; then every other one is let go and the rest are taken half as often. A week is not read by the second.
const LOOKS_MAX: usize = 20_000;

/// One look. `None`: not known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub at: Instant,
    /// CPU times since the processes began.
    pub server: Option<Times>,
    pub own: Option<Times>,
    pub rss_bytes: Option<u64>,
    /// Of the whole host: unreclaimable slabs, and buffers of TCP.
    pub slab_bytes: Option<u64>,
    pub tcp_bytes: Option<u64>,
    /// Open sessions, as the server counted them last.
    pub sessions: Option<u64>,
}

/// How busy a thread of this process was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Thread {
    pub name: String,
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// The largest share of a second spent on a CPU, 0 to 1.
    pub busiest: f64,
}

/// What was seen from beginning to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    pub looks: Vec<Look>,
    /// Counters of the server before and after; empty if they are not known.
    pub before: Series,
    pub after: Series,
    /// What the server says that TLS keeps for a session; `None` if it does not, or there was none.
    pub tls_bytes_per_session: Option<f64>,
    /// Growth of the kernel's caches for connections, from the first look to that at which they were largest.
    pub slabs: BTreeMap<&'static str, u64>,
    pub threads: Vec<Thread>,
}

/// Goes on looking until [`Watch::end`], or until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Arc<Mutex<State>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    watched: Watched,
    slabs_before: Option<BTreeMap<&'static str, u64>>,
    threads: BTreeMap<i32, Known>,
    /// Looks between two that are kept.
    stride: usize,
    taken: usize,
}

#[derive(Debug)]
struct Known {
    name: String,
    since: Instant,
    first_ns: u64,
    last: (Instant, u64),
    busiest: f64,
}

impl Watch {
    /// Begins with a look at the process `pid`, at the host, and at the counters of `admin`.
    pub(crate) fn start(pid: Option<u32>, admin: Option<SocketAddr>) -> Self {
        let mut state = State { stride: 1, ..State::default() };
        state.watched.before = admin.and_then(metrics::scrape).unwrap_or_default();
        state.look(pid, None);
        let seen = Arc::new(Mutex::new(state));
        let (stop, stopped) = channel();
        let shared = Arc::clone(&seen);
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            for round in 1_u32.. {
                if stopped.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                // Not under the lock: a server under load may take its time.
                let told = admin
                    .filter(|_| round == SCRAPE_FIRST || round.is_multiple_of(SCRAPE_EVERY))
                    .and_then(metrics::scrape);
                let mut state = lock(&shared);
                state.look(pid, told.as_ref());
                if let Some(told) = told {
                    state.watched.after = told;
                }
            }
        });
        // Without a thread there is the first look alone.
        Self { seen, stop: Some(stop), thread: thread.ok() }
    }

    /// The two last looks, for what stands on the terminal meanwhile.
    pub(crate) fn last(&self) -> (Option<Look>, Option<Look>) {
        let state = lock(&self.seen);
        let mut looks = state.watched.looks.iter().rev().copied();
        let last = looks.next();
        (looks.next(), last)
    }

    /// Looks once more and tells everything.
    pub(crate) fn end(mut self, pid: Option<u32>, admin: Option<SocketAddr>) -> Watched {
        self.stop();
        let told = admin.and_then(metrics::scrape);
        let mut state = lock(&self.seen);
        state.look(pid, told.as_ref());
        if let Some(told) = told {
            state.watched.after = told;
        }
        let threads = std::mem::take(&mut state.threads).into_values().map(|known| Thread {
            name: known.name,
            seconds: known.last.0.duration_since(known.since).as_secs_f64(),
            cpu_seconds: known.last.1.saturating_sub(known.first_ns) as f64 / 1e9,
            busiest: known.busiest,
        });
        let threads = threads.collect();
        Watched { threads, ..std::mem::take(&mut state.watched) }
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has told what it saw.
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A panic while it was held left nothing half done.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn look(&mut self, pid: Option<u32>, told: Option<&Series>) {
        let before = self.watched.looks.last().and_then(|look| look.sessions);
        if let Some(told) = told {
            let of = |metric| metrics::sum(told, metric).filter(|value| *value > 0.0);
            if let (Some(bytes), Some(open)) = (of("roost_tls_session_bytes"), of("roost_tls_sessions_open")) {
                self.watched.tls_bytes_per_session = Some(bytes / open);
            }
        }
        let sessions = told.and_then(|series| metrics::sum(series, "roost_sessions_open")).map(|open| open as u64);
        let look = Look {
            at: Instant::now(),
            server: pid.and_then(times),
            own: times(std::process::id()),
            rss_bytes: pid.and_then(|pid| status(pid, "VmRSS:")),
            slab_bytes: meminfo("SUnreclaim:"),
            tcp_bytes: tcp_bytes(),
            sessions: sessions.or(before),
        };
        self.taken += 1;
        if self.taken.is_multiple_of(self.stride.max(1)) {
            self.watched.looks.push(look);
        }
        if self.watched.looks.len() >= LOOKS_MAX {
            let mut at = 0;
            self.watched.looks.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride *= 2;
        }
        self.look_at_slabs();
        self.look_at_threads();
    }

    fn look_at_slabs(&mut self) {
        let mut now: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (name, bytes) in slab::read() {
            if let Some(group) = slab::of_connections(&name) {
                *now.entry(group).or_default() += bytes;
            }
        }
        let before = self.slabs_before.get_or_insert_with(|| now.clone());
        let growth: BTreeMap<_, _> = now
            .iter()
            .map(|(group, bytes)| (*group, bytes.saturating_sub(before.get(group).copied().unwrap_or(0))))
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
        if growth.values().sum::<u64>() > self.watched.slabs.values().sum::<u64>() {
            self.watched.slabs = growth;
        }
    }

    fn look_at_threads(&mut self) {
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return };
        let now = Instant::now();
        for task in tasks.flatten() {
            let read = |name: &str| std::fs::read_to_string(task.path().join(name)).ok();
            let id = task.file_name().to_str().and_then(|id| id.parse::<i32>().ok());
            let ns = read("schedstat").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
            let (Some(id), Some(ns)) = (id, ns) else { continue };
            let Some(known) = self.threads.get_mut(&id) else {
                let name = read("comm").unwrap_or_default().trim().to_owned();
                self.threads.insert(id, Known { name, since: now, first_ns: ns, last: (now, ns), busiest: 0.0 });
                continue;
            };
            let time_ns = now.duration_since(known.last.0).as_nanos() as f64;
            // A look right after another says nothing: what ran is told by the scheduler's tick.
            if time_ns > LOOK_EVERY.as_nanos() as f64 / 2.0 {
                known.busiest = known.busiest.max((ns.saturating_sub(known.last.1) as f64 / time_ns).min(1.0));
            }
            known.last = (now, ns);
        }
    }
}

impl Watched {
    /// CPU times of the server from one moment to another, in µs, told from the looks around them; `None` where it was
    /// not looked at.
    pub(crate) fn cpu_us_between(&self, from: Instant, to: Instant) -> Option<(f64, f64)> {
        let (a, b) = (self.times_at(from)?, self.times_at(to)?);
        Some(((b.0 - a.0).max(0.0), (b.1 - a.1).max(0.0)))
    }

    fn times_at(&self, at: Instant) -> Option<(f64, f64)> {
        let known: Vec<(Instant, Times)> = self.looks.iter().filter_map(|look| Some((look.at, look.server?))).collect();
        let after = known.partition_point(|(look, _)| *look <= at);
        let us = |times: Times| (times.user_ns as f64 / 1e3, times.system_ns as f64 / 1e3);
        match (after.checked_sub(1).map(|before| known[before]), known.get(after)) {
            (Some((_, times)), None) | (None, Some(&(_, times))) => Some(us(times)),
            (Some((from, a)), Some(&(to, b))) => {
                let share = at.duration_since(from).as_secs_f64() / to.duration_since(from).as_secs_f64().max(1e-9);
                let (a, b) = (us(a), us(b));
                Some((a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share))
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_of_a_stretch_is_told_from_the_looks_around_it() {
        let begin = Instant::now();
        let look = |second: u64, user_ms: u64| Look {
            at: begin + Duration::from_secs(second),
            server: Some(Times { user_ns: user_ms * 1_000_000, system_ns: user_ms * 500_000 }),
            own: None,
            rss_bytes: None,
            slab_bytes: None,
            tcp_bytes: None,
            sessions: None,
        };
        let watched = Watched { looks: vec![look(0, 0), look(1, 100), look(2, 300)], ..Watched::default() };
        let between = |from: f64, to: f64| {
            watched.cpu_us_between(begin + Duration::from_secs_f64(from), begin + Duration::from_secs_f64(to)).unwrap()
        };
        assert_eq!(between(0.0, 2.0), (300_000.0, 150_000.0));
        let (user, system) = between(0.5, 1.5);
        assert!((user - 150_000.0).abs() < 1.0 && (system - 75_000.0).abs() < 1.0, "{user} {system}");
        // Before and after there was nothing to see.
        assert_eq!(between(2.0, 9.0), (0.0, 0.0));
        assert_eq!(Watched::default().cpu_us_between(begin, begin), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_watch_sees_this_process_and_its_threads() {
        let watch = Watch::start(Some(std::process::id()), None);
        std::thread::sleep(LOOK_EVERY + LOOK_EVERY / 4);
        assert!(watch.last().0.is_some());
        let watched = watch.end(Some(std::process::id()), None);
        assert!(watched.looks.len() >= 3);
        assert!(
            watched.looks.iter().all(|look| look.server.is_some() && look.rss_bytes.is_some_and(|bytes| bytes > 0))
        );
        assert!(watched.threads.iter().any(|thread| thread.name == "watch"), "{:?}", watched.threads);
        assert!(watched.before.is_empty() && watched.after.is_empty());
    }
}
