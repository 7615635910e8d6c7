//! One client's connection: opening, reading, writing, ending.

use std::io;

use bytes::{Buf as _, BytesMut};
use mio::{Interest, Token};

use super::line::Line;
use super::source;
use super::worker::{Due, SECOND, Worker};
use crate::client::{Asked, Client, Inbox};

/// Tries to connect before a client is given up.
const TRIES_MAX: u8 = 4;
/// The same where the server starts anew in the middle.
const TRIES_DEPLOYED_MAX: u8 = 40;
/// How long a connection may take to become a session.
const CONNECT_WITHIN_NS: u64 = 20 * SECOND;
/// Pause before a lost connection is replaced, and before a failed one is tried again.
const RECONNECT_AFTER_NS: u64 = SECOND;
/// A client and its socket.
pub(super) struct Slot {
    pub(super) client: Client,
    pub(super) line: Option<Line>,
    /// Of its crowd, in the scenario.
    pub(super) crowd: u8,
    /// When its connection was meant to begin.
    pub(super) opened_ns: u64,
    /// When it began.
    tried_ns: u64,
    /// When it last wrote.
    pub(super) spoke_ns: u64,
    pub(super) heartbeat_ns: u64,
    /// Of a guest, for coming back.
    pub(super) token: Option<Box<str>>,
    /// Its id on the server.
    pub(super) user: Option<Box<str>>,
    pub(super) tries: u8,
    /// It is meant to be gone: asleep, or not online in this phase.
    pub(super) away: bool,
    /// It was cut off by our will, and comes back at its moment.
    pub(super) cut: bool,
    /// Its connection ended by our will, and no other began since.
    pub(super) planned: bool,
    /// Until when it waits for answers before it leaves.
    pub(super) leaves_ns: u64,
    /// The server asked this connection to go elsewhere.
    pub(super) moves: bool,
    /// ACKs are due.
    pub(super) marking: bool,
    /// It was a session once.
    pub(super) was_live: bool,
}

impl Slot {
    pub(super) const fn new(client: Client, crowd: u8) -> Self {
        Self {
            client,
            line: None,
            crowd,
            opened_ns: 0,
            tried_ns: 0,
            spoke_ns: 0,
            heartbeat_ns: 0,
            token: None,
            user: None,
            tries: 0,
            away: false,
            cut: false,
            planned: false,
            leaves_ns: 0,
            moves: false,
            marking: false,
            was_live: false,
        }
    }

    /// It is meant to be there.
    pub(super) const fn is_wanted(&self) -> bool {
        !self.away && !self.cut
    }

    /// Connecting, and for too long.
    pub(super) fn is_late(&self, now: u64) -> bool {
        self.line.is_some() && !self.client.is_live() && now.saturating_sub(self.tried_ns) > CONNECT_WITHIN_NS
    }
}

impl Worker {
    /// How often a client tries to connect before it is given up.
    pub(super) fn tries_max(&self) -> u8 {
        if self.deploys { TRIES_DEPLOYED_MAX } else { TRIES_MAX }
    }

    /// It was live once and is not given up.
    pub(super) fn is_session(&self, slot: &Slot) -> bool {
        slot.was_live && slot.tries < self.tries_max()
    }

    /// Begins to connect, as it was meant to at `intended_ns`.
    pub(super) fn open(&mut self, slot: u32, intended_ns: u64) {
        let client = self.client_no(slot);
        let now = self.now();
        let state = &mut self.slots[slot as usize];
        if state.line.is_some() {
            return;
        }
        state.opened_ns = intended_ns;
        state.tried_ns = now;
        state.spoke_ns = now;
        state.moves = false;
        #[cfg(target_os = "linux")]
        if let Some(begun) = self.open_quic(slot, intended_ns) {
            return match begun {
                Ok(true) => self.slots[slot as usize].line = Some(Line::Quic),
                Ok(false) => {}
                Err(error) => self.end(slot, &reason(&error)),
            };
        }
        let (target, state) = (&self.shared.target, &mut self.slots[slot as usize]);
        let (address, host) = target.of(client);
        let opened = state
            .client
            .open(&target.path, host, &mut self.pen)
            .map_err(|error| error.to_string())
            .and_then(|()| source::connect(address, client).map_err(|error| reason(&error)))
            .and_then(|mut stream| {
                let both = Interest::READABLE | Interest::WRITABLE;
                let registered = self.poll.registry().register(&mut stream, Token(slot as usize), both);
                let carried = registered.and_then(|()| carry(&self.shared, state.crowd, stream));
                carried.map_err(|error| reason(&error))
            });
        match opened {
            Ok(line) => state.line = Some(line),
            Err(error) => self.end(slot, &error),
        }
    }

    /// The system has something to tell about a socket.
    pub(super) fn ready(&mut self, slot: u32, event: &mio::event::Event) {
        if event.is_writable() {
            self.flush(slot);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(slot);
        }
    }

