//! The client without I/O: bytes and time go in, effects come out.
//!
//! Invariants:
//! - no clock, no randomness, no socket: `now`, a seed and cmids are arguments;
//! - every input is followed by draining [`Core::poll_effect`] until `None` and arming [`Core::next_deadline`];
//! - every send and every request of the app ends with exactly one `Sent` or `Answer`;
//! - at most three connections are there at once: one that serves, one that comes, one that leaves.
//!
//! Absent on purpose: persistence (the driver keeps records and [`Resume`]), TLS, threads.

mod backoff;
mod cmid;
mod config;
mod connect;
mod effect;
mod frames;
mod link;
mod marks;
mod order;
mod outbox;
mod random;
mod requests;
mod sync;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use roost_wire::limits::{SERVER_FRAME_BYTES_MAX, TEXT_BYTES_MAX};
use roost_wire::{ConvId, Encoding, FrameBody, Seq, UserId, pb};
use serde::{Deserialize, Serialize};

pub use cmid::Cmid;
pub use config::{Config, Start};
pub use effect::{Effect, Event, Gone};
pub use outbox::Record;
pub use requests::Ticket;

use crate::error::{EndReason, RequestError, SendError};
use crate::url::Url;
use backoff::Backoff;
use connect::Connecting;
use link::{Asked, Link};
use marks::Marks;
use order::{Order, OrderLimits, Shown};
use outbox::Outbox;
use random::Random;
use requests::Requests;
use sync::{Sync, SyncState};

/// Names a connection of this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Who connects.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// A token; the newest one the server gave takes its place.
    pub token: Option<String>,
    /// A display name, to enter as a new guest. Used until there is a token.
    pub guest: Option<String>,
    /// Names this installation. A second connection with the same device replaces the first.
    pub device: String,
}

/// What a client needs to go on in another process: who it is and what the app already has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resume {
    /// The newest token.
    pub token: String,
    /// The installation's name.
    pub device: String,
    /// The user's id.
    pub user: String,
    /// The user's display name.
    pub name: String,
    /// Sync token: everything that changed before it is in `positions`.
    pub sync: String,
    /// The last entry the app has received, per conversation.
    pub positions: BTreeMap<ConvId, Seq>,
}

/// A channel that is subscribed to.
#[derive(Debug, Default)]
struct Channel {
    /// Its head when the subscription began; `None` until it is known.
    floor: Option<Seq>,
}

/// The state machine of one client.
#[derive(Debug)]
pub struct Core {
    config: Config,
    encoding: Encoding,
    identity: Identity,
    /// It goes on from an earlier life.
    resumed: bool,
    user: Option<UserId>,
    name: String,
    random: Random,
    backoff: Backoff,
    connecting: Connecting,
    /// The connection that serves.
    current: Option<Link>,
    /// The one being opened: the first, a reconnect, or a move after GOAWAY.
    coming: Option<Link>,
    /// The one that was moved away from and still answers.
    leaving: Option<Link>,
    links: u64,
    outbox: Outbox,
    requests: Requests,
    order: Order,
    sync: Sync,
    /// Sync token of the last moment at which the app had everything.
    saved: String,
    marks: Marks,
    watched: BTreeSet<String>,
    channels: BTreeMap<ConvId, Channel>,
    /// Watches and subscriptions that the session was refused for a passing reason, and when they are asked for again.
    /// At most one for each channel, and one for the watches.
    refused: Vec<(Instant, Asked)>,
    ended: bool,
    effects: VecDeque<Effect>,
}

impl Core {
    /// A client that goes on from `resume` with the messages an earlier life left in its outbox.
    ///
    /// `seed` feeds the jitter; clients that start together need different ones.
    #[must_use]
    pub fn new(
        config: Config,
        encoding: Encoding,
        url: Url,
        mut identity: Identity,
        resume: Resume,
        restored: Vec<Record>,
        seed: u64,
    ) -> Self {
        let limits = OrderLimits {
            conversations_max: config.conversations_max,
            held_entries_max: config.held_entries_max,
            catch_up_entries_max: config.catch_up_entries_max,
            gap_grace: config.gap_grace,
        };
        let mut order = Order::new(limits);
        for (conv, position) in &resume.positions {
            order.restore(conv, *position);
        }
        let mut outbox = Outbox::default();
        for record in restored {
            outbox.push(record, true);
        }
        let resumed = !resume.token.is_empty();
        if resumed {
            identity.token = Some(resume.token);
        }
        Self {
            backoff: Backoff::new(config.backoff_base, config.backoff_cap),
            connecting: Connecting::new(url),
            config,
            encoding,
            identity,
            resumed,
            user: UserId::new(&resume.user).ok(),
            name: resume.name,
            random: Random::new(seed),
            current: None,
            coming: None,
            leaving: None,
            links: 0,
            outbox,
            requests: Requests::default(),
            order,
            saved: resume.sync.clone(),
            sync: Sync::new(resume.sync),
            marks: Marks::default(),
            watched: BTreeSet::new(),
            channels: BTreeMap::new(),
            refused: Vec::new(),
            ended: false,
            effects: VecDeque::new(),
        }
    }

