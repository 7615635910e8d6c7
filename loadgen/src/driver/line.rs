//! What carries one client: a socket of its own, with TLS or without, or a connection by QUIC.

use std::io;
#[cfg(target_os = "linux")]
use std::io::{Read as _, Write as _};

use mio::net::TcpStream;
use mio::{Poll, Registry};

/// See the module.
pub(super) enum Line {
    Tcp(TcpStream),
    #[cfg(target_os = "linux")]
    Tls(Box<Tls>),
    /// By the number of its slot.
    #[cfg(target_os = "linux")]
    Quic,
}

/// A socket with TLS.
#[cfg(target_os = "linux")]
pub(super) struct Tls {
    stream: TcpStream,
    session: rustls::ClientConnection,
    ended: bool,
}

impl Line {
    /// A TCP connection with a handshake to be made.
    #[cfg(target_os = "linux")]
    pub(super) fn tls(
        stream: TcpStream,
        config: std::sync::Arc<rustls::ClientConfig>,
        name: rustls::pki_types::ServerName<'static>,
    ) -> io::Result<Self> {
        let session = rustls::ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Tls { stream, session, ended: false })))
    }

    /// Writes of `bytes` what there is room for. Without any, it goes on with what was written before.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(_) if bytes.is_empty() => Ok(0),
            Self::Tcp(stream) => io::Write::write(stream, bytes),
            #[cfg(target_os = "linux")]
            Self::Tls(tls) => {
                let taken = if bytes.is_empty() { 0 } else { tls.session.writer().write(bytes)? };
                tls.flush()?;
                if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
            }
            #[cfg(target_os = "linux")]
            Self::Quic => Ok(bytes.len()),
        }
    }

    /// Reads what is there, up to the size of `to`. The second: there may be more, or the end.
    pub(super) fn read(&mut self, to: &mut [u8]) -> io::Result<(usize, bool)> {
        match self {
            Self::Tcp(stream) => {
                let taken = io::Read::read(stream, to)?;
                Ok((taken, taken == to.len()))
            }
            #[cfg(target_os = "linux")]
            Self::Tls(tls) => {
                let taken = tls.read(to)?;
                Ok((taken, taken == to.len() || tls.ended))
            }
            #[cfg(target_os = "linux")]
            Self::Quic => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// The socket, if it has one of its own.
    pub(super) fn socket(&mut self) -> Option<&mut TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            #[cfg(target_os = "linux")]
            Self::Tls(tls) => Some(&mut tls.stream),
            #[cfg(target_os = "linux")]
            Self::Quic => None,
        }
    }

    /// Lets the poll forget it. `reset`: the other end is told by a reset of TCP.
    pub(super) fn forget(&mut self, poll: &Poll, reset: bool) {
        let registry: &Registry = poll.registry();
        if let Some(stream) = self.socket() {
            // It may be gone from the poll already, and from the network.
            let _ = registry.deregister(stream);
            if reset {
                let _ = socket2::SockRef::from(&*stream).set_linger(Some(std::time::Duration::ZERO));
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl Tls {
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < to.len() {
            match self.session.reader().read(&mut to[filled..]) {
                Ok(0) => break,
                Ok(taken) => {
                    filled += taken;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end without a goodbye: the socket tells it as well.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
            match self.session.read_tls(&mut self.stream) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(_) => {
                    let processed = self.session.process_new_packets();
                    // An alert, or the handshake's next messages.
                    self.flush()?;
                    processed.map_err(io::Error::other)?;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    return if filled > 0 { Ok(filled) } else { Err(io::ErrorKind::WouldBlock.into()) };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
