//! One thread's share of an edge.
//!
//! - `head`: request heads, the upgrade, and streams of the HTTP service;
//! - `inbound`: frames of clients, as far as the edge answers them or hands them up;
//! - `native`: the same on transports that are no HTTP;
//! - `downs`: what the router sends, in its order; fan-out in slices;
//! - `outgoing`: what is queued to connections, and what happens when it is not read;
//! - `compression`: permessage-deflate, by state that is lent; `bench`: the paths for tests and benchmarks;
//! - `guard`: what strangers and floods may cost the others;
//! - `closing`: how connections end;
//! - `timers`: deadlines; `walks`: what concerns every session: doubt, drain, stop;
//! - `invariants`: what holds between inputs, checked in debug builds.

mod bench;
mod closing;
mod compression;
mod downs;
mod guard;
mod head;
mod inbound;
#[cfg(any(test, debug_assertions))]
mod invariants;
mod native;
mod outgoing;
#[cfg(test)]
mod tests;
mod timers;
mod walks;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roost_wire::CloseCode;
use roost_wire::link::{Down, SessionKey};

use crate::bucket::Rate;
use crate::clock::{Clock, Tick};
use crate::session::{Connection, Stage, Times};
use crate::slab::Slab;
use crate::topics::Topics;
use crate::wheel::Wheel;
use crate::{Effect, End, HttpDown, Outbound, ShardConfig, ShardMetrics};
pub use bench::bench_topic;
use compression::Codec;
use downs::Fanout;
use guard::Strangers;
use outgoing::Stock;
use walks::Walks;

/// One thread's share of an edge: its connections, timers, topics and fan-out.
#[derive(Debug)]
pub struct Shard {
    config: Arc<ShardConfig>,
    metrics: Arc<ShardMetrics>,
    times: Times,
    rate: Option<Rate>,
    frame_rate: Option<Rate>,
    strangers: Strangers,
    stock: Stock,
    codec: Codec,
    clock: Clock,
    /// When the current input happened.
    now: Instant,
    tick: Tick,
    slots: Slab<Connection>,
    wheel: Wheel,
    topics: Topics,
    fanout: Fanout,
    walks: Walks,
    /// Whether upgrades are answered with 101; see [`Shard::admit`].
    admitting: bool,
    live_sessions: usize,
    /// What came in since [`Shard::only_beats`] was asked, by pieces of bytes and by what the router sent, and heartbeats
    /// answered since.
    pieces: u32,
    beats: u32,
    effects: VecDeque<Effect>,
}

/// Bytes of memory a shard holds, for tests, benches and the curious. Frames waiting to be written are shared between
/// sessions and not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Slots and timers; they stay when connections end, for the next ones.
    pub slot_bytes: usize,
    /// Of these, what one connection takes.
    pub bytes_per_connection: usize,
    /// Topics and the lists of those who joined them.
    pub topic_bytes: usize,
}

impl Shard {
    /// An empty shard with the number `shard`. `unix_ms` is the wall clock at `now`, in ms since the Unix epoch:
    /// tokens expire by it.
    #[must_use]
    pub fn new(config: Arc<ShardConfig>, shard: u16, metrics: Arc<ShardMetrics>, now: Instant, unix_ms: u64) -> Self {
        Self {
            times: Times::new(&config),
            rate: Rate::new(config.sends_per_second, config.sends_burst),
            frame_rate: Rate::new(config.frames_per_second, config.frames_burst),
            strangers: Strangers::default(),
            stock: Stock::new(&config),
            codec: Codec::default(),
            clock: Clock::new(now, unix_ms),
            now,
            tick: 0,
            slots: Slab::new(shard),
            wheel: Wheel::new(),
            topics: Topics::default(),
            fanout: Fanout::default(),
            walks: Walks::default(),
            admitting: true,
            live_sessions: 0,
            pieces: 0,
            beats: 0,
            effects: VecDeque::new(),
            config,
            metrics,
        }
    }

