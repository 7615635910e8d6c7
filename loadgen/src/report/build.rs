//! From what came of a run of chat clients to its report and verdict.

use crate::engine::Outcome;
use crate::host::Environment;
use crate::host::process::PerSession;
use crate::progress::{Seen, time};
use crate::report::{
    AnonymousBytes, Curves, Deliveries, Engine, FORMAT, Generator, Logs, PhaseMark, Quantiles, Report, Resident, Sdk,
    Sends, Server, Sessions, curve,
};
use crate::scenario::{Load, Protocol, Scenario};
use crate::verdict::{Facts, GENERATOR_CPU_MAX, GENERATOR_LATE_US_MAX, Verdict, generator_limited};

const MEMORY_NOTE: &str = "User bytes: growth of the server's anonymous memory (RssAnon) from no sessions to all sessions \
    idle, divided by sessions. Kernel bytes: an estimate. The growth of this host's slabs and TCP buffers, halved, because \
    both ends of every connection are here; with few sessions it drowns in what else the host does.";

/// What is known of the server beside what came of the run.
#[derive(Debug, Default)]
pub(crate) struct ServerFacts {
    pub address: String,
    pub own: bool,
    pub pid: Option<u32>,
    pub version: Option<String>,
    /// Both ends of the connections are on this host.
    pub here: bool,
    /// What was seen of it from beside the run.
    pub seen: Seen,
}

/// Puts a report together.
pub(crate) fn report(
    scenario: &Scenario,
    outcome: &Outcome,
    server: ServerFacts,
    threads: u32,
    environment: Environment,
) -> Report {
    let counts = outcome.total.counts;
    let seconds = outcome.load_time.as_secs_f64().max(1e-9);
    let mut generator = generator(scenario, outcome, threads);
    generator.by_thread = server.seen.threads();
    let phases = server.seen.phases_around(&outcome.phases);
    let mut report = Report {
        format: FORMAT.into(),
        engine: Engine::Full,
        name: scenario.name.clone(),
        protocol: word(&scenario.protocol),
        transport: scenario.by(),
        verdict: Verdict::Pass,
        exit_code: 0,
        reasons: Vec::new(),
        valid: true,
        partial: outcome
            .partial
            .clone()
            .or_else(|| outcome.interrupted.then(|| "stopped by Ctrl-C or a signal".into())),
        sessions: Sessions {
            wanted: scenario.clients.into(),
            held: outcome.held,
            failed: u64::from(scenario.clients) - outcome.entered.min(scenario.clients.into()),
            dropped: counts.dropped,
            lost: outcome.entered.saturating_sub(outcome.held).min(counts.dropped),
            left: counts.left,
            returned: counts.returned,
            migrated: counts.migrated,
            ends: outcome.ends.clone(),
        },
        setup: None,
        connect_us: Quantiles::of(&outcome.total.connect),
        hold: None,
        heartbeats: None,
        sends: Some(Sends {
            intended: counts.intended,
            sent: counts.sent,
            answers: counts.answers,
            unsent: counts.unsent,
            acknowledged: counts.acknowledged,
            refused: counts.refused,
            unanswered: outcome.unanswered + counts.cut_off,
            per_second: tenth(counts.acknowledged as f64 / seconds),
        }),
        deliveries: Some(Deliveries {
            expected: outcome.expected,
            pushed: counts.delivered,
            per_second: tenth(counts.delivered as f64 / seconds),
            missing: outcome.missing_pushes,
            left_out: counts.behind,
            ..Deliveries::default()
        }),
        delivery_us: Quantiles::of(&outcome.total.delivery),
        first_delivery_us: Quantiles::default(),
        last_delivery_us: Quantiles::default(),
        ack_us: Quantiles::of(&outcome.total.ack),
        echo: None,
        storm: None,
        drain: None,
        sdk: outcome.sdk.as_ref().map(Sdk::from),
        lost: Some(outcome.judgement.lost),
        duplicated: counts.duplicated + outcome.judgement.doubled,
        reordered: counts.reordered,
        garbled: counts.garbled + outcome.judgement.contradictions,
        caught_up: Some(counts.caught_up),
        unverified: Some(outcome.judgement.unverified + outcome.missing),
        losses: outcome.judgement.losses.clone(),
        logs: Some(Logs {
            conversations_read: outcome.judgement.conversations_read,
            entries_read: outcome.judgement.entries_read,
        }),
        errors: outcome.total.errors.iter().map(|(code, count)| (code.to_string(), *count)).collect(),
        server: server_part(outcome, server, &phases),
        generator,
        workers: Vec::new(),
        thresholds: Vec::new(),
        environment,
        scenario: serde_json::to_value(scenario).expect("a scenario is plain data"),
        digest: Some(outcome.digest.clone()).filter(|digest| !digest.is_empty()),
        load_seconds: Some(scenario.load.hold().as_secs_f64()),
        phases,
        series: outcome.series.seconds().to_vec(),
        curves: Curves {
            ack: curve(&outcome.total.ack),
            delivery: curve(&outcome.total.delivery),
            connect: curve(&outcome.total.connect),
            ..Curves::default()
        },
        beside: Vec::new(),
    };
    judge(&mut report, scenario, outcome);
    report
}

