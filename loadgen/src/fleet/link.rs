//! A worker's end of the connection while it runs.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::frame::{self, BYTES_MAX, FrameError};
use super::talk::{Note, Order};
use super::{ALIVE_EVERY, Peer, Start};
use crate::interrupt::Interrupt;
use crate::recorder::Recorder;

/// Messages that wait to be written; beyond that seconds are merged until there is room.
const WAITING_MESSAGES_MAX: usize = 64;

/// What the reader knows.
#[derive(Debug, Default)]
struct Heard {
    begin: Option<Instant>,
    lost: Option<String>,
}

/// What the run speaks with.
pub(super) struct Link {
    notes: SyncSender<Note>,
    heard: Arc<Mutex<Heard>>,
    /// What found no room yet.
    held: BTreeMap<Option<u64>, (u64, Recorder)>,
    told_ready: bool,
}

/// The threads of a connection.
pub(super) struct Lines {
    heard: Arc<Mutex<Heard>>,
    stream: TcpStream,
    writer: std::thread::JoinHandle<()>,
}

/// Begins to read and write. The coordinator's Stop, and its silence, interrupt the run.
pub(super) fn begin(stream: &TcpStream, interrupt: &Interrupt) -> std::io::Result<(Link, Lines)> {
    let (notes, waiting) = sync_channel(WAITING_MESSAGES_MAX);
    let heard = Arc::<Mutex<Heard>>::default();
    let (reader, told, asked) = (stream.try_clone()?, Arc::clone(&heard), interrupt.clone());
    std::thread::Builder::new().name("fleet-read".into()).spawn(move || read(reader, &told, &asked))?;
    let (to, told, asked) = (stream.try_clone()?, Arc::clone(&heard), interrupt.clone());
    let writer =
        std::thread::Builder::new().name("fleet-write".into()).spawn(move || write(to, &waiting, &told, &asked))?;
    let link = Link { notes, heard: Arc::clone(&heard), held: BTreeMap::new(), told_ready: false };
    Ok((link, Lines { heard, stream: stream.try_clone()?, writer }))
}

fn read(mut from: TcpStream, heard: &Mutex<Heard>, interrupt: &Interrupt) {
    loop {
        match frame::read::<Order>(&mut from, BYTES_MAX) {
            Ok(Order::Begin { in_us }) => lock(heard).begin = Some(Instant::now() + Duration::from_micros(in_us)),
            Ok(Order::Stop) => interrupt.ask(),
            Ok(Order::Alive | Order::Prepare(_)) => {}
            Err(error) => return lose(heard, interrupt, &error),
        }
    }
}

fn write(mut to: TcpStream, waiting: &Receiver<Note>, heard: &Mutex<Heard>, interrupt: &Interrupt) {
    loop {
        let note = match waiting.recv_timeout(ALIVE_EVERY) {
            Ok(note) => note,
            Err(RecvTimeoutError::Timeout) => Note::Alive,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Err(error) = frame::write(&mut to, &note) {
            return lose(heard, interrupt, &error);
        }
    }
}

/// Without its coordinator a load has no purpose: it is stopped, and not verified.
fn lose(heard: &Mutex<Heard>, interrupt: &Interrupt, error: &FrameError) {
    let mut heard = lock(heard);
    if heard.lost.is_none() {
        heard.lost = Some(error.to_string());
        interrupt.ask();
    }
}

/// A panic while it was held left nothing half done.
fn lock(heard: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Sends what was held up, as far as there is room. Returns false when nobody listens any more.
    fn send_held(&mut self) -> bool {
        while let Some((second, (live, recorder))) = self.held.pop_first() {
            match self.notes.try_send(Note::Tick { second, live, recorder: Box::new(recorder) }) {
                Ok(()) => {}
                Err(TrySendError::Full(Note::Tick { second, live, recorder })) => {
                    self.held.insert(second, (live, *recorder));
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }
}

impl Peer for Link {
    fn start(&mut self, entered: u64) -> Start {
        if !std::mem::replace(&mut self.told_ready, true) {
            // The writer ended only if the connection did, which interrupts the run.
            let _ = self.notes.send(Note::Ready { entered });
        }
        lock(&self.heard).begin.map_or(Start::Wait, Start::At)
    }

    fn tick(&mut self, second: Option<u64>, live: u64, recorder: &Recorder) {
        let held = self.held.entry(second).or_default();
        held.0 = live;
        held.1.merge(recorder);
        self.send_held();
    }
}

impl Drop for Link {
    /// What is held goes out before the end is told: the run is over, and may wait.
    fn drop(&mut self) {
        while let Some((second, (live, recorder))) = self.held.pop_first() {
            if self.notes.send(Note::Tick { second, live, recorder: Box::new(recorder) }).is_err() {
                return;
            }
        }
    }
}

impl Lines {
    /// Writes the last word when everything before it is out. Returns why the coordinator was lost, if it was.
    pub(super) fn end(mut self, last: &Note) -> Option<String> {
        // The run's link is gone, so that the writer ends when it has written all.
        let _ = self.writer.join();
        let lost = lock(&self.heard).lost.clone();
        let lost = lost.or_else(|| frame::write(&mut self.stream, last).err().map(|error| error.to_string()));
        // What the coordinator does after the last word is its own affair.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        lost
    }
}
