//! QUIC connections without a task each: one endpoint, a few sockets, one timer wheel.
//!
//! Invariants:
//! - a connection puts its line into `stirred` and `readable` at most once, and its flags say so; what an earlier one left
//!   there is a look for nothing;
//! - all that is told of a connection is told before that it is closed, and only then is the next one begun.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    EndpointEvent, Event as Told, StreamEvent, StreamId, Transmit, TransportConfig, VarInt,
};
use quinn_udp::{EcnCodepoint, RecvMeta, UdpSocketState};
use roost_edge_core::Wheel;
use roost_uring::fleet::Close;
use rustix::event::{PollFd, PollFlags, poll};

use super::Event;
use super::impairment::{Impairment, Link};

/// Sockets: so many addresses has a client that moves.
const SOCKETS: usize = 8;
/// Room for datagrams in each, in bytes.
const SOCKET_BYTES: usize = 8 << 20;
/// Trains of datagrams received at once from a socket, and their size.
const TRAINS: usize = 16;
const TRAIN_BYTES: usize = 65_536;
/// Receives of a socket in a turn.
const RECEIVES_PER_TURN: usize = 64;
/// Datagrams of one send.
const SEGMENTS_MAX: usize = 8;
/// Bytes read off a connection at a time.
const READ_BYTES: usize = 64 * 1024;
/// Bytes that wait for a connection's window, above which its server reads nothing.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// The server of a silent connection is given up after this.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// A datagram under way on the impaired link.
enum Flying {
    Out { socket: usize, to: SocketAddr, ecn: Option<EcnCodepoint>, bytes: Box<[u8]> },
    In { meta: RecvMeta, bytes: BytesMut },
}

/// One connection.
struct Line {
    handle: ConnectionHandle,
    quic: Connection,
    stream: Option<StreamId>,
    /// What the windows did not take.
    unsent: BytesMut,
    socket: u8,
    stirred: bool,
    readable: bool,
}

/// QUIC connections, numbered from 0.
pub(crate) struct QuicFleet {
    endpoint: Endpoint,
    config: ClientConfig,
    server_name: String,
    sockets: Vec<(UdpSocket, UdpSocketState)>,
    lines: Box<[Option<Box<Line>>]>,
    numbers: HashMap<ConnectionHandle, u32>,
    /// In milliseconds since `began`.
    wheel: Wheel,
    began: Instant,
    stirred: VecDeque<u32>,
    readable: VecDeque<u32>,
    told: VecDeque<(u32, Event<'static>)>,
    link: Option<Link<Flying>>,
    /// Sockets may hold more than the last turn took.
    crowded: bool,
    trains: Box<[u8]>,
    sheet: Vec<u8>,
    received: Vec<u8>,
}

/// What every client connects with.
///
/// # Errors
/// TLS does not work here.
pub(super) fn quic_config(tls: rustls::ClientConfig) -> anyhow::Result<ClientConfig> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    // Many of them are in one process: nothing is kept that a session does not need. Without datagrams all comes on the stream.
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IDLE_MAX.try_into().ok());
    config.transport_config(Arc::new(transport));
    Ok(config)
}