    /// Writes what waits. The rest goes when the socket is writable again.
    pub(super) fn flush(&mut self, slot: u32) {
        let Slot { client, line: Some(line), spoke_ns, .. } = &mut self.slots[slot as usize] else { return };
        #[cfg(target_os = "linux")]
        if matches!(line, Line::Quic) {
            return self.say_by_quic(slot);
        }
        let out = client.outbound();
        let error = loop {
            match line.write(out) {
                Ok(_) if out.is_empty() => {
                    // An idle client owns no memory for writing.
                    *out = BytesMut::new();
                    return;
                }
                Ok(written) => {
                    out.advance(written);
                    *spoke_ns = self.shared.clock.now_ns();
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break reason(&error),
            }
        };
        self.end(slot, &error);
    }

    fn read(&mut self, slot: u32) {
        loop {
            let state = &mut self.slots[slot as usize];
            let Some(line) = &mut state.line else { return };
            let (taken, more) = match line.read(&mut self.buffer) {
                Ok((0, _)) => return self.end(slot, "the server closed the connection"),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return,
                Err(error) => return self.end(slot, &reason(&error)),
            };
            self.taken(slot, taken);
            // A read that does not fill the buffer has emptied the socket; an end is told by another event.
            if !more {
                return;
            }
        }
    }

    /// The buffer's first bytes are for a client.
    pub(super) fn taken(&mut self, slot: u32, taken: usize) {
        self.recorder.counts.received_bytes += taken as u64;
        let now = self.shared.clock.now_ns();
        let mut events = std::mem::take(&mut self.events);
        let mut inbox = Inbox {
            names: &self.names,
            body_bytes: self.shared.scenario.body_bytes,
            events: &mut events,
            pen: &mut self.pen,
        };
        self.slots[slot as usize].client.received(&mut self.buffer[..taken], &mut inbox);
        for event in events.drain(..) {
            self.happened(slot, event, now);
        }
        self.events = events;
        self.flush(slot);
    }

    /// The connection is over. A session comes back, a failed attempt is repeated.
    pub(super) fn end(&mut self, slot: u32, why: &str) {
        *self.closes.entry(why.to_owned()).or_default() += 1;
        let was_live = self.close(slot, false, false);
        let (now, tries_max) = (self.now(), self.tries_max());
        let state = &mut self.slots[slot as usize];
        if was_live {
            self.recorder.counts.dropped += 1;
        } else {
            self.recorder.counts.connect_failures += 1;
            state.tries = state.tries.saturating_add(1);
        }
        if state.tries >= tries_max {
            self.decided += u64::from(!state.was_live);
        } else if state.is_wanted() {
            self.later(now + RECONNECT_AFTER_NS, slot, Due::Reconnect);
        }
    }

    /// Takes a connection down. True if it was a session's. `politely`: a connection by QUIC says so; `reset`: one by TCP does.
    pub(super) fn close(&mut self, slot: u32, politely: bool, reset: bool) -> bool {
        let state = &mut self.slots[slot as usize];
        match state.line.take() {
            #[cfg(target_os = "linux")]
            Some(Line::Quic) => self.close_quic(slot, politely),
            Some(mut line) => line.forget(&self.poll, reset),
            None => {}
        }
        let _ = politely;
        let state = &mut self.slots[slot as usize];
        let was_live = state.client.is_live();
        self.live -= u64::from(was_live);
        for (_, asked) in state.client.reset() {
            match asked {
                Asked::Send(..) => {
                    self.unanswered = self.unanswered.saturating_sub(1);
                    self.recorder.counts.cut_off += 1;
                }
                Asked::Create(conv) => self.created(conv, String::new()),
                Asked::Subscribe(_) => self.subscribed(),
                Asked::History(conv) => self.log_failed(slot, conv),
                Asked::Connect | Asked::Sync => {}
            }
        }
        was_live
    }
}

/// What carries a socket of this crowd.
#[cfg(target_os = "linux")]
fn carry(shared: &super::Shared, crowd: u8, stream: mio::net::TcpStream) -> io::Result<Line> {
    match &shared.carriers[usize::from(crowd)] {
        crate::lines::Carrier::Tls { config, server_name } => {
            Line::tls(stream, std::sync::Arc::clone(config), server_name.clone())
        }
        crate::lines::Carrier::Tcp | crate::lines::Carrier::Quic { .. } => Ok(Line::Tcp(stream)),
    }
}

/// What carries a socket of this crowd.
#[cfg(not(target_os = "linux"))]
fn carry(_: &super::Shared, _: u8, stream: mio::net::TcpStream) -> io::Result<Line> {
    Ok(Line::Tcp(stream))
}

/// What the system says, without the number: reasons are counted.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => rustix::io::Errno::from_raw_os_error(number).to_string(),
        None => error.kind().to_string(),
    }
}
