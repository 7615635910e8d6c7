//! All clients of a thread in one array, and what each of them may do. No I/O and no clock.
//!
//! Invariants:
//! - an idle client owns no memory beside its place in the array: what is half received is kept only while it is;
//! - bytes of the server never panic: they become [`Heard`], the last of them [`Heard::Failed`];
//! - a client's phase changes only here.

use std::collections::HashMap;

use bytes::BytesMut;
use roost_wire::ws::handshake::HeadError;

use super::client::{Arrival, Client, Phase, decoder};
use super::hear::Ears;
use super::voice::Voice;
use crate::client::Stamp;

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The WebSocket is open.
    Upgraded,
    /// The session is live; where the protocol is plain it is with the upgrade.
    Live {
        /// How often the server wants a sign of life; 0 if it did not say.
        heartbeat_ms: u32,
    },
    /// The channel's entries come from now on.
    Subscribed,
    /// A heartbeat was answered.
    Pong,
    /// A message to everybody came.
    Pushed { stamp: Stamp, arrival: Arrival },
    /// An own message to everybody is durable.
    Published { stamp_serial: u32, seq: u64 },
    /// An own text came back.
    Echoed(Stamp),
    /// A push that holds something else than was sent, or is for somebody else.
    Garbled,
    /// The server left pushes out and says so.
    Behind,
    /// The server asks to come back elsewhere, after so long.
    GoAway { slot_ms: u32 },
    /// Nothing that matters here.
    Other,
    /// An ERROR, to what was asked.
    Refused { asked: Asked, code: u32, again: Again },
    /// Not now: a status other than 101, and when to try again if it said so.
    TurnedAway { status: u16, retry_after_s: Option<u32> },
    /// The server closed, with this code if it gave one.
    Closed(Option<u16>),
    /// What came is no WebSocket or no Roost.
    Failed(String),
}

/// What an answer is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Connect,
    Subscribe,
    /// A publish, or nothing that is known.
    Else,
}

/// Whether the same command may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    No,
    /// After so many milliseconds; 0 if the server named no time.
    After(u32),
}

/// The clients of a thread.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(super) clients: Box<[Client]>,
    /// Number of the first one in the whole run.
    first: u32,
    /// What is half received: answers to an upgrade, and packets that messages of WebSocket cut.
    pub(super) halves: HashMap<u32, Vec<u8>>,
    live: u32,
    opening: u32,
    closing: u32,
}

impl Crowd {
    /// `count` clients from number `first` on, none of them connected.
    pub(crate) fn new(first: u32, count: u32) -> Self {
        let clients = (0..count).map(|_| Client::new()).collect();
        Self { clients, first, halves: HashMap::new(), live: 0, opening: 0, closing: 0 }
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> u32 {
        self.clients.len() as u32
    }

    /// Sessions.
    pub(crate) const fn live(&self) -> u32 {
        self.live
    }

    /// On the way to be one.
    pub(crate) const fn opening(&self) -> u32 {
        self.opening
    }

    /// Nobody has a connection.
    pub(crate) const fn is_empty(&self) -> bool {
        self.live + self.opening + self.closing == 0
    }

    /// Its number in the whole run.
    pub(crate) const fn number(&self, at: u32) -> u32 {
        self.first + at
    }

    pub(crate) fn phase(&self, at: u32) -> Phase {
        self.clients[at as usize].phase
    }

    /// When its connection was meant to begin.
    pub(crate) fn intended_ns(&self, at: u32) -> u64 {
        self.clients[at as usize].intended_ns
    }

    /// Which of its connections it has.
    pub(crate) fn opening_of(&self, at: u32) -> u8 {
        self.clients[at as usize].opening
    }

    /// Tries to connect since it was last a session.
    pub(crate) fn tries(&self, at: u32) -> u8 {
        self.clients[at as usize].tries
    }

    /// Its entries come.
    pub(crate) fn is_subscribed(&self, at: u32) -> bool {
        self.clients[at as usize].has(Client::SUBSCRIBED)
    }

    /// The number of a subscribed session that the last of `count` entries did not reach, and the first that it lacks
    /// since. `None` for others, and for those that came too late to know.
    pub(crate) fn behind(&self, at: u32, count: u32) -> Option<(u32, u32)> {
        let client = &self.clients[at as usize];
        let listens = client.phase == Phase::Live && client.has(Client::SUBSCRIBED);
        (listens && client.seq != Client::ANY_SEQ && client.seq < count).then(|| (self.number(at), client.seq + 1))
    }

    /// Memory of the array and of what is half received, in bytes.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        let halves: usize = self.halves.values().map(Vec::capacity).sum();
        size_of_val(&*self.clients) + halves + self.halves.capacity() * size_of::<(u32, Vec<u8>)>()
    }

