//! What was seen of the server from beside the run, as parts of a report.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{CpuPart, MemoryPart, Moved, PhaseMark, Sample, ThreadPart};
use crate::host::metrics::Series;
use crate::progress::{Seen, Step};

/// Counters of the server that tell how much work a run was.
const WORK: &[&str] = &[
    "roost_connections_opened_total",
    "roost_frames_received_total",
    "roost_frames_sent_total",
    "roost_received_bytes_total",
    "roost_sent_bytes_total",
    "roost_writes_total",
    "roost_fanouts_total",
    "roost_deliveries_total",
    "roost_router_entries_total",
    "roost_router_appends_total",
    "roost_tls_handshakes_total",
    "roost_quic_handshakes_total",
    "roost_quic_datagrams_sent_total",
    "roost_quic_datagrams_received_total",
];
/// What is said of a process's threads beyond this many is no news.
const THREADS_MAX: usize = 32;

impl Seen {
    /// Seconds of a moment since the load began; negative before that.
    fn seconds(&self, at: Instant) -> f64 {
        let zero = self.zero.unwrap_or(at);
        let seconds = match at.checked_duration_since(zero) {
            Some(after) => after.as_secs_f64(),
            None => -zero.duration_since(at).as_secs_f64(),
        };
        (seconds * 1e3).round() / 1e3
    }

    /// Steps with their ends, and whether they are of the load or around it.
    fn stretches(&self) -> impl Iterator<Item = (&Step, Instant)> {
        let ends = self.steps.iter().skip(1).map(|next| next.began).chain(self.ended);
        self.steps.iter().zip(ends)
    }

    /// The steps as phases. Those that took no time to speak of are left out, and those before anybody looked.
    pub(crate) fn phases(&self) -> Vec<PhaseMark> {
        if self.zero.is_none() {
            return Vec::new();
        }
        let looked = self.watched.as_ref().and_then(|watched| watched.looks.first()).map(|look| look.at);
        let seen = self.stretches().filter(|(step, _)| looked.is_none_or(|looked| step.began >= looked));
        let marks = seen.map(|(step, end)| PhaseMark {
            name: step.name.clone(),
            from_s: self.seconds(step.began),
            to_s: self.seconds(end),
        });
        marks.filter(|mark| mark.to_s - mark.from_s > 0.02).collect()
    }

    /// The steps around the load, and the phases of the load itself where it says what they are.
    pub(crate) fn phases_around(&self, load: &[PhaseMark]) -> Vec<PhaseMark> {
        let steps = self.phases();
        let (Some(first), Some(last)) = (load.first(), load.last()) else { return steps };
        // A step of the load begins and ends a little beside the phases in it.
        const BESIDE_S: f64 = 0.1;
        let before = steps.iter().filter(|step| step.to_s <= first.from_s + BESIDE_S && step.from_s < first.from_s);
        let after = steps.iter().filter(|step| {
            let named = step.name == "load" || load.iter().any(|phase| phase.name == step.name);
            step.from_s >= last.to_s - BESIDE_S && !named
        });
        before.chain(load).chain(after).cloned().collect()
    }

