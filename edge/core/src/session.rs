//! What a shard keeps of one connection.
//!
//! A connection begins with a request head ([`Head`]). It then belongs to the HTTP service ([`Http`]) or is a session
//! ([`Session`]), which ends in [`Closing`]. On a transport that is no HTTP it is a session from the start. What a stage
//! needs lives in it and goes with it.

use std::net::SocketAddr;

use bytes::Bytes;
use roost_wire::limits::{CONNECT_BYTES_MAX, ECHO_MESSAGE_BYTES_MAX};
use roost_wire::native::{Cut, frame_of};
use roost_wire::ws::{Decoder, Deflate, Side};
use roost_wire::{CloseCode, Encoding, UserId};

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
    /// Too much is queued or untaken: the driver was told not to read. A session may be held up by its own rate beside.
    pub(crate) paused: bool,
    /// It counts among those that are no session yet and have not said who they are.
    pub(crate) stranger: bool,
}

/// What an idle session costs in user space, beside its topics: a slot and a timer. A million of them are held.
pub(crate) const IDLE_SESSION_BYTES: usize = Slab::<Connection>::SLOT_BYTES + TIMER_BYTES;
const _: () = assert!(IDLE_SESSION_BYTES <= 164);

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
    /// The answer has begun.
    pub(crate) answered: bool,
    /// It is done: the connection closes once the queue is written.
    pub(crate) done: bool,
}

/// A session, by WebSocket or not.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) framing: Framing,
    pub(crate) phase: Phase,
    pub(crate) joined: Option<Box<Joined>>,
    pub(crate) sends: Bucket,
    /// What it may send of anything.
    pub(crate) frames: Bucket,
    /// It sent too much and is not read until then; `NEVER` while it is read.
    pub(crate) throttled_until: Tick,
    /// When the message that is half received must be complete; `NEVER` if none is.
    pub(crate) message_by: Tick,
    pub(crate) commands_in_flight: u16,
    pub(crate) bad_frames: u8,
    pub(crate) encoding: Encoding,
    /// What it may be sent, and may send, compressed.
    pub(crate) deflate: Option<Deflate>,
    /// Durable pushes are held back; CHANGED is due once the queue has drained.
    pub(crate) behind: bool,
    /// Ephemeral pushes leave as datagrams.
    pub(crate) datagrams: bool,
}

/// How its bytes become frames.
#[derive(Debug)]
pub(crate) enum Framing {
    /// By messages of RFC 6455.
    WebSocket(Decoder),
    /// One behind another on a stream.
    Native(Cut),
}

// A session that is no WebSocket makes the others no larger.
const _: () = assert!(size_of::<Framing>() == size_of::<Decoder>());

#[derive(Debug)]
pub(crate) enum Phase {
    /// CONNECT has not come.
    AwaitConnect(Box<Caller>),
    /// The router has CONNECT.
    Authorizing,
    /// The router accepted it.
    Live(UserId),
    /// The router knows nothing of it: what comes is no frame.
    Bench(BenchPath),
}

/// What becomes of the messages of a session that is there to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BenchPath {
    /// They are sent back.
    Echo,
    /// They go to everybody who came by this path, the sender too.
    Broadcast,
}

/// What CONNECT is handed on with.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) peer: SocketAddr,
    /// The token of the upgrade's `Authorization`.
    pub(crate) bearer: Option<Box<str>>,
}