    /// Sets the wall clock, which may jump: call it now and then. Expiries already known keep their moment.
    pub fn wall_clock(&mut self, unix_ms: u64, now: Instant) {
        self.clock.adjust(unix_ms, now);
    }

    /// A connection was accepted. `None`: the shard is full or stopping, close the socket; it was counted.
    pub fn opened(&mut self, peer: SocketAddr, now: Instant) -> Option<SessionKey> {
        self.at(now);
        let until = self.clock.tick_after(self.now, self.config.head_within);
        let key = self.take_in(Connection::new(peer, self.tick, until))?;
        self.settle(key);
        Some(key)
    }

    /// A slot for a connection that begins. `None`: there is none; it was counted.
    fn take_in(&mut self, conn: Connection) -> Option<SessionKey> {
        let room = self.slots.len() < self.config.connections_max && !self.walks.stopping;
        let key = if room { self.slots.insert(conn) } else { None };
        match key {
            Some(key) => {
                self.metrics.connections_opened(1);
                self.met(key);
            }
            None => self.metrics.refused_full(1),
        }
        key
    }

    /// Bytes arrived, in a buffer that the driver lends; they are unmasked in place.
    pub fn received(&mut self, key: SessionKey, bytes: &mut [u8], now: Instant) {
        self.at(now);
        let Some(conn) = self.slots.get_mut(key) else { return };
        self.metrics.bytes_in(bytes.len() as u64);
        self.pieces += 1;
        conn.heard = self.tick;
        match &conn.stage {
            Stage::Head(_) => self.head(key, bytes),
            Stage::Http(_) => self.http_bytes(key, bytes),
            Stage::Session(_) => self.session_bytes(key, bytes),
            Stage::Closing(_) => self.closing_bytes(key, bytes),
            Stage::Dead => {}
        }
        self.settle(key);
    }

    /// The driver wrote `written` bytes from the front of the outbound queue.
    ///
    /// # Panics
    /// If that is more than waited: the driver counts wrong.
    pub fn sent(&mut self, key: SessionKey, written: usize, now: Instant) {
        self.at(now);
        self.written(key, written);
        self.settle(key);
    }

    /// The peer will send nothing more. True: there is something to answer, so the connection stays until
    /// [`Effect::Close`] or [`Shard::ended`]. False: it is of no further use, and [`Shard::ended`] is to follow.
    pub fn half_closed(&mut self, key: SessionKey, now: Instant) -> bool {
        self.at(now);
        let stays = self.peer_half_closed(key);
        self.settle(key);
        stays
    }

    /// The transport ended and the driver has let it go. No [`Effect::Close`] follows.
    pub fn ended(&mut self, key: SessionKey, end: End, now: Instant) {
        self.at(now);
        self.transport_ended(key, end);
        self.debug_check(None);
    }

    /// Something came from the router. It is obeyed in its order by [`Shard::turn`]: hand over everything that is
    /// there before, since deliveries that follow one another to the same receivers leave in one write.
    pub fn down(&mut self, down: Down, now: Instant) {
        self.at(now);
        self.pieces += 1;
        self.take_down(down);
        self.debug_check(None);
    }

    /// The HTTP service did something on a stream.
    pub fn http(&mut self, key: SessionKey, down: HttpDown, now: Instant) {
        self.at(now);
        self.http_down(key, down);
        self.settle(key);
    }

    /// Runs timers that are due, one slice of fan-out and one of what concerns every session. True: there is more to
    /// do at once.
    pub fn turn(&mut self, now: Instant) -> bool {
        self.at(now);
        let more_timers = self.run_timers();
        let more_fanout = self.run_slice();
        let more_walks = self.run_walks();
        self.debug_check(None);
        more_timers || more_fanout || more_walks
    }

    /// Whether all that came in since the last call were heartbeats, and at least one did: what only keeps sessions alive
    /// may wait for more of its kind. Heartbeats that came together count apart, so other things may be taken for some.
    pub fn only_beats(&mut self) -> bool {
        let (pieces, beats) = (std::mem::take(&mut self.pieces), std::mem::take(&mut self.beats));
        beats > 0 && beats >= pieces
    }

