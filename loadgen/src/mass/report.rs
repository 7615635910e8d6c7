//! From what was measured of many clients to the report and its verdict.

use hdrhistogram::Histogram;

use super::gaps::{Gap, LISTED_MAX};
use super::look::Look;
use super::plan::{Broadcast, Plan, Regime};
use super::run::{Measured, Outcome, What};
use super::tally::Tally;
use crate::host::Environment;
use crate::ledger::Loss;
use crate::recorder::record;
use crate::report::build::{ServerFacts, word};
use crate::report::{
    AnonymousBytes, Curves, Deliveries, Drain, Echo, Engine, FORMAT, Generator, Heartbeats, Hold, PhaseMark, Quantiles,
    Report, Resident, Server, Sessions, Setup, Storm, curve,
};
use crate::scenario::Dialect;
use crate::verdict::{Facts, GENERATOR_CPU_MAX, GENERATOR_LATE_US_MAX, Verdict, generator_limited};

const MEMORY_NOTE: &str = "User bytes: growth of the server's resident memory (VmRSS) from no sessions to all sessions idle, divided \
    by sessions: everything counts. Kernel bytes: growth of the host's unreclaimable slabs and TCP buffers, halved, because both ends \
    of every connection are here and take about the same. Host bytes: what became unavailable on the host, both ends together.";
/// A ramp that reached so much of its rate was not limited by anybody.
const RATE_SHARE_WELL: f64 = 0.95;

/// Puts a report together.
pub(crate) fn report(
    plan: &Plan,
    outcome: &Outcome,
    tickets_used: Option<u64>,
    server: ServerFacts,
    threads: u32,
    environment: Environment,
) -> Report {
    let mut total = Tally::default();
    outcome.stages.iter().for_each(|stage| total.merge(&stage.tally));
    let counts = total.counts;
    let publish = outcome.stage(What::Publish);
    let empty = Tally::default();
    let published = publish.map_or(&empty, |stage| &stage.tally);
    let (first, last) = spreads(published);
    let ramp = outcome.stage(What::Ramp).map_or(&empty, |stage| &stage.tally);
    let echoed = outcome.stage(What::Echo).map_or(&empty, |stage| &stage.tally);
    let phases = server.seen.phases();
    let mut generator = generator(plan, outcome, threads);
    generator.by_thread = server.seen.threads();
    let mut report = Report {
        format: FORMAT.into(),
        engine: Engine::Lean,
        name: plan.name.to_string(),
        protocol: word(&plan.protocol),
        transport: plan.transport.words().to_owned() + &plan.impairment.words(),
        verdict: Verdict::Pass,
        exit_code: 0,
        reasons: Vec::new(),
        valid: true,
        partial: outcome
            .gone
            .as_ref()
            .or(outcome.stopped.as_ref())
            .cloned()
            .or(outcome.interrupted.then(|| "stopped by Ctrl-C or a signal".into())),
        sessions: Sessions {
            wanted: plan.connections.into(),
            held: outcome.stage(What::Hold).or(outcome.stage(What::Ramp)).map_or(0, |stage| stage.live),
            failed: counts.given_up,
            dropped: counts.lost,
            lost: counts.lost,
            left: 0,
            returned: 0,
            migrated: counts.migrated,
            ends: total.ends.clone(),
        },
        setup: Some(Setup { tickets_used, ..setup(plan, outcome) }),
        connect_us: Quantiles::of(&ramp.setup),
        hold: outcome.stage(What::Hold).map(hold),
        heartbeats: Some(Heartbeats {
            every_ms: u64::try_from(plan.heartbeat.as_millis()).unwrap_or(u64::MAX),
            sent: counts.beats_sent,
            answered: counts.beats_answered,
            unanswered: counts.beats_unanswered,
            answer_us: Quantiles::of(&total.beat),
        }),
        sends: None,
        deliveries: publish.zip(plan.broadcast).map(|(stage, broadcast)| deliveries(stage, broadcast, outcome)),
        delivery_us: Quantiles::of(&published.delivery),
        first_delivery_us: Quantiles::of(&first),
        last_delivery_us: Quantiles::of(&last),
        ack_us: Quantiles::of(&published.answer),
        echo: outcome.stage(What::Echo).map(echo),
        storm: outcome.stage(What::Storm).zip(plan.storm).map(|(stage, storm)| Storm {
            how: word(&storm.how),
            window_seconds: storm.window.as_secs_f64(),
            dropped: stage.tally.ends.get("dropped by the storm").copied().unwrap_or(0),
            seconds: thousandth(stage.seconds),
            returned: stage.tally.counts.entered,
            failed: stage.tally.counts.given_up,
            attempts_failed: stage.tally.counts.attempts_failed,
            turned_away: stage.tally.counts.turned_away,
            told_when: stage.tally.counts.told_when,
            return_us: Quantiles::of(&stage.tally.setup),
            server_cpu_us_per_session: per(cpu_us(stage), stage.tally.counts.entered),
        }),
        drain: outcome.stage(What::Drain).map(|stage| Drain {
            sessions: before(outcome, What::Drain),
            goaways: stage.tally.counts.goaways,
            seconds: thousandth(stage.seconds),
            left: stage.live,
            ends: stage.tally.ends.clone(),
        }),
        sdk: None,
        lost: None,
        duplicated: counts.doubled,
        reordered: counts.reordered,
        garbled: counts.garbled,
        caught_up: None,
        unverified: None,
        losses: losses(published, &outcome.channel),
        logs: None,
        errors: total.errors.iter().map(|(code, count)| (code.to_string(), *count)).collect(),
        server: server_part(outcome, server, &phases),
        generator,
        workers: Vec::new(),
        thresholds: Vec::new(),
        environment,
        scenario: serde_json::to_value(plan).expect("a plan is plain data"),
        digest: None,
        load_seconds: None,
        phases,
        series: outcome.series.seconds().to_vec(),
        curves: Curves {
            ack: curve(&published.answer),
            delivery: curve(&published.delivery),
            connect: curve(&ramp.setup),
            echo: curve(&echoed.answer),
        },
        beside: Vec::new(),
    };
    judge(&mut report, plan, outcome);
    report
}

