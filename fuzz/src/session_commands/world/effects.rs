//! What the shard asks of its driver, obeyed and judged.

use std::collections::BTreeSet;

use roost_edge_core::Effect;
use roost_wire::FrameBody;
use roost_wire::link::{SessionKey, Up};

use super::super::peer::{Http, Peer};
use super::World;

impl World {
    /// Obeys what the shard asked for since the last time.
    pub(crate) fn obey_effects(&mut self) {
        let mut writes = BTreeSet::new();
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Up(up) => self.up(&up),
                Effect::Broadcast(_) => panic!("this shard has no paths for benchmarks"),
                Effect::Write(key) => {
                    assert!(writes.insert(key), "{key:?}: told twice to write");
                    self.live(key).write_wanted = true;
                }
                Effect::Pause(key) => {
                    let was = std::mem::replace(&mut self.live(key).paused, true);
                    assert!(!was, "{key:?}: paused twice");
                }
                Effect::Resume(key) => {
                    let was = std::mem::replace(&mut self.live(key).paused, false);
                    assert!(was, "{key:?}: resumed without a pause");
                }
                Effect::Close(key) => {
                    let peer = self.live(key);
                    assert!(!peer.native, "{key:?}: nobody is told why");
                    peer.attached = false;
                }
                Effect::CloseWith { session, .. } => {
                    let peer = self.live(session);
                    assert!(peer.native, "{session:?}: a WebSocket has its own way to say why");
                    (peer.attached, peer.closed) = (false, true);
                }
                Effect::Datagram { session, bytes } => {
                    if self.no_datagrams {
                        self.live(session);
                        self.shard.undelivered(session, bytes, self.now);
                        // That is news for it: it may want to write once more.
                        writes.remove(&session);
                    } else {
                        let index = self.live(session).index;
                        self.peers[index].read_datagram(&bytes, &self.readers);
                    }
                }
                Effect::Page { session, bytes } => {
                    if self.no_datagrams {
                        self.live(session);
                        self.shard.page_undelivered(session, bytes, self.now);
                        // That is news for it: it may want to write once more.
                        writes.remove(&session);
                    } else {
                        self.live(session).read_page(&bytes);
                        self.shard.page_sent(bytes.len());
                    }
                }
                Effect::HttpOpen { session, bytes, .. } => {
                    let peer = self.live_or_ended(session);
                    assert_eq!(peer.http, Http::None, "one stream a connection");
                    peer.http = Http::Open { untaken_bytes: bytes.len(), eof: false };
                }
                Effect::HttpData { session, bytes } => match &mut self.live_or_ended(session).http {
                    Http::Open { untaken_bytes, eof: false } => *untaken_bytes += bytes.len(),
                    other => assert_eq!(*other, Http::Over, "data of no stream"),
                },
                Effect::HttpEof { session } => match &mut self.live_or_ended(session).http {
                    Http::Open { eof, .. } => assert!(!std::mem::replace(eof, true), "the end comes once"),
                    other => assert_eq!(*other, Http::Over, "the end of no stream"),
                },
                Effect::HttpEnd { session } => {
                    let http = &mut self.live_or_ended(session).http;
                    assert!(!matches!(http, Http::None), "the end of no stream");
                    *http = Http::Over;
                }
            }
        }
        for peer in &self.peers {
            let waits = self.shard.outbound(peer.key).is_some_and(|outbound| !outbound.is_empty());
            assert!(peer.attached || !waits, "{:?}: bytes for nobody", peer.key);
            assert!(!waits || peer.write_wanted, "{:?}: bytes wait, and nobody was told", peer.key);
        }
    }

    fn up(&mut self, up: &Up) {
        match *up {
            Up::Connect { session, rid, .. } => {
                let peer = self.live_or_ended(session);
                assert!(peer.connect.is_none() && peer.accepted == 0, "one CONNECT a session");
                peer.connect = Some(rid);
            }
            Up::Command { session, rid, ref body, .. } => {
                let may_be_lost = matches!(body, FrameBody::Typing(_) | FrameBody::Ack(_) | FrameBody::Read(_));
                assert!(may_be_lost || !self.in_datagram, "{session:?}: not in a datagram: {body:?}");
                let max = self.shard.config().commands_in_flight_max as usize;
                let peer = self.live_or_ended(session);
                assert!(peer.accepted > 0 && peer.gone == 0, "{session:?}: only accepted sessions command");
                peer.commands.push_back(rid);
                assert!(peer.commands.len() <= max, "{session:?}: commands in flight are limited");
            }
            Up::Gone { session, .. } => {
                let peer = self.live_or_ended(session);
                peer.gone += 1;
                assert!(peer.gone <= peer.accepted, "{session:?}: gone as often as accepted");
                let index = peer.index;
                for members in &mut self.members {
                    members.remove(&index);
                }
            }
        }
    }

    /// The connection of a key in an effect: it must be with the driver.
    fn live(&mut self, key: SessionKey) -> &mut Peer {
        let peer = self.live_or_ended(key);
        assert!(peer.attached, "{key:?} was let go");
        peer
    }

    fn live_or_ended(&mut self, key: SessionKey) -> &mut Peer {
        let index = self.by_key.get(&key).unwrap_or_else(|| panic!("{key:?} was never given"));
        &mut self.peers[*index]
    }
}
