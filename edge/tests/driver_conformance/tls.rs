//! TLS around another driver, over the sockets of that one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, OnceLock};

use roost_edge::tls::{TlsDriver, TlsSetup};
use roost_edge_core::driver::{Driver, Wake};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

use crate::harness::{Harness, Heard, Peer};

/// The peers of `H`, with TLS.
pub(crate) struct Secure<H>(H);

/// The peers of `H` without TLS, where the driver expects it of some.
pub(crate) struct Plain<H>(H);

/// As much as goes into one record.
const RECORD_BYTES: usize = 1 << 14;

/// Settings of both sides, who trust each other.
fn configs() -> &'static (ServerConfig, Arc<ClientConfig>) {
    static CONFIGS: OnceLock<(ServerConfig, Arc<ClientConfig>)> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let server =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        (server, Arc::new(client))
    })
}

/// A driver that takes both kinds of peers.
fn around<D: Driver>(inner: D) -> TlsDriver<D> {
    TlsDriver::new(inner, TlsSetup::new(configs().0.clone(), true), Arc::default())
}

impl<H: Harness<Peer = TcpStream>> Harness for Secure<H> {
    type Driver = TlsDriver<H::Driver>;
    type Peer = TlsPeer;

    const OFFERED_BYTES_MAX: usize = RECORD_BYTES;

    fn new() -> (Self, Self::Driver, Arc<dyn Wake>) {
        let (harness, driver, waker) = H::new();
        (Self(harness), around(driver), waker)
    }

    fn connect(
        &mut self,
        driver: &mut Self::Driver,
        heard: &mut Heard<<Self::Driver as Driver>::Conn>,
    ) -> (<Self::Driver as Driver>::Conn, TlsPeer) {
        let (conn, socket) = self.0.connect(driver.inner_mut(), heard);
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(configs().1.clone(), name).unwrap();
        (conn, TlsPeer { socket, tls, ended: false })
    }
}

impl<H: Harness<Peer = TcpStream>> Harness for Plain<H> {
    type Driver = TlsDriver<H::Driver>;
    type Peer = TcpStream;

    fn new() -> (Self, Self::Driver, Arc<dyn Wake>) {
        let (harness, driver, waker) = H::new();
        (Self(harness), around(driver), waker)
    }

    fn connect(
        &mut self,
        driver: &mut Self::Driver,
        heard: &mut Heard<<Self::Driver as Driver>::Conn>,
    ) -> (<Self::Driver as Driver>::Conn, TcpStream) {
        self.0.connect(driver.inner_mut(), heard)
    }
}

/// A client by rustls.
pub(crate) struct TlsPeer {
    socket: TcpStream,
    tls: ClientConnection,
    /// The socket has ended.
    ended: bool,
}

impl TlsPeer {
    /// Sends ciphertext as far as it goes.
    fn flush(&mut self) {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes ciphertext that has come.
    fn fill(&mut self) -> io::Result<()> {
        while !self.ended && self.tls.wants_read() {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => self.ended = true,
                Ok(_) => {
                    self.tls.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Peer for TlsPeer {
    /// Its handshake is over, and the server knows: it sent the ticket.
    fn is_ready(&mut self) -> bool {
        self.flush();
        self.fill().expect("a handshake");
        self.flush();
        !self.tls.is_handshaking() && self.tls.tls13_tickets_received() > 0
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        self.flush();
        let taken = self.tls.writer().write(bytes).unwrap();
        self.flush();
        taken
    }

    fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buf = vec![0; 64 * 1024];
        if self.tls.is_handshaking() {
            // What a driver says to somebody whom it refuses is not encrypted.
            return self.socket.receive();
        }
        self.flush();
        self.fill()?;
        match self.tls.reader().read(&mut buf) {
            Ok(0) => Ok(None),
            Ok(n) => {
                buf.truncate(n);
                Ok(Some(buf))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.ended => Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Some(Vec::new())),
            // The end came without being said.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn end(&mut self) {
        self.tls.send_close_notify();
        self.flush();
        assert!(!self.tls.wants_write(), "there is room for the end");
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        self.socket.reset();
    }
}