    /// Begins to connect.
    pub fn start(&mut self, now: Instant) {
        if self.resumed {
            self.connecting.had_rival(now);
        }
        self.open(now);
    }

    /// Whether a message of `bytes` can be taken now.
    ///
    /// # Errors
    /// [`SendError`] that [`Core::send`] would end it with.
    pub fn check_send(&self, bytes: usize) -> Result<(), SendError> {
        let Config { outbox_entries_max: entries_max, outbox_bytes_max: bytes_max, .. } = self.config;
        if self.ended {
            Err(SendError::Ended)
        } else if bytes > TEXT_BYTES_MAX {
            Err(SendError::TooLarge { bytes, max: TEXT_BYTES_MAX })
        } else if !self.outbox.has_room(bytes, entries_max, bytes_max) {
            Err(SendError::OutboxFull { entries_max, bytes_max })
        } else {
            Ok(())
        }
    }

    /// The last seq of `conv` that is known to exist: what a [`Record`] carries as `seen`.
    #[must_use]
    pub fn seen(&self, conv: &ConvId) -> Option<Seq> {
        self.order.target(conv)
    }

    /// Takes a message; an `Effect::Sent` tells its fate.
    pub fn send(&mut self, record: Record, now: Instant) {
        match self.check_send(record.text.len()) {
            Ok(()) => self.outbox.push(record, false),
            Err(error) => self.effects.push_back(Effect::Sent { cmid: record.cmid, result: Err(error) }),
        }
        self.settle(now);
    }

    /// Messages that wait for their acknowledgement.
    #[must_use]
    pub fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    /// Asks the server; an `Effect::Answer` tells the reply. Waits for a connection if there is none.
    pub fn request(&mut self, ticket: Ticket, body: FrameBody, now: Instant) {
        let max = self.config.requests_max;
        let refused = if self.ended {
            Some(RequestError::Ended)
        } else if self.requests.len() >= max {
            Some(RequestError::QueueFull { max })
        } else {
            None
        };
        match refused {
            Some(error) => self.effects.push_back(Effect::Answer { ticket, result: Err(error) }),
            None => self.requests.push(ticket, body, now + self.config.request_within),
        }
        self.settle(now);
    }

    /// Tells others that the user writes. Lost if there is no connection: it is old by the next one.
    pub fn typing(&mut self, conv: &ConvId, on: bool, now: Instant) {
        let typing = pb::Typing { conv: conv.to_string(), user: String::new(), on };
        self.tell(FrameBody::Typing(typing), now);
        self.settle(now);
    }

    /// The app has every entry of `conv` up to `seq`.
    pub fn received(&mut self, conv: &ConvId, seq: Seq, now: Instant) {
        self.order.taken(conv, seq);
        if self.channels.contains_key(conv) {
            return; // A channel has no members whose marks it keeps.
        }
        self.marks.received(conv, seq, now + self.config.marks_after);
        self.settle(now);
    }

    /// The user has read `conv` up to `seq`.
    pub fn read(&mut self, conv: &ConvId, seq: Seq, now: Instant) {
        self.marks.read(conv, seq, now + self.config.marks_after);
        self.settle(now);
    }

    /// What another process needs to go on from here.
    #[must_use]
    pub fn resume(&mut self) -> Resume {
        if self.sync.state == SyncState::Idle && self.order.is_whole() && self.order.is_taken() {
            self.saved.clone_from(&self.sync.token);
        }
        Resume {
            token: self.identity.token.clone().unwrap_or_default(),
            device: self.identity.device.clone(),
            user: self.user.as_ref().map(ToString::to_string).unwrap_or_default(),
            name: self.name.clone(),
            sync: self.saved.clone(),
            positions: self.order.takens().map(|(conv, seq)| (conv.clone(), seq)).collect(),
        }
    }

    /// Ends the client. Messages without an acknowledgement end with [`SendError::Ended`].
    pub fn close(&mut self, now: Instant) {
        if self.current.is_some() {
            for frame in self.marks.flush() {
                self.tell(frame, now);
            }
        }
        self.end(EndReason::Closed);
    }

    /// True once the client has stopped for good.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// The driver did not read for a while because the app was slow: silence until now proves nothing.
    pub fn forgive(&mut self, now: Instant) {
        for link in [&mut self.current, &mut self.coming, &mut self.leaving].into_iter().flatten() {
            link.forgive(now);
        }
    }

