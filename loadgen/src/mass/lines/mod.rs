//! Connections of a thread's clients, whatever carries them.
//!
//! - `quic`: QUIC by `quinn_proto`, all of a thread's connections over a few sockets;
//! - TCP is `roost_uring::fleet`.

mod quic;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use roost_uring::fleet::{self, Close, Fleet};

use quic::QuicFleet;
pub(crate) use quic::client_config;

/// What happened to a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
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
#[derive(Clone)]
pub(crate) enum Carrier {
    Tcp,
    Quic {
        config: quinn_proto::ClientConfig,
        /// The name in the server's certificate.
        server_name: String,
    },
}

impl Carrier {
    /// Room for `count` connections.
    ///
    /// # Errors
    /// As [`Fleet::new`]; for QUIC, that no socket can be had.
    pub(super) fn lines(&self, count: u32) -> io::Result<Lines> {
        Ok(match self {
            Self::Tcp => Lines::Tcp(Box::new(Fleet::new(count)?)),
            Self::Quic { config, server_name } => {
                Lines::Quic(Box::new(QuicFleet::new(count, config.clone(), server_name.clone())?))
            }
        })
    }
}

/// Connections, numbered from 0.
pub(super) enum Lines {
    Tcp(Box<Fleet>),
    Quic(Box<QuicFleet>),
}

impl Lines {
    /// Rings they took.
    pub(super) fn rings(&self) -> usize {
        match self {
            Self::Tcp(fleet) => fleet.rings(),
            Self::Quic(_) => 0,
        }
    }

    /// Connects line `at`, which must be closed. [`Event::Connected`] or [`Event::Over`] follows.
    ///
    /// # Errors
    /// They are of no further use.
    pub(super) fn connect(&mut self, at: u32, source: Option<SocketAddr>, target: SocketAddr) -> io::Result<()> {
        match self {
            Self::Tcp(fleet) => fleet.connect(at, source, target),
            Self::Quic(fleet) => fleet.connect(at, target),
        }
    }

    /// Sends `bytes`, behind what was to be sent before. Nothing happens if the line is not connected.
    ///
    /// # Errors
    /// As [`Lines::connect`].
    pub(super) fn send(&mut self, at: u32, bytes: Box<[u8]>) -> io::Result<()> {
        match self {
            Self::Tcp(fleet) => fleet.send(at, bytes),
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
    pub(super) fn close(&mut self, at: u32, how: Close) -> io::Result<()> {
        match self {
            Self::Tcp(fleet) => fleet.close(at, how),
            Self::Quic(fleet) => {
                fleet.close(at, how);
                Ok(())
            }
        }
    }

    /// The line goes on from another address. Not for TCP, whose connections cannot.
    pub(super) fn migrate(&mut self, at: u32) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Quic(fleet) => fleet.migrate(at),
        }
    }

    /// Sleeps until something happened or `timeout` is over. Take all events out before the next call.
    ///
    /// # Errors
    /// As [`Lines::connect`].
    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(fleet) => fleet.wait(timeout),
            Self::Quic(fleet) => fleet.wait(timeout),
        }
    }

    /// What happened next, and to whom. `None`: wait again.
    ///
    /// # Errors
    /// As [`Lines::connect`].
    pub(super) fn event(&mut self) -> io::Result<Option<(u32, Event<'_>)>> {
        let (at, event) = match self {
            Self::Quic(fleet) => return Ok(fleet.event()),
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
                fleet::Event::Refused(error) | fleet::Event::Ended(error) => {
                    Event::Over(rustix::io::Errno::from_raw_os_error(error).to_string())
                }
                fleet::Event::Closed => Event::Closed,
            },
        )))
    }
}
