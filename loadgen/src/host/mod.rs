//! The machine a run is made on, and what its processes use.

pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod slab;
pub(crate) mod watch;

use std::path::Path;

use serde::{Deserialize, Serialize};

/// What somebody needs to know to judge the numbers, or to get them again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub started: String,
    pub command: String,
    pub roost_version: String,
    /// `None` if the build did not know it.
    pub commit: Option<String>,
    /// `release` or `debug`. A debug build says nothing about speed.
    pub build: String,
    pub os: Option<String>,
    pub kernel: Option<String>,
    pub cpu: Option<String>,
    pub cores: usize,
    pub memory_bytes: Option<u64>,
    /// Descriptors this process may open.
    pub descriptors_max: Option<u64>,
    pub local_ports: Option<String>,
    pub listen_backlog_max: Option<u64>,
    /// Of the last minute, before the run.
    pub load_average: Option<f64>,
    /// Where the data of a server of our own lies. On a tmpfs, fsync costs nothing.
    pub data_filesystem: Option<String>,
}

impl Environment {
    /// Looks around. `data` is the directory of the server's data, if it is ours.
    pub(crate) fn look(data: Option<&Path>) -> Self {
        Self {
            started: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            command: command_line(),
            roost_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("ROOST_COMMIT").map(str::to_owned),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            os: field("/etc/os-release", "PRETTY_NAME=").map(|name| name.trim_matches('"').to_owned()),
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: field("/proc/cpuinfo", "model name").map(|name| name.trim_start_matches([':', ' ', '\t']).to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: process::meminfo("MemTotal:"),
            descriptors_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            local_ports: line("/proc/sys/net/ipv4/ip_local_port_range").map(|range| range.replace('\t', " to ")),
            listen_backlog_max: line("/proc/sys/net/core/somaxconn").and_then(|max| max.parse().ok()),
            load_average: line("/proc/loadavg").and_then(|line| line.split(' ').next()?.parse().ok()),
            data_filesystem: data.and_then(filesystem),
        }
    }
}

/// Raises the soft limit of descriptors to the hard one. Returns the limit in force; `None` for no limit.
pub(crate) fn raise_descriptors() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the old limit is told.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// The command line, for a shell; tokens never stand in it.
fn command_line() -> String {
    let plain = |argument: &str| {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
        !argument.is_empty() && argument.bytes().all(safe)
    };
    let quoted = std::env::args().map(|argument| match plain(&argument) {
        true => argument,
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn line(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// What follows `name` in the first line of a file that begins with it.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned())
}

/// The kind of file system of a directory: that of the longest mount point it lies in.
fn filesystem(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let (_, kind) = mounts.filter(|(at, _)| path.starts_with(at)).max_by_key(|(at, _)| at.len())?;
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_environment_is_found() {
        let here = Environment::look(Some(Path::new("/")));
        assert!(here.cores > 0 && here.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(here.kernel.is_some_and(|kernel| kernel.starts_with(|first: char| first.is_ascii_digit())));
        assert!(here.data_filesystem.is_some());
        assert!(here.started.ends_with('Z'));
    }
}
