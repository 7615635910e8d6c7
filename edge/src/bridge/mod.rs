//! The HTTP bridge: one connection's bytes between a shard and a task that serves requests.
//!
//! The shard feeds bytes in as they arrive and is told when they are taken ([`HttpDown::Taken`]); it stops reading from
//! the socket above its window. What the task writes goes to the shard's mailbox; at most [`OUTSTANDING_BYTES_MAX`]
//! bytes are on their way until the shard has sent them, so a slow reader slows the task.

mod io;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use roost_edge_core::HttpDown;
use roost_wire::link::SessionKey;

use crate::sync::Mutex;

pub use self::io::HttpIo;

/// Bytes a task may have written that the shard has not sent yet.
pub(crate) const OUTSTANDING_BYTES_MAX: usize = 64 * 1024;
/// Bytes taken by the task that the shard hears of at the latest, even if more are waiting.
const TAKEN_BYTES_STEP: usize = 16 * 1024;

/// Puts what a task does into the mailbox of the connection's shard.
pub(crate) trait Post: Send + Sync + 'static {
    /// Delivers `down` for `key`, after all that was posted for it before.
    fn post(&self, key: SessionKey, down: HttpDown);
}

/// What a shard and a task share of one connection.
pub(crate) struct Link {
    key: SessionKey,
    post: Arc<dyn Post>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Received and not taken yet. The shard bounds it by `http_window_bytes`.
    inbound: VecDeque<Bytes>,
    /// Taken, and the shard was not told yet.
    taken_bytes: usize,
    /// Written by the task and not sent yet.
    outstanding_bytes: usize,
    /// The peer sent its last byte: nothing more comes in.
    eof: bool,
    /// The connection is gone: nothing more comes in, nothing goes out.
    gone: bool,
    /// The task wrote its last byte.
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Link {
    /// The two ends: one for the shard's loop, one for the task.
    pub(crate) fn new(key: SessionKey, first: Bytes, post: Arc<dyn Post>) -> (Arc<Self>, HttpIo) {
        let state = State { inbound: VecDeque::from([first]), ..State::default() };
        let link = Arc::new(Self { key, post, state: Mutex::new(state) });
        (link.clone(), HttpIo::new(link))
    }

    /// More bytes arrived.
    pub(crate) fn feed(&self, bytes: Bytes) {
        let mut state = self.state.lock();
        state.inbound.push_back(bytes);
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }

    /// The peer sent its last byte. What was received can still be read, then the end.
    pub(crate) fn eof(&self) {
        let mut state = self.state.lock();
        state.eof = true;
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }

    /// `n` bytes of what the task wrote are sent.
    pub(crate) fn sent(&self, n: usize) {
        let mut state = self.state.lock();
        state.outstanding_bytes = state.outstanding_bytes.saturating_sub(n);
        let writer = state.writer.take();
        drop(state);
        wake(writer);
    }

    /// The connection is gone. What was received can still be read, then the end; writing fails.
    pub(crate) fn gone(&self) {
        let mut state = self.state.lock();
        state.gone = true;
        let (reader, writer) = (state.reader.take(), state.writer.take());
        drop(state);
        wake(reader);
        wake(writer);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