impl QuicFleet {
    /// Room for `count` connections to a server whose certificate names `server_name`.
    ///
    /// # Errors
    /// No socket can be had.
    pub(super) fn new(
        count: u32,
        config: ClientConfig,
        server_name: String,
        impairment: Impairment,
    ) -> io::Result<Self> {
        let sockets = (0..SOCKETS).map(|_| socket()).collect::<io::Result<_>>()?;
        Ok(Self {
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None),
            config,
            server_name,
            sockets,
            lines: (0..count).map(|_| None).collect(),
            numbers: HashMap::new(),
            wheel: Wheel::new(),
            began: Instant::now(),
            stirred: VecDeque::new(),
            readable: VecDeque::new(),
            told: VecDeque::new(),
            link: Link::new(impairment, rand::random()),
            crowded: false,
            trains: vec![0; TRAINS * TRAIN_BYTES].into(),
            sheet: Vec::new(),
            received: vec![0; READ_BYTES],
        })
    }

    pub(crate) fn connect(&mut self, at: u32, target: SocketAddr) -> io::Result<()> {
        let begun = self.endpoint.connect(Instant::now(), self.config.clone(), target, &self.server_name);
        let (handle, quic) = begun.map_err(io::Error::other)?;
        self.numbers.insert(handle, at);
        let socket = (at as usize % SOCKETS) as u8;
        let (stream, unsent) = (None, BytesMut::new());
        let line = Line { handle, quic, stream, unsent, socket, stirred: false, readable: false };
        self.lines[at as usize] = Some(Box::new(line));
        self.stir(at);
        Ok(())
    }

    pub(crate) fn send(&mut self, at: u32, bytes: &[u8]) {
        let Some(line) = self.line(at).filter(|line| line.stream.is_some()) else { return };
        line.unsent.extend_from_slice(bytes);
        line.write();
        let drowned = line.unsent.len() > UNSENT_BYTES_MAX;
        self.stir(at);
        if drowned {
            self.told.push_back((at, Event::Over("the server does not read".to_owned())));
        }
    }

    /// `Fin` says goodbye; `Reset` goes without a word, as a phone does whose network is gone.
    pub(crate) fn close(&mut self, at: u32, how: Close) {
        let now = Instant::now();
        let Some(line) = self.line(at) else { return };
        if how == Close::Fin {
            line.quic.close(now, VarInt::from_u32(1000), Bytes::new());
            // Its last datagram leaves; what the server answers goes to nobody.
            self.transmit(at, now);
        }
        self.drop_line(at);
        self.told.push_back((at, Event::Closed));
    }

    /// The connection goes on from another socket.
    pub(crate) fn migrate(&mut self, at: u32) -> bool {
        let Some(line) = self.line(at).filter(|line| line.stream.is_some()) else { return false };
        line.socket = (line.socket + 1) % SOCKETS as u8;
        line.quic.local_address_changed();
        self.stir(at);
        true
    }

    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let until = self.settle().map(|due| due.saturating_duration_since(Instant::now()));
        self.sleep(until.map_or(timeout, |until| until.min(timeout)))?;
        self.turn()
    }

    /// Sends what waits. Returns when the next turn is due if nothing comes before; `None`: it need not be.
    pub(crate) fn settle(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.land(now);
        self.work(now);
        if self.crowded || !self.told.is_empty() || !self.readable.is_empty() {
            return Some(now);
        }
        let timer = self.wheel.next().map(|tick| self.began + Duration::from_millis(tick.into()));
        let lands = self.link.as_ref().and_then(Link::next);
        timer.into_iter().chain(lands).min()
    }

    /// Takes what came, without waiting for more: a socket that had too much for one turn is not told again. Take all
    /// events out before the next call.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.receive_all(now)?;
        self.land(now);
        self.run_timers(now);
        self.work(now);
        Ok(())
    }

    /// What says that a turn is due, by being readable.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|(socket, _)| socket.as_fd())
    }

    pub(crate) fn event(&mut self) -> Option<(u32, Event<'_>)> {
        if let Some(told) = self.told.pop_front() {
            return Some(told);
        }
        loop {
            let at = self.readable.pop_front()?;
            let mut received = std::mem::take(&mut self.received);
            let filled = self.line(at).map_or(0, |line| line.read(&mut received));
            self.received = received;
            if filled > 0 {
                // There may be more, and the windows opened.
                self.hear(at);
                self.stir(at);
                return Some((at, Event::Received(&mut self.received[..filled])));
            }
        }
    }

    fn line(&mut self, at: u32) -> Option<&mut Line> {
        self.lines[at as usize].as_deref_mut()
    }

    fn stir(&mut self, at: u32) {
        if let Some(line) = self.line(at)
            && !std::mem::replace(&mut line.stirred, true)
        {
            self.stirred.push_back(at);
        }
    }

    /// There may be something to be read.
    fn hear(&mut self, at: u32) {
        if let Some(line) = self.line(at)
            && !std::mem::replace(&mut line.readable, true)
        {
            self.readable.push_back(at);
        }
    }

    /// Forgets a connection, its id in the endpoint too.
    fn drop_line(&mut self, at: u32) {
        if let Some(line) = self.lines[at as usize].take() {
            self.numbers.remove(&line.handle);
            self.endpoint.handle_event(line.handle, EndpointEvent::drained());
            self.wheel.disarm(at);
        }
    }

    /// Sees to those with events, until there are none.
    fn work(&mut self, now: Instant) {
        while let Some(at) = self.stirred.pop_front() {
            let Some(line) = self.line(at) else { continue };
            line.stirred = false;
            self.events_of(at);
            self.transmit(at, now);
            self.arm(at);
        }
    }

    fn events_of(&mut self, at: u32) {
        while let Some((handle, event)) =
            self.line(at).and_then(|line| Some((line.handle, line.quic.poll_endpoint_events()?)))
        {
            if let Some(answer) = self.endpoint.handle_event(handle, event)
                && let Some(line) = self.line(at)
            {
                line.quic.handle_event(answer);
            }
        }
        while let Some(event) = self.line(at).and_then(|line| line.quic.poll()) {
            match event {
                Told::Connected => self.connected(at),
                Told::Stream(StreamEvent::Readable { .. }) => self.hear(at),
                Told::Stream(StreamEvent::Writable { .. }) => {
                    if let Some(line) = self.line(at) {
                        line.write();
                    }
                }
                Told::ConnectionLost { reason } => self.lost(at, &reason),
                _ => {}
            }
        }
    }

    fn connected(&mut self, at: u32) {
        let Some(line) = self.line(at) else { return };
        line.stream = line.quic.streams().open(Dir::Bi);
        let event = match line.stream {
            Some(_) => Event::Connected,
            None => Event::Over("the server allows no stream".to_owned()),
        };
        self.told.push_back((at, event));
    }

    fn lost(&mut self, at: u32, reason: &ConnectionError) {
        let event = match reason {
            ConnectionError::ApplicationClosed(close) => match u16::try_from(close.error_code.into_inner()) {
                Ok(code) => Event::Told(code),
                Err(_) => Event::Over(reason.to_string()),
            },
            reason => Event::Over(reason.to_string()),
        };
        self.told.push_back((at, event));
    }

    fn transmit(&mut self, at: u32, now: Instant) {
        let mut sheet = std::mem::take(&mut self.sheet);
        while let Some(line) = self.line(at) {
            sheet.clear();
            let Some(transmit) = line.quic.poll_transmit(now, SEGMENTS_MAX, &mut sheet) else { break };
            let socket = usize::from(line.socket);
            match &mut self.link {
                None => self.put(socket, &transmit, &sheet[..transmit.size]),
                Some(link) => {
                    let ecn = transmit.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
                    for bytes in sheet[..transmit.size].chunks(transmit.segment_size.unwrap_or(transmit.size).max(1)) {
                        let (to, bytes) = (transmit.destination, Box::from(bytes));
                        link.take(Flying::Out { socket, to, ecn, bytes }, now);
                    }
                }
            }
        }
        self.sheet = sheet;
    }

    /// What was held up arrives.
    fn land(&mut self, now: Instant) {
        while let Some(flying) = self.link.as_mut().and_then(|link| link.arrived(now)) {
            match flying {
                Flying::Out { socket, to, ecn, bytes } => {
                    let (socket, state) = &self.sockets[socket];
                    let transmit = quinn_udp::Transmit {
                        destination: to,
                        ecn,
                        contents: &bytes,
                        segment_size: None,
                        src_ip: None,
                    };
                    let _ = state.try_send(socket.into(), &transmit);
                }
                Flying::In { meta, bytes } => self.datagram(&meta, bytes, now),
            }
        }
    }

    /// What the system does not take now is as good as lost on the way, which is seen to.
    fn put(&self, socket: usize, transmit: &Transmit, contents: &[u8]) {
        let (socket, state) = &self.sockets[socket];
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        let _ = state.try_send(socket.into(), &transmit);
    }

    fn arm(&mut self, at: u32) {
        let Some(due) = self.line(at).and_then(|line| line.quic.poll_timeout()) else { return };
        let ms = due.saturating_duration_since(self.began).as_millis() + 1;
        self.wheel.arm_by(at, u32::try_from(ms).unwrap_or(u32::MAX - 1));
    }

    fn run_timers(&mut self, now: Instant) {
        let tick = u32::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u32::MAX - 1);
        while let Some(at) = self.wheel.expired(tick) {
            if let Some(line) = self.line(at) {
                if line.quic.poll_timeout().is_some_and(|due| due <= now) {
                    line.quic.handle_timeout(now);
                }
                self.stir(at);
            }
        }
    }

    fn sleep(&self, timeout: Duration) -> io::Result<()> {
        let mut fds: Vec<_> = self.sockets.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)).collect();
        match poll(&mut fds, timeout.try_into().ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive_all(&mut self, now: Instant) -> io::Result<()> {
        let mut trains = std::mem::take(&mut self.trains);
        let mut result = Ok(());
        self.crowded = false;
        for socket in 0..self.sockets.len() {
            self.crowded |= 'socket: {
                for _ in 0..RECEIVES_PER_TURN {
                    match self.receive(socket, &mut trains, now) {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break 'socket false,
                        // Told by ICMP of a server that is away: its connections find out by themselves.
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                        Err(error) => result = Err(error),
                    }
                }
                true
            };
        }
        self.trains = trains;
        result
    }

    fn receive(&mut self, socket: usize, trains: &mut [u8], now: Instant) -> io::Result<()> {
        let mut metas = [RecvMeta::default(); TRAINS];
        let (udp, state) = &self.sockets[socket];
        let mut slices: Vec<_> = trains.chunks_mut(TRAIN_BYTES).map(IoSliceMut::new).collect();
        let count = state.recv(udp.into(), &mut slices, &mut metas)?;
        for (meta, train) in metas.iter().zip(trains.chunks(TRAIN_BYTES)).take(count) {
            for datagram in train[..meta.len].chunks(meta.stride.max(1)) {
                let (meta, bytes) = (*meta, BytesMut::from(datagram));
                match &mut self.link {
                    None => self.datagram(&meta, bytes, now),
                    Some(link) => link.take(Flying::In { meta, bytes }, now),
                }
            }
        }
        Ok(())
    }

    fn datagram(&mut self, meta: &RecvMeta, datagram: BytesMut, now: Instant) {
        let ecn = meta.ecn.and_then(|ecn| quinn_proto::EcnCodepoint::from_bits(ecn as u8));
        self.sheet.clear();
        // What strangers are answered is left out: a client has none.
        if let Some(DatagramEvent::ConnectionEvent(handle, event)) =
            self.endpoint.handle(now, meta.addr, meta.dst_ip, ecn, datagram, &mut self.sheet)
            && let Some(at) = self.numbers.get(&handle).copied()
            && let Some(line) = self.line(at)
        {
            line.quic.handle_event(event);
            self.stir(at);
        }
    }
}