/// Our last bytes are queued.
#[derive(Debug)]
pub(crate) enum Closing {
    /// A close frame: the peer's is awaited.
    Handshake(Decoder),
    /// The peer's close frame is in, or not awaited: only ours is to be written.
    Heard,
    /// No frame says why: the transport does, once what is queued is written.
    Last(CloseCode),
    /// The request was refused, or nothing of the peer can be understood any more: once our bytes are written it
    /// lingers, and what comes is thrown away.
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
            stranger: true,
        }
    }

    /// One that is a session from the start.
    pub(crate) fn native(config: &ShardConfig, peer: SocketAddr, datagrams: bool, now: Tick, until: Tick) -> Self {
        let caller = Caller { peer, bearer: None };
        let framing = Framing::Native(Cut::default());
        let session = Session { framing, datagrams, ..Session::new(config, Encoding::Protobuf, None, caller) };
        Self { stage: Stage::Session(session), ..Self::new(peer, now, until) }
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
            Stage::Http(http) if !http.answered => self.until,
            Stage::Http(_) if self.outbound.is_empty() => NEVER,
            Stage::Http(_) => self.stalled(times),
            Stage::Session(session) => {
                let due = match session.phase {
                    Phase::AwaitConnect(_) | Phase::Authorizing => self.until,
                    Phase::Live(_) | Phase::Bench(_) => self.until.min(self.stalled(times)).min(self.silent(times)),
                };
                due.min(session.throttled_until).min(self.message_late())
            }
        }
    }

    /// Whether its bytes are left unread.
    pub(crate) fn is_unread(&self) -> bool {
        self.paused || self.session().is_some_and(Session::is_throttled)
    }

    /// When a half received message is given up; `NEVER` if there is none, or while it is us who do not read.
    pub(crate) fn message_late(&self) -> Tick {
        if self.is_unread() { NEVER } else { self.session().map_or(NEVER, |session| session.message_by) }
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
        if self.is_unread() { NEVER } else { self.heard.saturating_add(times.silence) }
    }
}

impl Session {
    pub(crate) fn new(config: &ShardConfig, encoding: Encoding, deflate: Option<Deflate>, caller: Caller) -> Self {
        Self {
            framing: Framing::WebSocket(decoder(deflate, config.frame_bytes_max.min(CONNECT_BYTES_MAX))),
            phase: Phase::AwaitConnect(Box::new(caller)),
            joined: None,
            sends: Bucket::default(),
            frames: Bucket::default(),
            throttled_until: NEVER,
            message_by: NEVER,
            commands_in_flight: 0,
            bad_frames: 0,
            encoding,
            deflate,
            behind: false,
            datagrams: false,
        }
    }

    /// One that is there to be measured.
    pub(crate) fn bench(config: &ShardConfig, path: BenchPath, deflate: Option<Deflate>, caller: Caller) -> Self {
        Self {
            framing: Framing::WebSocket(decoder(deflate, ECHO_MESSAGE_BYTES_MAX)),
            phase: Phase::Bench(path),
            ..Self::new(config, Encoding::Json, deflate, caller)
        }
    }

    pub(crate) fn bench_path(&self) -> Option<BenchPath> {
        match self.phase {
            Phase::Bench(path) => Some(path),
            _ => None,
        }
    }

    /// The bytes of `message`, as this session is sent them.
    pub(crate) fn dressed(&self, message: &Bytes) -> Bytes {
        match self.framing {
            Framing::WebSocket(_) => message.clone(),
            Framing::Native(_) => frame_of(message),
        }
    }

    pub(crate) fn is_native(&self) -> bool {
        matches!(self.framing, Framing::Native(_))
    }

    pub(crate) fn is_throttled(&self) -> bool {
        self.throttled_until != NEVER
    }

    pub(crate) fn user(&self) -> Option<&UserId> {
        match &self.phase {
            Phase::Live(user) => Some(user),
            _ => None,
        }
    }
}

impl Framing {
    /// True if nothing is half received.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Self::WebSocket(decoder) => decoder.is_idle(),
            Self::Native(cut) => cut.is_idle(),
        }
    }
}

fn decoder(deflate: Option<Deflate>, message_bytes_max: usize) -> Decoder {
    match deflate {
        Some(_) => Decoder::with_deflate(Side::Server, message_bytes_max),
        None => Decoder::new(Side::Server, message_bytes_max),
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
