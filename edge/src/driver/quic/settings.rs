//! What QUIC is set to, and why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn_proto::{
    ConnectionIdGenerator, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
};
use roost_edge_core::ShardConfig;
use roost_wire::limits;

use super::h3::Doors;
use super::session::{Handshakes, VERSION_1};
use super::steer::{Ids, Steer};

/// Bytes of the secret that a node keeps over restarts.
pub const SECRET_BYTES: usize = 32;

/// How a connection that has lost its peer is let go: a little later than the shard does by the heartbeat, so that it is
/// the shard that tells 4002.
const IDLE_GRACE: Duration = Duration::from_secs(15);

/// Settings of QUIC.
#[derive(Clone, Debug)]
pub struct QuicConfig {
    /// Where clients send to. Port 0: any free one.
    pub listen: SocketAddr,
    /// TLS of the server: certificates and ALPN `roost/1`, see [`limits::ALPN`]. With `h3` beside it, sessions come by
    /// WebTransport as well: see [`WEBTRANSPORT_ALPN`](super::WEBTRANSPORT_ALPN).
    pub tls: Arc<rustls::ServerConfig>,
    /// What only this node knows, the same after a restart: from it come the tokens of Retry and those of stateless resets,
    /// by which clients learn at once that a server lost their connection.
    pub secret: [u8; SECRET_BYTES],
    /// Handshakes under way with addresses that may be forged, in one shard, above which Retry is asked.
    pub unproven_max: usize,
    /// How long a handshake may take, and after it the opening of the stream.
    pub open_within: Duration,
    /// Whether the kernel is asked to give each datagram to its shard. Otherwise shards hand them on.
    pub steered: bool,
}

impl QuicConfig {
    /// The defaults for an address, with the certificates of `tls`.
    #[must_use]
    pub fn new(listen: SocketAddr, tls: Arc<rustls::ServerConfig>, secret: [u8; SECRET_BYTES]) -> Self {
        Self {
            listen,
            tls,
            secret,
            unproven_max: 256,
            open_within: Duration::from_millis(limits::HEAD_WITHIN_MS.into()),
            steered: true,
        }
    }
}

/// Why QUIC cannot be with such settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuicConfigError {
    /// QUIC needs TLS 1.3 and AES-128-GCM, in which a first packet is sealed (RFC 9001 §5.2).
    #[error("QUIC needs TLS 1.3 with TLS13_AES_128_GCM_SHA256")]
    Suite,
    /// A client must be able to say what it speaks (RFC 9001 §8.1).
    #[error("QUIC needs the ALPN {}", limits::ALPN)]
    Alpn,
}

/// What the endpoints of all shards are made of.
#[derive(Clone)]
pub(crate) struct Parts {
    server: Arc<ServerConfig>,
    reset_key: Arc<hmac::Key>,
    doors: Doors,
}

impl Parts {
    pub(crate) fn new(config: &QuicConfig, shard: &ShardConfig) -> Result<Self, QuicConfigError> {
        if !config.tls.alpn_protocols.iter().any(|name| name == limits::ALPN.as_bytes()) {
            return Err(QuicConfigError::Alpn);
        }
        let crypto = Handshakes::new(&config.tls)?;
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"roost quic retry");
        let mut server = ServerConfig::new(Arc::new(crypto), Arc::new(salt.extract(&config.secret)));
        // Nobody waits for us to accept: what comes in is accepted, or answered with Retry, at once.
        server.max_incoming(1).incoming_buffer_size(0).incoming_buffer_size_total(0);
        // A token for the next connection costs every session memory, and saves a round trip under attack only.
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        server.validation_token_config(tokens);
        server.transport_config(Arc::new(transport(config, shard)));
        let reset = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &config.secret), b"roost quic stateless reset");
        let reset_key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref()));
        let doors = Doors { path: limits::WEBTRANSPORT_PATH, origins: shard.origins.clone() };
        Ok(Self { server: Arc::new(server), reset_key, doors })
    }

    /// Where WebTransport is, and for whom.
    pub(super) fn doors(&self) -> Doors {
        self.doors.clone()
    }

    /// The endpoint of `shard`; its randomness begins with `seed`.
    pub(super) fn endpoint(&self, steer: Steer, shard: u16, seed: [u8; 32]) -> quinn_proto::Endpoint {
        let ids_seed = {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &seed), b"ids");
            let mut ids_seed = [0; 32];
            ids_seed.copy_from_slice(tag.as_ref());
            ids_seed
        };
        let mut config = EndpointConfig::new(self.reset_key.clone());
        config
            .cid_generator(move || -> Box<dyn ConnectionIdGenerator> { Box::new(Ids::new(steer, shard, ids_seed)) })
            // After a restart every client that is still there is to learn soon that it has to connect again. A reset is
            // smaller than what it answers, so a flood of strays gains nothing.
            .min_reset_interval(Duration::from_millis(1))
            .supported_versions(vec![VERSION_1])
            .rng_seed(Some(seed));
        quinn_proto::Endpoint::new(Arc::new(config), Some(self.server.clone()), false, None)
    }
}

