//! TLS over the connections of `roost_uring::fleet`.
//!
//! Invariants:
//! - a line is told connected once its handshake is done, and before anything that it received;
//! - a line stands in `readable` at most once while its session holds plaintext.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roost_uring::fleet::{self, Close, Fleet};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::Event;

/// Bytes read off a session at a time: those of a record.
const READ_BYTES: usize = 16 * 1024;

/// Connections with TLS, numbered from 0.
pub(crate) struct TlsFleet {
    fleet: Fleet,
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    sessions: Box<[Option<Box<Session>>]>,
    told: VecDeque<(u32, Event<'static>)>,
    readable: VecDeque<u32>,
    received: Box<[u8]>,
}

struct Session {
    tls: ClientConnection,
    told: bool,
    readable: bool,
}

impl TlsFleet {
    /// Room for `count` connections to a server whose certificate names `server_name`.
    ///
    /// # Errors
    /// As [`Fleet::new`].
    pub(super) fn new(count: u32, config: Arc<ClientConfig>, server_name: ServerName<'static>) -> io::Result<Self> {
        Ok(Self {
            fleet: Fleet::new(count)?,
            config,
            server_name,
            sessions: (0..count).map(|_| None).collect(),
            told: VecDeque::new(),
            readable: VecDeque::new(),
            received: vec![0; READ_BYTES].into(),
        })
    }

    pub(super) const fn rings(&self) -> usize {
        self.fleet.rings()
    }

    pub(super) fn connect(&mut self, at: u32, source: Option<SocketAddr>, target: SocketAddr) -> io::Result<()> {
        self.fleet.connect(at, source, target)
    }

    pub(super) fn send(&mut self, at: u32, bytes: &[u8]) -> io::Result<()> {
        if let Some(session) = self.sessions[at as usize].as_deref_mut().filter(|session| session.told) {
            session.tls.writer().write_all(bytes)?;
        }
        self.flush(at)
    }

    pub(super) fn close(&mut self, at: u32, how: Close) -> io::Result<()> {
        if how == Close::Fin
            && let Some(session) = self.sessions[at as usize].as_deref_mut()
        {
            session.tls.send_close_notify();
            self.flush(at)?;
        }
        self.sessions[at as usize] = None;
        // What it was to be told went with it.
        self.told.retain(|(line, _)| *line != at);
        self.fleet.close(at, how)
    }

    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.fleet.wait(timeout)
    }

    /// What happened next, and to whom. `None`: wait again.
    pub(super) fn event(&mut self) -> io::Result<Option<(u32, Event<'_>)>> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(Some(told));
            }
            while let Some(at) = self.readable.pop_front() {
                let filled = self.read(at);
                if filled > 0 {
                    return Ok(Some((at, Event::Received(&mut self.received[..filled]))));
                }
            }
            let Some((at, event)) = self.fleet.event()? else { return Ok(None) };
            let over = match event {
                fleet::Event::Connected => self.greet(at)?,
                fleet::Event::Received(bytes) => {
                    let session = self.sessions[at as usize].as_deref_mut();
                    let broken = session.and_then(|session| session.take(bytes).err());
                    self.taken(at, broken)?
                }
                fleet::Event::Ended(0) => Some("the server closed the connection".to_owned()),
                fleet::Event::Refused(error) | fleet::Event::Ended(error) => Some(super::told(error)),
                fleet::Event::Closed => {
                    self.told.push_back((at, Event::Closed));
                    None
                }
            };
            if let Some(why) = over {
                self.told.push_back((at, Event::Over(why)));
            }
        }
    }

    /// Begins a handshake. Returns why it cannot be.
    fn greet(&mut self, at: u32) -> io::Result<Option<String>> {
        let tls = match ClientConnection::new(Arc::clone(&self.config), self.server_name.clone()) {
            Ok(tls) => tls,
            Err(error) => return Ok(Some(error.to_string())),
        };
        self.sessions[at as usize] = Some(Box::new(Session { tls, told: false, readable: false }));
        self.flush(at)?;
        Ok(None)
    }

    /// Answers what was received, and tells of it. Returns why the connection is over.
    fn taken(&mut self, at: u32, broken: Option<rustls::Error>) -> io::Result<Option<String>> {
        // An alert, or the handshake's next messages.
        self.flush(at)?;
        if let Some(error) = broken {
            return Ok(Some(error.to_string()));
        }
        let Some(session) = self.sessions[at as usize].as_deref_mut() else { return Ok(None) };
        if !session.tls.is_handshaking() {
            if !std::mem::replace(&mut session.told, true) {
                self.told.push_back((at, Event::Connected));
            }
            if !std::mem::replace(&mut session.readable, true) {
                self.readable.push_back(at);
            }
        }
        Ok(None)
    }

    fn read(&mut self, at: u32) -> usize {
        let Some(session) = self.sessions[at as usize].as_deref_mut() else { return 0 };
        // Nothing yet, or the end, which the transport tells too.
        let filled = session.tls.reader().read(&mut self.received).unwrap_or(0);
        session.readable = filled > 0;
        if filled > 0 {
            self.readable.push_back(at);
        }
        filled
    }

    fn flush(&mut self, at: u32) -> io::Result<()> {
        let Some(session) = self.sessions[at as usize].as_deref_mut() else { return Ok(()) };
        let mut records = Vec::new();
        while session.tls.wants_write() {
            session.tls.write_tls(&mut records)?;
        }
        if records.is_empty() { Ok(()) } else { self.fleet.send(at, records.into()) }
    }
}

impl Session {
    /// Takes records.
    ///
    /// # Errors
    /// They are none.
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), rustls::Error> {
        let mut rest = &*bytes;
        while !rest.is_empty() {
            match self.tls.read_tls(&mut rest) {
                Ok(0) => break,
                Ok(_) => {
                    self.tls.process_new_packets()?;
                }
                Err(error) => return Err(rustls::Error::General(error.to_string())),
            }
        }
        Ok(())
    }
}
