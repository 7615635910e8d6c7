//! The QUIC driver, with clients of quinn.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Endpoint, ReadError, RecvStream, SendStream};
use roost_edge::driver::quic::{QuicConfig, QuicConn, QuicDriver};
use roost_edge_core::ShardConfig;
use roost_edge_core::driver::{Driver, Wake};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::certificates;
use crate::harness::{Bench, Harness, Heard, Peer};

/// Turns until a connection is accepted.
const PATIENCE: u32 = 3000;
/// What a peer takes to be sent before some of it is.
const UNSENT_BYTES_MAX: usize = 256 * 1024;
/// What a peer reads before somebody takes it.
const UNTAKEN_BYTES_MAX: usize = 256 * 1024;

pub(crate) struct Quinn {
    runtime: Runtime,
    endpoint: Endpoint,
    addr: SocketAddr,
}

/// A client whose tasks run elsewhere.
pub(crate) struct QuicPeer {
    ops: UnboundedSender<Op>,
    unsent: Arc<AtomicUsize>,
    inbox: Arc<Mutex<Inbox>>,
}

enum Op {
    Write(Vec<u8>),
    Finish,
    Reset,
}

#[derive(Default)]
struct Inbox {
    bytes: VecDeque<u8>,
    end: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
    Finished,
    Broken,
}

impl Harness for Quinn {
    type Driver = QuicDriver;
    type Peer = QuicPeer;
    // A stream is there once something of it is.
    const PREAMBLE_BYTES: usize = 1;
    // Its tasks have to run first, and turns end with every acknowledgement.
    const ARRIVAL_TURNS: u32 = 50;

    fn new() -> (Self, QuicDriver, Arc<dyn Wake>) {
        let (server, cert) = certificates::server();
        let mut config = QuicConfig::new((Ipv4Addr::LOCALHOST, 0).into(), server, [3; 32]);
        config.unproven_max = usize::MAX;
        let (driver, waker, addr) = QuicDriver::alone(&config, &ShardConfig::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let endpoint = {
            let _runtime = runtime.enter();
            certificates::endpoint(&cert)
        };
        (Self { runtime, endpoint, addr }, driver, waker)
    }

    fn connect(&mut self, driver: &mut QuicDriver, heard: &mut Heard<QuicConn>) -> (QuicConn, QuicPeer) {
        let _runtime = self.runtime.enter();
        let connecting = self.endpoint.connect(self.addr, "localhost").unwrap();
        let (ops, todo) = unbounded_channel();
        let peer = QuicPeer { ops, unsent: Arc::default(), inbox: Arc::default() };
        let (unsent, inbox) = (peer.unsent.clone(), peer.inbox.clone());
        self.runtime.spawn(async move {
            let connection = connecting.await.expect("a handshake");
            let (mut tx, rx) = connection.open_bi().await.expect("a stream");
            tx.write_all(&[0]).await.expect("a beginning");
            let broken = Arc::new(tokio::sync::Notify::new());
            let reading = tokio::spawn(read(rx, inbox, broken.clone()));
            write(tx, todo, &unsent, &broken).await;
            let _ = reading.await;
            connection.closed().await;
        });
        for _ in 0..PATIENCE {
            if let Some((conn, _)) = heard.arrivals.pop() {
                assert!(heard.arrivals.is_empty());
                return (conn, peer);
            }
            driver.wait(Some(Duration::from_millis(10))).unwrap();
            driver.deliver(heard);
        }
        panic!("nobody accepts");
    }
}

async fn write(
    mut tx: SendStream,
    mut todo: UnboundedReceiver<Op>,
    unsent: &AtomicUsize,
    broken: &tokio::sync::Notify,
) {
    while let Some(op) = todo.recv().await {
        match op {
            Op::Write(bytes) => {
                let _ = tx.write_all(&bytes).await;
                unsent.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            Op::Finish => _ = tx.finish(),
            Op::Reset => {
                _ = tx.reset(1_u32.into());
                broken.notify_one();
            }
        }
    }
}

async fn read(mut rx: RecvStream, inbox: Arc<Mutex<Inbox>>, broken: Arc<tokio::sync::Notify>) {
    loop {
        while inbox.lock().unwrap().bytes.len() > UNTAKEN_BYTES_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let chunk = tokio::select! {
            chunk = rx.read_chunk(64 * 1024, true) => chunk,
            () = broken.notified() => {
                _ = rx.stop(1_u32.into());
                return;
            }
        };
        let mut inbox = inbox.lock().unwrap();
        match chunk {
            Ok(Some(chunk)) => inbox.bytes.extend(&chunk.bytes[..]),
            Ok(None) => inbox.end = Some(End::Finished),
            Err(ReadError::ConnectionLost(quinn::ConnectionError::ApplicationClosed(_))) => {
                inbox.end = Some(End::Finished);
            }
            Err(_) => inbox.end = Some(End::Broken),
        }
        if inbox.end.is_some() {
            break;
        }
    }
    // What is broken after the end is broken all the same.
    broken.notified().await;
}

impl Peer for QuicPeer {
    fn send(&mut self, bytes: &[u8]) -> usize {
        let room = UNSENT_BYTES_MAX.saturating_sub(self.unsent.load(Ordering::Relaxed));
        let taken = &bytes[..bytes.len().min(room)];
        if !taken.is_empty() {
            self.unsent.fetch_add(taken.len(), Ordering::Relaxed);
            let _ = self.ops.send(Op::Write(taken.to_vec()));
        }
        taken.len()
    }

    fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut inbox = self.inbox.lock().unwrap();
        match inbox.end {
            _ if !inbox.bytes.is_empty() => Ok(Some(inbox.bytes.drain(..).collect())),
            None => Ok(Some(Vec::new())),
            Some(End::Finished) => Ok(None),
            Some(End::Broken) => Err(ErrorKind::ConnectionReset.into()),
        }
    }

    fn end(&mut self) {
        let _ = self.ops.send(Op::Finish);
    }

    fn reset(self) {
        let _ = self.ops.send(Op::Reset);
    }
}

#[test]
fn who_is_let_go_lingers_until_its_last_words_have_arrived() {
    let mut bench = Bench::<Quinn>::new();
    let (key, _peer) = bench.connect();
    bench.queue(key, [Bytes::from_static(b"last words")]);
    bench.driver.close(key);
    assert_eq!((bench.driver.connections(), bench.driver.lingering()), (0, 1));
    bench.until("nobody waits", |bench| bench.driver.lingering() == 0);
}
