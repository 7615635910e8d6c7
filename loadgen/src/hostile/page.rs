//! `hostile.html`, and a summary for a terminal.

use std::fmt::Write as _;

use super::report::{Hostile, OfKind};
use crate::progress::time;
use crate::report::sheet::{Sheet, escape, place, word};

/// The page.
pub(super) fn page(hostile: &Hostile) -> String {
    let quiet = &hostile.quiet;
    let scatter = &quiet.delivery_p99_us_of_windows;
    let scatter = match (scatter.first(), scatter.last()) {
        (Some(least), Some(most)) => format!("{} to {}", time(*least), time(*most)),
        _ => "nothing measured".into(),
    };
    let rows: String = hostile.kinds.iter().map(|kind| row(kind, hostile)).collect();
    let details: String = hostile.kinds.iter().map(details).collect();
    let latency = format!(
        "<section><h2>Latency of the well-behaved</h2><p>From the intended time of a message to each push of it. Without an attack: \
         p50 {p50}, p99 {p99}, p99.9 {p999}; the p99 of its {windows} windows was {scatter}.</p>\n\
         <table><tr><th>attack</th><th>p50</th><th>p99</th><th>p99.9</th><th>p99 by quiet</th><th></th></tr>{rows}</table>\
         <p>{note}</p></section>\n\
         <section><h2>What attackers heard, and what the server counted</h2><table>{details}</table></section>\n",
        p50 = time(quiet.delivery_us.p50),
        p99 = time(quiet.delivery_us.p99),
        p999 = time(quiet.delivery_us.p999),
        windows = quiet.windows,
        note = escape(hostile.note),
    );
    let sheet = Sheet {
        name: "hostile",
        verdict: hostile.verdict,
        reasons: &hostile.reasons,
        answer: format!(
            "{} well-behaved clients, {} messages a second, and one kind of attack after another beside them: their 99th \
             percentile may grow {} times.",
            hostile.clients, hostile.sends_per_second, hostile.ratio_max
        ),
        sections: latency + &place(&hostile.environment, ""),
        environment: &hostile.environment,
        json: None,
    };
    sheet.html()
}

fn row(kind: &OfKind, hostile: &Hostile) -> String {
    let measured = &kind.under_attack;
    let ratio = kind.delivery_ratio.p99.map_or("–".into(), |ratio| format!("{ratio:.2}"));
    let mark = if kind.well { "<td class=\"mark well\">✓</td>" } else { "<td class=\"mark bad\">✗</td>" };
    debug_assert!(hostile.ratio_max > 0.0);
    format!(
        "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{ratio}</td>{mark}</tr>",
        escape(&kind.kind),
        time(measured.delivery_us.p50),
        time(measured.delivery_us.p99),
        time(measured.delivery_us.p999),
    )
}

fn details(kind: &OfKind) -> String {
    let heard = heard(kind);
    let counted = counted(kind);
    format!(
        "<tr><th>{}</th><td>{}: {}.<br>Heard: {}.<br>Counted: {}.</td></tr>",
        escape(&kind.kind),
        escape(kind.what),
        escape(&kind.rates),
        escape(&heard),
        escape(&counted)
    )
}

/// What an attacker heard, most often first.
pub(super) fn heard(kind: &OfKind) -> String {
    let Some(attacker) = &kind.attacker else {
        return kind.failure.clone().unwrap_or_default();
    };
    let mut answers: Vec<_> = attacker.answers.iter().collect();
    answers.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut text: Vec<String> = answers.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    if attacker.units_held_back > 0 {
        text.push(format!("not read × {}", attacker.units_held_back));
    }
    text.push(format!("{} opened, {} held at the end", attacker.connections_opened, attacker.connections_held));
    text.join(", ")
}

/// What the server counted; CPU and memory go without saying.
pub(super) fn counted(kind: &OfKind) -> String {
    let counted = kind.counted.iter().filter(|(name, _)| !name.starts_with("process_"));
    let text: Vec<String> = counted.map(|(name, rise)| format!("{name} {rise}")).collect();
    if text.is_empty() { "nothing".into() } else { text.join(", ") }
}

/// A few lines for a terminal.
pub(crate) fn summary(hostile: &Hostile, out: &std::path::Path) -> String {
    let mut text = String::new();
    let (_, word) = word(hostile.verdict);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{word} (exit code {})", hostile.exit_code);
    for reason in &hostile.reasons {
        let _ = writeln!(text, "  {reason}");
    }
    let line = |name: &str, measured: &super::windows::Measured, more: String| {
        let three = measured.delivery_us;
        format!("{name:<24}{:>10}{:>10}{:>10}  {more}\n", time(three.p50), time(three.p99), time(three.p999))
    };
    let _ = writeln!(text, "{:<24}{:>10}{:>10}{:>10}  p99 by quiet", "delivery", "p50", "p99", "p99.9");
    text += &line("quiet", &hostile.quiet, String::new());
    for kind in &hostile.kinds {
        let ratio = kind.delivery_ratio.p99.map_or("–".into(), |ratio| format!("{ratio:.2}"));
        let mark = if kind.well { "" } else { "  ✗" };
        text += &line(&kind.kind, &kind.under_attack, format!("{ratio}{mark}  {}", heard(kind)));
    }
    if hostile.environment.build == "debug" {
        text += "This is a debug build: its numbers say nothing about speed.\n";
    }
    let _ = writeln!(text, "report: {}", out.join("hostile.html").display());
    text
}
