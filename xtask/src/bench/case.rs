//! What is measured, and how `roost-load` is asked to.

use anyhow::Context;
use serde_json::Value;

use super::server::Kind;

/// A figure that a run of `roost-load` gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// As the results call it, with its unit.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) what: &'static str,
    /// The servers it is measured on; the first is compared with the second.
    pub(crate) servers: &'static [Kind],
    /// Whether more is better.
    pub(crate) more_is_better: bool,
    /// Decimals worth showing.
    pub(crate) decimals: usize,
    /// Arguments of `roost-load`.
    args: &'static str,
    /// The same, smaller.
    quick_args: &'static str,
    read: fn(&Value) -> Option<f64>,
}

/// Roost and one other server.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Of the kept files.
    pub(crate) name: &'static str,
    /// Of the page.
    pub(crate) title: &'static str,
    pub(crate) command: &'static str,
    /// The other server, as the results call it.
    pub(crate) other: &'static str,
    /// Every case, in the order of a round.
    pub(crate) cases: &'static [Case],
}

/// By WebSocket.
pub(crate) static COMPARE: Comparison = Comparison {
    name: "baseline",
    title: "Roost and the baseline server",
    command: "cargo xtask bench compare",
    other: "baseline",
    cases: CASES,
};

/// By QUIC.
pub(crate) static QUIC: Comparison = Comparison {
    name: "quic",
    title: "Roost's QUIC and a plain quinn server",
    command: "cargo xtask bench quic",
    other: "quinn",
    cases: QUIC_CASES,
};

/// By WebSocket over TLS.
pub(crate) static TLS: Comparison = Comparison {
    name: "wss",
    title: "Roost and the baseline server, by WebSocket over TLS",
    command: "cargo xtask bench tls",
    other: "baseline",
    cases: TLS_CASES,
};

const TLS_CASES: &[Case] = &[
    Case {
        name: "idle_user_bytes_per_session",
        what: "user-space bytes per idle session",
        servers: &[Kind::Secret, Kind::SecretBaseline],
        more_is_better: false,
        decimals: 0,
        args: "hold --transport wss --connections 10000 --rate 1500 --for 5s --heartbeat 60s",
        quick_args: "hold --transport wss --connections 500 --rate 500 --for 1s",
        read: user_bytes,
    },
    Case {
        name: "set_ups_per_cpu_second",
        what: "sessions set up per CPU-second of the server, full handshake and upgrade (Roost: and CONNECT)",
        servers: &[Kind::Secret, Kind::SecretBaseline],
        more_is_better: true,
        decimals: 0,
        args: "hold --transport wss --connections 5000 --rate 1000 --for 1s --heartbeat 60s",
        quick_args: "hold --transport wss --connections 500 --rate 500 --for 1s",
        read: set_ups,
    },
    Case {
        name: "resumed_set_ups_per_cpu_second",
        what: "the same, with tickets of earlier sessions",
        servers: &[Kind::Secret, Kind::SecretBaseline],
        more_is_better: true,
        decimals: 0,
        args: "hold --transport wss --tickets --connections 5000 --rate 1000 --for 1s --heartbeat 60s",
        quick_args: "hold --transport wss --tickets --connections 500 --rate 500 --for 1s",
        read: set_ups,
    },
    Case {
        name: "broadcast_deliveries_per_cpu_second",
        what: "broadcast deliveries of 128 B per CPU-second of the server",
        servers: &[Kind::Secret, Kind::SecretBaseline],
        more_is_better: true,
        decimals: 0,
        args: "broadcast --transport wss --connections 1000 --connect-rate 1000 --publishes 400 --rate 40 --bytes 128",
        quick_args: "broadcast --transport wss --connections 200 --publishes 20 --rate 10 --bytes 128",
        read: deliveries,
    },
];