/// The name that a value of an enum has in a report.
pub(crate) fn word(of: &impl serde::Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Holds the report to its thresholds and gives the verdict.
fn judge(report: &mut Report, scenario: &Scenario, outcome: &Outcome) {
    report.hold_to(&scenario.thresholds);
    let generator = &report.generator;
    let facts = Facts {
        unreachable: outcome.partial.is_some(),
        broken: report.lost.unwrap_or(0) + report.duplicated + report.reordered + report.garbled > 0
            || report.sdk.as_ref().is_some_and(Sdk::is_broken),
        generator_limited: generator_limited(generator.cpu, generator.late_p99_us),
        threshold_failed: report.thresholds.iter().any(|held| !held.well),
        interrupted: outcome.interrupted,
    };
    report.conclude(facts, reasons(report, scenario, facts));
}

impl Sdk {
    /// Something was not as it must be.
    const fn is_broken(&self) -> bool {
        self.missing + self.duplicated + self.reordered + self.garbled > 0
    }
}

impl From<&crate::sdk::Outcome> for Sdk {
    fn from(seen: &crate::sdk::Outcome) -> Self {
        Self {
            clients: seen.clients,
            entered: seen.entered,
            sent: seen.sent,
            acknowledged: seen.acknowledged,
            delivered: seen.delivered,
            missing: seen.missing,
            duplicated: seen.duplicated,
            reordered: seen.reordered,
            garbled: seen.garbled,
            ack_us: Quantiles::of(&seen.ack),
            delivery_us: Quantiles::of(&seen.delivery),
            connect_us: Quantiles::of(&seen.connect),
            failures: seen.failures.clone(),
        }
    }
}

fn reasons(report: &Report, scenario: &Scenario, facts: Facts) -> Vec<String> {
    let mut reasons = Vec::new();
    if facts.interrupted {
        reasons.push("Stopped before its end: what follows is what was measured until then.".into());
    }
    if let Some(why) = report.partial.as_ref().filter(|_| facts.unreachable) {
        reasons.push(format!("Only a part: {why}."));
    }
    if report.sdk.as_ref().is_some_and(Sdk::is_broken) {
        reasons.push("Clients of the SDK saw entries missing, twice, out of order or changed.".into());
    }
    let faults = [
        (report.lost.unwrap_or(0), "acknowledged messages are not in the log"),
        (report.duplicated, "messages came or stand twice"),
        (report.reordered, "pushes came out of order"),
        (report.garbled, "entries hold something else than was sent"),
    ];
    reasons.extend(report.reasons(facts, &faults));
    if reasons.is_empty() {
        reasons.push(match (&scenario.load, scenario.protocol) {
            (Load::Idle { .. }, _) => "All sessions were held.".into(),
            (_, Protocol::Plain) => {
                "Every threshold holds. This server acknowledges nothing, so nothing was proved about losses.".into()
            }
            _ => "Everything acknowledged is in the log, was delivered once and in order, and every threshold holds."
                .into(),
        });
    }
    reasons
}

impl Report {
    /// What speaks against the run: of `faults` those that were counted, the generator, thresholds.
    pub(crate) fn reasons(&self, facts: Facts, faults: &[(u64, &str)]) -> Vec<String> {
        let counted = faults.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}."));
        let failed = self.thresholds.iter().filter(|held| !held.well);
        let failed = failed.map(|held| format!("Threshold {} failed: it is {}.", held.threshold, held.shown()));
        counted.chain(self.generator.reasons(facts)).chain(failed).collect()
    }
}

