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
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::crypto::{
    CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::quic::{KeyChange, Secrets, ServerConnection, Version};

use super::h3;
use super::hello::{self, chosen};
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
        let tls = Tls::Greeting(Box::new(Greeting { params: bytes, said: Vec::new() }));
        Box::new(Light { tls, handshakes: self, next: None, proven: None })
    }
}

/// One connection's.
struct Light {
    tls: Tls,
    handshakes: Arc<Handshakes>,
    next: Option<Box<Secrets>>,
    /// While the handshake is not over, and keys for it are there.
    proven: Option<Proven>,
}

// One for each session.
const _: () = assert!(size_of::<Light>() <= 40);

/// Where TLS stands.
enum Tls {
    /// The client's first message is not whole: what it offers decides what it is told of streams.
    Greeting(Box<Greeting>),
    /// The handshake is under way.
    Shaking(Box<ServerConnection>),
    /// It is over, and something is still to be said.
    Parting(Box<ServerConnection>),
    /// It is over.
    Over,
    /// It could not begin.
    Unable,
}

struct Greeting {
    /// Our transport parameters, for `roost/1`.
    params: Vec<u8>,
    /// What came of the first message.
    said: Vec<u8>,
}

/// Whether the client has sealed a packet with keys of the handshake: then it got what we sent to its address, which is proof
/// of that (RFC 9000 §8.1). quinn-proto knows this too, and does not tell.
#[derive(Clone, Default)]
struct Proven(Arc<AtomicBool>);

/// What is known of a handshake under way.
pub(super) struct Told {
    proven: Option<Proven>,
    /// HTTP/3 is what both speak.
    pub(super) h3: bool,
}

impl Told {
    /// Of a connection whose handshake is under way, and whose client's first message has come.
    pub(super) fn of(session: &dyn Session) -> Option<Self> {
        session.handshake_data().and_then(|told| told.downcast().ok()).map(|told| *told)
    }

    /// The client is where it says.
    pub(super) fn is_proven(&self) -> bool {
        self.proven.as_ref().is_some_and(|proven| proven.0.load(Ordering::Relaxed))
    }
}

/// The key that opens the client's packets of the handshake, and tells when one was opened.
struct Watched {
    key: Box<dyn PacketKey>,
    proven: Proven,
}

impl PacketKey for Watched {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.key.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.key.decrypt(packet, header, payload)?;
        self.proven.0.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.key.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }
}

impl Session for Light {
    fn initial_keys(&self, dst_cid: &ConnectionId, _: Side) -> Keys {
        match ServerConfig::initial_keys(&*self.handshakes, VERSION_1, dst_cid) {
            Ok(keys) => keys,
            Err(_) => unreachable!("version 1 is supported"),
        }
    }

