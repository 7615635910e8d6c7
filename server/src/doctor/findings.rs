//! What the facts mean for so many sessions: facts in, findings out.

use serde::Serialize;

use super::capacity::{Capacity, KERNEL_BYTES, USER_BYTES};
use super::facts::{Facts, Fsync, IoUring};
use super::sysctls::{self, Wanted, words};
use super::tell::{grouped, size};
use crate::config::Config;
use crate::descriptors;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    /// It holds, but slower or with more trouble than it could.
    Warn,
    /// The wanted sessions do not fit.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    /// What is there.
    pub(crate) found: String,
    /// What that means; empty if it is well and says all.
    pub(crate) why: String,
    /// What mends it; one of them is enough where there are several.
    pub(crate) fixes: Vec<Fix>,
}

/// A line that mends something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fix {
    /// Where it is for: a shell, a unit of systemd, a container.
    pub(crate) at: &'static str,
    pub(crate) line: String,
    /// The file that `--fix` writes, and what.
    #[serde(skip)]
    pub(crate) write: Option<(String, String)>,
}

impl Fix {
    fn line(at: &'static str, line: String) -> Self {
        Self { at, line, write: None }
    }

    fn sysctl(wanted: &Wanted) -> Self {
        let file = format!("/proc/sys/{}", wanted.name.replace('.', "/"));
        let line = format!("sysctl -w {}", wanted.assignment());
        Self { at: "now", line, write: Some((file, words(&wanted.value))) }
    }

    fn one_sysctl(name: &'static str, value: u64) -> Self {
        let none = Vec::new();
        Self::sysctl(&Wanted {
            name,
            found: none.clone(),
            value: vec![value],
            bound: none,
            bounds_above: false,
            why: "",
        })
    }
}

impl Finding {
    fn new(name: &'static str, status: Status, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name, status, found: found.into(), why: why.into(), fixes: Vec::new() }
    }

    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, found, "")
    }

    fn fixed_by(mut self, fixes: impl IntoIterator<Item = Fix>) -> Self {
        self.fixes.extend(fixes);
        self
    }
}

/// Everything looked at, for `sessions` sessions.
pub(crate) fn findings(facts: &Facts, sessions: u64) -> Vec<Finding> {
    let mut all = vec![
        memory(facts, sessions),
        descriptors(facts, sessions),
        io_uring(facts),
        memlock(facts, sessions),
        kernel(facts),
        setting(sessions),
        cores(facts),
    ];
    all.extend(sysctls::wanted(sessions, &facts.sysctls).iter().map(sysctl));
    all.extend([
        ports(facts),
        conntrack(facts, sessions),
        huge_pages(facts),
        overcommit(facts),
        clock(facts),
        fsync(facts),
    ]);
    all
}

const NOT_TOLD: &str = "not told";

fn cores(facts: &Facts) -> Finding {
    let shards = roost_edge::shards_by_default(facts.cores);
    let threads = if shards == 1 { "1 shard".to_owned() } else { format!("{shards} shards") };
    Finding::ok("cores", format!("{}, so {threads}; the rest is for the router and the store", facts.cores))
}

fn memory(facts: &Facts, sessions: u64) -> Finding {
    const NAME: &str = "memory";
    let Some(memory) = facts.memory else { return Finding::ok(NAME, NOT_TOLD) };
    let found = format!("{} of {} available", size(memory.available_bytes), size(memory.total_bytes));
    let fit = Capacity::of(facts).memory.unwrap_or(u64::MAX);
    if fit >= sessions {
        return Finding::ok(NAME, found);
    }
    let need = size(sessions.saturating_mul(KERNEL_BYTES + USER_BYTES));
    let why = format!("{} sessions take {need}; {} fit, beside the reserve", grouped(sessions), grouped(fit));
    let mut finding = Finding::new(NAME, Status::Bad, found, why);
    if facts.container {
        let whole = size_flag(sessions.saturating_mul(KERNEL_BYTES + USER_BYTES).saturating_mul(5) / 4);
        finding = finding.fixed_by([Fix::line("container", format!("docker run --memory {whole} …"))]);
    }
    finding
}

