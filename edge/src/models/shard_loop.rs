//! A whole shard, with its real loop and mailbox, on a driver that sleeps until it is woken: time stands still.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use roost_edge_core::driver::{Driver, Sink};
use roost_edge_core::{Outbound, ShardConfig, ShardMetrics};
use roost_wire::link::{Audience, Down, Envelope, Lane, SessionKey, Up};
use roost_wire::{FrameBody, pb};

use super::{Bell, explore};
use crate::metrics::LoopMetrics;
use crate::{HttpIo, HttpService, Inbox, Setup, ShardLoop, Turn, Upstream};

/// A connection that counts its end.
struct Socket(Arc<AtomicUsize>);

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Takes every byte, brings none.
struct Still {
    bell: Arc<Bell>,
    began: Instant,
    sockets: BTreeMap<SessionKey, Socket>,
}

impl Driver for Still {
    type Conn = Socket;

    fn now(&self) -> Instant {
        self.began
    }

    fn unix_ms(&self) -> u64 {
        0
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout != Some(Duration::ZERO) {
            self.bell.sleep();
        }
        Ok(())
    }

    fn deliver<S: Sink<Conn = Socket>>(&mut self, _: &mut S) -> bool {
        false
    }

    fn attach(&mut self, key: SessionKey, conn: Socket) -> io::Result<()> {
        assert!(self.sockets.insert(key, conn).is_none(), "{key:?} is attached twice");
        Ok(())
    }

    fn refuse(&mut self, _: Socket, _: &[u8]) {}

    fn write(&mut self, _: SessionKey, outbound: &Outbound) -> io::Result<usize> {
        Ok(outbound.bytes())
    }

    fn pause(&mut self, _: SessionKey) {}

    fn resume(&mut self, _: SessionKey) {}

    fn close(&mut self, key: SessionKey) {
        self.sockets.remove(&key);
    }

    fn connections(&self) -> usize {
        self.sockets.len()
    }

    fn keys(&self) -> Vec<SessionKey> {
        self.sockets.keys().copied().collect()
    }
}

/// Nobody up there.
struct Nobody;

impl Upstream for Nobody {
    fn submit(&self, batch: &mut Vec<Up>) {
        batch.clear();
    }
}

impl HttpService for Nobody {
    fn serve(&self, _: HttpIo, _: SocketAddr) {}
}

/// A shard, the way into it, and its counters.
struct Rig {
    shard: ShardLoop<Still, Nobody, Nobody>,
    inbox: Inbox<Socket>,
    metrics: Arc<ShardMetrics>,
    ended: Arc<AtomicUsize>,
}

impl Rig {
    fn new(began: Instant, items_max: usize) -> Self {
        let bell = Arc::new(Bell::default());
        let driver = Still { bell: bell.clone(), began, sockets: BTreeMap::new() };
        let inbox = Inbox::new(bell, items_max);
        let metrics = Arc::new(ShardMetrics::default());
        let setup = Setup {
            config: Arc::new(ShardConfig::default()),
            inbox: inbox.clone(),
            neighbours: Arc::new([]),
            upstream: Arc::new(Nobody),
            http: Arc::new(Nobody),
            shard_metrics: metrics.clone(),
            metrics: Arc::new(LoopMetrics::default()),
        };
        Self { shard: ShardLoop::new(driver, 0, setup), inbox, metrics, ended: Arc::default() }
    }

    fn socket(&self) -> Socket {
        Socket(self.ended.clone())
    }

    /// Turns until the shard was stopped.
    fn run(&mut self) {
        while self.shard.turn().expect("the driver does not fail") == Turn::Done {}
    }
}

fn peer() -> SocketAddr {
    ([192, 0, 2, 1], 40_000).into()
}

fn push() -> Down {
    let envelope = Envelope::new(Lane::Durable, FrameBody::Entry(pb::Entry::default()));
    Down::Deliver { audience: Audience::Sessions(Arc::from([SessionKey::new(0, 9, 9)])), envelope }
}

#[test]
fn every_connection_that_is_handed_over_ends_whenever_the_shard_is_stopped() {
    let began = Instant::now();
    explore(Some(3), move || {
        let mut rig = Rig::new(began, usize::MAX);
        let (inbox, sockets) = (rig.inbox.clone(), [rig.socket(), rig.socket()]);
        let acceptor = loom::thread::spawn(move || sockets.map(|socket| inbox.accepted(socket, peer())));
        let inbox = rig.inbox.clone();
        let node = loom::thread::spawn(move || inbox.stop());
        rig.run();
        let Rig { shard, ended, inbox, .. } = rig;
        drop(shard);
        acceptor.join().unwrap();
        node.join().unwrap();
        assert_eq!(ended.load(Relaxed), 2, "no connection is kept by a shard that has stopped");
        drop(inbox);
        assert_eq!(ended.load(Relaxed), 2, "and none ends twice");
    });
}

#[test]
fn a_shard_that_sleeps_hears_of_every_connection_and_of_every_overflow() {
    let began = Instant::now();
    explore(Some(2), move || {
        let mut rig = Rig::new(began, 1);
        let (inbox, socket) = (rig.inbox.clone(), rig.socket());
        let acceptor = loom::thread::spawn(move || inbox.accepted(socket, peer()));
        let inbox = rig.inbox.clone();
        let router = loom::thread::spawn(move || {
            inbox.post(&mut vec![push(), push()]);
            inbox.post(&mut vec![push()]);
            inbox.stop();
        });
        rig.run();
        let doubts = rig.metrics.snapshot().doubts;
        assert_eq!(rig.inbox.dropped() > 0, doubts > 0, "{} dropped, {doubts} doubts", rig.inbox.dropped());
        acceptor.join().unwrap();
        router.join().unwrap();
        drop(rig.shard);
        assert_eq!(rig.ended.load(Relaxed), 1);
    });
}

#[test]
fn a_shard_that_is_dropped_in_the_middle_keeps_nothing() {
    let began = Instant::now();
    explore(Some(3), move || {
        let mut rig = Rig::new(began, usize::MAX);
        let (inbox, sockets) = (rig.inbox.clone(), [rig.socket(), rig.socket()]);
        let acceptor = loom::thread::spawn(move || sockets.map(|socket| inbox.accepted(socket, peer())));
        rig.shard.turn().expect("the driver does not fail");
        let Rig { shard, ended, inbox: kept, .. } = rig;
        drop(shard);
        acceptor.join().unwrap();
        assert_eq!(ended.load(Relaxed), 2);
        drop(kept);
    });
}
