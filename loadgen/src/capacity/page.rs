//! `capacity.html`: the answer first, then what it rests on.

use std::fmt::Write as _;
use std::time::Duration;

use super::answer::{Capacity, Line as Straight};
use super::search::{Bound, Judged};
use super::step::{Step, Vary};
use crate::progress::time;
use crate::report::draw::{Axis, Chart, Figure, Line, Note, Table, bytes, escape, number, tick};
use crate::report::sheet::{frame, place};

/// The page.
pub(super) fn page(capacity: &Capacity, json: &str) -> String {
    let mut reasons = vec![held(capacity)];
    if let Some(scalability) = &capacity.scalability {
        reasons.push(scalability.limit());
    }
    let machine = "The server and the generator may share this machine: what one takes the other lacks.";
    let sections = [
        latency(capacity),
        scalability(capacity),
        cost(capacity),
        machines(capacity),
        steps(capacity),
        place(&capacity.environment, machine),
    ];
    let (class, word) = headline(capacity);
    let environment = &capacity.environment;
    let reasons: String = reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
    let debug = match environment.build.as_str() {
        "debug" => "<li>This is a debug build: its numbers say nothing about speed.</li>",
        _ => "",
    };
    let json = escape(json);
    let body = format!(
        "<div class=\"verdict {class}\" id=\"answer\"><strong>{word}</strong><p>{}</p><ul>{reasons}{debug}</ul></div>\n{}\
         <section class=\"screen\"><details><summary>capacity.json</summary><pre>{json}</pre></details></section>\n",
        escape(&capacity.answer.sentence),
        sections.concat(),
    );
    let under = format!(
        "{}; {} on {}, {} cores",
        escape(&capacity.scenario),
        environment.started.replace('T', " ").replace('Z', " UTC"),
        escape(environment.cpu.as_deref().unwrap_or("unknown processor")),
        environment.cores,
    );
    frame("roost-load capacity", &word, &under, &body, "")
}

/// The class and the words of the answer.
fn headline(capacity: &Capacity) -> (&'static str, String) {
    let answer = &capacity.answer;
    let load = answer.load.map(|load| format!("{} {}", number(load), answer.unit));
    match (load, answer.bounded_by) {
        (Some(load), Bound::Objective) => ("well", format!("✓ {load}")),
        (Some(load), Bound::Asked) => ("well", format!("✓ At least {load}")),
        (Some(load), Bound::Generator) => ("warn", format!("▲ At least {load}; then the generator was the limit")),
        (Some(load), _) => ("warn", format!("▲ At least {load}, as far as the search went")),
        (None, Bound::Stopped) => ("warn", "▲ Stopped before anything held".into()),
        (None, _) => ("bad", "✗ Nothing held".into()),
    }
}

fn held(capacity: &Capacity) -> String {
    let answer = &capacity.answer;
    let narrow = match (answer.load, answer.above) {
        (Some(load), Some(above)) => {
            format!(" The search ended {:.0} % below what was too much.", (above / load - 1.0) * 100.0)
        }
        _ => String::new(),
    };
    let runs = capacity.steps.len();
    let confirmed = if answer.confirmed { "confirmed" } else { "not confirmed" };
    format!("{runs} runs; the answer is {confirmed}: {} of {} runs held.{narrow}", answer.held, answer.runs)
}

/// A bound on a time: which percentile, and how many microseconds.
fn bound(slo: &str) -> Option<(&str, f64)> {
    let at = slo.find('<')?;
    let (metric, rest) = slo.split_at(at);
    let text = rest.trim_start_matches(['<', '=']).trim();
    let us = match text.parse::<f64>() {
        Ok(us) => us,
        Err(_) => humantime::parse_duration(text).map(|time: Duration| time.as_secs_f64() * 1e6).ok()?,
    };
    let metric = metric.trim();
    let is_time = ["delivery", "ack"].iter().any(|name| metric.contains(name));
    (is_time && us > 0.0).then_some((metric, us))
}

/// Steps in the order of their loads: only those that say something of the server.
fn by_load(capacity: &Capacity) -> Vec<&Step> {
    let mut steps: Vec<&Step> = capacity.steps.iter().filter(|step| step.outcome != Judged::Generator).collect();
    steps.sort_by(|one, other| one.load.total_cmp(&other.load));
    steps
}

