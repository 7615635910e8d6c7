//! Where the server's bytes and its CPU time went, and what it counted itself.

use super::super::draw::{Bar, Bars, Figure, Segment, Stack, StackRow, Table, bytes, escape};
use super::super::{CpuPart, Report, number};

/// Bytes of a session by part.
pub(super) fn memory(report: &Report) -> String {
    let server = &report.server;
    if server.memory.is_empty() {
        let why = "The server's process was not known (--server-pid), or it is on another machine.";
        return format!("<section id=\"memory\"><h2>Memory per session</h2><p class=\"note\">{why}</p></section>\n");
    }
    let all: f64 = server.memory.iter().map(|part| part.bytes).sum();
    let mut kernel = ["c", "e", "f", "a", "d"].into_iter().cycle();
    let classes: Vec<&'static str> = server
        .memory
        .iter()
        .map(|part| match part.of.as_str() {
            "user" => "b",
            "tls" => "d",
            _ => kernel.next().unwrap_or("c"),
        })
        .collect();
    let name = |of: &str, name: &str| match of {
        "kernel" => format!("kernel: {name}"),
        "user" => "server, user space".to_owned(),
        _ => name.to_owned(),
    };
    let parts: Vec<_> = server.memory.iter().map(|part| (name(&part.of, &part.name), part.bytes)).collect();
    let segments =
        parts.iter().zip(&classes).map(|((name, bytes), class)| Segment { name: name.clone(), class, value: *bytes });
    let told: Vec<String> = parts.iter().map(|(name, part)| format!("{name} {}", bytes(*part))).collect();
    let stack = Stack {
        label: format!("Memory per session by part: {}.", told.join(", ")),
        rows: vec![StackRow { name: String::new(), segments: segments.collect(), text: bytes(all) }],
    };
    let sessions = report.sessions.wanted.saturating_sub(report.sessions.failed);
    let tls = match (
        report.transport.contains("TLS") || report.transport.contains("QUIC"),
        server.memory.iter().any(|part| part.of == "tls"),
    ) {
        (true, false) => " What TLS takes is part of the server's user space: this server does not tell it apart.",
        _ => "",
    };
    Figure {
        id: "memory",
        title: "Memory per session".into(),
        intro: format!("Of {} sessions that say nothing.", number(sessions as f64)),
        legend: classes
            .iter()
            .zip(&parts)
            .map(|(class, (name, part))| (*class, format!("{name}: {}", bytes(*part))))
            .collect(),
        drawing: stack.svg(),
        note: escape(&(server.memory_note.clone() + tls)),
        table: Table {
            caption: "Memory per session by part".into(),
            head: ["part", "bytes", "share"].map(str::to_owned).into(),
            rows: parts
                .iter()
                .map(|(name, part)| vec![name.clone(), number(*part), format!("{:.0} %", part / all * 100.0)])
                .collect(),
        },
        ..Figure::default()
    }
    .html()
}

/// CPU time by phase, for each message where messages are what it went for.
pub(super) fn cpu(report: &Report) -> String {
    let counted: Vec<&CpuPart> = report.server.cpu.iter().filter(|part| part.count > 0 && part.per.is_some()).collect();
    if counted.is_empty() {
        return String::new();
    }
    let each = |us: f64, part: &CpuPart| us / part.count as f64;
    let told = |us: f64| if us < 10.0 { format!("{us:.2} µs") } else { format!("{us:.1} µs") };
    let name = |part: &CpuPart| format!("{}, per {}", part.phase, part.per.as_deref().unwrap_or("one"));
    // Phases differ by orders of magnitude: each is on a scale of its own.
    let rows = counted.iter().map(|part| {
        let (user, system) = (each(part.user_us, part), each(part.system_us, part));
        let segment = |name: &str, class, value| Segment { name: name.into(), class, value };
        StackRow {
            name: name(part),
            segments: vec![segment("its own code", "b", user), segment("kernel on its behalf", "c", system)],
            text: told(user + system),
        }
    });
    let rows: Vec<StackRow> = rows.collect();
    let label: Vec<String> = rows.iter().map(|row| format!("{}: {}", row.name, row.text)).collect();
    let table = report.server.cpu.iter().map(|part| {
        let per = |us: f64| if part.count > 0 { told(each(us, part)) } else { "–".into() };
        vec![
            part.phase.clone(),
            format!("{:.1} s", part.seconds),
            format!("{:.2}", (part.user_us + part.system_us) / 1e6 / part.seconds.max(1e-9)),
            part.per.as_ref().map_or("–".into(), |per| format!("{} × {per}", number(part.count as f64))),
            per(part.user_us),
            per(part.system_us),
        ]
    });
    Figure {
        id: "cpu",
        title: "Server CPU per message".into(),
        intro: "What one of them costs, in the server's own code and in the kernel on its behalf.".into(),
        legend: vec![("b", "its own code".into()), ("c", "kernel on its behalf".into())],
        drawing: Stack { label: format!("CPU time of the server. {}.", label.join("; ")), rows }.svg(),
        table: Table {
            caption: "CPU time of the server by phase".into(),
            head: ["phase", "took", "cores", "for", "own code each", "kernel each"].map(str::to_owned).into(),
            rows: table.collect(),
        },
        ..Figure::default()
    }
    .html()
}

/// The server's own counters.
pub(super) fn counters(report: &Report) -> String {
    const SHOWN_MAX: usize = 40;
    let counters = &report.server.counters;
    if counters.is_empty() {
        return String::new();
    }
    let trouble: Vec<_> = counters.iter().filter(|moved| moved.kind != "work").collect();
    let work = counters.iter().filter(|moved| moved.kind == "work");
    let row = |moved: &&super::super::Moved| {
        vec![moved.name.clone(), number(moved.rise), moved.kind.replace("work", "work done")]
    };
    let rows: Vec<_> = trouble.iter().copied().chain(work).take(SHOWN_MAX).map(|moved| row(&moved)).collect();
    let intro = match trouble.len() {
        0 => "No refusal, no limit was hit: what moved is work.".to_owned(),
        1 => "One counter tells of a refusal or of a limit that was hit.".to_owned(),
        more => format!("{more} counters tell of refusals or of limits that were hit."),
    };
    let bars = trouble.iter().take(8).map(|moved| Bar {
        name: moved.name.clone(),
        value: moved.rise,
        text: format!("{} ({})", number(moved.rise), moved.kind),
        class: if moved.kind == "limit" { "warn" } else { "bad" },
        interval: None,
    });
    let bars = Bars { label: "Counters of refusals and limits.".into(), bars: bars.collect(), line: None };
    Figure {
        id: "counters",
        title: "What the server counted".into(),
        intro,
        drawing: if trouble.is_empty() { String::new() } else { bars.svg() },
        table: Table {
            caption: "Counters of the server that rose during the run".into(),
            head: ["counter", "rose by", "kind"].map(str::to_owned).into(),
            rows,
        },
        ..Figure::default()
    }
    .html()
}
