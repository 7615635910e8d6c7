//! Whom clients believe, and what they come back with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roost_client::Trust;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup};

/// Sessions of a server that are remembered; more tickets push the oldest out.
const TICKETS_MAX: usize = 4096;

/// Tickets that all clients of a run share, and how many were used.
#[derive(Debug)]
pub(crate) struct Tickets {
    kept: ClientSessionMemoryCache,
    used: AtomicU64,
}

impl Tickets {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { kept: ClientSessionMemoryCache::new(TICKETS_MAX), used: AtomicU64::new(0) })
    }

    /// Handshakes that were begun with a ticket.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.kept.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let ticket = self.kept.take_tls13_ticket(server_name);
        self.used.fetch_add(u64::from(ticket.is_some()), Ordering::Relaxed);
        ticket
    }
}

/// What every client connects with, by TLS 1.3: the certificates of `ca` and no others are believed; of `tickets` one is
/// taken each time. `None`: clients stand for people who do not know each other, and make whole handshakes.
///
/// # Errors
/// In words for people: the file cannot be read, or holds no certificate.
pub(super) fn client_config(ca: &Path, alpn: &[u8], tickets: Option<Arc<Tickets>>) -> anyhow::Result<ClientConfig> {
    let roots = Trust::File(ca.to_owned()).roots()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = match tickets {
        Some(tickets) => Resumption::store(tickets),
        None => Resumption::disabled(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}
