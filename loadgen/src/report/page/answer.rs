//! The first screen: what this machine carries, at what latency, what breaks first.

use super::super::draw::{bytes, escape};
use super::super::{Engine, Quantiles, Report, number};
use super::limits;
use crate::progress::time;

/// The most sessions and the most deliveries of a second of the load, where that is more than there was at its end.
fn most(report: &Report) -> (u64, u64) {
    let load = report.load_seconds.map_or(u64::MAX, |seconds| seconds.ceil() as u64);
    let seconds = || report.series.iter().filter(|second| second.second < load);
    let live = seconds().filter_map(|second| second.live).max().unwrap_or(0);
    (live.max(report.sessions.held), seconds().map(|second| second.delivered).max().unwrap_or(0))
}

/// What this machine carried, in a sentence or two of HTML.
pub(super) fn sentence(report: &Report) -> String {
    let (live, busiest) = most(report);
    let sessions = match live > report.sessions.held {
        true => format!("up to {}", number(live as f64)),
        false => number(live as f64),
    };
    let machine = if report.valid { "This machine" } else { "As far as the generator went, this machine" };
    let mut sentence = match report {
        Report { echo: Some(echo), .. } => format!(
            "{machine} carried <b>{sessions}</b> connections and sent back <b>{}</b> messages a second{}.",
            number(echo.per_second),
            p99(", 99\u{a0}% of them within ", &echo.echo_us)
        ),
        Report { engine: Engine::Full, sends: Some(sends), deliveries: Some(deliveries), .. } if sends.intended > 0 => {
            let durable = match sends.acknowledged {
                0 => String::new(),
                _ => format!(", <b>{}</b> durable messages", number(sends.per_second)),
            };
            // A load with ups and downs is told by its busiest second as well.
            let busiest = match busiest as f64 > deliveries.per_second * 1.5 {
                true => format!(" on average, {} in the busiest second", number(busiest as f64)),
                false => String::new(),
            };
            format!(
                "{machine} carried <b>{sessions}</b> sessions{durable} and <b>{}</b> deliveries a second{busiest}{}.",
                number(deliveries.per_second),
                p99(", 99\u{a0}% of them within ", &report.delivery_us)
            )
        }
        Report { deliveries: Some(deliveries), .. } if deliveries.pushed > 0 => format!(
            "{machine} held <b>{sessions}</b> sessions and delivered <b>{}</b> messages a second to them{}.",
            number(deliveries.per_second),
            p99(", 99\u{a0}% of them within ", &report.delivery_us)
        ),
        _ => format!("{machine} held <b>{sessions}</b> sessions{}.", memory(report)),
    };
    if let Some(storm) = &report.storm {
        sentence += &format!(
            " All <b>{}</b> dropped at once and were back after <b>{:.1}\u{a0}s</b>.",
            number(storm.dropped as f64),
            storm.seconds
        );
    }
    if let Some(partial) = &report.partial {
        sentence += &format!(" The run is only a part: {}.", escape(partial));
    }
    let first = limits::first(report);
    if first.is_empty() { sentence } else { format!("{sentence} {first}") }
}

fn memory(report: &Report) -> String {
    let each = report.server.user_bytes_per_session;
    each.map_or(String::new(), |each| format!(", at <b>{}</b> of the server's memory each", bytes(each)))
}

fn p99(before: &str, times: &Quantiles) -> String {
    times.p99.map_or(String::new(), |us| format!("{before}<b>{}</b>", time(us)))
}

/// The figures that people ask for first.
pub(super) fn tiles(report: &Report) -> String {
    let unknown = || "–".to_owned();
    let some = |us: Option<u64>| us.map_or_else(unknown, time);
    let mut tiles = String::new();
    let mut tile = |name: &str, value: String, more: String| {
        let value = value.replace(' ', "\u{a0}");
        tiles += &format!("<div class=\"tile\"><span>{name}</span><b>{value}</b><small>{more}</small></div>");
    };
    let sessions = &report.sessions;
    let (wanted, by) = (number(sessions.wanted as f64), escape(&report.transport));
    let (live, _) = most(report);
    if live > sessions.held {
        let held = number(sessions.held as f64);
        tile("Sessions, at most", number(live as f64), format!("of {wanted}, {held} at the end, by {by}"));
    } else {
        tile("Sessions held", number(live as f64), format!("of {wanted} wanted, by {by}"));
    }
    if report.ack_us.count > 0 {
        tile("Acknowledged, p99", some(report.ack_us.p99), format!("median {}", some(report.ack_us.p50)));
    }
    if report.delivery_us.count > 0 {
        tile("Delivered, p99", some(report.delivery_us.p99), format!("median {}", some(report.delivery_us.p50)));
    }
    if let Some(echo) = &report.echo {
        tile("Echoed, p99", some(echo.echo_us.p99), format!("median {}", some(echo.echo_us.p50)));
    }
    if let (Some(lost), Some(sends)) = (report.lost, report.sends.as_ref().filter(|sends| sends.acknowledged > 0)) {
        tile("Lost", number(lost as f64), format!("of {} acknowledged", number(sends.acknowledged as f64)));
    }
    if let Some(setup) = &report.setup {
        let per_cpu = setup.per_server_cpu_second.map_or_else(unknown, number);
        tile("Set-up a second", number(setup.per_second), format!("{per_cpu} per CPU-second of the server"));
    }
    let server = &report.server;
    let known = |value: Option<f64>| value.map_or_else(unknown, bytes);
    tile(
        "Memory per session",
        known(server.user_bytes_per_session),
        format!("user; kernel about {}", known(server.kernel_bytes_per_session)),
    );
    if let Some(us) = server.cpu_us_per_delivery {
        let more = match server.cpu_cores {
            Some(cores) => format!("{cores:.2} cores busy"),
            None => format!("{} per CPU-second", server.deliveries_per_cpu_second.map_or_else(unknown, number)),
        };
        tile("Server CPU per delivery", format!("{us} µs"), more);
    }
    if let Some(percent) = report.hold.as_ref().and_then(|hold| hold.server_cpu_percent_of_a_core) {
        let seconds = report.hold.as_ref().map_or(0.0, |hold| hold.seconds);
        tile("Server CPU while idle", format!("{percent:.1} %"), format!("of a core, for {seconds:.0} s"));
    }
    if let Some(per_cpu) = report.echo.as_ref().and_then(|echo| echo.per_server_cpu_second) {
        tile("Echoes per CPU-second", number(per_cpu), "of the server".into());
    }
    let generator = &report.generator;
    let late = generator.late_p99_us.map_or("no intended times".into(), |us| format!("{} late at p99", time(us)));
    tile(
        "Generator",
        format!("{:.0} %", generator.cpu * 100.0),
        format!(
            "of its {}; {late}",
            if generator.threads == 1 { "core".into() } else { format!("{} cores", generator.threads) }
        ),
    );
    format!("<div class=\"tiles\">{tiles}</div>\n")
}