    /// Runs what is due. Call it at [`Core::next_deadline`]; calling it early does no harm.
    pub fn timeout(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        self.beat(now);
        self.connect_if_due(now);
        for ticket in self.requests.wake(now) {
            self.requests.finish(ticket);
            let result = Err(RequestError::Timeout(self.config.request_within));
            self.effects.push_back(Effect::Answer { ticket, result });
        }
        self.outbox.wake(now);
        self.sync.wake(now);
        self.settle(now);
    }

    /// When [`Core::timeout`] is due next; `None` once the client has ended.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let (connect, answer) = (self.config.connect_within, self.config.answer_within);
        let links = [&self.current, &self.coming, &self.leaving];
        let beats = links.into_iter().flatten().map(|link| link.deadline(connect, answer));
        // What waits for a connection is woken by the connection.
        let live = self.current.is_some();
        let when_live = [
            self.outbox.next_wake(),
            self.sync.next_wake(),
            self.marks.flush_at(),
            self.order.next_due(self.config.fetches_in_flight_max),
            self.refused.iter().map(|(at, _)| *at).min(),
        ];
        let when_live = when_live.into_iter().flatten().filter(|_| live);
        beats.chain(when_live).chain(self.requests.next_wake()).chain(self.connecting.deadline()).min()
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Puts everything on the wire that may go, and tells the app what is in order. Every input ends here.
    fn settle(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        self.place_strays(now);
        self.pump(now);
        while let Some(shown) = self.order.poll() {
            self.effects.push_back(Effect::Event(match shown {
                Shown::Entry(_, entry) => Event::Entry(entry),
                Shown::Skipped { conv, from, to } => Event::Skipped { conv, from, to },
            }));
        }
        self.leave_if_done(now);
    }

    fn pump(&mut self, now: Instant) {
        if self.current.is_none() {
            return;
        }
        self.ask_refused(now);
        if self.sync.state == SyncState::Wanted {
            self.sync.state = SyncState::Asked { again: false };
            let _ = self.ask(Asked::Sync, FrameBody::Sync(pb::Sync { since: self.sync.token.clone(), limit: 0 }), now);
        }
        while let Some((conv, after, limit)) = self.order.next_fetch(self.config.fetches_in_flight_max, now) {
            let history = pb::History { conv: conv.to_string(), after: Some(after), before: None, limit };
            let _ = self.ask(Asked::Fetch(conv, after), FrameBody::History(history), now);
        }
        while self.current.as_ref().is_some_and(|link| link.room() > 0) {
            let Some((ticket, body)) = self.requests.next() else { break };
            if let Err(error) = self.ask(Asked::Request(ticket), body, now) {
                self.requests.finish(ticket);
                self.effects.push_back(Effect::Answer { ticket, result: Err(error) });
            }
        }
        while self.current.as_ref().is_some_and(|link| link.room() > 0) {
            let order = &self.order;
            let Some((cmid, body)) = self.outbox.next(|conv| order.target(conv)) else { break };
            if let Err(RequestError::TooLarge { bytes, max }) = self.ask(Asked::Send(cmid), body, now) {
                self.outbox.settle(&cmid);
                self.effects.push_back(Effect::Sent { cmid, result: Err(SendError::TooLarge { bytes, max }) });
            }
        }
        if self.marks.flush_at().is_some_and(|at| at <= now) {
            for body in self.marks.flush() {
                self.tell(body, now);
            }
        }
    }

    /// Sends a command on the serving connection and notes what its reply answers.
    fn ask(&mut self, asked: Asked, body: FrameBody, now: Instant) -> Result<(), RequestError> {
        let Some(link) = &mut self.current else { return Ok(()) };
        let rid = link.ask(asked, now);
        let payload = frames::encode(self.encoding, rid, body);
        if payload.len() > link.frame_bytes_max {
            link.answers(rid);
            return Err(RequestError::TooLarge { bytes: payload.len(), max: link.frame_bytes_max });
        }
        self.effects.push_back(Effect::Transmit { link: link.id, payload });
        Ok(())
    }

    /// Sends a command that gets no reply.
    fn tell(&mut self, body: FrameBody, now: Instant) {
        let Some(link) = &mut self.current else { return };
        link.told(&body, now);
        let payload = frames::encode(self.encoding, 0, body);
        self.effects.push_back(Effect::Transmit { link: link.id, payload });
    }

    fn event(&mut self, event: Event) {
        self.effects.push_back(Effect::Event(event));
    }
}

/// Largest message a server may send; for the driver's transport.
pub const MESSAGE_BYTES_MAX: usize = SERVER_FRAME_BYTES_MAX;
