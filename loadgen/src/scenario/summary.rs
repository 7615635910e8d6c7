//! What a scenario would do, in words and numbers.

use std::fmt::Write as _;
use std::time::Duration;

use super::compile::Compiled;
use super::needs::Needs;
use super::spec::{Spec, Time};
use super::{Load, Scenario};
use crate::plan::{Kind, Plan};
use crate::report::draw::thousands;
use crate::schedule::Course;

/// Above so many sessions the plan is not drawn to count conversations.
const DRAWN_MAX: u32 = 200_000;

/// A few lines about it.
pub(crate) fn of(spec: &Spec) -> String {
    let compiled = spec.compile();
    let needs = Needs::of(&compiled);
    let mut text = format!("{}\n", spec.name);
    if !spec.about.is_empty() {
        text += &format!("  {}\n", spec.about.trim());
    }
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<12}{value}");
    };
    match &compiled {
        Compiled::Full(scenario) => full(spec, scenario, &mut row),
        #[cfg(target_os = "linux")]
        Compiled::Lean(plan) => {
            row("sessions", format!("{} by {}, lean clients", number(plan.connections.into()), plan.transport.words()));
            row("connecting", format!("{:.0} per second", plan.connects_per_second));
            let mut does = Vec::new();
            if !plan.hold.is_zero() {
                does.push(format!("held {}", Time(plan.hold)));
            }
            if let Some(broadcast) = plan.broadcast {
                let deliveries = u64::from(broadcast.publishes) * u64::from(plan.connections);
                let (publishes, rate) = (broadcast.publishes, broadcast.publishes_per_second);
                does.push(format!(
                    "{publishes} messages to everybody, {rate} per second, {} deliveries",
                    number(deliveries)
                ));
            }
            if let Some(echo) = plan.echo {
                does.push(format!("echo {}", Time(echo.hold)));
            }
            if let Some(storm) = plan.storm {
                does.push(format!("all drop at once and come back over {}", Time(storm.window)));
            }
            if plan.drain {
                does.push("the server is asked to leave".into());
            }
            row("then", does.join("; "));
        }
    }
    let mega = |bytes: u64| number(bytes.div_ceil(1 << 20));
    row(
        "memory",
        format!("about {} MiB here, and {} MiB of a server of its own", mega(needs.bytes), mega(needs.server_bytes)),
    );
    row("descriptors", number(needs.descriptors));
    if !spec.thresholds.is_empty() {
        row("held to", spec.thresholds.join(", "));
    }
    text
}

fn full(spec: &Spec, scenario: &Scenario, row: &mut impl FnMut(&str, String)) {
    for (crowd, population) in scenario.crowds.iter().zip(&spec.population) {
        let mut line = format!("{} by {}", number(crowd.clients().into()), crowd.transport.words());
        if population.connected < 1.0 || population.users != f64::from(crowd.users) {
            line += &format!(", of {} users", number(population.users.round() as u64));
        }
        if crowd.devices > 1 {
            line += &format!(", {} devices each", crowd.devices);
        }
        if let Some(behaviour) = &population.behaviour {
            line += &format!(", {behaviour}");
        }
        row(&crowd.name, line);
    }
    let messages = messages(scenario);
    if scenario.clients <= DRAWN_MAX {
        let plan = Plan::draw(scenario);
        let count = |kind| plan.conversations.iter().filter(|planned| planned.kind == kind).count() as u64;
        let (direct, groups, channels) = (count(Kind::Direct), count(Kind::Group), count(Kind::Channel));
        row(
            "talk in",
            format!(
                "{} direct conversations, {} groups, {} channels",
                number(direct),
                number(groups),
                number(channels)
            ),
        );
    }
    match scenario.load {
        Load::Open { .. } => {
            let peak = scenario.phases.iter().map(|phase| phase.pace).fold(0.0, f64::max) * scenario.sends_per_second();
            row("messages", format!("about {}, at most {peak:.1} per second", number(messages.round() as u64)));
        }
        Load::Closed { .. } => row("messages", "each when the one before it was acknowledged".into()),
        Load::Idle { .. } => row("messages", "none".into()),
    }
    let names: Vec<&str> = scenario.phases.iter().map(|phase| phase.name.as_str()).collect();
    row("phases", format!("{} in {}", names.join(", "), Time(rounded(scenario.load.hold()))));
    if scenario.sdk_share > 0.0 {
        let clients = (f64::from(scenario.users()) * scenario.sdk_share).ceil();
        row("SDK", format!("{} clients", number(clients as u64)));
    }
}

/// Messages that are meant to be sent if everybody stays awake.
fn messages(scenario: &Scenario) -> f64 {
    let there = |online: (f64, f64), pace: (f64, f64)| {
        // The integral of a product of two straight lines.
        (online.0 * pace.0 + online.1 * pace.1) / 3.0 + (online.0 * pace.1 + online.1 * pace.0) / 6.0
    };
    let legs = Course::of(scenario).legs;
    let seconds = legs.iter().map(|leg| (leg.to_ns - leg.from_ns) as f64 / 1e9 * there(leg.online, leg.pace));
    seconds.sum::<f64>() * scenario.sends_per_second()
}

fn rounded(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// With a space between thousands.
fn number(value: u64) -> String {
    thousands(&value.to_string(), ' ')
}