fn setup(plan: &Plan, outcome: &Outcome) -> Setup {
    let Some(stage) = outcome.stage(What::Ramp) else {
        return Setup { per_second_wanted: plan.connects_per_second, ..Setup::default() };
    };
    let counts = stage.tally.counts;
    let cpu_us = per(cpu_us(stage), counts.entered);
    let own_us = stage.after.growth(&stage.before, |look| look.own_cpu_ns).map(|ns| ns / 1e3);
    Setup {
        per_second_wanted: plan.connects_per_second,
        per_second: (counts.entered as f64 / stage.seconds.max(1e-9)).round(),
        seconds: thousandth(stage.seconds),
        attempts_failed: counts.attempts_failed,
        turned_away: counts.turned_away,
        told_when: counts.told_when,
        tickets_used: None,
        server_cpu_us: cpu_us,
        per_server_cpu_second: cpu_us.filter(|us| *us > 0.0).map(|us| (1e6 / us).round()),
        generator_cpu_us: per(own_us, counts.entered),
    }
}

fn hold(stage: &Measured) -> Hold {
    let percent = |of: fn(&Look) -> Option<u64>| {
        let ns = stage.after.growth(&stage.before, of)?;
        Some((ns / 1e7 / stage.seconds.max(1e-9) * 100.0).round() / 100.0)
    };
    Hold {
        seconds: thousandth(stage.seconds),
        sessions: stage.live,
        server_cpu_percent_of_a_core: percent(|look| look.cpu_ns),
        generator_cpu_percent_of_a_core: percent(|look| look.own_cpu_ns),
    }
}

/// What sessions were not pushed, each by its entry of the channel: as many as are listed.
fn losses(tally: &Tally, channel: &str) -> Vec<Loss> {
    // Rows that are open end with what was published.
    let last = u32::try_from(tally.counts.published).unwrap_or(Gap::OPEN);
    let mut gaps = tally.losses.clone();
    gaps.sort_unstable();
    let entries = gaps.iter().flat_map(|gap| (gap.first_seq..=gap.last_seq.min(last)).map(|seq| (gap.client, seq)));
    let loss = |(client, seq): (u32, u32)| Loss {
        conv: channel.to_owned(),
        seq: seq.into(),
        sender: 0,
        serial: seq - 1,
        why: format!("not pushed to client {client}").into(),
    };
    entries.take(LISTED_MAX).map(loss).collect()
}

fn deliveries(stage: &Measured, broadcast: Broadcast, outcome: &Outcome) -> Deliveries {
    let counts = stage.tally.counts;
    let subscribers = outcome.stage(What::Subscribe).map_or(0, |stage| stage.tally.counts.subscribed);
    let expected = subscribers * counts.published;
    // Without what came twice, which is told apart.
    let missing = expected.saturating_sub(counts.pushed);
    // From the first intended time to the last push: the wait for what did not come says nothing.
    let spreads = stage.tally.spreads.values();
    let begun = spreads.clone().map(|spread| spread.intended_ns).min().unwrap_or(0);
    let ended = spreads.map(|spread| spread.last_ns).max().unwrap_or(0);
    let seconds = ended.saturating_sub(begun) as f64 / 1e9;
    let subscribe = outcome.stage(What::Subscribe);
    Deliveries {
        regime: Some(word(&regime(&stage.tally, broadcast))),
        subscribers: Some(subscribers),
        subscribes_repeated: Some(subscribe.map_or(0, |stage| stage.tally.counts.subscribes_repeated)),
        publishes: Some(counts.published),
        acknowledged: Some(counts.acknowledged),
        expected,
        pushed: counts.pushed,
        missing,
        left_out: counts.behind,
        per_second: if seconds > 0.0 { (counts.pushed as f64 / seconds).round() } else { 0.0 },
        seconds: Some(thousandth(seconds)),
    }
}

