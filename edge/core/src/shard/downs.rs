//! What the router sends, in its order; fan-out in slices.
//!
//! A delivery may have a million receivers, so it is done in slices, and while one is under way everything behind it
//! waits: one queue for all, first in, first out. So a reply never overtakes the entries that came before it, a
//! session that joins gets nothing from before, and one that was closed gets nothing after. The price is that a reply
//! may wait for a large fan-out; slices are short, and it is never more than what was delivered before it.
//!
//! Items only queue up when they come and are worked off by turns, so that a burst is there as a whole when its first
//! envelope is begun: deliveries that follow one another to the same receivers are one job, each receiver gets all of
//! them before the next one, and they leave in one write, for most of them as one piece that all share.
//!
//! The queue holds at most `fanout_items_max` items: deliveries above it are dropped, and every session is told to
//! sync. Replies and control always fit: they are bounded by the commands in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use roost_wire::link::{Audience, Down, Envelope, SessionKey};
use roost_wire::pb::{self, Frame};
use roost_wire::{ConvId, Encoding, ErrorCode, FrameBody, UserId, limits};

use super::Shard;
use super::outgoing::Tally;
use crate::clock::{NEVER, Tick};
use crate::session::{Connection, Framing, Phase, Session, Stage};
use crate::topics::Moved;

/// Most envelopes of one job, so how far a slice may go beyond its budget.
const JOB_ENVELOPES_MAX: usize = 16;
/// A job takes no more envelopes once it has this many bytes, counted as protobuf: a receiver that has read everything
/// is not to fall behind because of what was gathered for it.
const JOB_BYTES_MAX: usize = 16 * 1024;

/// What a client is told to wait that asks for more than it reads.
const UNREAD_RETRY_MS: u32 = 1000;

/// What waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    queue: VecDeque<Down>,
    current: Option<Job>,
    /// The list of a job that is done, to be used again.
    spare: Vec<Arc<Envelope>>,
}

/// Deliveries under way: all of them to the same receivers.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) envelopes: Vec<Arc<Envelope>>,
    /// All of them in one piece, for those who take them all: made for the first who does. By encoding, then the native form.
    joined: [Option<Bytes>; Encoding::ALL.len() + 1],
    rest: Rest,
}

impl Job {
    /// Their messages in one piece, as `session` takes them: a receiver's queue, and its write, then have one instead of many.
    pub(super) fn joined(&mut self, session: &Session) -> &Bytes {
        let Self { envelopes, joined, .. } = self;
        let form = if session.is_native() { Encoding::ALL.len() } else { session.encoding.index() };
        joined[form].get_or_insert_with(|| {
            let messages = || envelopes.iter().map(|envelope| session.dressed(envelope.message(session.encoding)));
            let mut piece = BytesMut::with_capacity(messages().map(|message| message.len()).sum());
            messages().for_each(|message| piece.extend_from_slice(&message));
            piece.freeze()
        })
    }
}

/// Who is still to be served.
#[derive(Debug)]
enum Rest {
    Sessions { keys: Arc<[SessionKey]>, at: usize },
    Topic { id: u32, except: Option<SessionKey> },
}

impl Fanout {
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.queue.is_empty()
    }

    /// Takes the deliveries to `audience` that stand first in the queue behind `first`.
    fn gather(&mut self, first: Arc<Envelope>, audience: &Audience) -> Vec<Arc<Envelope>> {
        let mut envelopes = std::mem::take(&mut self.spare);
        let mut bytes = first.frame_bytes();
        envelopes.push(first);
        while envelopes.len() < JOB_ENVELOPES_MAX && bytes < JOB_BYTES_MAX {
            let next = self.queue.pop_front_if(
                |next| matches!(next, Down::Deliver { audience: next, .. } if same_receivers(next, audience)),
            );
            let Some(Down::Deliver { envelope, .. }) = next else { break };
            bytes += envelope.frame_bytes();
            envelopes.push(envelope);
        }
        envelopes
    }
}

/// Whether a reply can be large, and its command changed nothing: nothing is lost if it is done again.
const fn can_be_asked_again(reply: &Frame) -> bool {
    matches!(reply.body, Some(FrameBody::Page(_) | FrameBody::Changed(_) | FrameBody::Users(_)))
}

/// Whether both name the same sessions, if nothing happens between them.
fn same_receivers(one: &Audience, two: &Audience) -> bool {
    match (one, two) {
        (Audience::Sessions(one), Audience::Sessions(two)) => Arc::ptr_eq(one, two) || one == two,
        (Audience::Topic { topic: one, except }, Audience::Topic { topic: two, except: but }) => {
            one == two && except == but
        }
        _ => false,
    }
}

