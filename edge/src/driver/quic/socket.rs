//! The socket of a shard.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn_proto::Transmit;
use quinn_udp::{EcnCodepoint, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Type};

use super::hub::Port;
use super::metrics::QuicMetrics;

/// Room for datagrams that wait to be read: what comes in some turns. The system may give less.
const RECEIVE_BYTES: usize = 4 << 20;
/// Room for datagrams that wait to be sent.
const SEND_BYTES: usize = 4 << 20;
/// Datagrams of one send. The kernel takes 64 at most, in 64 KiB.
const SEGMENTS_MAX: usize = 16;
/// Largest datagram where trains of them are not received.
const DATAGRAM_BYTES: usize = 2048;
/// Largest train.
const TRAIN_BYTES: usize = 65_536;

/// `count` sockets at one address, in the order in which the kernel counts them.
///
/// # Errors
/// The address is in use, by another group too, or cannot be had.
pub(super) fn bind(addr: SocketAddr, count: u16) -> io::Result<Vec<UdpSocket>> {
    // Whoever shares an address shares it with everybody of this user: see first that nobody is there.
    let alone = open(addr, false)?;
    let addr = alone.local_addr()?;
    if count == 1 {
        return Ok(vec![alone]);
    }
    drop(alone);
    (0..count).map(|_| open(addr, true)).collect()
}

fn open(addr: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    #[cfg(unix)]
    socket.set_reuse_port(shared)?;
    #[cfg(not(unix))]
    let _ = shared;
    socket.bind(&addr.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// One of them, and how it is used.
pub(super) struct Socket {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    metrics: Arc<QuicMetrics>,
    segments_max: usize,
    train_bytes: usize,
}

impl Socket {
    pub(super) fn new(socket: UdpSocket, metrics: Arc<QuicMetrics>) -> io::Result<Self> {
        let socket = mio::net::UdpSocket::from_std(socket);
        let state = UdpSocketState::new((&socket).into())?;
        // More is better, and less will do.
        let _ = state.set_recv_buffer_size((&socket).into(), RECEIVE_BYTES);
        let _ = state.set_send_buffer_size((&socket).into(), SEND_BYTES);
        let segments_max = state.max_gso_segments().clamp(1, SEGMENTS_MAX);
        let train_bytes = if state.gro_segments() > 1 { TRAIN_BYTES } else { DATAGRAM_BYTES };
        Ok(Self { socket, state, metrics, segments_max, train_bytes })
    }

    /// For its registration.
    pub(super) const fn source(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.socket
    }

    /// Bytes that one receive may bring into one buffer.
    pub(super) const fn train_bytes(&self) -> usize {
        self.train_bytes
    }

    pub(super) fn receive(&self, trains: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        self.metrics.receives(1);
        self.state.recv((&self.socket).into(), trains, metas)
    }
}

impl Port for Socket {
    fn send(&mut self, transmit: &Transmit, bytes: &[u8]) -> bool {
        self.metrics.sends(1);
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
            contents: bytes,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        match self.state.try_send((&self.socket).into(), &transmit) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => {
                // As good as lost on the way, which is seen to.
                self.metrics.dropped_unsendable(1);
                tracing::debug!(%error, "a datagram could not be sent");
                true
            }
        }
    }

    fn segments_max(&self) -> usize {
        self.segments_max
    }
}
