//! A shard full of sessions, and the least that a driver does for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use roost_edge_core::{Effect, Shard, ShardConfig, ShardMetrics};
use roost_wire::link::{Audience, Down, SessionKey};
use roost_wire::pb::{Connect, Frame, Welcome};
use roost_wire::{ConvId, Encoding, FrameBody, UserId};

use crate::frames;

/// A shard whose sessions all joined one topic. Its clock stands still: no timer ever fires.
pub struct Crowd {
    shard: Shard,
    topic: ConvId,
    now: Instant,
    seq: u64,
}

/// What a driver wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Sends: one per session and turn.
    pub sends: usize,
    /// Bytes in them.
    pub bytes: usize,
}

impl Crowd {
    /// `sessions` sessions in `encoding`, connected as clients do it: upgrade, CONNECT, WELCOME.
    ///
    /// # Panics
    /// If the shard refuses one of them: the bench would measure something else.
    #[must_use]
    pub fn new(sessions: usize, encoding: Encoding) -> Self {
        Self::with(sessions, encoding, false)
    }

    /// The same with sessions that agreed on permessage-deflate if `compression` says so.
    ///
    /// # Panics
    /// If the shard refuses one of them.
    #[must_use]
    pub fn with(sessions: usize, encoding: Encoding, compression: bool) -> Self {
        let now = Instant::now();
        let config = Arc::new(ShardConfig { compression, ..ShardConfig::default() });
        let shard = Shard::new(config, 0, Arc::new(ShardMetrics::default()), now, 1_790_000_000_000);
        let topic = ConvId::channel("news").expect("a good name");
        let mut crowd = Self { shard, topic, now, seq: 0 };
        for number in 0..sessions {
            crowd.connect(number, encoding);
        }
        assert_eq!(crowd.shard.sessions(), sessions);
        crowd
    }

    fn connect(&mut self, number: usize, encoding: Encoding) {
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let session = self.shard.opened(peer, self.now).expect("room for everybody");
        let mut upgrade = format!(
            "GET /ws HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            encoding.subprotocol()
        )
        .into_bytes();
        self.shard.received(session, &mut upgrade, self.now);
        let connect = Connect { guest: "Ada".into(), device: "bench".into(), ..Connect::default() };
        let frame = Frame { rid: 1, body: Some(FrameBody::Connect(connect)) };
        self.shard.received(session, &mut frames::client_message(encoding, &frame), self.now);
        let user = UserId::from_bits(number as u128);
        self.shard.down(Down::Accepted { session, rid: 1, user, welcome: Box::new(Welcome::default()) }, self.now);
        self.shard.down(Down::Join { session, topic: self.topic.clone() }, self.now);
        self.turn();
    }

    /// Sends one new envelope to every session and sees it written, as a driver would: effects are drained after
    /// each slice, each session's queue is read and reported as sent.
    pub fn fan_out(&mut self) -> Written {
        self.seq += 1;
        let envelope = frames::envelope(self.topic.as_str(), self.seq);
        let audience = Audience::Topic { topic: self.topic.clone(), except: None };
        self.shard.down(Down::Deliver { envelope, audience }, self.now);
        self.turn()
    }

    /// Turns of a driver until the shard has nothing more to do.
    fn turn(&mut self) -> Written {
        let mut written = Written::default();
        loop {
            self.drain(&mut written);
            if !self.shard.turn(self.now) {
                self.drain(&mut written);
                return written;
            }
        }
    }

    fn drain(&mut self, written: &mut Written) {
        while let Some(effect) = self.shard.poll_effect() {
            let Effect::Write(session) = effect else { continue };
            written.bytes += self.write(session);
            written.sends += 1;
        }
    }

    /// Looks at every piece that a gathering write would take, and reports all of it as sent.
    fn write(&mut self, session: SessionKey) -> usize {
        let outbound = self.shard.outbound(session).expect("the key is live");
        let bytes = outbound.chunks().map(|chunk| std::hint::black_box(chunk).len()).sum();
        self.shard.sent(session, bytes, self.now);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_gets_the_whole_push() {
        for encoding in Encoding::ALL {
            let mut crowd = Crowd::new(700, encoding);
            let message = frames::envelope("news", 1).message(encoding).len();
            assert_eq!(crowd.fan_out(), Written { sends: 700, bytes: 700 * message });
            let compressed = Crowd::with(700, encoding, true).fan_out();
            assert!(compressed.sends == 700 && compressed.bytes < 700 * message, "{compressed:?}");
        }
    }
}
