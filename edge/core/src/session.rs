//! What a shard keeps of one connection.
//!
//! A connection begins with a request head ([`Head`]). It then belongs to the HTTP service ([`Http`]) or is a session
//! ([`Session`]), which ends in [`Closing`]. What a stage needs lives in it and goes with it.

use std::net::SocketAddr;

use roost_wire::ws::{Decoder, Side};
use roost_wire::{Encoding, UserId};

use crate::ShardConfig;
use crate::bucket::Bucket;
use crate::clock::{NEVER, Tick, ticks};
use crate::outbound::Outbound;
use crate::slab::Slab;
use crate::topics::Joined;
use crate::wheel::TIMER_BYTES;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stage: Stage,
    pub(crate) outbound: Outbound,
    /// When the stage must have ended; for a live session when its token expires.
    pub(crate) until: Tick,
    /// When bytes last came.
    pub(crate) heard: Tick,
    /// When bytes were last written, or began to be awaited.
    pub(crate) progress: Tick,
    /// `Effect::Write` waits to be polled.
    pub(crate) write_wanted: bool,
    /// The driver was told not to read.
    pub(crate) paused: bool,
}

/// What an idle session costs in user space, beside its topics: a slot and a timer. The target is 250 B.
pub(crate) const IDLE_SESSION_BYTES: usize = Slab::<Connection>::SLOT_BYTES + TIMER_BYTES;
const _: () = assert!(IDLE_SESSION_BYTES <= 200);

#[derive(Debug)]
pub(crate) enum Stage {
    Head(Head),
    Http(Http),
    Session(Session),
    Closing(Closing),
    /// `Effect::Close` waits to be polled; nothing happens here any more.
    Dead,
}

/// The request head is coming in.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) peer: SocketAddr,
    /// What came so far; empty until a head is cut.
    pub(crate) partial: Vec<u8>,
}

/// A stream of the HTTP service.
#[derive(Debug)]
pub(crate) struct Http {
    /// Bytes it was given and has not taken.
    pub(crate) untaken_bytes: usize,
    /// The peer will send nothing more.
    pub(crate) half_closed: bool,
    /// It is done: the connection closes once the queue is written.
    pub(crate) done: bool,
}

/// A WebSocket session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) decoder: Decoder,
    pub(crate) phase: Phase,
    pub(crate) joined: Option<Box<Joined>>,
    pub(crate) sends: Bucket,
    pub(crate) commands_in_flight: u16,
    pub(crate) bad_frames: u8,
    pub(crate) encoding: Encoding,
    /// Durable pushes are held back; CHANGED is due once the queue has drained.
    pub(crate) behind: bool,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// CONNECT has not come. Keeps the token of the upgrade's `Authorization`.
    AwaitConnect { bearer: Option<Box<str>> },
    /// The router has CONNECT.
    Authorizing,
    /// The router accepted it.
    Live(UserId),
}

/// Our last bytes are queued.
#[derive(Debug)]
pub(crate) enum Closing {
    /// A close frame: the peer's is awaited.
    Handshake(Decoder),
    /// The peer's close frame is in: only ours is to be written.
    Heard,
    /// The connection failed or was refused: once our bytes are written it lingers, and what comes is thrown away.
    Deaf,
}

impl Connection {
    pub(crate) fn new(peer: SocketAddr, now: Tick, until: Tick) -> Self {
        Self {
            stage: Stage::Head(Head { peer, partial: Vec::new() }),
            outbound: Outbound::default(),
            until,
            heard: now,
            progress: now,
            write_wanted: false,
            paused: false,
        }
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.stage {
            Stage::Session(session) => Some(session),
            _ => None,
        }
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.stage {
            Stage::Session(session) => Some(session),
            _ => None,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.stage, Stage::Dead)
    }

    /// Whether a session's reader owes us reading: held back from pushes, or from being read.
    fn squeezed(&self) -> bool {
        self.paused || self.session().is_some_and(|session| session.behind)
    }

    /// When something is to happen if nothing else does; `NEVER` if nothing.
    pub(crate) fn deadline(&self, times: &Times) -> Tick {
        match &self.stage {
            Stage::Dead => NEVER,
            Stage::Head(_) | Stage::Closing(_) => self.until,
            Stage::Http(_) if self.outbound.is_empty() => NEVER,
            Stage::Http(_) => self.stalled(times),
            Stage::Session(session) => match session.phase {
                Phase::AwaitConnect { .. } | Phase::Authorizing => self.until,
                Phase::Live(_) => self.until.min(self.stalled(times)).min(self.silent(times)),
            },
        }
    }

    /// When a reader that takes nothing is given up; `NEVER` while it owes nothing.
    pub(crate) fn stalled(&self, times: &Times) -> Tick {
        if self.squeezed() || matches!(self.stage, Stage::Http(_)) {
            self.progress.saturating_add(times.behind)
        } else {
            NEVER
        }
    }

    /// When a silent session is given up; `NEVER` while it is us who do not read.
    pub(crate) fn silent(&self, times: &Times) -> Tick {
        if self.paused { NEVER } else { self.heard.saturating_add(times.silence) }
    }
}

impl Session {
    pub(crate) fn new(config: &ShardConfig, encoding: Encoding, bearer: Option<Box<str>>) -> Self {
        Self {
            decoder: Decoder::new(Side::Server, config.frame_bytes_max),
            phase: Phase::AwaitConnect { bearer },
            joined: None,
            sends: Bucket::default(),
            commands_in_flight: 0,
            bad_frames: 0,
            encoding,
            behind: false,
        }
    }

    pub(crate) fn user(&self) -> Option<&UserId> {
        match &self.phase {
            Phase::Live(user) => Some(user),
            _ => None,
        }
    }
}

/// The settings that timers use, in ticks. Spans measured from a tick have one more: that tick began earlier than
/// what happened in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) silence: Tick,
    pub(crate) behind: Tick,
}

impl Times {
    pub(crate) fn new(config: &ShardConfig) -> Self {
        Self {
            silence: ticks(config.silence_max()).saturating_add(1),
            behind: ticks(config.behind_within).saturating_add(1),
        }
    }
}