impl Generator {
    /// Why the generator was the limit, if it was.
    fn reasons(&self, facts: Facts) -> Vec<String> {
        let mut reasons = Vec::new();
        if !facts.generator_limited {
            return reasons;
        }
        if self.cpu > GENERATOR_CPU_MAX {
            let (cpu, max) = (self.cpu * 100.0, GENERATOR_CPU_MAX * 100.0);
            reasons.push(format!(
                "The generator used {cpu:.0} % of its cores (limit {max:.0} %): give it more --threads or load less."
            ));
        }
        if let Some(late) = self.late_p99_us.filter(|late| *late > GENERATOR_LATE_US_MAX) {
            let (late, max) = (time(late), time(GENERATOR_LATE_US_MAX));
            reasons.push(format!("The generator was late: {late} at the 99th percentile (limit {max})."));
        }
        reasons
    }
}

impl Report {
    /// The verdict, and what follows from it.
    pub(crate) fn conclude(&mut self, facts: Facts, reasons: Vec<String>) {
        self.verdict = Verdict::of(facts);
        self.exit_code = self.verdict.exit_code();
        self.valid = !facts.generator_limited;
        self.generator.valid = self.valid;
        self.reasons = reasons;
    }
}

fn generator(scenario: &Scenario, outcome: &Outcome, threads: u32) -> Generator {
    let time = outcome.load_time.as_nanos() as f64 * f64::from(threads);
    let open = matches!(scenario.load, Load::Open { .. });
    let late_us = Quantiles::of(&outcome.total.late);
    Generator {
        valid: true,
        threads,
        rings: None,
        bytes_per_client: None,
        cpu: if time > 0.0 { (outcome.generator_cpu_ns as f64 / time * 1e4).round() / 1e4 } else { 0.0 },
        by_thread: Vec::new(),
        late_p99_us: late_us.p99.filter(|_| open),
        late_us,
        unsent: outcome.total.counts.unsent,
        cpu_max: GENERATOR_CPU_MAX,
        late_p99_us_max: GENERATOR_LATE_US_MAX,
    }
}

fn server_part(outcome: &Outcome, server: ServerFacts, phases: &[PhaseMark]) -> Server {
    let PerSession { user_bytes, kernel_bytes } =
        PerSession::between(outcome.before, outcome.connected, outcome.entered, server.here);
    let cpu = outcome.load_end.cpu_ns.zip(outcome.load_begin.cpu_ns);
    let cpu_us = cpu.map(|(end, begin)| end.saturating_sub(begin) as f64 / 1e3);
    let counts = outcome.total.counts;
    let delivered = counts.delivered as f64;
    let deliveries = (delivered > 0.0).then_some(delivered);
    let load_us = outcome.load_time.as_micros() as f64;
    let counted = |phase: &PhaseMark| match phase.name.as_str() {
        "connecting" => Some(("session", outcome.entered)),
        name if outcome.phases.len() == 1 && outcome.phases[0].name == name => Some(("delivery", counts.delivered)),
        name if outcome.phases.iter().any(|of_load| of_load.name == name) => {
            Some(("delivery", outcome.series.delivered_between(phase.from_s, phase.to_s)))
        }
        _ => None,
    };
    let seen = &server.seen;
    let samples = seen.samples();
    let last = samples.iter().rev().find_map(|sample| sample.rss_bytes);
    Server {
        user_bytes_per_session: user_bytes.map(f64::round),
        anonymous_bytes_per_session: user_bytes.map(f64::round),
        kernel_bytes_per_session: kernel_bytes.map(f64::round),
        host_bytes_per_session: None,
        memory_note: MEMORY_NOTE.into(),
        memory: seen.memory(user_bytes, kernel_bytes, outcome.entered),
        cpu_us_per_delivery: cpu_us.zip(deliveries).map(|(us, deliveries)| (us / deliveries * 100.0).round() / 100.0),
        deliveries_per_cpu_second: cpu_us
            .filter(|us| *us > 0.0)
            .zip(deliveries)
            .map(|(us, deliveries)| (deliveries / us * 1e6).round()),
        cpu_cores: cpu_us.filter(|_| load_us > 0.0).map(|us| (us / load_us * 1e3).round() / 1e3),
        cpu: seen.cpu(phases, counted),
        rss_bytes: Resident { without_sessions: None, idle: None, at_the_end: last },
        anonymous_bytes: AnonymousBytes {
            without_sessions: outcome.before.anonymous_bytes,
            with_sessions: outcome.connected.anonymous_bytes,
            after_load: outcome.load_end.anonymous_bytes,
        },
        counters: seen.counters(),
        samples,
        address: server.address,
        own: server.own,
        pid: server.pid,
        version: server.version,
    }
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