fn regime(tally: &Tally, broadcast: Broadcast) -> Regime {
    if broadcast.burst > 1 {
        return Regime::Bursts;
    }
    let mut spreads: Vec<_> = tally.spreads.values().collect();
    spreads.sort_by_key(|spread| spread.intended_ns);
    let overlap = spreads.windows(2).any(|pair| pair[1].intended_ns < pair[0].last_ns);
    if overlap { Regime::Overlapping } else { Regime::Paced }
}

/// Times from the intended time of each message to its first and to its last push.
fn spreads(tally: &Tally) -> (Histogram<u64>, Histogram<u64>) {
    let histogram = || Histogram::new(3).expect("three digits are allowed");
    let (mut first, mut last) = (histogram(), histogram());
    for spread in tally.spreads.values() {
        record(&mut first, spread.intended_ns, spread.first_ns);
        record(&mut last, spread.intended_ns, spread.last_ns);
    }
    (first, last)
}

fn echo(stage: &Measured) -> Echo {
    let counts = stage.tally.counts;
    let cpu_us = cpu_us(stage).filter(|us| *us > 0.0);
    Echo {
        echoed: counts.echoed,
        unanswered: counts.published.saturating_sub(counts.echoed),
        per_second: (counts.echoed as f64 / stage.seconds.max(1e-9)).round(),
        seconds: thousandth(stage.seconds),
        per_server_cpu_second: cpu_us.map(|us| (counts.echoed as f64 / us * 1e6).round()),
        echo_us: Quantiles::of(&stage.tally.answer),
    }
}

fn server_part(outcome: &Outcome, server: ServerFacts, phases: &[PhaseMark]) -> Server {
    let sessions = outcome.idle_sessions;
    let grown = |of: fn(&Look) -> Option<u64>| per(outcome.idle.growth(&outcome.before, of), sessions).map(f64::round);
    let kernel = grown(|look| Some(look.slab_bytes? + look.tcp_bytes?)).filter(|_| server.here);
    let kernel = kernel.map(|bytes| (bytes / 2.0).round());
    let user = grown(|look| look.rss_bytes);
    let available = outcome.before.growth(&outcome.idle, |look| look.available_bytes);
    let publish = outcome.stage(What::Publish);
    let cpu = publish.and_then(cpu_us);
    let pushed = publish.map_or(0, |stage| stage.tally.counts.pushed);
    let seen = &server.seen;
    Server {
        user_bytes_per_session: user,
        anonymous_bytes_per_session: grown(|look| look.anonymous_bytes),
        kernel_bytes_per_session: kernel,
        host_bytes_per_session: per(available, sessions).filter(|_| server.here).map(f64::round),
        memory_note: MEMORY_NOTE.into(),
        memory: seen.memory(user, kernel, sessions),
        cpu_us_per_delivery: per(cpu, pushed),
        deliveries_per_cpu_second: cpu.filter(|us| *us > 0.0).map(|us| (pushed as f64 / us * 1e6).round()),
        cpu_cores: judged(outcome).and_then(|stage| Some(thousandth(cpu_us(stage)? / 1e6 / stage.seconds.max(1e-9)))),
        cpu: seen.cpu(phases, |phase| counted(outcome, phase)),
        rss_bytes: Resident {
            without_sessions: outcome.before.rss_bytes,
            idle: outcome.idle.rss_bytes,
            at_the_end: outcome.stages.last().and_then(|stage| stage.before.rss_bytes),
        },
        anonymous_bytes: AnonymousBytes {
            without_sessions: outcome.before.anonymous_bytes,
            with_sessions: outcome.idle.anonymous_bytes,
            after_load: outcome.stages.last().and_then(|stage| stage.before.anonymous_bytes),
        },
        counters: seen.counters(),
        samples: seen.samples(),
        address: server.address,
        own: server.own,
        pid: server.pid,
        version: server.version,
    }
}

