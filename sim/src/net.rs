//! The network: pipes that deliver in order, late, and in pieces of any size; connections that are cut or go silent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use roost_client::core::LinkId;
use roost_wire::link::SessionKey;

use crate::rng::Stream;

/// One direction of a connection.
#[derive(Default)]
pub(crate) struct Pipe {
    queue: VecDeque<(Instant, Vec<u8>)>,
    /// The end of the stream arrives then.
    end: Option<Instant>,
    last: Option<Instant>,
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
    fn at(&mut self, now: Instant, delay: Duration) -> Instant {
        let at = self.last.map_or(now + delay, |last| last.max(now + delay));
        self.last = Some(at);
        at
    }

    /// Sends `bytes`, in one or several pieces.
    pub(crate) fn send(&mut self, bytes: &[u8], now: Instant, rng: &mut Stream) {
        let mut rest = if self.lossy { &[] } else { bytes };
        while !rest.is_empty() {
            let size = if rng.chance(80) { rest.len() } else { 1 + rng.below(rest.len()) };
            let (piece, after) = rest.split_at(size);
            let at = self.at(now, rng.ms(1, 40));
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

    /// What was and will be sent is lost; the end arrives soon.
    pub(crate) fn cut(&mut self, now: Instant, rng: &mut Stream) {
        self.queue.clear();
        self.lossy = true;
        self.end = Some(now + rng.ms(0, 200));
    }

    /// What was and will be sent is lost, and the end never arrives.
    pub(crate) fn go_silent(&mut self) {
        self.queue.clear();
        (self.lossy, self.silent) = (true, true);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        if self.silent {
            return None;
        }
        self.queue.front().map(|(at, _)| *at).or(self.end)
    }

    pub(crate) fn take(&mut self, now: Instant) -> Option<Arrival> {
        if self.next()? > now {
            return None;
        }
        Some(match self.queue.pop_front() {
            Some((_, bytes)) => Arrival::Bytes(bytes),
            None => {
                self.silent = true;
                Arrival::End
            }
        })
    }
}

/// A connection between a person and the node. Either end may have let go already.
pub(crate) struct Conn {
    pub(crate) person: usize,
    pub(crate) link: LinkId,
    /// The person still holds it.
    pub(crate) held: bool,
    /// The node's end, once accepted and until let go.
    pub(crate) session: Option<SessionKey>,
    /// The node does not read.
    pub(crate) paused: bool,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
}

impl Conn {
    pub(crate) fn new(person: usize, link: LinkId, session: SessionKey) -> Self {
        Self {
            person,
            link,
            held: true,
            session: Some(session),
            paused: false,
            up: Pipe::default(),
            down: Pipe::default(),
        }
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