    /// One sample for each look but the first.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let Some(watched) = &self.watched else { return Vec::new() };
        let pairs = watched.looks.windows(2).filter_map(|pair| {
            let seconds = pair[1].at.duration_since(pair[0].at).as_secs_f64();
            // A part of a second holds too few ticks to tell anything.
            if seconds < 0.5 {
                return None;
            }
            let cores = |from: u64, to: u64| (to.saturating_sub(from) as f64 / 1e6 / seconds).round() / 1e3;
            let server = pair[0].server.zip(pair[1].server);
            let own = pair[0].own.zip(pair[1].own);
            Some(Sample {
                at_s: self.seconds(pair[1].at),
                user_cores: server.map(|(from, to)| cores(from.user_ns, to.user_ns)),
                system_cores: server.map(|(from, to)| cores(from.system_ns, to.system_ns)),
                generator_cores: own.map(|(from, to)| cores(from.user_ns + from.system_ns, to.user_ns + to.system_ns)),
                rss_bytes: pair[1].rss_bytes,
                slab_bytes: pair[1].slab_bytes,
                tcp_bytes: pair[1].tcp_bytes,
                sessions: pair[1].sessions,
            })
        });
        pairs.collect()
    }

    /// CPU time of the server in each of `phases`. `counted` says what a phase's time was spent on.
    pub(crate) fn cpu(
        &self,
        phases: &[PhaseMark],
        counted: impl Fn(&PhaseMark) -> Option<(&'static str, u64)>,
    ) -> Vec<CpuPart> {
        let (Some(watched), Some(zero)) = (&self.watched, self.zero) else { return Vec::new() };
        let at = |seconds: f64| {
            let span = std::time::Duration::from_secs_f64(seconds.abs());
            if seconds < 0.0 { zero.checked_sub(span) } else { zero.checked_add(span) }
        };
        let parts = phases.iter().filter_map(|phase| {
            let (user_us, system_us) = watched.cpu_us_between(at(phase.from_s)?, at(phase.to_s)?)?;
            let counted = counted(phase);
            Some(CpuPart {
                phase: phase.name.clone(),
                seconds: ((phase.to_s - phase.from_s) * 1e3).round() / 1e3,
                user_us: user_us.round(),
                system_us: system_us.round(),
                per: counted.map(|(what, _)| what.to_owned()),
                count: counted.map_or(0, |(_, count)| count),
            })
        });
        parts.collect()
    }

    /// Counters that moved, the most telling first.
    pub(crate) fn counters(&self) -> Vec<Moved> {
        self.watched.as_ref().map(|watched| moved(&watched.before, &watched.after)).unwrap_or_default()
    }

    /// The generator's threads, the busiest first; those that slept are no news.
    pub(crate) fn threads(&self) -> Vec<ThreadPart> {
        let threads = self.watched.iter().flat_map(|watched| &watched.threads);
        let hundredth = |share: f64| (share * 100.0).round() / 100.0;
        let mut parts: Vec<_> = threads
            .filter(|thread| thread.seconds > 0.0 && thread.cpu_seconds > 0.001)
            .map(|thread| ThreadPart {
                name: thread.name.clone(),
                cpu: hundredth(thread.cpu_seconds / thread.seconds),
                cpu_max: hundredth(thread.busiest),
            })
            .collect();
        parts.sort_by(|a, b| b.cpu.total_cmp(&a.cpu).then(b.cpu_max.total_cmp(&a.cpu_max)));
        parts.truncate(THREADS_MAX);
        parts
    }

    /// Bytes of a session by part: what is the server's own, and the kernel's by what it is for. The kernel's part is an
    /// estimate (see the note in the report); how it falls apart follows the growth of the caches that can be read.
    pub(crate) fn memory(&self, user: Option<f64>, kernel: Option<f64>, sessions: u64) -> Vec<MemoryPart> {
        let mut parts = Vec::new();
        let mut part = |of: &str, name: &str, bytes: f64| {
            if bytes >= 0.5 {
                parts.push(MemoryPart { of: of.into(), name: name.into(), bytes: bytes.round() });
            }
        };
        let tls = self.watched.as_ref().and_then(|watched| watched.tls_bytes_per_session);
        if let Some(user) = user {
            let tls = tls.unwrap_or(0.0).min(user);
            part("user", "server", user - tls);
            part("tls", "TLS", tls);
        }
        let Some(kernel) = kernel.filter(|_| sessions > 0) else { return parts };
        let none = BTreeMap::new();
        let slabs = self.watched.as_ref().map_or(&none, |watched| &watched.slabs);
        // Both ends of a connection are on this host.
        let each = |bytes: u64| bytes as f64 / 2.0 / sessions as f64;
        let known: f64 = slabs.values().map(|bytes| each(*bytes)).sum();
        let scale = if known > kernel { kernel / known } else { 1.0 };
        for (group, bytes) in slabs {
            part("kernel", group, each(*bytes) * scale);
        }
        let rest = if slabs.is_empty() { "sockets and buffers" } else { "buffers and other slabs" };
        part("kernel", rest, kernel - known * scale);
        parts
    }
}

/// Counters that rose, refusals first. Gauges and histograms say nothing this way.
fn moved(before: &Series, after: &Series) -> Vec<Moved> {
    let rises = after.iter().filter_map(|(name, now)| {
        let metric = name.split('{').next()?;
        if !metric.ends_with("_total") {
            return None;
        }
        let rise = now - before.get(name).copied().unwrap_or(0.0);
        let kind = kind(metric, name)?;
        (rise > 0.0).then(|| Moved { name: name.clone(), rise, kind: kind.to_owned() })
    });
    let mut moved: Vec<_> = rises.collect();
    let rank = |kind: &str| ["refusal", "limit", "loss", "work"].iter().position(|known| *known == kind);
    moved.sort_by(|a, b| rank(&a.kind).cmp(&rank(&b.kind)).then(b.rise.total_cmp(&a.rise)));
    moved
}