    /// [`Told`].
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let (Tls::Shaking(tls) | Tls::Parting(tls)) = &self.tls else { return None };
        Some(Box::new(Told { proven: self.proven.clone(), h3: tls.alpn_protocol() == Some(h3::ALPN) }))
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
        !matches!(self.tls, Tls::Parting(_) | Tls::Over)
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let said;
        let mut buf = buf;
        if let Tls::Greeting(greeting) = &mut self.tls {
            greeting.said.extend_from_slice(buf);
            if !hello::is_whole(&greeting.said) && greeting.said.len() < hello::HELLO_BYTES_MAX {
                return Ok(false);
            }
            (self.tls, said) = greeting.end(&self.handshakes.tls);
            buf = &said;
        }
        let tls = match &mut self.tls {
            Tls::Shaking(tls) | Tls::Parting(tls) => tls,
            Tls::Over => return Err(crypto_error(UNEXPECTED_MESSAGE, "nothing more is expected".into())),
            Tls::Unable | Tls::Greeting(_) => return Err(crypto_error(INTERNAL_ERROR, "TLS could not begin".into())),
        };
        tls.read_hs(buf).map_err(|error| match tls.alert() {
            Some(alert) => crypto_error(alert.into(), error.to_string()),
            None => violation(error.to_string()),
        })?;
        if !tls.is_handshaking() {
            self.tls = match std::mem::replace(&mut self.tls, Tls::Over) {
                Tls::Shaking(tls) => Tls::Parting(tls),
                other => other,
            };
        }
        // Nobody asks for its data.
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let (Tls::Shaking(tls) | Tls::Parting(tls)) = &self.tls else { return Ok(None) };
        let Some(bytes) = tls.quic_transport_parameters() else { return Ok(None) };
        Ok(Some(TransportParameters::read(Side::Server, &mut Cursor::new(bytes))?))
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let (Tls::Shaking(tls) | Tls::Parting(tls)) = &mut self.tls else { return None };
        let before = buf.len();
        let keys = match tls.write_hs(buf) {
            Some(KeyChange::Handshake { keys }) => {
                let proven = self.proven.insert(Proven::default()).clone();
                let remote = Box::new(Watched { key: Box::new(keys.remote.packet), proven });
                return Some(Keys {
                    header: KeyPair { local: Box::new(keys.local.header), remote: Box::new(keys.remote.header) },
                    packet: KeyPair { local: Box::new(keys.local.packet), remote },
                });
            }
            Some(KeyChange::OneRtt { keys, next }) => {
                self.next = Some(Box::new(next));
                keys
            }
            None => {
                // The last ticket is out.
                if matches!(self.tls, Tls::Parting(_)) && buf.len() == before {
                    (self.tls, self.proven) = (Tls::Over, None);
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

impl Greeting {
    /// The first message is whole, or too large to wait for: TLS begins, with what the client is to be told. Returns what is for
    /// TLS to read.
    fn end(&mut self, config: &Arc<rustls::ServerConfig>) -> (Tls, Vec<u8>) {
        let (mut params, said) = (std::mem::take(&mut self.params), std::mem::take(&mut self.said));
        if chosen(&said, &config.alpn_protocols) == Some(h3::ALPN) {
            params = hello::with_streams(&params, h3::BIDI_STREAMS_MAX, h3::UNI_STREAMS_MAX);
        }
        let tls = ServerConnection::new(config.clone(), Version::V1, params);
        (tls.map_or(Tls::Unable, |tls| Tls::Shaking(Box::new(tls))), said)
    }
}

fn violation(reason: String) -> TransportError {
    TransportError { code: TransportErrorCode::PROTOCOL_VIOLATION, frame: None, reason }
}

/// An alert of TLS as an error of QUIC.
fn crypto_error(alert: u8, reason: String) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(alert), frame: None, reason }
}

#[cfg(test)]
mod tests {
    use quinn_proto::crypto::ServerConfig as _;
    use rustls::quic::ClientConnection;

    use super::super::settings::tests::{client_tls, tls};
    use super::*;

    /// A client of rustls and our side, joined until neither has more to say.
    fn shake(ours: &mut dyn Session, client: &mut ClientConnection) {
        // What is said with one key is read before what is said with the next.
        for _ in 0..10 {
            let mut said = Vec::new();
            while client.write_hs(&mut said).is_some() || !said.is_empty() {
                if !said.is_empty() {
                    ours.read_handshake(&std::mem::take(&mut said)).unwrap();
                }
            }
            while ours.write_handshake(&mut said).is_some() || !said.is_empty() {
                if !said.is_empty() {
                    client.read_hs(&std::mem::take(&mut said)).unwrap();
                }
            }
        }
        assert!(!client.is_handshaking() && !ours.is_handshaking());
    }

    fn begin() -> (Light, ClientConnection) {
        begin_as(b"roost/1")
    }

    fn begin_as(alpn: &[u8]) -> (Light, ClientConnection) {
        let (server, cert) = tls(&[b"roost/1", b"h3"]);
        let config = client_tls(cert, rustls::crypto::aws_lc_rs::default_provider(), alpn);
        let name = "localhost".try_into().unwrap();
        let client = ClientConnection::new(Arc::new(config), Version::V1, name, Vec::new()).unwrap();
        let handshakes = Arc::new(Handshakes::new(&server).unwrap());
        // One bidirectional stream (RFC 9000 §18.2).
        let tls = Tls::Greeting(Box::new(Greeting { params: vec![8, 1, 1], said: Vec::new() }));
        (Light { tls, handshakes, next: None, proven: None }, client)
    }

    #[test]
    fn tls_is_let_go_after_the_handshake_and_further_keys_still_come() {
        let (mut ours, mut client) = begin();
        assert!(ours.is_handshaking() && ours.next_1rtt_keys().is_none());
        shake(&mut ours, &mut client);
        assert!(matches!(ours.tls, Tls::Over), "nothing of it is needed");
        for _ in 0..3 {
            assert!(ours.next_1rtt_keys().is_some());
        }
        assert!(ours.write_handshake(&mut Vec::new()).is_none());
        assert!(ours.transport_parameters().unwrap().is_none());
        assert!(ours.export_keying_material(&mut [0; 16], b"label", b"").is_err());
    }

    #[test]
    fn who_speaks_http3_is_told_of_its_streams_with_the_answer_of_tls() {
        for (alpn, want) in [(&b"roost/1"[..], &[8, 1, 1][..]), (b"h3", &[8, 1, 3, 9, 1, 4])] {
            let (mut ours, mut client) = begin_as(alpn);
            assert!(ours.handshake_data().is_none(), "nothing is known");
            shake(&mut ours, &mut client);
            assert_eq!(client.quic_transport_parameters(), Some(want), "{alpn:?}");
        }
    }

    #[test]
    fn whatever_is_said_after_the_handshake_ends_the_connection() {
        let (mut ours, mut client) = begin();
        shake(&mut ours, &mut client);
        // A KeyUpdate of TLS (RFC 8446 §4.6.3), and noise.
        for said in [&[24, 0, 0, 1, 0][..], b"?"] {
            let error = ours.read_handshake(said).unwrap_err();
            assert_eq!(error.code, TransportErrorCode::crypto(UNEXPECTED_MESSAGE), "{error}");
        }
    }

    #[test]
    fn a_handshake_that_fails_says_why() {
        let (mut ours, _) = begin();
        let error = ours.read_handshake(&[1, 0, 0, 2, 3, 3]).unwrap_err();
        // decode_error (RFC 8446 §6).
        assert_eq!(error.code, TransportErrorCode::crypto(50), "{error}");
        let (ours, _) = begin();
        let id = ConnectionId::new(&[1; 8]);
        assert!(ours.handshakes.initial_keys(0xff00_001d, &id).is_err(), "drafts are not spoken");
        assert!(ours.handshakes.initial_keys(VERSION_1, &id).is_ok());
    }
}
