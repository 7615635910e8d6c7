//! The sysctls a node with so many sessions wants, and why: for the findings, for `--print`, for `deploy/`.

use super::facts::Sysctls;

/// A sysctl, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: &'static str,
    /// What is there. Empty: the kernel does not tell.
    pub(crate) found: Vec<u64>,
    /// What to write.
    pub(crate) value: Vec<u64>,
    /// Each number is to be at least this; `value` has some room above it. For `tcp_rmem` and `tcp_wmem` the largest is
    /// to be at most this.
    pub(crate) bound: Vec<u64>,
    pub(crate) bounds_above: bool,
    pub(crate) why: &'static str,
}

/// Descriptors of a machine beside those of sessions.
const OTHER_FILES: u64 = 100_000;
/// Bytes that one slow session may hold in the kernel in each direction.
const SOCKET_BUFFER_MAX: u64 = 1 << 20;
/// The same, above which it is too much.
const SOCKET_BUFFER_TOO_MUCH: u64 = 8 << 20;

/// Those wanted for `sessions`, and what is there now.
pub(crate) fn wanted(sessions: u64, now: &Sysctls) -> Vec<Wanted> {
    let one = |found: Option<u64>| found.into_iter().collect::<Vec<_>>();
    let least = |name, found, bound: &[u64], value: &[u64], why| Wanted {
        name,
        found,
        value: value.to_vec(),
        bound: bound.to_vec(),
        bounds_above: false,
        why,
    };
    let files = sessions + OTHER_FILES;
    let roomy = round_up(2 * files);
    let pages = sessions.max(65_536);
    let buffers = |name, found: Option<[u64; 3]>| Wanted {
        name,
        found: found.map(Vec::from).unwrap_or_default(),
        value: vec![4096, 16_384, SOCKET_BUFFER_MAX],
        bound: vec![u64::MAX, u64::MAX, SOCKET_BUFFER_TOO_MUCH],
        bounds_above: true,
        why: "An idle connection holds no buffer; a busy one may grow to these (least, first, most, in bytes).",
    };
    vec![
        least(
            "fs.file-max",
            one(now.file_max),
            &[files],
            &[roomy],
            "Descriptors of the whole machine: one a connection.",
        ),
        least("fs.nr_open", one(now.nr_open), &[files], &[roomy], "The most that one process may be allowed."),
        least(
            "net.core.somaxconn",
            one(now.somaxconn),
            &[4096],
            &[16_384],
            "Connections that wait to be accepted when everybody comes back at once.",
        ),
        least(
            "net.ipv4.tcp_max_syn_backlog",
            one(now.syn_backlog),
            &[4096],
            &[16_384],
            "And those whose handshake is under way.",
        ),
        least(
            "net.core.netdev_max_backlog",
            one(now.device_backlog),
            &[if sessions > 100_000 { 4096 } else { 1000 }],
            &[16_384],
            "Packets that wait for a core when many come at once, as the answers to a broadcast.",
        ),
        least(
            "net.ipv4.tcp_mem",
            now.tcp_mem.map(Vec::from).unwrap_or_default(),
            &[0, 0, pages],
            &[pages / 2, pages / 4 * 3, pages],
            "Pages that all socket buffers may take (little, much, most): a page a session, as in a broadcast to all.",
        ),
        buffers("net.ipv4.tcp_rmem", now.tcp_rmem),
        buffers("net.ipv4.tcp_wmem", now.tcp_wmem),
    ]
}

impl Wanted {
    /// Whether what is there will do; what the kernel does not tell is not judged.
    pub(crate) fn holds(&self) -> bool {
        let within = |(found, bound): (&u64, &u64)| if self.bounds_above { found <= bound } else { found >= bound };
        self.found.iter().zip(&self.bound).all(within)
    }

    /// As sysctl(8) takes it.
    pub(crate) fn assignment(&self) -> String {
        let quote = if self.value.len() > 1 { "\"" } else { "" };
        format!("{}={quote}{}{quote}", self.name, words(&self.value))
    }
}

/// The text of a file for `/etc/sysctl.d`. With the same number of sessions it is the same on every machine.
pub(crate) fn file(sessions: u64) -> String {
    let mut text = format!(
        "# /etc/sysctl.d/90-roost.conf: for a node with {sessions} sessions. Written by `roost doctor --for {sessions} --print`.\n"
    );
    let mut last = "";
    for wanted in wanted(sessions, &Sysctls::default()) {
        if wanted.why != last {
            text.push_str(&format!("\n# {}\n", wanted.why));
            last = wanted.why;
        }
        text.push_str(&format!("{} = {}\n", wanted.name, words(&wanted.value)));
    }
    text.push_str(&format!(
        "\n# Connection tracking would need an entry each: keep the ports out of it, or make room.\n\
         # net.netfilter.nf_conntrack_max = {}\n",
        conntrack_max(sessions)
    ));
    text
}

/// Entries that tracking so many sessions takes, with room for those that end.
pub(crate) fn conntrack_max(sessions: u64) -> u64 {
    round_up(2 * sessions)
}

pub(crate) fn words(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// To a power of two: people read it, and sums of several nodes still fit.
fn round_up(number: u64) -> u64 {
    number.max(65_536).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_deploy_is_what_a_million_sessions_want() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/90-roost.conf");
        let kept = std::fs::read_to_string(path).unwrap();
        assert_eq!(kept, file(1_000_000), "write deploy/90-roost.conf anew: roost doctor --for 1000000 --print");
    }

    #[test]
    fn what_is_written_is_enough_for_any_number_of_sessions() {
        for sessions in [0, 1, 20_000, 1_000_000, 10_000_000] {
            for mut wanted in wanted(sessions, &Sysctls::default()) {
                assert!(wanted.holds(), "{}: nothing known is no reason", wanted.name);
                wanted.found = wanted.value.clone();
                assert!(wanted.holds(), "{} for {sessions}", wanted.name);
                assert!(wanted.value.is_sorted(), "{}", wanted.name);
            }
        }
    }
}
