//! Sessions against clients by rustls, and against one that says what no client says.

mod forged;
mod records;
mod reload;
mod sessions;

use std::sync::{Arc, OnceLock};

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::broken::Broken;
use super::record::Direction;
use super::secrets::Catcher;
use super::session::Session;
use super::testkit::Forge;

struct World {
    server: Arc<ServerConfig>,
    roots: RootCertStore,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let builder = ServerConfig::builder().with_no_client_auth();
        let mut server = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        server.enable_secret_extraction = true;
        server.key_log = Arc::new(Catcher);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        server.send_tls13_tickets = 1;
        World { server: Arc::new(server), roots }
    })
}

fn client_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let builder = ClientConfig::builder_with_protocol_versions(&[version]);
    builder.with_root_certificates(world().roots.clone()).with_no_client_auth()
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn client(config: ClientConfig) -> ClientConnection {
    ClientConnection::new(Arc::new(config), name()).unwrap()
}

/// What a session told since it was last asked.
#[derive(Debug, Default)]
struct Told {
    plain: Vec<u8>,
    out: Vec<u8>,
    shaken: Option<HandshakeKind>,
    ended: bool,
    broken: Option<Broken>,
}

/// Gives `bytes` to `session`, `step` of them at a time.
fn give(session: &mut Session, bytes: &[u8], step: usize, told: &mut Told) {
    for piece in bytes.chunks(step) {
        let mut lent = piece.to_vec();
        match session.receive(&mut lent, &mut told.out, &mut |plain| told.plain.extend_from_slice(plain)) {
            Ok(progress) => {
                told.shaken = told.shaken.or(progress.shaken);
                told.ended |= progress.ended;
            }
            Err(broken) => assert_eq!(told.broken.replace(broken), None, "the first fault is the last"),
        }
    }
}

/// What `client` has to send.
fn taken(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives `bytes` to `client`. Returns the data in them.
fn hand(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        if client.read_tls(&mut bytes).unwrap() == 0 {
            break;
        }
        let state = client.process_new_packets()?;
        let at = plain.len();
        plain.resize(at + state.plaintext_bytes_to_read(), 0);
        std::io::Read::read_exact(&mut client.reader(), &mut plain[at..]).unwrap();
    }
    Ok(plain)
}

/// A session whose handshake is over.
fn shaken(client: &mut ClientConnection, step: usize) -> (Session, Told) {
    let mut session = Session::new(&world().server).unwrap();
    let mut told = Told::default();
    for _ in 0..8 {
        give(&mut session, &taken(client), step, &mut told);
        assert_eq!(told.broken, None);
        hand(client, &std::mem::take(&mut told.out)).unwrap();
    }
    assert!(session.is_open() && !client.is_handshaking());
    assert_eq!(session.kept_bytes(), 0, "an idle session keeps nothing");
    (session, told)
}

/// Seals `data` into as many records as it takes.
fn sealed(session: &mut Session, data: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < data.len() {
        let taken = session.seal(data[at..].chunks(1000), &mut out).unwrap();
        assert!(taken > 0);
        at += taken;
    }
    out
}

impl Forge {
    /// The session has sent so many records with its keys, and the client knows.
    fn skip_to(&mut self, records: u64) {
        *self.session.records().sending().sequence() = records;
        *self.receive.sequence() = records;
    }

    /// Records that the session sent with the keys of now.
    fn sealed(&mut self) -> u64 {
        *self.session.records().sending().sequence()
    }
}

/// A session whose handshake is over, and the keys with which its client sends.
fn forger() -> (Session, Direction) {
    let Forge { session, send, .. } = Forge::new();
    (session, send)
}