/// What the CPU time of a phase was spent on.
fn counted(outcome: &Outcome, phase: &PhaseMark) -> Option<(&'static str, u64)> {
    let stage = outcome.stages.iter().find(|stage| stage.what.phase() == phase.name)?;
    let counts = stage.tally.counts;
    let (what, count) = match stage.what {
        What::Ramp | What::Storm => ("session", counts.entered),
        What::Subscribe => ("subscription", counts.subscribed),
        What::Publish => ("delivery", counts.pushed),
        What::Echo => ("echo", counts.echoed),
        What::Hold => ("heartbeat", counts.beats_answered),
        What::Drain | What::Finish => return None,
    };
    Some((what, count))
}

/// The part of a run that a generator could have spoilt: the last one in which it had to be in time.
fn judged(outcome: &Outcome) -> Option<&Measured> {
    [What::Echo, What::Publish, What::Ramp].into_iter().find_map(|what| outcome.stage(what))
}

fn generator(plan: &Plan, outcome: &Outcome, threads: u32) -> Generator {
    let judged = judged(outcome);
    let cpu = judged.and_then(|stage| {
        let ns = stage.after.growth(&stage.before, |look| look.own_cpu_ns)?;
        Some(ns / 1e9 / stage.seconds.max(1e-9) / f64::from(threads))
    });
    let late_us = judged.map_or_else(Quantiles::default, |stage| Quantiles::of(&stage.tally.late));
    let bytes = outcome.idle.growth(&outcome.before, |look| look.own_rss_bytes);
    Generator {
        valid: true,
        threads,
        rings: Some(outcome.rings as u64),
        bytes_per_client: per(bytes, plan.connections.into()).map(f64::round),
        cpu: thousandth(cpu.unwrap_or(0.0)),
        by_thread: Vec::new(),
        unsent: 0,
        late_p99_us: late_us.p99,
        late_us,
        cpu_max: GENERATOR_CPU_MAX,
        late_p99_us_max: GENERATOR_LATE_US_MAX,
    }
}

/// Holds the report to its thresholds and gives the verdict.
fn judge(report: &mut Report, plan: &Plan, outcome: &Outcome) {
    report.hold_to(&plan.thresholds);
    let generator = &report.generator;
    // A ramp is only that: where it kept its rate, it was not too slow for what is judged after it.
    let ramp_is_judged = judged(outcome).is_none_or(|stage| stage.what == What::Ramp);
    let setup = report.setup.as_ref();
    let rate_kept = setup.is_some_and(|setup| setup.per_second >= setup.per_second_wanted * RATE_SHARE_WELL);
    let facts = Facts {
        unreachable: outcome.gone.is_some(),
        broken: report.duplicated + report.reordered + report.garbled > 0,
        generator_limited: generator_limited(generator.cpu, generator.late_p99_us) && !(ramp_is_judged && rate_kept),
        threshold_failed: report.thresholds.iter().any(|held| !held.well) || outcome.stopped.is_some(),
        interrupted: outcome.interrupted,
    };
    report.conclude(facts, reasons(report, plan, outcome, facts));
}

fn reasons(report: &Report, plan: &Plan, outcome: &Outcome, facts: Facts) -> Vec<String> {
    let mut reasons = Vec::new();
    if facts.interrupted {
        reasons.push("Stopped before its end: what follows is what was measured until then.".into());
    }
    reasons.extend(outcome.gone.iter().map(|why| format!("Only a part: {why}.")));
    reasons.extend(outcome.stopped.iter().map(|why| format!("Stopped before its end: {why}.")));
    let faults = [
        (report.duplicated, "messages came twice"),
        (report.reordered, "messages came after a later one"),
        (report.garbled, "pushes or answers hold something else than was sent"),
    ];
    reasons.extend(report.reasons(facts, &faults));
    if reasons.is_empty() {
        reasons.push(match plan.protocol {
            Dialect::Roost => "All sessions were held, every heartbeat was answered, and every push was right.".into(),
            _ => "All connections were held, and everything that came back was right.".into(),
        });
    }
    reasons
}

/// CPU time of the server in a part of the run, in µs.
fn cpu_us(stage: &Measured) -> Option<f64> {
    stage.after.cpu_growth_ns(&stage.before).map(|ns| ns / 1e3)
}

fn per(what: Option<f64>, count: u64) -> Option<f64> {
    what.filter(|_| count > 0).map(|what| (what.max(0.0) / count as f64 * 100.0).round() / 100.0)
}

/// Sessions when a part of the run began.
fn before(outcome: &Outcome, what: What) -> u64 {
    let stages = outcome.stages.iter().take_while(|stage| stage.what != what);
    stages.last().map_or(0, |stage| stage.live)
}

fn thousandth(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