/// What a counter tells of; `None` for those that are no news.
fn kind(metric: &str, series: &str) -> Option<&'static str> {
    let has = |parts: &[&str]| parts.iter().any(|part| metric.contains(part));
    // Connections that their clients end are no news; nor are turns that left work for the next.
    if series.contains("reason=\"peer\"") || has(&["shard_turns", "fanout_slices"]) {
        return None;
    }
    if WORK.contains(&metric) {
        return Some("work");
    }
    if has(&["refused", "_errors", "throttles", "handshakes_failed", "turned_away"]) {
        return Some("refusal");
    }
    if has(&["dropped", "overflowed", "overloads", "pauses", "behind", "held_back", "aged", "too_large", "exhausted"]) {
        return Some("limit");
    }
    if has(&["doubts", "_failed", "lost", "gaps", "silences", "websocket_closes"]) {
        return Some("loss");
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::metrics::parse;
    use crate::host::watch::Watched;

    fn seen() -> Seen {
        let begin = Instant::now();
        let step = |name: &str, second: u64| Step { name: name.into(), began: begin + Duration::from_secs(second) };
        Seen {
            steps: vec![step("connecting", 0), step("load", 2), step("reading the logs", 12)],
            zero: Some(begin + Duration::from_secs(2)),
            ended: Some(begin + Duration::from_secs(13)),
            watched: None,
        }
    }

    #[test]
    fn steps_become_phases_around_second_0() {
        let marks: Vec<_> = seen().phases().into_iter().map(|phase| (phase.name, phase.from_s, phase.to_s)).collect();
        let expected = [("connecting", -2.0, 0.0), ("load", 0.0, 10.0), ("reading the logs", 10.0, 11.0)]
            .map(|(name, from, to)| (name.to_owned(), from, to));
        assert_eq!(marks, expected);
    }

    #[test]
    fn phases_of_the_load_stand_in_its_place() {
        let mark = |name: &str, from_s, to_s| PhaseMark { name: name.into(), from_s, to_s };
        let load = [mark("ramp", 0.0, 4.0), mark("steady", 4.0, 10.0)];
        let names: Vec<_> = seen().phases_around(&load).into_iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["connecting", "ramp", "steady", "reading the logs"]);
        assert_eq!(seen().phases_around(&[]), seen().phases());
    }

    #[test]
    fn counters_that_rose_are_told_refusals_first() {
        let before = parse("roost_throttles_total 3\nroost_frames_sent_total 10\nroost_sessions_open 5\n");
        let after = parse(
            "roost_throttles_total 4\nroost_frames_sent_total 500\nroost_sessions_open 9\n\
             roost_deliveries_dropped_total{reason=\"behind\"} 7\nroost_connections_refused_total{reason=\"full\"} 2\n\
             roost_websocket_closes_total{reason=\"peer\"} 100\nroost_doubts_total 0\n",
        );
        let told: Vec<_> = moved(&before, &after).into_iter().map(|moved| (moved.kind, moved.rise)).collect();
        let expected = [("refusal", 2.0), ("refusal", 1.0), ("limit", 7.0), ("work", 490.0)];
        assert_eq!(told, expected.map(|(kind, rise)| (kind.to_owned(), rise)));
    }

    #[test]
    fn parts_of_memory_add_up_to_what_was_measured() {
        let slabs = [("TCP sockets", 4_000_000), ("polls", 1_000_000)].into();
        for (kernel, sessions) in [(4000.0, 1000), (1000.0, 1000)] {
            let watched = Watched { slabs: BTreeMap::clone(&slabs), ..Watched::default() };
            let parts = Seen { watched: Some(watched), ..Seen::default() }.memory(Some(2000.0), Some(kernel), sessions);
            let sum: f64 = parts.iter().map(|part| part.bytes).sum();
            assert!((sum - 2000.0 - kernel).abs() <= 2.0, "{parts:?}");
            assert_eq!(parts[0], MemoryPart { of: "user".into(), name: "server".into(), bytes: 2000.0 });
        }
        assert_eq!(Seen::default().memory(None, None, 10), []);
        let watched = Watched { tls_bytes_per_session: Some(344.0), ..Watched::default() };
        let parts = Seen { watched: Some(watched), ..Seen::default() }.memory(Some(2000.0), None, 10);
        let told: Vec<_> = parts.iter().map(|part| (part.of.as_str(), part.bytes)).collect();
        assert_eq!(told, [("user", 1656.0), ("tls", 344.0)]);
    }
}