fn descriptors(facts: &Facts, sessions: u64) -> Finding {
    const NAME: &str = "descriptors";
    let limit = facts.descriptors;
    let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), grouped);
    let found = format!("{} (hard limit {})", text(limit.soft), text(limit.hard));
    let fit = descriptors::beside_reserve(limit.reach());
    if fit >= sessions {
        // The server raises the soft limit by itself.
        return Finding::ok(NAME, found);
    }
    let (fit_text, wanted) = (grouped(fit), (sessions + sessions / 10 + 4096).next_power_of_two());
    let fixes = [
        Fix::line("shell", format!("ulimit -n {wanted}")),
        Fix::line("systemd", format!("LimitNOFILE={wanted}")),
        Fix::line("container", format!("docker run --ulimit nofile={wanted}:{wanted} …")),
    ];
    if Capacity::of(facts).rings.is_some_and(|rings| rings >= sessions) {
        return Finding::ok(NAME, format!("{found}; connections need none with io_uring, {fit_text} fit with poll"));
    }
    Finding::new(NAME, Status::Bad, found, format!("{fit_text} connections have one; the rest is the node's"))
        .fixed_by(fixes)
}

fn io_uring(facts: &Facts) -> Finding {
    const NAME: &str = "io_uring";
    let unfit = |why: &String| Finding::new(NAME, Status::Warn, "not to be had", why.clone());
    match &facts.io_uring {
        IoUring::Works => Finding::ok(NAME, "works"),
        IoUring::Unfit(why) => unfit(why),
        IoUring::Forbidden(why) => match facts.sysctls.io_uring_disabled {
            Some(1 | 2) => unfit(why).fixed_by([Fix::one_sysctl("kernel.io_uring_disabled", 0)]),
            _ => {
                let profile = "docker run --security-opt seccomp=profile-with-io_uring.json …".to_owned();
                unfit(why).fixed_by([Fix::line("container", profile)])
            }
        },
    }
}

fn memlock(facts: &Facts, sessions: u64) -> Finding {
    const NAME: &str = "locked memory";
    if facts.ipc_lock {
        return Finding::ok(NAME, "any (CAP_IPC_LOCK)");
    }
    let Some(limit) = facts.memlock.hard else { return Finding::ok(NAME, "unlimited") };
    let capacity = Capacity::of(facts);
    let found = size(limit);
    if facts.io_uring != IoUring::Works || capacity.rings.is_none_or(|rings| rings >= sessions) {
        return Finding::ok(NAME, found);
    }
    let why = format!("rings count against it: {} sessions fit", grouped(capacity.rings.unwrap_or(0)));
    // What needs no ring is not in the way of the others.
    let status = if capacity.poll().is_none_or(|poll| poll >= sessions) { Status::Warn } else { Status::Bad };
    Finding::new(NAME, status, found, why).fixed_by([
        Fix::line("shell", "ulimit -l unlimited".to_owned()),
        Fix::line("systemd", "LimitMEMLOCK=infinity".to_owned()),
        Fix::line("container", "docker run --ulimit memlock=-1:-1 …".to_owned()),
    ])
}

fn kernel(facts: &Facts) -> Finding {
    const NAME: &str = "kernel";
    let Some(release) = &facts.kernel else { return Finding::ok(NAME, NOT_TOLD) };
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    if numbers.next().is_some_and(|major| (major, numbers.next().unwrap_or(0)) < (6, 1)) {
        return Finding::new(NAME, Status::Warn, release, "io_uring needs 6.1 or later; the poll driver is used");
    }
    Finding::ok(NAME, release)
}

/// The server's own limit.
fn setting(sessions: u64) -> Finding {
    const NAME: &str = "connections_max";
    let by_default = Config::default().connections_max as u64;
    let found = format!("{} unless set", grouped(by_default));
    if sessions <= by_default {
        return Finding::ok(NAME, found);
    }
    let line = format!("roost serve --connections-max {}", sessions + sessions / 10);
    Finding::new(NAME, Status::Warn, found, "above it clients get 503").fixed_by([Fix::line("setting", line)])
}