const QUIC_CASES: &[Case] = &[
    Case {
        name: "idle_user_bytes_per_session",
        what: "user-space bytes per idle session, its stream open",
        servers: &[Kind::Secret, Kind::Quinn],
        more_is_better: false,
        decimals: 0,
        args: "hold --transport quic --connections 10000 --rate 1500 --for 5s --heartbeat 60s",
        quick_args: "hold --transport quic --connections 500 --rate 500 --for 1s",
        read: user_bytes,
    },
    Case {
        name: "set_ups_per_cpu_second",
        what: "sessions set up per CPU-second of the server, full handshake and CONNECT",
        servers: &[Kind::Secret, Kind::Quinn],
        more_is_better: true,
        decimals: 0,
        args: "hold --transport quic --connections 5000 --rate 1000 --for 1s --heartbeat 60s",
        quick_args: "hold --transport quic --connections 500 --rate 500 --for 1s",
        read: set_ups,
    },
    Case {
        name: "resumed_set_ups_per_cpu_second",
        what: "the same, with tickets of earlier sessions",
        servers: &[Kind::Secret, Kind::Quinn],
        more_is_better: true,
        decimals: 0,
        args: "hold --transport quic --tickets --connections 5000 --rate 1000 --for 1s --heartbeat 60s",
        quick_args: "hold --transport quic --tickets --connections 500 --rate 500 --for 1s",
        read: set_ups,
    },
    Case {
        name: "broadcast_deliveries_per_cpu_second",
        what: "broadcast deliveries of 128 B per CPU-second of the server",
        servers: &[Kind::Secret, Kind::Quinn],
        more_is_better: true,
        decimals: 0,
        args: "broadcast --transport quic --connections 1000 --connect-rate 1000 --publishes 200 --rate 20 --bytes 128",
        quick_args: "broadcast --transport quic --connections 200 --publishes 20 --rate 10 --bytes 128",
        read: deliveries,
    },
];

const CASES: &[Case] = &[
    Case {
        name: "idle_user_bytes_per_connection",
        what: "user-space bytes per idle connection",
        servers: &[Kind::Roost, Kind::Baseline],
        more_is_better: false,
        decimals: 0,
        args: "idle --connections 10000 --for 5s",
        quick_args: "idle --connections 1000 --for 2s",
        read: user_bytes,
    },
    Case {
        name: "broadcast_deliveries_per_cpu_second",
        what: "broadcast deliveries of 128 B per CPU-second of the server",
        servers: &[Kind::Roost, Kind::Baseline],
        more_is_better: true,
        decimals: 0,
        args: "broadcast --mass --connections 1000 --publishes 1000 --rate 50 --bytes 128",
        quick_args: "broadcast --mass --connections 200 --publishes 50 --bytes 128",
        read: deliveries,
    },
    Case {
        name: "burst_deliveries_per_cpu_second",
        what: "the same, eight messages at a time",
        servers: &[Kind::Roost, Kind::Baseline],
        more_is_better: true,
        decimals: 0,
        args: "broadcast --mass --connections 1000 --publishes 2000 --rate 80 --burst 8 --bytes 128",
        quick_args: "broadcast --mass --connections 200 --publishes 80 --burst 8 --bytes 128",
        read: deliveries,
    },
    Case {
        name: "durable_sends_per_second",
        what: "acknowledged durable sends per second, 256 senders",
        servers: &[Kind::Roost],
        more_is_better: true,
        decimals: 0,
        args: "sends --senders 256 --for 20s",
        quick_args: "sends --senders 256 --for 3s",
        read: |report| report.pointer("/sends/per_second")?.as_f64(),
    },
];

fn user_bytes(report: &Value) -> Option<f64> {
    report.pointer("/server/user_bytes_per_session")?.as_f64()
}

fn set_ups(report: &Value) -> Option<f64> {
    report.pointer("/setup/per_server_cpu_second")?.as_f64()
}

fn deliveries(report: &Value) -> Option<f64> {
    report.pointer("/server/deliveries_per_cpu_second")?.as_f64()
}

impl Case {
    /// What `roost-load` is called with, the address aside.
    pub(crate) fn args(&self, quick: bool) -> &'static str {
        if quick { self.quick_args } else { self.args }
    }

    /// The figure in a report.
    pub(crate) fn figure(&self, report: &Value) -> anyhow::Result<f64> {
        (self.read)(report)
            .filter(|figure| figure.is_finite() && *figure > 0.0)
            .with_context(|| format!("the report holds no {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_a_report_and_a_missing_one_is_an_error() {
        let report = serde_json::json!({
            "sends": { "per_second": 12_345.6 },
            "server": { "user_bytes_per_session": 700, "deliveries_per_cpu_second": 400_000 },
        });
        let figures: Vec<f64> = CASES.iter().map(|case| case.figure(&report).unwrap()).collect();
        assert_eq!(figures, [700.0, 400_000.0, 400_000.0, 12_345.6]);
        for report in [serde_json::json!({}), serde_json::json!({ "server": { "deliveries_per_cpu_second": 0 } })] {
            assert!(CASES.iter().all(|case| case.figure(&report).is_err()));
        }
    }
}