    /// When to call [`Shard::turn`] at the latest; a moment that is past says at once. `None`: nothing is timed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = (!self.fanout.is_idle()).then_some(self.tick);
        let tick = [waiting, self.wheel.next(), self.walks.next()].into_iter().flatten().min();
        tick.map(|tick| self.clock.instant(tick))
    }

    /// What to do next; call until `None`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        loop {
            let effect = self.effects.pop_front()?;
            // What was asked for may have become void since.
            let valid = match &effect {
                Effect::Write(key) => self.slots.get_mut(*key).is_some_and(|conn| {
                    conn.write_wanted = false;
                    !conn.outbound.is_empty()
                }),
                Effect::Pause(key) | Effect::Resume(key) => self.slots.get(*key).is_some_and(|conn| !conn.is_dead()),
                Effect::Close(key) | Effect::CloseWith { session: key, .. } => self.slots.remove(*key).is_some(),
                Effect::Datagram { session, .. } | Effect::Page { session, .. } => {
                    self.slots.get(*session).is_some_and(|conn| !conn.is_dead())
                }
                _ => true,
            };
            if valid {
                return Some(effect);
            }
        }
    }

    /// The queue of a connection. `None`: the key is stale.
    #[must_use]
    pub fn outbound(&self, key: SessionKey) -> Option<&Outbound> {
        self.slots.get(key).filter(|conn| !conn.is_dead()).map(|conn| &conn.outbound)
    }

    /// Asks every session to go elsewhere: a GOAWAY each, with slots spread over `window` by `seed`. Sessions still
    /// here at `deadline` from now are closed with 4000; sessions that begin meanwhile are asked as well.
    pub fn drain(
        &mut self,
        reason: &str,
        window: Duration,
        deadline: Duration,
        urls: Vec<String>,
        now: Instant,
        seed: u64,
    ) {
        self.at(now);
        self.begin_drain(reason, window, deadline, urls, seed);
    }

    /// Whether there is memory for more sessions. While there is not, upgrades get 503 with `Retry-After`; sessions
    /// that are here and requests for the HTTP service go on.
    pub fn admit(&mut self, admitting: bool) {
        self.admitting = admitting;
    }

    /// Closes every connection, sessions with `code`, and takes no more: the shard is to end. It is empty once
    /// [`Shard::connections`] is 0.
    pub fn close_all(&mut self, code: CloseCode, now: Instant) {
        self.at(now);
        self.begin_stop(code);
    }

    /// Deliveries were lost: every live session is told to sync, paced.
    pub fn doubt(&mut self, now: Instant) {
        self.at(now);
        self.begin_doubt();
    }

    /// Connections held, of every kind.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// Sessions that the router accepted.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.live_sessions
    }

    /// Settings of the shard.
    #[must_use]
    pub fn config(&self) -> &ShardConfig {
        &self.config
    }

    /// What the shard holds. Walks every connection: not for every turn.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let slots = self.slots.slots();
        let joined = (0..slots).filter_map(|slot| self.slots.get(self.slots.key_at(slot)?));
        let joined_bytes: usize = joined
            .filter_map(Connection::session)
            .filter_map(|session| session.joined.as_ref())
            .map(|joined| joined.heap_bytes())
            .sum();
        Memory {
            slot_bytes: slots as usize * Slab::<Connection>::SLOT_BYTES + self.wheel.heap_bytes(),
            bytes_per_connection: crate::session::IDLE_SESSION_BYTES,
            topic_bytes: self.topics.heap_bytes() + joined_bytes,
        }
    }

    /// An input happened at `now`. Time never runs backwards here.
    fn at(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.tick = self.clock.tick(self.now);
    }

    /// Ends an input that concerned `key`: arms its timer if its deadline came nearer.
    fn settle(&mut self, key: SessionKey) {
        self.arm(key);
        self.debug_check(Some(key));
    }

    #[cfg(not(any(test, debug_assertions)))]
    #[allow(clippy::unused_self)]
    fn debug_check(&self, _touched: Option<SessionKey>) {}
}