fn sysctl(wanted: &Wanted) -> Finding {
    let name = wanted.name;
    let found = if wanted.found.is_empty() { NOT_TOLD.to_owned() } else { words(&wanted.found) };
    if wanted.holds() {
        return Finding::ok(name, found);
    }
    // Without descriptors a session has nowhere to be; without the rest it waits, or something is sent again.
    let status = if name == "fs.file-max" { Status::Bad } else { Status::Warn };
    Finding::new(name, status, found, wanted.why).fixed_by([Fix::sysctl(wanted)])
}

/// Ports bound what one address of a proxy, or a load generator, can open to one address of ours.
fn ports(facts: &Facts) -> Finding {
    const NAME: &str = "ip_local_port_range";
    match facts.sysctls.port_range {
        None => Finding::ok(NAME, NOT_TOLD),
        Some([first, last]) => {
            let ports = (last + 1).saturating_sub(first);
            Finding::ok(
                NAME,
                format!("{} ports: so many connections has a proxy here from one address", grouped(ports)),
            )
        }
    }
}

fn conntrack(facts: &Facts, sessions: u64) -> Finding {
    const NAME: &str = "conntrack";
    let Some(table) = facts.conntrack else { return Finding::ok(NAME, "not loaded") };
    let found = format!("{} of {} entries", grouped(table.count), grouped(table.max));
    if table.max.saturating_sub(table.count) >= sessions {
        return Finding::ok(NAME, found);
    }
    let why = "each connection takes an entry; with a full table new ones are dropped without a word. Better: do not track the ports of Roost";
    // It may be loaded and track nothing that comes here.
    let status = if table.count == 0 { Status::Warn } else { Status::Bad };
    let fix = Fix::one_sysctl("net.netfilter.nf_conntrack_max", sysctls::conntrack_max(sessions));
    Finding::new(NAME, status, found, why).fixed_by([fix])
}

fn huge_pages(facts: &Facts) -> Finding {
    const NAME: &str = "huge pages";
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    match facts.huge_pages.as_deref() {
        None => Finding::ok(NAME, NOT_TOLD),
        Some(mode @ "always") => {
            let write = Some((FILE.to_owned(), "madvise".to_owned()));
            let fix = Fix { at: "now", line: format!("echo madvise > {FILE}"), write };
            Finding::new(
                NAME,
                Status::Warn,
                mode,
                "memory is taken in pieces of 2 MiB, and held longer than it is used",
            )
            .fixed_by([fix])
        }
        Some(mode) => Finding::ok(NAME, mode),
    }
}

fn overcommit(facts: &Facts) -> Finding {
    const NAME: &str = "vm.overcommit_memory";
    match facts.sysctls.overcommit {
        None => Finding::ok(NAME, NOT_TOLD),
        Some(2) => Finding::new(
            NAME,
            Status::Warn,
            "2",
            "memory that was reserved and not used counts as used: it runs out early",
        )
        .fixed_by([Fix::one_sysctl(NAME, 0)]),
        Some(mode) => Finding::ok(NAME, mode.to_string()),
    }
}

fn clock(facts: &Facts) -> Finding {
    const NAME: &str = "clock";
    match facts.clock.as_deref() {
        None => Finding::ok(NAME, NOT_TOLD),
        Some(slow @ ("hpet" | "acpi_pm" | "jiffies" | "refined-jiffies")) => Finding::new(
            NAME,
            Status::Warn,
            slow,
            "every look at it is a call of the kernel; tsc or a clock of the hypervisor is not",
        ),
        Some(clock) => Finding::ok(NAME, clock),
    }
}

/// A figure to know: how fast is fast enough depends on the sends.
fn fsync(facts: &Facts) -> Finding {
    const NAME: &str = "fsync";
    let ms = |micros: u64| format!("{:.1} ms", micros as f64 / 1000.0);
    match &facts.fsync {
        Fsync::Micros { median, slowest, dir } => {
            let found = format!("{} (slowest {}) in {dir}: a send takes that at least", ms(*median), ms(*slowest));
            Finding::ok(NAME, found)
        }
        Fsync::Failed(why) => Finding::new(NAME, Status::Bad, "failed", format!("messages cannot be kept: {why}")),
    }
}

/// As a flag takes it: whole MiB.
fn size_flag(bytes: u64) -> String {
    format!("{}m", bytes.div_ceil(1 << 20))
}
