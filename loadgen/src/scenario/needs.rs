//! What a run takes of this machine, found out before it begins.

use std::net::IpAddr;

use super::compile::Compiled;
use crate::host;

/// Descriptors this process needs beside one for each connection.
const DESCRIPTORS_SPARE: u64 = 64;
/// Bytes of this process for a client that does all a user's does, with its conversations: measured, with room.
const FULL_CLIENT_BYTES: u64 = 4_000;
/// The same for one by QUIC or TLS.
const FULL_SECURE_CLIENT_BYTES: u64 = 24_000;
/// The same for a lean one.
const LEAN_CLIENT_BYTES: u64 = 300;
const LEAN_SECURE_CLIENT_BYTES: u64 = 16_000;
/// Bytes of the kernel for one end of a connection by TCP.
const SOCKET_BYTES: u64 = 4_500;
/// Bytes of a server of our own for a session.
const SESSION_BYTES: u64 = 2_000;
const SECURE_SESSION_BYTES: u64 = 14_000;
/// Bytes of the SDK with its task.
const SDK_BYTES: u64 = 200_000;
/// What a run takes beside its clients.
const BASE_BYTES: u64 = 96 << 20;
/// The share of the memory that is free which a run may take.
const MEMORY_SHARE_MAX: f64 = 0.9;

/// What a run takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) sessions: u64,
    pub(crate) sdk_clients: u64,
    /// Connections with a descriptor each.
    pub(crate) descriptors: u64,
    /// Connections by TCP, each with a port.
    pub(crate) ports: u64,
    /// Of the generator, and of the kernel for its ends.
    pub(crate) bytes: u64,
    /// Of a server of our own, and of the kernel for its ends.
    pub(crate) server_bytes: u64,
}

impl Needs {
    pub(crate) fn of(compiled: &Compiled) -> Self {
        let mut needs = Self { bytes: BASE_BYTES, ..Self::default() };
        match compiled {
            Compiled::Full(scenario) => {
                for crowd in &scenario.crowds {
                    let (clients, quic) = (u64::from(crowd.clients()), crowd.transport.is_quic());
                    let secure = crowd.transport.has_tls();
                    needs.sessions += clients;
                    needs.ports += if quic { 0 } else { clients };
                    needs.bytes += clients * if secure { FULL_SECURE_CLIENT_BYTES } else { FULL_CLIENT_BYTES };
                    needs.server_bytes += clients * if secure { SECURE_SESSION_BYTES } else { SESSION_BYTES };
                }
                needs.sdk_clients = (f64::from(scenario.users()) * scenario.sdk_share).ceil() as u64;
                needs.ports += needs.sdk_clients;
                needs.descriptors = needs.ports + DESCRIPTORS_SPARE;
                needs.bytes += needs.sdk_clients * SDK_BYTES;
                needs.server_bytes += needs.sdk_clients * SECURE_SESSION_BYTES;
            }
            #[cfg(target_os = "linux")]
            Compiled::Lean(plan) => {
                let (clients, secure) = (u64::from(plan.connections), plan.transport.has_tls());
                needs.sessions = clients;
                needs.ports = if plan.transport.is_quic() { 0 } else { clients };
                needs.descriptors = DESCRIPTORS_SPARE;
                needs.bytes += clients * if secure { LEAN_SECURE_CLIENT_BYTES } else { LEAN_CLIENT_BYTES };
                needs.server_bytes = clients * if secure { SECURE_SESSION_BYTES } else { SESSION_BYTES };
            }
        }
        needs.bytes += needs.ports * SOCKET_BYTES;
        needs.server_bytes += needs.ports * SOCKET_BYTES;
        needs
    }

    /// What this machine lacks for it, and what to do. `target`: where it goes; `None`: to a server of our own, here too.
    pub(crate) fn lacking(&self, target: Option<IpAddr>) -> Vec<String> {
        let descriptors = host::raise_descriptors();
        let available = host::process::meminfo("MemAvailable:");
        self.compared(target, descriptors, available, ports())
    }

    fn compared(
        &self,
        target: Option<IpAddr>,
        descriptors: Option<u64>,
        available: Option<u64>,
        ports: Option<u64>,
    ) -> Vec<String> {
        let mut lacking = Vec::new();
        let (sessions, needed) = (self.sessions, self.descriptors);
        if let Some(max) = descriptors.filter(|max| *max < needed) {
            lacking.push(format!(
                "{sessions} sessions need {needed} descriptors, and this process may open {max}: raise the limit \
                 (ulimit -n {needed}), scale it down (--scale), or take lean clients, which need none"
            ));
        }
        // On the loopback network clients come from many addresses.
        let far = target.is_some_and(|target| !target.is_loopback());
        if let Some(ports) = ports.filter(|ports| far && *ports < self.ports) {
            lacking.push(format!(
                "{} connections to one address need as many ports, and this machine has {ports}: widen them \
                 (sysctl net.ipv4.ip_local_port_range=\"1024 65535\"), scale it down, or share it out among --workers",
                self.ports
            ));
        }
        let bytes = self.bytes + if target.is_none() { self.server_bytes } else { 0 };
        if let Some(available) = available.filter(|available| bytes as f64 > *available as f64 * MEMORY_SHARE_MAX) {
            let giga = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            lacking.push(format!(
                "{sessions} sessions take about {:.1} GiB here, and {:.1} GiB are free: scale it down (--scale), or share it \
                 out among --workers",
                giga(bytes),
                giga(available)
            ));
        }
        lacking
    }
}

/// Ports that one address has for connections that go out.
fn ports() -> Option<u64> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (from, to) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some((to + 1).saturating_sub(from))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn each_limit_is_found_and_says_what_to_do() {
        let needs = Needs::of(&Compiled::Full(Box::new(Scenario::idle(100_000, Duration::from_secs(1)))));
        let far = Some(IpAddr::from([192, 0, 2, 1]));
        let giga = 1u64 << 30;
        let told =
            |target, descriptors, available, ports| needs.compared(target, descriptors, available, ports).join("\n");
        assert_eq!(told(None, None, Some(64 * giga), Some(28_000)), "");
        assert!(told(None, Some(20_000), None, None).contains("ulimit -n 100064"));
        assert!(told(far, None, None, Some(28_000)).contains("ip_local_port_range"));
        assert_eq!(told(Some(IpAddr::from([127, 0, 0, 1])), None, None, Some(28_000)), "");
        assert!(told(None, None, Some(giga), None).contains("GiB are free"));
        assert!(needs.compared(far, None, Some(needs.bytes * 2), None).is_empty(), "the server is elsewhere");
    }
}