/// One point for each load: the median of its runs.
fn medians(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let of = |runs: &[(f64, f64)]| {
        let mut values: Vec<f64> = runs.iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        (runs[0].0, values[values.len() / 2])
    };
    points.chunk_by(|one, next| one.0 == next.0).map(of).collect()
}

/// A dot each.
fn dots(class: &'static str, points: &[(f64, f64)]) -> impl Iterator<Item = Note> {
    points.iter().map(move |at| Note { class, at: *at, text: String::new(), above: true })
}

const fn x_name(vary: Vary) -> &'static str {
    vary.unit()
}

fn latency(capacity: &Capacity) -> String {
    let steps = by_load(capacity);
    let times = |step: &Step| if step.delivery_us.count > 0 { step.delivery_us } else { step.ack_us };
    let points = |of: fn(&crate::report::Quantiles) -> Option<u64>| -> Vec<(f64, f64)> {
        steps.iter().filter_map(|step| Some((step.load, of(&times(step))?.max(1) as f64))).collect()
    };
    let (median, p99, p999) = (points(|times| times.p50), points(|times| times.p99), points(|times| times.p999));
    let Some(most) = steps.last().map(|step| step.load).filter(|_| !p99.is_empty()) else { return String::new() };
    let bounds: Vec<(&str, f64)> = capacity.slo.iter().filter_map(|slo| bound(slo)).collect();
    let ys = || [&median, &p99, &p999].into_iter().flatten().map(|(_, us)| *us).chain(bounds.iter().map(|(_, us)| *us));
    let (least, top) = (ys().fold(f64::INFINITY, f64::min), ys().fold(1.0, f64::max));
    let x = Axis::linear(most * 1.02, number);
    let mut lines = vec![
        Line { class: "d", name: "p99.9".into(), points: medians(&p999) },
        Line { class: "a", name: "p99".into(), points: medians(&p99) },
        Line { class: "b", name: "median".into(), points: medians(&median) },
    ];
    let end = x.max;
    lines.extend(bounds.iter().map(|(metric, us)| Line {
        class: "c",
        name: format!("objective: {metric}"),
        points: vec![(0.0, *us), (end, *us)],
    }));
    let answer = capacity.answer.load.and_then(|load| medians(&p99).into_iter().find(|(at, _)| *at == load));
    let note = answer.map(|(load, us)| Note {
        class: "a",
        at: (load, us),
        text: format!("{} at {}", time(us as u64), number(load)),
        above: true,
    });
    let chart = Chart {
        label: format!("Latency by load, up to {} {}.", number(most), capacity.vary.unit()),
        x,
        y: Axis::log(least, top, tick),
        x_name: x_name(capacity.vary),
        lines,
        notes: note.into_iter().chain(dots("a", &p99)).collect(),
        bands: Vec::new(),
        hovers: Vec::new(),
    };
    let legend = [("b", "median"), ("a", "p99"), ("d", "p99.9"), ("c", "objective")];
    Figure {
        id: "latency",
        title: "Latency by load".into(),
        intro: "From the moment a message was meant to be sent: medians of the runs with a load, and each run's p99 as a dot. The dashed \
                line is the objective."
            .into(),
        legend: legend.into_iter().map(|(class, name)| (class, name.to_owned())).collect(),
        drawing: chart.svg(),
        ..Figure::default()
    }
    .html()
}

