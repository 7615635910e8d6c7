//! The TLS side of a connection, let go when its handshake is over.
//!
//! rustls keeps a connection's state, and keys of TLS records that QUIC never uses, for as long as the connection lives:
//! 3.6 KB. What is needed of it later are the secrets of the next keys alone (RFC 9001 §6).
//!
//! What a client may say by CRYPTO frames after the handshake is nothing: KeyUpdate of TLS is forbidden in QUIC (§6), and it
//! was asked for no certificate. So there is nobody to hear it, and saying it ends the connection.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::quic::{KeyChange, Secrets, ServerConnection, Version};

use super::keys::compacted;
use super::settings::QuicConfigError;

/// Version 1 (RFC 9000).
pub(super) const VERSION_1: u32 = 1;
/// TLS' unexpected_message as an error of QUIC (RFC 9001 §4.8).
const UNEXPECTED_MESSAGE: u8 = 10;
/// TLS' internal_error.
const INTERNAL_ERROR: u8 = 80;

/// How connections begin.
pub(super) struct Handshakes {
    tls: Arc<rustls::ServerConfig>,
    /// Seals Initials and Retry.
    base: QuicServerConfig,
}

impl Handshakes {
    /// As `tls` says, with keys that take less.
    ///
    /// # Errors
    /// QUIC needs other suites.
    pub(super) fn new(tls: &rustls::ServerConfig) -> Result<Self, QuicConfigError> {
        let provider = Arc::new(compacted(tls.crypto_provider()));
        let mut ours = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| QuicConfigError::Suite)?
            .with_no_client_auth()
            .with_cert_resolver(tls.cert_resolver.clone());
        ours.alpn_protocols.clone_from(&tls.alpn_protocols);
        ours.ignore_client_order = tls.ignore_client_order;
        ours.ticketer = tls.ticketer.clone();
        ours.session_storage = tls.session_storage.clone();
        ours.send_tls13_tickets = tls.send_tls13_tickets;
        ours.key_log = tls.key_log.clone();
        ours.time_provider = tls.time_provider.clone();
        // See docs/adr/0016.
        ours.max_early_data_size = 0;
        let tls = Arc::new(ours);
        let base = QuicServerConfig::try_from(tls.clone()).map_err(|_| QuicConfigError::Suite)?;
        Ok(Self { tls, base })
    }
}

impl ServerConfig for Handshakes {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        if version == VERSION_1 { self.base.initial_keys(version, dst_cid) } else { Err(UnsupportedVersion) }
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.base.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, _: u32, params: &TransportParameters) -> Box<dyn Session> {
        let mut bytes = Vec::new();
        params.write(&mut bytes);
        let tls = ServerConnection::new(self.tls.clone(), Version::V1, bytes).ok().map(Box::new);
        Box::new(Light { tls, handshakes: self, next: None, over: false })
    }
}

/// One connection's.
struct Light {
    /// `None`: the handshake is over. Or it could not begin, which its first message will tell.
    tls: Option<Box<ServerConnection>>,
    handshakes: Arc<Handshakes>,
    next: Option<Box<Secrets>>,
    /// The handshake is over.
    over: bool,
}

impl Session for Light {
    fn initial_keys(&self, dst_cid: &ConnectionId, _: Side) -> Keys {
        match ServerConfig::initial_keys(&*self.handshakes, VERSION_1, dst_cid) {
            Ok(keys) => keys,
            Err(_) => unreachable!("version 1 is supported"),
        }
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        !self.over
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let Some(tls) = &mut self.tls else {
            let alert = if self.over { UNEXPECTED_MESSAGE } else { INTERNAL_ERROR };
            return Err(crypto_error(alert, "nothing more is expected".into()));
        };
        tls.read_hs(buf).map_err(|error| match tls.alert() {
            Some(alert) => crypto_error(alert.into(), error.to_string()),
            None => violation(error.to_string()),
        })?;
        self.over = !tls.is_handshaking();
        // Nobody asks for its data.
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Some(bytes) = self.tls.as_ref().and_then(|tls| tls.quic_transport_parameters()) else { return Ok(None) };
        Ok(Some(TransportParameters::read(Side::Server, &mut Cursor::new(bytes))?))
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let tls = self.tls.as_mut()?;
        let before = buf.len();
        let keys = match tls.write_hs(buf) {
            Some(KeyChange::Handshake { keys }) => keys,
            Some(KeyChange::OneRtt { keys, next }) => {
                self.next = Some(Box::new(next));
                keys
            }
            None => {
                // The last ticket is out.
                if self.over && buf.len() == before {
                    self.tls = None;
                }
                return None;
            }
        };
        Some(Keys {
            header: KeyPair { local: Box::new(keys.local.header), remote: Box::new(keys.remote.header) },
            packet: KeyPair { local: Box::new(keys.local.packet), remote: Box::new(keys.remote.packet) },
        })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair { local: Box::new(keys.local), remote: Box::new(keys.remote) })
    }

    /// Only clients get one.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn export_keying_material(&self, _: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

fn violation(reason: String) -> TransportError {
    TransportError { code: TransportErrorCode::PROTOCOL_VIOLATION, frame: None, reason }
}

/// An alert of TLS as an error of QUIC.
fn crypto_error(alert: u8, reason: String) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(alert), frame: None, reason }
}
