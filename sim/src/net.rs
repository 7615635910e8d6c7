//! The network between clients and nodes: pipes that deliver in order, late, in pieces of any size and with a bounded
//! window; connections that are cut, go silent or are not read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use roost_client::core::LinkId;
use roost_wire::link::SessionKey;

use crate::rng::Stream;

/// One direction of a connection.
#[derive(Default)]
pub(crate) struct Pipe {
    queue: VecDeque<(Instant, Vec<u8>)>,
    queued_bytes: usize,
    /// The end of the stream arrives then.
    end: Option<Instant>,
    last: Option<Instant>,
    /// Until then everything takes this much longer.
    lag: Option<(Instant, Duration)>,
    /// Nothing is read before.
    unread_until: Option<Instant>,
    /// What is sent is lost.
    lossy: bool,
    /// Nothing arrives any more, not even the end.
    silent: bool,
}

/// What arrives.
pub(crate) enum Arrival {
    Bytes(Vec<u8>),
    End,
}

impl Pipe {
    fn at(&mut self, now: Instant, mut delay: Duration) -> Instant {
        if let Some((until, extra)) = self.lag
            && now < until
        {
            delay += extra;
        }
        let at = self.last.map_or(now + delay, |last| last.max(now + delay));
        self.last = Some(at);
        at
    }

    /// Bytes under way.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Sends `bytes`, in one or several pieces.
    pub(crate) fn send(&mut self, bytes: &[u8], now: Instant, rng: &mut Stream) {
        let mut rest = if self.lossy { &[] } else { bytes };
        while !rest.is_empty() {
            let size = if rng.chance(80) { rest.len() } else { 1 + rng.below(rest.len()) };
            let (piece, after) = rest.split_at(size);
            let at = self.at(now, rng.ms(1, 40));
            self.queued_bytes += piece.len();
            self.queue.push_back((at, piece.to_vec()));
            rest = after;
        }
    }

    /// The stream ends after what was sent.
    pub(crate) fn finish(&mut self, now: Instant, rng: &mut Stream) {
        if self.end.is_none() {
            self.end = Some(self.at(now, rng.ms(1, 40)));
        }
    }

    /// What was and will be sent is lost; the end arrives after a while.
    pub(crate) fn cut(&mut self, now: Instant, after: Duration) {
        self.lose();
        self.end = Some(now + after);
        self.unread_until = None;
    }

    /// What was and will be sent is lost, and the end never arrives.
    pub(crate) fn go_silent(&mut self) {
        self.lose();
        self.silent = true;
    }

    fn lose(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
        self.lossy = true;
    }

    /// Until then everything sent takes `extra` longer.
    pub(crate) fn lag(&mut self, until: Instant, extra: Duration) {
        self.lag = Some((until, extra));
    }

    /// Nothing is read before `until`.
    pub(crate) fn stall(&mut self, until: Instant) {
        self.unread_until = Some(until);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        if self.silent {
            return None;
        }
        let at = self.queue.front().map(|(at, _)| *at).or(self.end)?;
        Some(self.unread_until.map_or(at, |unread| unread.max(at)))
    }

    pub(crate) fn take(&mut self, now: Instant) -> Option<Arrival> {
        if self.next()? > now {
            return None;
        }
        Some(match self.queue.pop_front() {
            Some((_, bytes)) => {
                self.queued_bytes -= bytes.len();
                Arrival::Bytes(bytes)
            }
            None => {
                self.silent = true;
                Arrival::End
            }
        })
    }
}

/// A connection between a client and a node. Either end may have let go already.
pub(crate) struct Conn {
    pub(crate) client: usize,
    pub(crate) link: LinkId,
    pub(crate) node: usize,
    /// The client still holds it.
    pub(crate) held: bool,
    /// The node's end, once accepted and until let go.
    pub(crate) session: Option<SessionKey>,
    /// The node does not read.
    pub(crate) paused: bool,
    /// The node has more to write than the window takes.
    pub(crate) blocked: bool,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
}

impl Conn {
    pub(crate) fn new(client: usize, link: LinkId, node: usize, session: SessionKey) -> Self {
        Self {
            client,
            link,
            node,
            held: true,
            session: Some(session),
            paused: false,
            blocked: false,
            up: Pipe::default(),
            down: Pipe::default(),
        }
    }

    /// Both ends lose it, each after a while.
    pub(crate) fn cut(&mut self, now: Instant, after: [Duration; 2]) {
        self.up.cut(now, after[0]);
        self.down.cut(now, after[1]);
    }

    /// When something arrives next at an end that still listens.
    pub(crate) fn next(&self) -> Option<Instant> {
        let up = self.up.next().filter(|_| self.session.is_some() && !self.paused);
        let down = self.down.next().filter(|_| self.held);
        [up, down].into_iter().flatten().min()
    }

    pub(crate) fn is_over(&self) -> bool {
        !self.held && self.session.is_none()
    }
}
