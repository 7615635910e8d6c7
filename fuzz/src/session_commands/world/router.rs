//! What the router and the HTTP service do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roost_edge_core::HttpDown;
use roost_wire::link::{Audience, Down, Envelope, Lane, SessionKey};
use roost_wire::pb::{self, Frame};
use roost_wire::{CloseCode, ConvId, ErrorCode, FrameBody, UserId};

use super::super::peer::{Http, Peer};
use super::World;

const TOPICS: [&str; 3] = ["news", "c_1", "c_2"];

impl World {
    fn down(&mut self, down: Down) {
        self.controls += u64::from(!matches!(down, Down::Deliver { .. }));
        self.shard.down(down, self.now);
    }

    pub(crate) fn accept(&mut self, peer: usize) {
        let Some(rid) = self.peers[peer].connect.take() else { return };
        self.peers[peer].accepted += 1;
        let welcome = pb::Welcome { user: "u_ada".into(), expires: self.unix_ms + 3_600_000, ..pb::Welcome::default() };
        let user = UserId::new("u_ada").expect("an id");
        self.down(Down::Accepted { session: self.peers[peer].key, rid, user, welcome: Box::new(welcome) });
    }

    pub(crate) fn refuse(&mut self, peer: usize) {
        let Some(rid) = self.peers[peer].connect.take() else { return };
        let (error, close) = (ErrorCode::BadToken.error(), CloseCode::Unauthenticated);
        self.down(Down::Refused { session: self.peers[peer].key, rid, error, close });
    }

    /// Answers the oldest command: small, or with a page.
    pub(crate) fn reply(&mut self, peer: usize, what: u8) {
        let Some(rid) = self.peers[peer].commands.pop_front() else { return };
        let body = match what {
            0..128 => FrameBody::Ok(pb::Ok {}),
            _ => {
                let body = Some(pb::Body { text: "x".repeat(16 * usize::from(what)), event: None });
                let entry = pb::Entry { body, ..pb::Entry::default() };
                FrameBody::Page(pb::Page { entries: vec![entry], ..pb::Page::default() })
            }
        };
        let frame = (rid != 0).then(|| Box::new(Frame { rid, body: Some(body) }));
        self.down(Down::Reply { session: self.peers[peer].key, frame });
    }

    pub(crate) fn extend(&mut self, peer: usize, ms: u16) {
        let expires = self.unix_ms + u64::from(ms);
        self.down(Down::Extend { session: self.peers[peer].key, expires });
    }

    /// A push to the connections whose bits are set, counted from the latest one, dead ones included.
    pub(crate) fn deliver(&mut self, bits: u8, durable: bool, bytes: usize) {
        let chosen = self.peers.iter().rev().take(8).enumerate().filter(|(at, _)| bits >> at & 1 == 1);
        let readers: BTreeSet<usize> = chosen.map(|(_, peer)| peer.index).collect();
        let keys: Arc<[SessionKey]> = readers.iter().map(|index| self.peers[*index].key).collect();
        let envelope = self.envelope(readers.clone(), durable, bytes);
        if durable {
            self.owe(&readers);
        }
        self.down(Down::Deliver { envelope, audience: Audience::Sessions(keys) });
    }

    pub(crate) fn publish(&mut self, topic: u8, except: u8, bytes: usize) {
        let at = usize::from(topic) % TOPICS.len();
        let mut readers = self.members[at].clone();
        let except = self.peers.iter().rev().nth(usize::from(except)).map(|peer| (peer.index, peer.key));
        if let Some((index, _)) = except {
            readers.remove(&index);
        }
        let envelope = self.envelope(readers.clone(), true, bytes);
        self.owe(&readers);
        let audience = Audience::Topic { topic: topic_id(at), except: except.map(|(_, key)| key) };
        self.down(Down::Deliver { envelope, audience });
    }

    fn envelope(&mut self, readers: BTreeSet<usize>, durable: bool, bytes: usize) -> Arc<Envelope> {
        self.pushes += 1;
        self.readers.insert(self.pushes, readers);
        if !durable {
            let typing = pb::Typing { conv: "c_1".into(), user: self.pushes.to_string(), on: true };
            return Envelope::new(Lane::Ephemeral, FrameBody::Typing(typing));
        }
        let body = Some(pb::Body { text: "x".repeat(bytes), event: None });
        let entry = pb::Entry { conv: "c_1".into(), seq: self.pushes, body, ..pb::Entry::default() };
        Envelope::new(Lane::Durable, FrameBody::Entry(entry))
    }

    fn owe(&mut self, readers: &BTreeSet<usize>) {
        for index in readers {
            let peer = &mut self.peers[*index];
            if peer.is_reader() {
                peer.owed.insert(self.pushes);
            }
        }
    }

    pub(crate) fn join(&mut self, peer: usize, topic: u8) {
        let at = usize::from(topic) % TOPICS.len();
        // The router lets only sessions join that it accepted.
        if self.peers[peer].accepted > 0 {
            self.members[at].insert(peer);
            self.down(Down::Join { session: self.peers[peer].key, topic: topic_id(at) });
        }
    }

    pub(crate) fn leave(&mut self, peer: usize, topic: u8) {
        let at = usize::from(topic) % TOPICS.len();
        self.members[at].remove(&peer);
        self.down(Down::Leave { session: self.peers[peer].key, topic: topic_id(at) });
    }

    pub(crate) fn close(&mut self, peer: usize) {
        self.down(Down::Close { session: self.peers[peer].key, code: CloseCode::Replaced });
    }

    pub(crate) fn http(&mut self, peer: usize, what: u8, count: usize) {
        let Peer { key, http, .. } = &mut self.peers[peer];
        let Http::Open { untaken_bytes, .. } = http else { return };
        let down = match what % 3 {
            0 => HttpDown::Data(Bytes::from(vec![b'.'; count])),
            1 => {
                let taken = count.min(*untaken_bytes);
                *untaken_bytes -= taken;
                HttpDown::Taken(taken)
            }
            _ => {
                *http = Http::Over;
                HttpDown::End
            }
        };
        self.shard.http(*key, down, self.now);
    }

    /// What concerns every session.
    pub(crate) fn walk(&mut self, what: u8, ms: u16) {
        // A drain is over before everything is closed in the end.
        let window = Duration::from_millis(u64::from(ms) % 20_000);
        match what {
            0 => self.shard.doubt(self.now),
            1 => {
                self.drains += 1;
                self.shard.drain("drain", window, 4 * window, vec![], self.now, ms.into());
            }
            2 => {
                self.unix_ms += u64::from(ms);
                self.shard.wall_clock(self.unix_ms, self.now);
            }
            _ => {
                self.unix_ms -= u64::from(ms);
                self.shard.wall_clock(self.unix_ms, self.now);
            }
        }
    }
}

fn topic_id(at: usize) -> ConvId {
    ConvId::new(TOPICS[at]).expect("an id")
}
