//! The generators: how each is got, and what it is told. Files with their work are in benches/generators.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::write;
use crate::bench::peers::install::{go_installed, made, said};
use crate::steps::{Steps, root, target};
use crate::tools;

/// k6, of the Go module proxy.
const K6: (&str, &str) = ("go.k6.io/k6", "v1.8.1");
/// Artillery, of npm.
const ARTILLERY: &str = "2.0.34";

/// What a generator is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) sockets: u32,
    /// Sockets that are opened, per second.
    pub(super) per_second: u32,
    /// How long each is held, or texts are sent.
    pub(super) seconds: u32,
    /// Each has one text under way.
    pub(super) echo: bool,
}

impl Work {
    /// How long it takes to open all sockets, in whole seconds.
    const fn ramp_seconds(self) -> u32 {
        let seconds = self.sockets.div_ceil(self.per_second);
        if seconds == 0 { 1 } else { seconds }
    }
}

/// A generator.
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// Its name with the version.
    pub(super) version: String,
    program: PathBuf,
    /// What it is called with, against the server at an address; its files go into a folder.
    pub(super) command: fn(&Tool, Work, &str, &Path) -> anyhow::Result<Command>,
    /// Exit codes besides 0 with which its figures count.
    pub(super) accepts: fn(Option<i32>) -> bool,
}

type Get = fn(&mut Steps) -> anyhow::Result<Tool>;

/// Every generator, in the order of a round.
pub(super) const ALL: [Get; 4] = [roost_load, k6, artillery, tsung];

fn roost_load(_: &mut Steps) -> anyhow::Result<Tool> {
    let program = target().join("release/roost-load");
    let version = said(&program, &["--version"]).context("roost-load is not there")?;
    // 5: it could have sent more on a larger machine.
    Ok(Tool { name: "roost-load", version, program, command: told_roost_load, accepts: |code| code == Some(5) })
}

fn told_roost_load(tool: &Tool, work: Work, address: &str, folder: &Path) -> anyhow::Result<Command> {
    let Work { sockets, per_second, seconds, echo } = work;
    let mut command = Command::new(&tool.program);
    command.arg(if echo { "echo" } else { "hold" });
    command.args(["--quiet", "--protocol", "plain", "--target", &format!("ws://{address}/echo")]);
    command.args(["--connections", &sockets.to_string(), "--for", &format!("{seconds}s")]);
    if echo {
        command.args(["--bytes", "128"]);
    } else {
        command.args(["--rate", &per_second.to_string(), "--heartbeat", "60s"]);
    }
    command.arg("--out").arg(folder.join("report"));
    Ok(command)
}

fn k6(steps: &mut Steps) -> anyhow::Result<Tool> {
    let (module, wanted) = K6;
    let program = go_installed(steps, "k6", module, wanted)?;
    let version = format!("{module} {wanted}");
    Ok(Tool { name: "k6", version, program, command: told_k6, accepts: |_| false })
}

fn told_k6(tool: &Tool, work: Work, address: &str, _: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(&tool.program);
    command.args(["run", "--quiet", "--no-usage-report", "--no-summary"]).arg(file("k6.js"));
    command.env("URL", format!("ws://{address}/echo")).env("MODE", if work.echo { "echo" } else { "connect" });
    command.env("SOCKETS", work.sockets.to_string()).env("PER_SECOND", work.per_second.to_string());
    command.env("SECONDS", work.seconds.to_string());
    Ok(command)
}

fn artillery(steps: &mut Steps) -> anyhow::Result<Tool> {
    let folder = made()?.join("artillery");
    let program = folder.join("node_modules/.bin/artillery");
    if !program.exists() {
        let mut npm = Command::new("npm");
        // Scripts would fetch browsers.
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
        steps.run("artillery", npm.arg(format!("artillery@{ARTILLERY}")))?;
    }
    let version = format!("artillery {ARTILLERY}");
    Ok(Tool { name: "artillery", version, program, command: told_artillery, accepts: |_| false })
}

fn told_artillery(tool: &Tool, work: Work, address: &str, folder: &Path) -> anyhow::Result<Command> {
    let text = "x".repeat(128);
    // What it captures it waits for.
    let flow = if work.echo {
        format!(
            "      - loop:\n          - send: {{ payload: \"{text}\", capture: {{ regexp: \"x+\", as: answer }} }}\n        count: {ECHOES_EACH}"
        )
    } else {
        format!("      - think: {}", work.seconds)
    };
    let script = filled("artillery.yml", work, &flow)?.replace("@URL@", &format!("ws://{address}/echo"));
    let mut command = Command::new(&tool.program);
    command.arg("run").arg("--quiet").arg(write(folder, "artillery.yml", &script)?);
    command.env("ARTILLERY_DISABLE_TELEMETRY", "true");
    Ok(command)
}

fn tsung(steps: &mut Steps) -> anyhow::Result<Tool> {
    let program = tools::tsung(steps)?;
    let version = said(&program, &["-v"]).unwrap_or_else(|| "Tsung of an unknown version".into());
    Ok(Tool { name: "tsung", version, program, command: told_tsung, accepts: |_| false })
}

fn told_tsung(tool: &Tool, work: Work, address: &str, folder: &Path) -> anyhow::Result<Command> {
    let text = "x".repeat(128);
    let flow = if work.echo {
        format!(
            "      <for from=\"1\" to=\"{ECHOES_EACH}\" var=\"i\"><request><websocket type=\"message\">{text}</websocket></request></for>"
        )
    } else {
        format!("      <thinktime value=\"{}\" random=\"false\"/>", work.seconds)
    };
    let (host, port) = address.rsplit_once(':').context("no port")?;
    let script = filled("tsung.xml", work, &flow)?.replace("@HOST@", host).replace("@PORT@", port);
    let mut command = Command::new(&tool.program);
    command.arg("-f").arg(write(folder, "tsung.xml", &script)?).arg("-l").arg(folder.join("tsung")).arg("start");
    Ok(command)
}

/// Texts of each socket where a generator counts them instead of the time.
const ECHOES_EACH: u32 = 500;

fn file(name: &str) -> PathBuf {
    root().join("benches/generators").join(name)
}

/// A file of benches/generators with the work filled in.
fn filled(name: &str, work: Work, flow: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file(name)).with_context(|| format!("there is no {name}"))?;
    let filled = text
        .replace("@SOCKETS@", &work.sockets.to_string())
        .replace("@PER_SECOND@", &work.per_second.to_string())
        .replace("@RAMP_SECONDS@", &work.ramp_seconds().to_string())
        .replace("@RAMP_SECONDS_MAX@", &(3 * work.ramp_seconds() + 10).to_string())
        .replace("@FLOW@", flow);
    if filled.contains("@FLOW") {
        bail!("{name} has a place that is not filled")
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_have_no_place_left_open() {
        let work = Work { sockets: 1000, per_second: 200, seconds: 2, echo: true };
        for name in ["artillery.yml", "tsung.xml"] {
            let script =
                filled(name, work, "FLOW").unwrap().replace("@URL@", "").replace("@HOST@", "").replace("@PORT@", "");
            let open: Vec<&str> =
                script.lines().filter(|line| line.contains('@') && !line.contains("@NAMES@")).collect();
            assert_eq!(open, [""; 0], "{name}");
            assert!(script.contains("FLOW") && script.contains("1000"), "{name}");
        }
        assert_eq!((work.ramp_seconds(), Work { sockets: 1, ..work }.ramp_seconds()), (5, 1));
    }
}