fn scalability(capacity: &Capacity) -> String {
    let Some(scalability) = &capacity.scalability else {
        let why = capacity.scalability_missing.as_deref().unwrap_or("not measured");
        return format!(
            "<section id=\"law\"><h2>How time grows with load</h2><p>No law was fitted: {}.</p></section>\n",
            escape(why)
        );
    };
    let fit = &scalability.fit;
    let along = |of: fn(&[f64; 4]) -> f64| -> Vec<(f64, f64)> {
        scalability.curve.iter().map(|at| (at[0], of(at).max(1.0))).collect()
    };
    let (middle, low, high) = (along(|at| at[1]), along(|at| at[2]), along(|at| at[3]));
    let ys = || {
        middle
            .iter()
            .chain(&low)
            .chain(&high)
            .map(|(_, us)| *us)
            .chain(scalability.measured.iter().map(|(_, us)| us.max(1.0)))
    };
    let (least, top) = (ys().fold(f64::INFINITY, f64::min), ys().fold(1.0, f64::max));
    let end = scalability.curve.last().map_or(0.0, |at| at[0]).max(scalability.data_ends_at);
    let dots = scalability.measured.iter().map(|(x, us)| Note {
        class: "a",
        at: (*x, us.max(1.0)),
        text: String::new(),
        above: true,
    });
    let chart = Chart {
        label: format!(
            "Mean time per message by throughput, measured and by the law, up to {} per second.",
            number(end)
        ),
        x: Axis::linear(end, number),
        y: Axis::log(least, top, tick),
        x_name: if scalability.of == "deliveries" { "deliveries per second" } else { "messages per second" },
        lines: vec![
            Line { class: "c", name: "nine in ten, from".into(), points: low },
            Line { class: "c", name: "nine in ten, to".into(), points: high },
            Line { class: "b", name: "the law".into(), points: middle },
        ],
        notes: dots.collect(),
        bands: Vec::new(),
        hovers: Vec::new(),
    };
    let range = |[low, high]: [f64; 2], digits: usize| format!("{low:.digits$} to {high:.digits$}");
    let rows = vec![
        vec!["γ, of one alone per second".into(), number(fit.gamma), range(fit.gamma_interval, 0)],
        vec!["α, one after the other".into(), format!("{:.4}", fit.alpha), range(fit.alpha_interval, 4)],
        vec!["β, everybody with everybody".into(), format!("{:.6}", fit.beta), range(fit.beta_interval, 6)],
    ];
    Figure {
        id: "law",
        title: "How time grows with load".into(),
        intro: "The universal scalability law, fitted to the mean time of every run by least squares. Between the dashed lines \
                lie nine in ten fits to runs drawn again (bootstrap)."
            .into(),
        legend: vec![("a", "measured".into()), ("b", "the law".into()), ("c", "nine in ten".into())],
        drawing: chart.svg(),
        note: format!(
            "{} The law misses the times by {:.1} % (root of the mean square) in {} runs and explains {:.2} % of the throughput. \
             Data end at {} per second.",
            escape(&scalability.limit()),
            fit.residual_rms * 100.0,
            fit.points,
            fit.r_squared * 100.0,
            number(scalability.data_ends_at)
        ),
        table: Table { caption: "Coefficients".into(), head: ["", "value", "nine in ten"].map(str::to_owned).into(), rows },
        open: true,
    }
    .html()
}

fn cost(capacity: &Capacity) -> String {
    let steps = by_load(capacity);
    let cores: Vec<(f64, f64)> = steps.iter().filter_map(|step| Some((step.load, step.server_cpu_cores?))).collect();
    let Some(most) = cores.last().map(|(load, _)| *load) else { return String::new() };
    let top = cores.iter().map(|(_, cores)| *cores).fold(0.01, f64::max);
    let mut lines = vec![Line { class: "b", name: "cores of the server".into(), points: medians(&cores) }];
    if let Some(Straight { at_nothing, per_unit, .. }) = capacity.cpu_cores {
        let at = |load: f64| (load, (at_nothing + per_unit * load).max(0.0));
        lines.push(Line { class: "c", name: "straight line".into(), points: vec![at(0.0), at(most)] });
    }
    let chart = Chart {
        label: format!("Cores of the server by load, up to {top:.2} cores at {}.", number(most)),
        x: Axis::linear(most * 1.02, number),
        y: Axis::linear(top, |cores| format!("{cores:.2}")),
        x_name: x_name(capacity.vary),
        lines,
        notes: dots("b", &cores).collect(),
        bands: Vec::new(),
        hovers: Vec::new(),
    };
    let mut said = Vec::new();
    let unit = match capacity.vary {
        Vary::Rate => "1 000 messages per second",
        Vary::Connections => "1 000 sessions",
    };
    if let Some(line) = capacity.cpu_cores {
        said.push(format!(
            "{unit} more take {:.3} cores more (give or take {:.3}).",
            line.per_unit * 1000.0,
            line.residual_rms
        ));
    }
    if let Some(line) = capacity.server_bytes {
        said.push(format!("They take {} of memory more.", bytes(line.per_unit * 1000.0)));
    }
    let rows = steps.iter().map(|step| {
        let or = |text: Option<String>| text.unwrap_or("–".into());
        vec![
            number(step.load),
            or(step.server_cpu_cores.map(|cores| format!("{cores:.3}"))),
            or(step.server_cpu_us_per_delivery.map(|us| format!("{us:.1} µs"))),
            or(step.server_bytes.map(|all| bytes(all as f64))),
            or(step.server_bytes_per_session.map(bytes)),
        ]
    });
    let head = ["load", "cores", "CPU per delivery", "memory", "per idle session"];
    Figure {
        id: "cost",
        title: "What it costs the server".into(),
        intro: "CPU time while the load was on.".into(),
        legend: vec![("b", "cores of the server".into()), ("c", "straight line".into())],
        drawing: chart.svg(),
        note: escape(&said.join(" ")),
        table: Table { caption: "Cost by load".into(), head: head.map(str::to_owned).into(), rows: rows.collect() },
        open: false,
    }
    .html()
}

