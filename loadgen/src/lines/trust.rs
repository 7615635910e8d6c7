//! Whom clients believe, and what they come back with.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roost_client::Trust;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup};

/// Tickets that are kept; further ones are thrown away.
const TICKETS_MAX: usize = 4096;

/// Tickets that all clients of a run share, and how many were used. There is one server, and TLS 1.3 alone.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    kept: Mutex<Vec<Tls13ClientSessionValue>>,
    used: AtomicU64,
}

impl Tickets {
    /// Handshakes that were begun with a ticket.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A panic while it was held left nothing half done.
    fn kept(&self) -> MutexGuard<'_, Vec<Tls13ClientSessionValue>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut kept = self.kept();
        if kept.len() < TICKETS_MAX {
            kept.push(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let ticket = self.kept().pop();
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
