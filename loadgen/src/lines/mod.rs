//! Connections of a thread's clients, whatever carries them, by the million if need be.
//!
//! - `quic`: QUIC by `quinn_proto`, all of a thread's connections over a few sockets;
//! - `tls`: TLS over TCP;
//! - TCP is `roost_uring::fleet`;
//! - `trust`: whom clients believe; `impairment`: a network worse than the one there is.

mod impairment;
mod quic;
mod tls;
mod trust;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use roost_uring::fleet::{self, Close, Fleet};
use roost_wire::limits;
use rustls::pki_types::ServerName;

pub(crate) use impairment::Impairment;
pub(crate) use quic::QuicFleet;
use tls::TlsFleet;
pub(crate) use trust::Tickets;

use crate::scenario::Transport;

/// What happened to a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Connected,
    Received(&'a mut [u8]),
    /// It is over, or never came to be, for this reason. Close it.
    Over(String),
    /// The server closed it, with this code of the protocol. Close it.
    Told(u16),
    /// It is closed, and may be connected again.
    Closed,
}

/// What carries a run's connections.
#[derive(Clone, Debug)]
pub(crate) enum Carrier {
    Tcp,
    Tls {
        config: Arc<rustls::ClientConfig>,
        /// In the server's certificate.
        server_name: ServerName<'static>,
    },
    Quic {
        config: quinn_proto::ClientConfig,
        /// In the server's certificate.
        server_name: String,
        impairment: Impairment,
    },
}

impl Carrier {
    /// Connections by `transport` to a server that `ca` (a PEM file) makes credible as `host`. As `client_config` says of
    /// `tickets`.
    ///
    /// # Errors
    /// In words for people: there is no certificate in the file, or `host` is no name.
    pub(crate) fn by(
        transport: Transport,
        ca: impl FnOnce() -> anyhow::Result<std::path::PathBuf>,
        host: &str,
        tickets: Option<Arc<Tickets>>,
        impairment: Impairment,
    ) -> anyhow::Result<Self> {
        let config = |alpn, ca: &Path| trust::client_config(ca, alpn, tickets);
        Ok(match transport {
            Transport::Ws => Self::Tcp,
            Transport::Wss => Self::Tls {
                config: Arc::new(config(b"http/1.1", &ca()?)?),
                server_name: ServerName::try_from(host.to_owned()).context("no certificate can name the target")?,
            },
            Transport::Quic => Self::Quic {
                config: quic::quic_config(config(limits::ALPN.as_bytes(), &ca()?)?)?,
                server_name: host.to_owned(),
                impairment,
            },
        })
    }

    /// Room for `count` connections by QUIC, for who waits for more than them. `None`: it is not QUIC.
    ///
    /// # Errors
    /// No socket can be had.
    pub(crate) fn quic(&self, count: u32) -> io::Result<Option<QuicFleet>> {
        let Self::Quic { config, server_name, impairment } = self else { return Ok(None) };
        QuicFleet::new(count, config.clone(), server_name.clone(), *impairment).map(Some)
    }

    /// Room for `count` connections.
    ///
    /// # Errors
    /// As [`Fleet::new`]; for QUIC, that no socket can be had.
    pub(crate) fn lines(&self, count: u32) -> io::Result<Lines> {
        Ok(match self {
            Self::Tcp => Lines::Tcp(Box::new(Fleet::new(count)?)),
            Self::Tls { config, server_name } => {
                Lines::Tls(Box::new(TlsFleet::new(count, Arc::clone(config), server_name.clone())?))
            }
            Self::Quic { config, server_name, impairment } => {
                Lines::Quic(Box::new(QuicFleet::new(count, config.clone(), server_name.clone(), *impairment)?))
            }
        })
    }
}

/// Connections, numbered from 0.
pub(crate) enum Lines {
    Tcp(Box<Fleet>),
    Tls(Box<TlsFleet>),
    Quic(Box<QuicFleet>),
}

impl Lines {
    /// Rings they took.
    pub(crate) fn rings(&self) -> usize {
        match self {
            Self::Tcp(fleet) => fleet.rings(),
            Self::Tls(fleet) => fleet.rings(),
            Self::Quic(_) => 0,
        }
    }

    /// Connects line `at`, which must be closed. [`Event::Connected`] or [`Event::Over`] follows.
    ///
    /// # Errors
    /// They are of no further use.
    pub(crate) fn connect(&mut self, at: u32, source: Option<SocketAddr>, target: SocketAddr) -> io::Result<()> {
        match self {
            Self::Tcp(fleet) => fleet.connect(at, source, target),
            Self::Tls(fleet) => fleet.connect(at, source, target),
            Self::Quic(fleet) => fleet.connect(at, target),
        }
    }

    /// Sends `bytes`, behind what was to be sent before. Nothing happens if the line is not connected.
    ///
    /// # Errors
    /// As [`Lines::connect`].
    pub(crate) fn send(&mut self, at: u32, bytes: Box<[u8]>) -> io::Result<()> {
        match self {
            Self::Tcp(fleet) => fleet.send(at, bytes),
            Self::Tls(fleet) => fleet.send(at, &bytes),
            Self::Quic(fleet) => {
                fleet.send(at, &bytes);
                Ok(())
            }
        }
    }

    /// Closes line `at`; [`Event::Closed`] follows, and nothing else of this connection.
    ///
    /// # Errors
    /// As [`Lines::connect`].
    pub(crate) fn close(&mut self, at: u32, how: Close) -> io::Result<()> {
        match self {
            Self::Tcp(fleet) => fleet.close(at, how),
            Self::Tls(fleet) => fleet.close(at, how),
            Self::Quic(fleet) => {
                fleet.close(at, how);
                Ok(())
            }
        }
    }

    /// The line goes on from another address. Not for TCP, whose connections cannot.
    pub(crate) fn migrate(&mut self, at: u32) -> bool {
        match self {
            Self::Tcp(_) | Self::Tls(_) => false,
            Self::Quic(fleet) => fleet.migrate(at),
        }
    }

    /// Sleeps until something happened or `timeout` is over. Take all events out before the next call.
    ///
    /// # Errors
    /// As [`Lines::connect`].
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(fleet) => fleet.wait(timeout),
            Self::Tls(fleet) => fleet.wait(timeout),
            Self::Quic(fleet) => fleet.wait(timeout),
        }
    }

    /// What happened next, and to whom. `None`: wait again.
    ///
    /// # Errors
    /// As [`Lines::connect`].
    pub(crate) fn event(&mut self) -> io::Result<Option<(u32, Event<'_>)>> {
        let (at, event) = match self {
            Self::Quic(fleet) => return Ok(fleet.event()),
            Self::Tls(fleet) => return fleet.event(),
            Self::Tcp(fleet) => match fleet.event()? {
                None => return Ok(None),
                Some(told) => told,
            },
        };
        Ok(Some((
            at,
            match event {
                fleet::Event::Connected => Event::Connected,
                fleet::Event::Received(bytes) => Event::Received(bytes),
                fleet::Event::Ended(0) => Event::Over("the server closed the connection".to_owned()),
                fleet::Event::Refused(error) | fleet::Event::Ended(error) => Event::Over(told(error)),
                fleet::Event::Closed => Event::Closed,
            },
        )))
    }
}

/// What the system says of an error.
fn told(error: i32) -> String {
    rustix::io::Errno::from_raw_os_error(error).to_string()
}