fn machines(capacity: &Capacity) -> String {
    if capacity.machines.is_empty() {
        return String::new();
    }
    let or = |value: Option<f64>| value.map_or("–".into(), number);
    let rows = capacity.machines.iter().map(|of| {
        let range = match (of.low, of.high) {
            (None, None) => "–".to_owned(),
            (low, high) => format!("{} to {}", or(low), or(high)),
        };
        vec![of.machines.to_string(), number(of.load), range, of.note.clone()]
    });
    let head = ["machines", capacity.vary.unit(), "from, to", ""];
    let table = Table {
        caption: "What more machines would carry".into(),
        head: head.map(str::to_owned).into(),
        rows: rows.collect(),
    };
    Figure {
        id: "machines",
        title: "More machines".into(),
        intro: match &capacity.fleet {
            Some(fleet) => format!(
                "The same law over machines: α {:.3}, β {:.5}, off by {:.1} %.",
                fleet.alpha,
                fleet.beta,
                fleet.residual_rms * 100.0
            ),
            None => "What machines cost one another shows only where several sizes of a fleet were measured: give their answers with \
                     <code>--beside</code>. Until then a multiple is a ceiling."
                .into(),
        },
        table,
        open: true,
        ..Figure::default()
    }
    .html()
}

fn steps(capacity: &Capacity) -> String {
    let mut rows = String::new();
    for step in &capacity.steps {
        let (class, word) = match step.outcome {
            Judged::Held => ("well", "✓ held"),
            Judged::Failed => ("bad", "✗ too much"),
            Judged::Generator => ("warn", "▲ the generator was the limit"),
        };
        let times = if step.delivery_us.count > 0 { step.delivery_us } else { step.ack_us };
        write!(
            rows,
            "<tr><th scope=\"row\"><a href=\"{}\">{}</a></th><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td>\
             <td><span class=\"mark {class}\">{word}</span> {}</td></tr>",
            escape(&step.report),
            step.step,
            number(step.load),
            step.purpose.word(),
            times.p99.map_or("–".into(), time),
            escape(step.why.first().map_or("", String::as_str)),
        )
        .expect("a String takes everything");
    }
    format!(
        "<section id=\"steps\"><h2>The runs</h2><p>Each is a run of its own, with a page of its own.</p>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"The runs\"><table><thead><tr><th scope=\"col\">run</th>\
         <th scope=\"col\">{}</th><th scope=\"col\">why</th><th scope=\"col\">p99</th><th scope=\"col\">what came of it</th></tr></thead>\
         <tbody>{rows}</tbody></table></div></section>\n",
        capacity.vary.unit()
    )
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::example;
    use super::*;

    #[test]
    fn the_answer_stands_first_and_nothing_comes_from_elsewhere() {
        for bound in [Bound::Objective, Bound::Generator] {
            let capacity = example(bound);
            let page = page(&capacity, "{}");
            let answer = page.find(&escape(&capacity.answer.sentence)).expect("the answer is there");
            for id in ["id=\"latency\"", "id=\"law\"", "id=\"cost\"", "id=\"machines\"", "id=\"steps\""] {
                assert!(page.find(id).is_some_and(|at| at > answer), "{id}");
            }
            assert!(page.contains("a guess") && page.contains("steps/06/report.html"));
            assert!(!page.contains("http://") && !page.contains("src="));
            assert_eq!(page.contains("the generator was the limit</span>"), bound == Bound::Generator);
        }
    }

    #[test]
    fn bounds_on_times_are_drawn_and_others_are_not() {
        for (slo, expected) in [
            ("delivery.p99<250ms", Some(("delivery.p99", 250_000.0))),
            ("p99_delivery <= 2s", Some(("p99_delivery", 2e6))),
            ("ack.p50<300", Some(("ack.p50", 300.0))),
            ("lost==0", None),
            ("server.cpu_cores<1", None),
        ] {
            assert_eq!(bound(slo), expected, "{slo}");
        }
    }
}
