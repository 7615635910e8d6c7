//! Where and on what something was measured.

use std::process::Command;

use serde_json::{Value, json};

use crate::steps::root;

/// Machine, system and commit, for results to carry. What cannot be found out is "unknown".
pub(crate) fn describe() -> Value {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    json!({
        "date": today(),
        "cpu": field(&cpus, "model name").unwrap_or("unknown"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": field(&memory, "MemTotal").unwrap_or("unknown"),
        "kernel": said("uname", &["-sr"]),
        "load_before": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "commit": commit(),
        "rustc": said("rustc", &["--version"]),
    })
}

/// The same as a section of a page.
pub(crate) fn section(place: &Value) -> String {
    let line = |(name, value): (&String, &Value)| {
        format!("- {}: {}\n", name.replace('_', " "), value.as_str().map_or(value.to_string(), str::to_owned))
    };
    let lines: String = place.as_object().into_iter().flatten().map(line).collect();
    format!("\n## Where\n\n{lines}")
}

/// The date in UTC, as in 2026-01-31.
pub(crate) fn today() -> String {
    said("date", &["-u", "+%F"])
}

/// The commit, and whether the tree had more than it.
fn commit() -> String {
    let hash = said("git", &["rev-parse", "--short=12", "HEAD"]);
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_empty() || changed == "unknown" { hash } else { format!("{hash} with changes") }
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(root()).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_a_line_for_each_thing_known() {
        assert_eq!(
            section(&json!({ "load_before": "0.1", "cores": 2 })),
            "\n## Where\n\n- cores: 2\n- load before: 0.1\n"
        );
    }

    #[test]
    fn fields_are_found_by_their_name() {
        let text = "processor\t: 0\nmodel name\t: A CPU @ 2.5GHz\n";
        assert_eq!(field(text, "model name"), Some("A CPU @ 2.5GHz"));
        assert_eq!(field(text, "MemTotal"), None);
    }
}