impl Line {
    /// Hands what waits to the connection, as far as its windows go.
    fn write(&mut self) {
        let Some(stream) = self.stream else { return };
        while !self.unsent.is_empty() {
            match self.quic.send_stream(stream).write(&self.unsent) {
                Ok(written) => drop(self.unsent.split_to(written)),
                // Blocked, or over: then the end is told.
                Err(_) => return,
            }
        }
        self.unsent = BytesMut::new();
    }

    /// Fills `to` with what came. Returns how many bytes.
    fn read(&mut self, to: &mut [u8]) -> usize {
        self.readable = false;
        let Some(stream) = self.stream else { return 0 };
        let mut stream = self.quic.recv_stream(stream);
        let Ok(mut chunks) = stream.read(true) else { return 0 };
        let mut filled = 0;
        while filled < to.len()
            && let Ok(Some(chunk)) = chunks.next(to.len() - filled)
        {
            to[filled..filled + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
            filled += chunk.bytes.len();
        }
        let _ = chunks.finalize();
        filled
    }
}

/// A socket at any port.
fn socket() -> io::Result<(UdpSocket, UdpSocketState)> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let state = UdpSocketState::new((&socket).into())?;
    // More is better, and less will do.
    let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BYTES);
    let _ = state.set_send_buffer_size((&socket).into(), SOCKET_BYTES);
    Ok((socket, state))
}