impl Shard {
    /// Takes an item: the next slices see to it.
    pub(super) fn take_down(&mut self, down: Down) {
        if matches!(down, Down::Deliver { .. }) && self.fanout.queue.len() >= self.config.fanout_items_max {
            self.metrics.fanout_overflow(1);
            self.begin_doubt();
            return;
        }
        self.metrics.fanout_items_queued(1);
        self.fanout.queue.push_back(down);
    }

    /// One slice. True: more waits.
    pub(super) fn run_slice(&mut self) -> bool {
        self.run_items(self.config.fanout_slice);
        let more = !self.fanout.is_idle();
        if more {
            self.metrics.slices_exhausted(1);
        } else if self.fanout.queue.capacity() > 1024 {
            self.fanout.queue = VecDeque::new();
        }
        more
    }

    /// Works until `budget` sends are done; every other item counts as one. The last receiver gets all of its job.
    fn run_items(&mut self, mut budget: usize) {
        let mut tally = Tally::default();
        while budget > 0 {
            if let Some(mut job) = self.fanout.current.take() {
                if self.run_job(&mut job, &mut budget, &mut tally) {
                    self.end_job(job.envelopes);
                } else {
                    self.fanout.current = Some(job);
                }
                continue;
            }
            match self.fanout.queue.pop_front() {
                None => break,
                Some(Down::Deliver { envelope, audience }) => {
                    self.begin_job(envelope, audience);
                    // Even nobody's delivery costs something.
                    budget -= usize::from(self.fanout.current.is_none());
                }
                Some(other) => {
                    budget -= 1;
                    self.obey(other);
                    self.metrics.fanout_items_done(1);
                }
            }
        }
        self.count(&tally);
    }

    fn begin_job(&mut self, envelope: Arc<Envelope>, audience: Audience) {
        let envelopes = self.fanout.gather(envelope, &audience);
        self.metrics.fanouts(envelopes.len() as u64);
        let rest = match audience {
            Audience::Sessions(keys) => (!keys.is_empty()).then_some(Rest::Sessions { keys, at: 0 }),
            Audience::Topic { topic, except } => self.topics.begin(&topic).map(|id| Rest::Topic { id, except }),
        };
        match rest {
            Some(rest) => self.fanout.current = Some(Job { envelopes, joined: Default::default(), rest }),
            None => self.end_job(envelopes),
        }
    }

    fn end_job(&mut self, mut envelopes: Vec<Arc<Envelope>>) {
        self.metrics.fanout_items_done(envelopes.len() as u64);
        envelopes.clear();
        self.fanout.spare = envelopes;
    }

    /// Serves receivers of a job until the budget is used up. True: it is done.
    fn run_job(&mut self, job: &mut Job, budget: &mut usize, tally: &mut Tally) -> bool {
        while *budget > 0 {
            let next = match &mut job.rest {
                Rest::Sessions { keys, at } => {
                    let Some(key) = keys.get(*at) else { return true };
                    *at += 1;
                    Some(*key)
                }
                Rest::Topic { id, except } => {
                    let Some(slot) = self.topics.next_undone(*id) else { return true };
                    self.slots.key_at(slot).filter(|key| Some(*key) != *except)
                }
            };
            *budget = budget.saturating_sub(match next {
                Some(key) => self.deliver_all(key, job, tally),
                // Who is left out costs a look.
                None => 1,
            });
        }
        // Ending exactly with the budget is an end too.
        matches!(&job.rest, Rest::Sessions { keys, at } if *at == keys.len())
    }

    /// Delivers the whole job to one receiver. Returns how many sends that is.
    fn deliver_all(&mut self, key: SessionKey, job: &mut Job, tally: &mut Tally) -> usize {
        if self.deliver_joined(key, job, tally) {
            return 1;
        }
        for envelope in &job.envelopes {
            self.deliver(key, envelope, tally);
        }
        job.envelopes.len()
    }

    fn obey(&mut self, down: Down) {
        match down {
            Down::Accepted { session, rid, user, welcome } => self.accepted(session, rid, user, *welcome),
            Down::Refused { session, rid, error, close } => {
                if matches!(self.phase(session), Some(Phase::Authorizing)) {
                    self.metrics.sessions_refused(1);
                    self.queue_frame(session, &Frame { rid, body: Some(FrameBody::Error(error)) });
                    self.close(session, close);
                }
            }
            Down::Reply { session, frame } => self.reply(session, frame.as_deref()),
            Down::Extend { session, expires } => {
                let until = self.expiry(expires);
                if let Some(Phase::Live(_)) = self.phase(session)
                    && let Some(conn) = self.slots.get_mut(session)
                {
                    conn.until = until;
                    self.arm(session);
                }
            }
            Down::Join { session, topic } => self.join(session, &topic),
            Down::Leave { session, topic } => self.leave(session, &topic),
            Down::Close { session, code } => {
                if self.phase(session).is_some() {
                    self.close(session, code);
                }
            }
            Down::Doubt => self.begin_doubt(),
            // Begun by `run_items`, which never hands it here.
            Down::Deliver { envelope, audience } => self.begin_job(envelope, audience),
        }
    }

