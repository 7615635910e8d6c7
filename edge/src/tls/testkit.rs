//! A session whose client says what no client says. For tests and fuzzing, never for a server.

use std::sync::{Arc, OnceLock};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::record::{Direction, HEADER_BYTES, record_bytes};
use super::secrets::Catcher;
use super::session::Session;

/// Types of content of a KeyUpdate and of data.
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// Settings of both sides, who trust each other.
fn world() -> &'static (Arc<ServerConfig>, Arc<ClientConfig>) {
    static WORLD: OnceLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = OnceLock::new();
    WORLD.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = &[&rustls::version::TLS13];
        let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
        let server = server.expect("TLS 1.3").with_no_client_auth();
        let mut server = server.with_single_cert(vec![made.cert.der().clone()], key).expect("a pair");
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let client = client.expect("TLS 1.3").with_root_certificates(roots);
        let mut client = client.with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        server.enable_secret_extraction = true;
        server.key_log = Arc::new(Catcher);
        client.enable_secret_extraction = true;
        (Arc::new(server), Arc::new(client))
    })
}

/// A session with TLS 1.3 after its handshake, and the keys of its client.
pub struct Forge {
    pub(super) session: Session,
    pub(super) send: Direction,
    pub(super) receive: Direction,
    next: KernelConnection<ClientConnectionData>,
    /// Data that the session told.
    pub plain: Vec<u8>,
    /// It told the end.
    pub ended: bool,
    /// It told a fault.
    pub broken: bool,
    /// What it sent by itself.
    pub sent: Vec<u8>,
}

impl Default for Forge {
    fn default() -> Self {
        Self::new()
    }
}

impl Forge {
    /// Does the handshake.
    ///
    /// # Panics
    /// It did not come to its end.
    #[must_use]
    pub fn new() -> Self {
        let (server, client) = world();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = UnbufferedClientConnection::new(client.clone(), name).expect("a client");
        let mut session = Session::new(server).expect("a session");
        let mut incoming = Vec::new();
        while !session.is_open() || !incoming.is_empty() {
            let mut outgoing = drive(&mut client, &mut incoming);
            let shaken = session.receive(&mut outgoing, &mut incoming, &mut |_| panic!("there is no data yet"));
            shaken.expect("a handshake");
        }
        let (secrets, next) = client.dangerous_into_kernel_connection().expect("keys");
        Self {
            session,
            send: Direction::new(secrets.tx).expect("keys"),
            receive: Direction::new(secrets.rx).expect("keys"),
            next,
            plain: Vec::new(),
            ended: false,
            broken: false,
            sent: Vec::new(),
        }
    }

    /// A record of the client with any content, of at most 65 000 bytes.
    ///
    /// # Panics
    /// The cryptography does not work.
    pub fn record(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        out.extend_from_slice(content);
        // The last byte is added as a type: a zero where the type stands before it.
        let last = if padding > 0 {
            out.push(kind);
            out.resize(out.len() + padding - 1, 0);
            0
        } else {
            kind
        };
        self.send.seal(last, 0, &mut out).expect("a record");
        out
    }

    /// The client sends with its next keys from now on.
    ///
    /// # Panics
    /// There are none.
    pub fn update(&mut self) {
        self.send = Direction::new(self.next.update_tx_secret().expect("keys")).expect("keys");
    }

    /// Gives `bytes` to the session, `step` of them at a time.
    ///
    /// # Panics
    /// It tells something after its end or a fault.
    pub fn give(&mut self, bytes: &[u8], step: usize) {
        for piece in bytes.chunks(step.max(1)) {
            let over = self.ended || self.broken;
            let (mut lent, before) = (piece.to_vec(), self.plain.len());
            let plain = &mut self.plain;
            match self.session.receive(&mut lent, &mut self.sent, &mut |data| plain.extend_from_slice(data)) {
                Ok(progress) => self.ended |= progress.ended,
                Err(_) => {
                    assert!(!over, "a fault after the last word");
                    self.broken = true;
                }
            }
            assert!(!over || self.plain.len() == before, "data after the last word");
        }
    }

    /// Whether the session can send.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.session.is_open()
    }

    /// Bytes that the session keeps.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.session.kept_bytes()
    }

    /// What the client reads if the session sends `data`.
    ///
    /// # Panics
    /// The client cannot read it.
    pub fn answer(&mut self, data: &[u8]) -> Vec<u8> {
        let (mut sent, mut at) = (Vec::new(), 0);
        while at < data.len() {
            at += self.session.seal(data[at..].chunks(1000), &mut sent).expect("it can send");
        }
        let (mut read, mut rest) = (Vec::new(), &mut sent[..]);
        while let Some(len) = record_bytes(rest).expect("a record") {
            let (record, behind) = rest.split_at_mut(len);
            let key = self.receive.key().expect("a key");
            let content = self.receive.open(&key, record).expect("a record that the client can open");
            let body = &record[HEADER_BYTES..HEADER_BYTES + content.len];
            match content.kind {
                DATA => read.extend_from_slice(body),
                HANDSHAKE => {
                    assert_eq!(body, [24, 0, 0, 1, 0], "a KeyUpdate that asks for none");
                    self.receive = Direction::new(self.next.update_rx_secret().expect("keys")).expect("keys");
                }
                other => panic!("a record of type {other}"),
            }
            rest = behind;
        }
        assert!(rest.is_empty(), "half a record");
        read
    }
}

/// What `client` says to `incoming`, which it takes.
fn drive(client: &mut UnbufferedClientConnection, incoming: &mut Vec<u8>) -> Vec<u8> {
    let mut outgoing = Vec::new();
    loop {
        let status = client.process_tls_records(incoming);
        let discard = status.discard;
        let waits = match status.state.expect("a handshake") {
            ConnectionState::EncodeTlsData(mut message) => {
                let mut room = vec![0; 4096];
                let len = message.encode(&mut room).expect("room");
                outgoing.extend_from_slice(&room[..len]);
                false
            }
            ConnectionState::TransmitTlsData(message) => {
                message.done();
                false
            }
            _ => true,
        };
        incoming.drain(..discard);
        if waits {
            return outgoing;
        }
    }
}