/// The transport's settings.
fn transport(config: &QuicConfig, shard: &ShardConfig) -> TransportConfig {
    let number = |value: usize| VarInt::from_u32(u32::try_from(value).unwrap_or(u32::MAX));
    let window = shard.frame_bytes_max.max(64 * 1024);
    let idle = shard.heartbeat.saturating_mul(shard.heartbeats_missed_max).saturating_add(IDLE_GRACE);
    let idle = idle.max(config.open_within);
    let mut transport = TransportConfig::default();
    transport
        // One session a connection: the stream that carries it is the only one a client may open. Slots for streams are
        // made in advance: a hundred of each, the default, cost 8.3 KB a connection.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        // Who floods us is held up by its own windows: of a session that is not read so much is kept, and no more.
        .stream_receive_window(number(window))
        .receive_window(number(2 * window))
        // What is taken off a session's queue and not acknowledged yet; its limits hold for the rest.
        .send_window(128 * 1024)
        // Looking for a larger datagram costs 1.2 KB a connection, and messages are small.
        .mtu_discovery_config(None)
        // Who sends nothing for so long is gone, and nobody tells it. Clients keep their way through the network open by
        // their heartbeat, so the server sends none of its own.
        .max_idle_timeout(IdleTimeout::try_from(idle).ok())
        .keep_alive_interval(None)
        // Of ephemeral pushes only the newest are worth keeping, in both directions.
        .datagram_receive_buffer_size(Some(16 * 1024))
        .datagram_send_buffer_size(16 * 1024);
    transport
}

#[cfg(test)]
pub(super) mod tests {
    use rustls::ClientConfig;
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::CertificateDer;

    use super::*;

    /// TLS with a certificate of its own making, for `localhost`.
    pub(crate) fn tls(alpn: &[&[u8]]) -> (Arc<rustls::ServerConfig>, CertificateDer<'static>) {
        chain_of(alpn, 1)
    }

    /// The same with a chain of `len` certificates.
    pub(crate) fn chain_of(alpn: &[&[u8]], len: usize) -> (Arc<rustls::ServerConfig>, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone(); len], key)
            .unwrap();
        tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        (Arc::new(tls), made.cert.der().clone())
    }

    /// TLS of a client that believes `cert`, and no other.
    pub(crate) fn client_tls(cert: CertificateDer<'static>, provider: CryptoProvider, alpn: &[u8]) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert).unwrap();
        let mut tls = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls
    }

    #[test]
    fn tls_that_quic_cannot_use_is_refused_with_its_reason() {
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = |tls| QuicConfig::new(listen, tls, [0; 32]);
        let shard = ShardConfig::default();
        assert!(Parts::new(&config(tls(&[b"roost/1"]).0), &shard).is_ok());
        let none = Parts::new(&config(tls(&[b"h3"]).0), &shard).err();
        assert!(matches!(none, Some(QuicConfigError::Alpn)));
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
        let mut chacha = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(tls(&[]).0.cert_resolver.clone());
        chacha.alpn_protocols = vec![b"roost/1".to_vec()];
        let chacha = Arc::new(chacha);
        assert!(matches!(Parts::new(&config(chacha), &shard).err(), Some(QuicConfigError::Suite)));
    }
}
