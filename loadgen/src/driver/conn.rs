//! One client's socket: opening, reading, writing, ending; and what its events mean.

use std::io::{self, Read as _, Write as _};

use bytes::{Buf as _, BytesMut};
use mio::net::TcpStream;
use mio::{Interest, Token};

use super::worker::{Due, MILLISECOND, SECOND, Worker};
use super::{Credentials, source};
use crate::client::{Arrival, Asked, Client, Event, Inbox, Stamp};
use crate::plan::Conv;
use crate::recorder::record;
use crate::scenario::{Load, Protocol};

/// Tries to connect before a client is given up.
const TRIES_MAX: u8 = 4;
/// How long a connection may take to become a session.
const CONNECT_WITHIN_NS: u64 = 20 * SECOND;
/// Pause before a lost connection is replaced, and before a failed one is tried again.
const RECONNECT_AFTER_NS: u64 = SECOND;
/// Pause of a closed model after an ERROR.
const PAUSE_AFTER_REFUSAL_NS: u64 = 10 * MILLISECOND;

/// What carries a client.
enum Line {
    Tcp(TcpStream),
    /// By the number of its slot.
    #[cfg(target_os = "linux")]
    Quic,
}

/// A client and its socket.
pub(super) struct Slot {
    pub(super) client: Client,
    line: Option<Line>,
    opened_ns: u64,
    /// When it last wrote.
    pub(super) spoke_ns: u64,
    pub(super) heartbeat_ns: u64,
    /// Of a guest, for coming back.
    token: Option<Box<str>>,
    /// Its id on the server.
    pub(super) user: Option<Box<str>>,
    tries: u8,
    /// ACKs are due.
    pub(super) marking: bool,
    /// It was a session once.
    pub(super) was_live: bool,
}

impl Slot {
    pub(super) const fn new(client: Client) -> Self {
        Self {
            client,
            line: None,
            opened_ns: 0,
            spoke_ns: 0,
            heartbeat_ns: 0,
            token: None,
            user: None,
            tries: 0,
            marking: false,
            was_live: false,
        }
    }

    /// It was live once and is not given up.
    pub(super) const fn is_session(&self) -> bool {
        self.was_live && self.tries < TRIES_MAX
    }

    /// Connecting, and for too long.
    pub(super) fn is_late(&self, now: u64) -> bool {
        self.line.is_some() && !self.client.is_live() && now.saturating_sub(self.opened_ns) > CONNECT_WITHIN_NS
    }
}

