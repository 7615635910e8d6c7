//! What an edge keeps of the sessions of one shard: which router has each, and what another one would have to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use roost_wire::link::{Down, SessionKey};
use roost_wire::pb::{self, Frame};
use roost_wire::{CloseCode, ConvId, ErrorCode, FrameBody, UserId};
use tokio::time::Instant;

use super::peer::{Peer, topic_name};

/// Users watched by one session that are remembered. Some of them may not be seen and do not count at the router.
const WATCHES_KEPT_MAX: usize = 2 * roost_wire::limits::WATCHES_MAX;

/// The sessions of one shard, and the commands that they wait for.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) seats: HashMap<SessionKey, Seat>,
    /// By number. Numbers rise, so that the oldest comes first.
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
}

/// A session.
pub(crate) struct Seat {
    /// The router that has it. `None`: it is adrift.
    owner: Option<Arc<Peer>>,
    pub(crate) stage: Stage,
    /// Commands of the client that are not answered.
    pub(crate) in_flight: u16,
}

pub(crate) enum Stage {
    /// CONNECT is under way, with this number.
    Connecting(u64),
    Live(Box<Live>),
}

/// What another router would have to know.
pub(crate) struct Live {
    pub(crate) user: UserId,
    pub(crate) device: Box<str>,
    pub(crate) name: Box<str>,
    /// Joined, channels and large groups.
    pub(crate) topics: Vec<ConvId>,
    /// The link that the shard's names of `topics` are from.
    pub(crate) named_by: u64,
    /// In rising order.
    pub(crate) watches: Vec<UserId>,
    /// Watches and subscriptions that the new router has not confirmed; then the client is told to sync.
    pub(crate) replays: u16,
    /// One of them failed, and is to be tried again.
    pub(crate) replay_again: bool,
}

/// Something that a router is to answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) session: SessionKey,
    pub(crate) peer: u64,
    pub(crate) until: Instant,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Connect {
        rid: u64,
    },
    /// Of a client. `writes`: it may have stored something.
    Command {
        rid: u64,
        writes: bool,
    },
    /// Of ours, for a session that was brought to another router.
    Replay,
}

impl Seat {
    pub(crate) fn new(owner: &Arc<Peer>, number: u64) -> Self {
        owner.seat();
        Self { owner: Some(Arc::clone(owner)), stage: Stage::Connecting(number), in_flight: 0 }
    }

    pub(crate) const fn owner(&self) -> Option<&Arc<Peer>> {
        self.owner.as_ref()
    }

    pub(crate) fn is_owned_by(&self, peer: &Peer) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.id() == peer.id())
    }

    /// Another router has it from now on, or none. Gives the one before.
    pub(crate) fn give_to(&mut self, peer: Option<&Arc<Peer>>) -> Option<Arc<Peer>> {
        if let Some(peer) = peer {
            peer.seat();
        }
        let before = std::mem::replace(&mut self.owner, peer.cloned());
        if let Some(before) = &before {
            before.unseat();
        }
        before
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.give_to(None);
    }
}

impl Live {
    pub(crate) fn join(&mut self, topic: &ConvId) {
        if !self.topics.contains(topic) {
            self.topics.push(topic.clone());
        }
    }

    pub(crate) fn leave(&mut self, topic: &ConvId) {
        self.topics.retain(|of| of != topic);
    }

    pub(crate) fn watch(&mut self, users: &[pb::UserPresence]) {
        for user in users.iter().filter_map(|user| UserId::new(&user.user).ok()) {
            if let Err(at) = self.watches.binary_search(&user)
                && self.watches.len() < WATCHES_KEPT_MAX
            {
                self.watches.insert(at, user);
            }
        }
    }

    pub(crate) fn unwatch(&mut self, users: &[String]) {
        if !self.watches.is_empty() {
            self.watches.retain(|user| !users.iter().any(|of| of == user.as_str()));
        }
    }

    /// The topics as the shard knows them, to be left.
    pub(crate) fn leave_all(&self, session: SessionKey, down: &mut Vec<Down>) {
        for topic in &self.topics {
            down.push(Down::Leave { session, topic: topic_name(self.named_by, topic) });
        }
    }
}

impl Table {
    /// A number for something that `peer` is to answer within `within`.
    pub(crate) fn wait(&mut self, session: SessionKey, peer: &Peer, within: Duration, what: What) -> u64 {
        self.last += 1;
        let until = Instant::now() + within;
        self.waiting.insert(self.last, Waiting { session, peer: peer.id(), until, what });
        self.last
    }

    /// What `number` stands for, if it waits and is for `peer` to answer.
    pub(crate) fn answered(&mut self, number: u64, peer: &Peer) -> Option<Waiting> {
        self.waiting.get(&number).filter(|waiting| waiting.peer == peer.id())?;
        self.waiting.remove(&number)
    }

    /// It was not sent.
    pub(crate) fn forget(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// Takes one that should have been answered by now.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<Waiting> {
        let (_, first) = self.waiting.first_key_value()?;
        if first.until > now {
            return None;
        }
        self.waiting.pop_first().map(|(_, waiting)| waiting)
    }

    /// Takes all that `peer` was to answer.
    pub(crate) fn lost(&mut self, peer: &Peer) -> Vec<Waiting> {
        self.waiting.extract_if(.., |_, waiting| waiting.peer == peer.id()).map(|(_, waiting)| waiting).collect()
    }
}

/// Whether a command may have stored something that a client would not want twice.
pub(crate) const fn writes(body: &FrameBody) -> bool {
    matches!(
        body,
        FrameBody::Send(_)
            | FrameBody::Publish(_)
            | FrameBody::Create(_)
            | FrameBody::Update(_)
            | FrameBody::Members(_)
            | FrameBody::Join(_)
            | FrameBody::Leave(_)
    )
}

/// An error as the reply to a command.
pub(crate) fn error_reply(session: SessionKey, rid: u64, error: pb::Error) -> Down {
    let frame = Frame { rid, body: Some(FrameBody::Error(error)) };
    Down::Reply { session, frame: Some(Box::new(frame)) }
}

/// Refuses a CONNECT for now.
pub(crate) fn refusal(session: SessionKey, rid: u64, retry: Duration) -> Down {
    Down::Refused { session, rid, error: no_router(retry), close: CloseCode::Overloaded }
}

/// No router can be asked; the same may succeed later.
pub(crate) fn no_router(retry: Duration) -> pb::Error {
    let retry_after_ms = u32::try_from(retry.as_millis()).unwrap_or(u32::MAX);
    pb::Error { retry_after_ms, ..ErrorCode::Overloaded.error() }
}