    fn phase(&self, key: SessionKey) -> Option<&Phase> {
        self.slots.get(key).and_then(Connection::session).map(|session| &session.phase)
    }

    fn accepted(&mut self, key: SessionKey, rid: u64, user: UserId, welcome: pb::Welcome) {
        match self.phase(key) {
            Some(Phase::Authorizing) => {}
            // Told twice: the session is what it is.
            Some(Phase::Live(_)) => return,
            Some(Phase::AwaitConnect(_) | Phase::Bench(_)) | None => {
                self.gone(key, user);
                return;
            }
        }
        let until = self.expiry(welcome.expires);
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Session(session) = &mut conn.stage else { return };
        session.phase = Phase::Live(user);
        if let Framing::WebSocket(decoder) = &mut session.framing {
            decoder.limit(self.config.frame_bytes_max);
        }
        conn.until = until;
        self.live_sessions += 1;
        self.metrics.sessions_opened(1);
        let welcome = self.complete(key, welcome);
        self.queue_frame(key, &Frame { rid, body: Some(FrameBody::Welcome(welcome)) });
        self.arm(key);
        self.goaway_if_draining(key);
    }

    /// Fills in what the edge knows.
    fn complete(&self, key: SessionKey, welcome: pb::Welcome) -> pb::Welcome {
        let config = &self.config;
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let told = welcome.limits.unwrap_or_default();
        let or = |value: u32, default: usize| if value == 0 { number(default) } else { value };
        pb::Welcome {
            session: key.to_string(),
            heartbeat_ms: u32::try_from(config.heartbeat.as_millis()).unwrap_or(u32::MAX),
            limits: Some(pb::Limits {
                frame_bytes: number(config.frame_bytes_max),
                commands_in_flight: config.commands_in_flight_max,
                sends_per_second: config.sends_per_second,
                text_bytes: or(told.text_bytes, limits::TEXT_BYTES_MAX),
                members: or(told.members, limits::MEMBERS_MAX),
            }),
            ..welcome
        }
    }

    fn reply(&mut self, key: SessionKey, frame: Option<&Frame>) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        let unread_bytes = conn.outbound.bytes();
        let Some(session) = conn.session_mut() else { return };
        session.commands_in_flight = session.commands_in_flight.saturating_sub(1);
        match frame {
            Some(frame) if unread_bytes > self.config.reply_bytes_max && can_be_asked_again(frame) => {
                self.metrics.replies_refused(1);
                let refused = ErrorCode::TooManyInFlight.because("read earlier replies first");
                let refused = pb::Error { retry_after_ms: UNREAD_RETRY_MS, ..refused };
                self.queue_frame(key, &Frame { rid: frame.rid, body: Some(FrameBody::Error(refused)) });
            }
            Some(frame) => self.queue_frame(key, frame),
            None => {}
        }
    }

    fn join(&mut self, key: SessionKey, topic: &ConvId) {
        if matches!(self.phase(key), Some(Phase::Live(_))) {
            self.enter(key, topic);
        }
    }

    pub(super) fn enter(&mut self, key: SessionKey, topic: &ConvId) {
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return };
        let joined = session.joined.get_or_insert_default();
        if self.topics.join(key.slot(), joined, topic) {
            self.metrics.topics_joined(1);
        }
    }

    fn leave(&mut self, key: SessionKey, topic: &ConvId) {
        let Some(session) = self.slots.get_mut(key).and_then(Connection::session_mut) else { return };
        let Some(joined) = &mut session.joined else { return };
        let Some(moves) = self.topics.leave(joined, topic) else { return };
        if joined.len() == 0 {
            session.joined = None;
        }
        self.tell_moves(moves);
        self.metrics.topics_left(1);
    }

    /// Tells sessions that their places in a topic changed.
    pub(super) fn tell_moves(&mut self, moves: [Option<Moved>; 2]) {
        for moved in moves.iter().flatten() {
            let joined = self
                .slots
                .at_mut(moved.slot)
                .and_then(Connection::session_mut)
                .and_then(|session| session.joined.as_mut());
            if let Some(joined) = joined {
                joined.moved(moved);
            }
        }
    }

    /// The tick at which a token expires; 0 is never.
    fn expiry(&self, expires_unix_ms: u64) -> Tick {
        if expires_unix_ms == 0 { NEVER } else { self.clock.tick_at_unix(expires_unix_ms) }
    }
}