    /// It begins to connect; it was meant to at `intended_ns`.
    pub(crate) fn opens(&mut self, at: u32, intended_ns: u64) {
        let client = &mut self.clients[at as usize];
        debug_assert_eq!(client.phase, Phase::Gone);
        client.phase = Phase::Connecting;
        client.intended_ns = intended_ns;
        client.opening = client.opening.wrapping_add(1);
        client.tries = client.tries.saturating_add(1);
        self.opening += 1;
    }

    /// The connection is there: it asks for WebSocket, or enters at once where there is none.
    ///
    /// # Errors
    /// What is wrong with the path or the host.
    pub(crate) fn connected(&mut self, at: u32, ears: &mut Ears<'_>) -> Result<(), HeadError> {
        if ears.voice.native {
            ears.voice.speech.upgraded(at, self, ears);
            return Ok(());
        }
        let number = self.number(at);
        let client = &mut self.clients[at as usize];
        client.phase = Phase::Upgrading;
        ears.voice.upgrade(number, client.opening, ears.out)
    }

    /// It asks to be a session.
    pub(super) fn enters(&mut self, at: u32) {
        self.clients[at as usize].phase = Phase::Entering;
    }

    /// It is a session from now on.
    pub(super) fn goes_live(&mut self, at: u32) {
        let client = &mut self.clients[at as usize];
        debug_assert!(client.phase.is_opening());
        client.phase = Phase::Live;
        client.tries = 0;
        self.opening -= 1;
        self.live += 1;
    }

    /// Its connection is over or being closed. Returns what it was doing.
    pub(crate) fn closes(&mut self, at: u32) -> Phase {
        let client = &mut self.clients[at as usize];
        let was = std::mem::replace(&mut client.phase, Phase::Closing);
        client.decoder = decoder();
        client.flags = 0;
        self.halves.remove(&at);
        match was {
            Phase::Gone => client.phase = Phase::Gone,
            Phase::Closing => {}
            Phase::Live => {
                self.live -= 1;
                self.closing += 1;
            }
            Phase::Connecting | Phase::Upgrading | Phase::Entering => {
                self.opening -= 1;
                self.closing += 1;
            }
        }
        was
    }

    /// Its slot is free.
    pub(crate) fn gone(&mut self, at: u32) {
        debug_assert_eq!(self.phase(at), Phase::Closing);
        self.clients[at as usize].phase = Phase::Gone;
        self.closing -= 1;
    }

    /// Says goodbye.
    pub(crate) fn say_goodbye(&self, voice: &mut Voice, out: &mut BytesMut) {
        voice.close(out);
    }

    /// Sends a heartbeat that was meant to be sent at `beat_ms`, if it is a session. False: the one before was not
    /// answered.
    pub(crate) fn beat(&mut self, at: u32, beat_ms: u32, voice: &mut Voice, out: &mut BytesMut) -> Beat {
        let client = &mut self.clients[at as usize];
        if client.phase != Phase::Live {
            return Beat::NoSession;
        }
        if client.has(Client::AWAITS_PONG) {
            return Beat::Unanswered;
        }
        client.set(Client::AWAITS_PONG, true);
        client.beat_ms = beat_ms;
        voice.ping(out);
        Beat::Sent
    }

    /// When the heartbeat was meant to be sent whose answer it awaits; `None` if it awaits none.
    pub(crate) fn awaits_pong(&self, at: u32) -> Option<u32> {
        let client = &self.clients[at as usize];
        client.has(Client::AWAITS_PONG).then_some(client.beat_ms)
    }

    /// Asks for the channel, if it is a session. What comes first is right.
    pub(crate) fn subscribe(&mut self, at: u32, from_the_start: bool, voice: &mut Voice, out: &mut BytesMut) -> bool {
        let client = &mut self.clients[at as usize];
        if client.phase != Phase::Live {
            return false;
        }
        client.seq = if from_the_start { 0 } else { Client::ANY_SEQ };
        client.set(Client::MISSED, false);
        voice.speech.subscribe(at, self, voice, out);
        true
    }

    /// Publishes a message to everybody. False if it is no session.
    pub(crate) fn publish(&self, at: u32, stamp: Stamp, voice: &mut Voice, out: &mut BytesMut) -> bool {
        let live = self.phase(at) == Phase::Live;
        if live {
            voice.speech.publish(stamp, voice, out);
        }
        live
    }

    /// Says its next text, which is to come back. False if it is no session.
    pub(crate) fn say(&mut self, at: u32, intended_ns: u64, voice: &mut Voice, out: &mut BytesMut) -> bool {
        let sender = self.number(at);
        let client = &mut self.clients[at as usize];
        if client.phase != Phase::Live || client.has(Client::AWAITS_ECHO) {
            return false;
        }
        client.set(Client::AWAITS_ECHO, true);
        voice.say(Stamp { sender, serial: client.seq, intended_ns }, out);
        true
    }
}

/// What came of a heartbeat that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// It is no session.
    NoSession,
    /// It still awaits the answer to the one before.
    Unanswered,
    /// It was sent.
    Sent,
}