impl Worker {
    /// Begins to connect.
    pub(super) fn open(&mut self, slot: u32, now: u64) {
        let client = self.client_no(slot);
        let state = &mut self.slots[slot as usize];
        if state.line.is_some() {
            return;
        }
        state.opened_ns = now;
        state.spoke_ns = now;
        #[cfg(target_os = "linux")]
        if let Some(begun) = self.open_quic(slot) {
            return match begun {
                Ok(()) => self.slots[slot as usize].line = Some(Line::Quic),
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
                registered.map(|()| stream).map_err(|error| reason(&error))
            });
        match opened {
            Ok(stream) => state.line = Some(Line::Tcp(stream)),
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
        let stream = match line {
            Line::Tcp(stream) => stream,
            #[cfg(target_os = "linux")]
            Line::Quic => return self.say_by_quic(slot),
        };
        let out = client.outbound();
        let error = loop {
            if out.is_empty() {
                // An idle client owns no memory for writing.
                *out = BytesMut::new();
                return;
            }
            match stream.write(out) {
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
            let Some(Line::Tcp(stream)) = &mut state.line else { return };
            let (taken, whole) = match stream.read(&mut self.buffer) {
                Ok(0) => return self.end(slot, "the server closed the connection"),
                Ok(taken) => (taken, taken == self.buffer.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return,
                Err(error) => return self.end(slot, &reason(&error)),
            };
            self.taken(slot, taken);
            // A read that does not fill the buffer has emptied the socket; an end is told by another event.
            if !whole {
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

    pub(super) fn happened(&mut self, slot: u32, event: Event, now: u64) {
        let at = slot as usize;
        match event {
            Event::Upgraded => match self.shared.scenario.protocol {
                Protocol::Plain => self.entered(slot, now),
                Protocol::Roost => {
                    let connect =
                        self.shared.credentials.connect(self.client_no(slot), self.slots[at].token.as_deref());
                    self.slots[at].client.connect(connect, &mut self.pen);
                }
            },
            Event::Welcomed { user, token, heartbeat_ms } => {
                let state = &mut self.slots[at];
                state.user = Some(user.into());
                state.heartbeat_ns = u64::from(heartbeat_ms) * MILLISECOND;
                if matches!(self.shared.credentials, Credentials::Guests) {
                    state.token = Some(token.into());
                }
                self.entered(slot, now);
            }
            Event::Created { conv, id } => self.created(conv, id),
            Event::Subscribed { .. } => self.subscribed(),
            Event::Acknowledged { conv, seq, stamp } => self.acknowledged(slot, conv, seq, stamp, now),
            Event::Pushed { conv, seq, stamp, arrival } => self.pushed(slot, conv, seq, stamp, arrival, now),
            Event::Fetched { conv, seq, stamp, new } => {
                self.recorder.counts.caught_up += u64::from(new);
                self.evidence.fetched(conv, seq, stamp);
            }
            Event::Absent { conv, seq } => self.evidence.absent(conv, seq),
            Event::LogEnded { conv, at } => self.log_ended(slot, conv, at),
            Event::Garbled => self.recorder.counts.garbled += 1,
            Event::Gap { conv } => self.gap_later(slot, conv, now),
            Event::Behind => {
                self.recorder.counts.behind += 1;
                self.slots[at].client.sync(&mut self.pen);
            }
            Event::Other => self.recorder.counts.other_pushes += 1,
            Event::Refused { asked, code } => self.refused(slot, asked, code, now),
            Event::Closed(Some(code)) => self.end(slot, &format!("closed by the server with {code}")),
            Event::Closed(None) => self.end(slot, "closed by the server without a code"),
            Event::Failed(why) => self.end(slot, &why),
        }
    }

    /// It is a session now.
    fn entered(&mut self, slot: u32, now: u64) {
        let state = &mut self.slots[slot as usize];
        record(&mut self.recorder.connect, state.opened_ns, now);
        self.recorder.counts.connected += 1;
        self.live += 1;
        state.tries = 0;
        let again = std::mem::replace(&mut state.was_live, true);
        let heartbeat_ns = state.heartbeat_ns;
        if again {
            return self.came_back(slot, now);
        }
        self.decided += 1;
        if heartbeat_ns > 0 {
            self.later(now + heartbeat_ns * 4 / 5, slot, Due::Heartbeat);
        }
    }

    /// After a lost connection: what was missed is in the log.
    fn came_back(&mut self, slot: u32, now: u64) {
        let Slot { client, .. } = &mut self.slots[slot as usize];
        let channels: Vec<Conv> = client.tracks().iter().map(|track| track.conv).collect();
        for conv in channels {
            if self.shared.plan.conversations[conv as usize].kind == crate::plan::Kind::Channel {
                client.subscribe(conv, &self.names, &mut self.pen);
                client.catch_up(conv, &self.names, &mut self.pen);
            }
        }
        client.sync(&mut self.pen);
        if matches!(self.shared.scenario.load, Load::Closed { .. }) {
            self.later(now, slot, Due::Next);
        }
    }

    fn acknowledged(&mut self, slot: u32, conv: Conv, seq: u64, stamp: Stamp, now: u64) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.recorder.counts.acknowledged += 1;
        record(&mut self.recorder.ack, stamp.intended_ns, now);
        self.evidence.acknowledged(conv, seq, stamp);
        if matches!(self.shared.scenario.load, Load::Closed { .. }) {
            self.send_next(slot, now);
        }
    }

    fn pushed(&mut self, slot: u32, conv: Conv, seq: u64, stamp: Stamp, arrival: Arrival, now: u64) {
        let own = self.client_no(slot) == stamp.sender;
        let counts = &mut self.recorder.counts;
        match arrival {
            Arrival::New | Arrival::Late => {
                counts.delivered += 1;
                counts.reordered += u64::from(arrival == Arrival::Late);
                record(&mut self.recorder.delivery, stamp.intended_ns, now);
                if !self.is_plain() {
                    self.mark_later(slot, now);
                }
            }
            // On a channel the publisher gets its own: it is a delivery like any other.
            Arrival::Repeated if own => {
                counts.delivered += 1;
                record(&mut self.recorder.delivery, stamp.intended_ns, now);
            }
            Arrival::Doubled => counts.duplicated += 1,
            Arrival::Repeated => {}
        }
        if self.shared.scenario.protocol == Protocol::Roost {
            self.evidence.pushed(conv, seq, stamp);
        }
    }

    fn refused(&mut self, slot: u32, asked: Option<Asked>, code: u32, now: u64) {
        *self.recorder.errors.entry(code).or_default() += 1;
        match asked {
            Some(Asked::Send(..)) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                self.recorder.counts.refused += 1;
                if matches!(self.shared.scenario.load, Load::Closed { .. }) {
                    self.later(now + PAUSE_AFTER_REFUSAL_NS, slot, Due::Next);
                }
            }
            Some(Asked::Create(conv)) => self.created(conv, String::new()),
            Some(Asked::Subscribe(_)) => self.subscribed(),
            Some(Asked::History(conv)) => self.log_failed(slot, conv),
            Some(Asked::Connect) => self.end(slot, &format!("CONNECT was refused with {code}")),
            Some(Asked::Sync) | None => {}
        }
    }

    /// The connection is over. A session comes back, a failed attempt is repeated.
    pub(super) fn end(&mut self, slot: u32, why: &str) {
        let now = self.now();
        let state = &mut self.slots[slot as usize];
        match state.line.take() {
            // It may be gone from the poll already.
            Some(Line::Tcp(mut stream)) => _ = self.poll.registry().deregister(&mut stream),
            #[cfg(target_os = "linux")]
            Some(Line::Quic) => self.close_quic(slot, false),
            None => {}
        }
        let state = &mut self.slots[slot as usize];
        let was_live = state.client.is_live();
        let cut_off = state.client.reset();
        *self.closes.entry(why.to_owned()).or_default() += 1;
        if was_live {
            self.live -= 1;
            self.recorder.counts.dropped += 1;
        } else {
            self.recorder.counts.connect_failures += 1;
            state.tries += 1;
        }
        if state.tries >= TRIES_MAX {
            self.decided += u64::from(!state.was_live);
        } else {
            self.later(now + RECONNECT_AFTER_NS, slot, Due::Reconnect);
        }
        for (_, asked) in cut_off {
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
    }
}

/// What the system says, without the number: reasons are counted.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => rustix::io::Errno::from_raw_os_error(number).to_string(),
        None => error.kind().to_string(),
    }
}
