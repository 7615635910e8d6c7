//! A node without sockets: a shard, the router and a store in memory, on one thread. For what a session costs them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use roost_edge_core::{Effect, Shard, ShardConfig, ShardMetrics};
use roost_router::auth::{Claims, Keys, Scope};
use roost_router::{Downstream, Env, Router, RouterConfig, SystemEnv};
use roost_storage::MemoryStore;
use roost_wire::link::{Down, SessionKey, Up};
use roost_wire::pb::{Connect, Frame, Subscribe};
use roost_wire::{Encoding, FrameBody, UserId};
use tokio::runtime::Runtime;

use crate::frames;

/// The way down: what the router posted, until the shard takes it.
#[derive(Default)]
struct Mailbox(Mutex<Vec<Down>>);

impl Downstream for Mailbox {
    fn shards(&self) -> u16 {
        1
    }

    fn post(&self, _shard: u16, batch: &mut Vec<Down>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).append(batch);
    }
}

/// The node.
pub struct Node {
    shard: Shard,
    metrics: Arc<ShardMetrics>,
    router: Arc<Router<MemoryStore, Mailbox, SystemEnv>>,
    mailbox: Arc<Mailbox>,
    runtime: Runtime,
    now: Instant,
    ups: Vec<Up>,
    downs: Vec<Down>,
}

impl Node {
    /// One without sessions.
    ///
    /// # Panics
    /// There is no runtime to be had.
    #[must_use]
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mailbox = Arc::new(Mailbox::default());
        let router = runtime.block_on(async {
            let (keys, store) = (Keys::new(&[1; 32]), Arc::new(MemoryStore::default()));
            Router::new(RouterConfig::default(), keys, store, Arc::clone(&mailbox), SystemEnv)
        });
        let now = Instant::now();
        let (config, metrics) = (Arc::new(ShardConfig::default()), Arc::new(ShardMetrics::default()));
        let shard = Shard::new(config, 0, Arc::clone(&metrics), now, SystemEnv.now_ms());
        Self { shard, metrics, router, mailbox, runtime, now, ups: Vec::new(), downs: Vec::new() }
    }

    /// The token of the user `number`, as an upgrade and CONNECT bring it.
    #[must_use]
    pub fn token(&self, number: u32, name: &str) -> String {
        let user = UserId::from_bits(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        self.router.keys().mint(&Claims::new(user, name, Scope::User, SystemEnv.now_ms(), 3600))
    }

    /// What the client of a session sends first: the upgrade, then CONNECT.
    #[must_use]
    pub fn hellos(token: String) -> [Vec<u8>; 2] {
        let upgrade = format!(
            "GET /ws HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {}\r\n\r\n",
            Encoding::Protobuf.subprotocol()
        );
        let connect = Connect { token, device: "phone".into(), ..Connect::default() };
        let frame = Frame { rid: 1, body: Some(FrameBody::Connect(connect)) };
        [upgrade.into_bytes(), frames::client_message(Encoding::Protobuf, &frame).to_vec()]
    }

    /// A session comes in, from its socket to the last byte of its WELCOME.
    ///
    /// # Panics
    /// It is not let in.
    pub fn enter(&mut self, hellos: &mut [Vec<u8>; 2]) -> SessionKey {
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let session = self.shard.opened(peer, self.now).expect("room for everybody");
        let before = self.shard.sessions();
        for bytes in hellos {
            self.shard.received(session, bytes, self.now);
            self.turn();
        }
        assert_eq!(self.shard.sessions(), before + 1, "it was not let in");
        session
    }

    /// The session subscribes to a channel, and hears that it did.
    pub fn subscribe(&mut self, session: SessionKey, channel: &str) {
        let frame = Frame { rid: 2, body: Some(FrameBody::Subscribe(Subscribe { channel: channel.into() })) };
        let mut bytes = frames::client_message(Encoding::Protobuf, &frame);
        self.shard.received(session, &mut bytes, self.now);
        self.turn();
        // What the router put off, until it is idle.
        for _ in 0..4 {
            self.runtime.block_on(tokio::task::yield_now());
            self.turn();
        }
    }

    /// Sessions that live.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shard.sessions()
    }

    /// Members of topics, all together.
    #[must_use]
    pub fn subscriptions(&self) -> u64 {
        let counted = self.metrics.snapshot();
        counted.topics_joined - counted.topics_left
    }

    /// Turns of a loop until there is nothing more to do.
    fn turn(&mut self) {
        loop {
            while let Some(effect) = self.shard.poll_effect() {
                match effect {
                    Effect::Up(up) => self.ups.push(up),
                    Effect::Write(session) => self.write(session),
                    _ => {}
                }
            }
            if !self.ups.is_empty() {
                let _runtime = self.runtime.enter();
                self.router.submit(&mut self.ups);
                self.ups.clear();
            }
            std::mem::swap(&mut *self.mailbox.0.lock().unwrap_or_else(PoisonError::into_inner), &mut self.downs);
            if self.downs.is_empty() && !self.shard.turn(self.now) {
                return;
            }
            for down in self.downs.drain(..) {
                self.shard.down(down, self.now);
            }
            while self.shard.turn(self.now) {}
        }
    }

    fn write(&mut self, session: SessionKey) {
        let Some(outbound) = self.shard.outbound(session) else { return };
        let bytes = outbound.chunks().map(|chunk| std::hint::black_box(chunk).len()).sum();
        self.shard.sent(session, bytes, self.now);
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_in_and_subscribe() {
        let mut node = Node::new();
        for number in 0..20 {
            let mut hellos = Node::hellos(node.token(number, "Ada"));
            let session = node.enter(&mut hellos);
            node.subscribe(session, "news");
        }
        assert_eq!((node.sessions(), node.subscriptions()), (20, 20));
    }
}
