//! What is measured, and how `roost-load` is asked to.

use anyhow::Context;
use serde_json::Value;

use super::peer::{Peer, Speaks};

/// One run of `roost-load`, and the figures that it gives.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) name: &'static str,
    pub(super) figures: &'static [Figure],
    /// What the report calls the way messages follow one another, where there are messages to everybody.
    pub(super) regime: Option<&'static str>,
    args: &'static str,
    quick_args: &'static str,
    only_plain: bool,
}

/// A figure of a report.
#[derive(Debug)]
pub(super) struct Figure {
    /// As the results call it, with its unit.
    pub(super) name: &'static str,
    /// The same for people.
    pub(super) title: &'static str,
    /// What it is, in sentences.
    pub(super) what: &'static str,
    /// Behind a number.
    pub(super) unit: &'static str,
    pub(super) more_is_better: bool,
    pointer: &'static str,
}

/// Deliveries over the server's CPU time.
const DELIVERIES: &str = "/server/deliveries_per_cpu_second";

/// Every load, in the order of a round.
pub(super) const LOADS: &[Load] = &[
    Load {
        name: "hold",
        figures: &[
            Figure {
                name: "idle_user_bytes_per_connection",
                title: "Idle memory",
                what: "User-space bytes per connection: growth of the server's resident memory with 16 000 of them that say nothing but \
                    what it takes to enter.",
                unit: "B",
                more_is_better: false,
                pointer: "/server/user_bytes_per_session",
            },
            Figure {
                name: "idle_kernel_bytes_per_connection",
                title: "Kernel",
                what: "The kernel's bytes per connection, about: half of what the host's slabs and TCP buffers grew, as both ends are \
                    here.",
                unit: "B",
                more_is_better: false,
                pointer: "/server/kernel_bytes_per_session",
            },
            Figure {
                name: "setups_per_cpu_second",
                title: "Set-up",
                what: "Connections per CPU-second of the server, 4 000 begun a second: to the upgrade, or to the session where the \
                    protocol has one.",
                unit: "/CPU-s",
                more_is_better: true,
                pointer: "/setup/per_server_cpu_second",
            },
        ],
        regime: None,
        args: "hold --connections 16000 --rate 4000 --for 4s --heartbeat 60s --grace 60s",
        quick_args: "hold --connections 1000 --rate 2000 --for 1s --heartbeat 60s",
        only_plain: false,
    },
    Load {
        name: "echo",
        figures: &[Figure {
            name: "echoes_per_cpu_second",
            title: "Echo",
            what: "Saturated: 1 000 connections, each with one message of 128 B under way; messages per CPU-second of the server.",
            unit: "/CPU-s",
            more_is_better: true,
            pointer: "/echo/per_server_cpu_second",
        }],
        regime: None,
        args: "echo --connections 1000 --bytes 128 --for 6s",
        quick_args: "echo --connections 100 --bytes 128 --for 1s",
        only_plain: true,
    },
    Load {
        name: "paced-1000",
        figures: &[Figure {
            name: "paced_1000_deliveries_per_cpu_second",
            title: "Broadcast to 1 000",
            what: "Paced: 20 messages of 128 B a second, each when everybody had the one before, so there is nothing to \
                coalesce; deliveries per CPU-second of the server.",
            unit: "/CPU-s",
            more_is_better: true,
            pointer: DELIVERIES,
        }],
        regime: Some("paced"),
        args: "broadcast --mass --connections 1000 --publishes 160 --rate 20 --bytes 128",
        quick_args: "broadcast --mass --connections 200 --publishes 20 --rate 20 --bytes 128",
        only_plain: false,
    },
    Load {
        name: "paced-10000",
        figures: &[Figure {
            name: "paced_10000_deliveries_per_cpu_second",
            title: "Broadcast to 10 000",
            what: "Paced: the same, 2 messages a second.",
            unit: "/CPU-s",
            more_is_better: true,
            pointer: DELIVERIES,
        }],
        regime: Some("paced"),
        args: "broadcast --mass --connections 10000 --publishes 20 --rate 2 --bytes 128",
        quick_args: "broadcast --mass --connections 1000 --publishes 4 --rate 2 --bytes 128",
        only_plain: false,
    },
    Load {
        name: "bursts",
        figures: &[Figure {
            name: "burst_deliveries_per_cpu_second",
            title: "Bursts to 1 000",
            what: "16 messages of 128 B at the same moment, 5 times a second: a server may send them as one; deliveries per \
                CPU-second of the server.",
            unit: "/CPU-s",
            more_is_better: true,
            pointer: DELIVERIES,
        }],
        regime: Some("bursts"),
        args: "broadcast --mass --connections 1000 --publishes 640 --rate 80 --burst 16 --bytes 128",
        quick_args: "broadcast --mass --connections 200 --publishes 64 --rate 80 --burst 16 --bytes 128",
        only_plain: false,
    },
];

impl Load {
    /// What `roost-load` is called with, the server aside.
    pub(super) fn args(&self, quick: bool) -> impl Iterator<Item = &'static str> {
        if quick { self.quick_args } else { self.args }.split_whitespace()
    }

    /// Whether a server can be put under it.
    pub(super) fn suits(&self, peer: &Peer) -> bool {
        !self.only_plain || peer.speaks == Speaks::Plain
    }

    pub(super) const fn is_broadcast(&self) -> bool {
        self.regime.is_some()
    }
}

impl Figure {
    /// The figure in a report.
    pub(super) fn read(&self, report: &Value) -> anyhow::Result<f64> {
        let figure = report.pointer(self.pointer).and_then(Value::as_f64);
        // No bytes at all are a figure, no messages are none.
        let well = |figure: &f64| if self.more_is_better { *figure > 0.0 } else { *figure >= 0.0 };
        figure.filter(well).with_context(|| format!("the report holds no {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_read_from_a_report_and_a_missing_one_is_an_error() {
        let report = json!({
            "server": { "user_bytes_per_session": 0, "kernel_bytes_per_session": 4000, "deliveries_per_cpu_second": 9 },
            "setup": { "per_server_cpu_second": 7 },
            "echo": { "per_server_cpu_second": 8 },
        });
        let figures = || LOADS.iter().flat_map(|load| load.figures);
        let read: Vec<f64> = figures().map(|figure| figure.read(&report).unwrap()).collect();
        assert_eq!(read, [0.0, 4000.0, 7.0, 8.0, 9.0, 9.0, 9.0]);
        assert!(figures().all(|figure| figure.read(&json!({})).is_err()));
        let nothing = json!({ "server": { "deliveries_per_cpu_second": 0 } });
        assert!(LOADS[2].figures[0].read(&nothing).is_err());
    }
}
