//! The floor: epoll, one thread, and the least that a WebSocket client accepts for an answer. What it costs is the
//! kernel's price; whatever a server costs more is its own.
//!
//! It keeps nothing of a connection but its descriptor: heads and frames must arrive whole, and what does not fit into
//! a socket is lost. A message is echoed; one that begins with `!` goes to everybody in a loop of `send`.
//!
//! With `--tables` there are several threads, each with a table of descriptors of its own: together they hold more
//! connections than a process may have descriptors.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, bail};
use bytes::BytesMut;
use clap::Parser;
use roost_benches::peer::{Place, is_to_all};
use roost_wire::ws::handshake::{Request, parse_request, write_accept};
use roost_wire::ws::{Header, MessageKind, OpCode, Side, write_message_header, write_pong};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Events of one wait.
const EVENTS: usize = 1024;
/// The largest message, with its header.
const BUFFER_BYTES: usize = 256 * 1024;
/// Descriptors of a table that are not for connections.
const RESERVE: u64 = 100;

#[derive(Parser)]
#[command(about = "The least a WebSocket server can be, to know the kernel's share of what others cost")]
struct Args {
    #[command(flatten)]
    place: Place,
    /// Threads, each with descriptors of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    tables: u16,
}

/// What one thread hands to another: a message to all of its connections.
struct Slot {
    sender: Mutex<Sender<Arc<[u8]>>>,
    bell: OwnedFd,
}

struct Bare {
    number: usize,
    epoll: OwnedFd,
    listener: Arc<TcpListener>,
    /// By descriptor.
    connections: Vec<Option<OwnedFd>>,
    held: u64,
    held_max: u64,
    slots: Arc<[Slot]>,
    told: Receiver<Arc<[u8]>>,
    buffer: Vec<u8>,
    answer: BytesMut,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listener = Arc::new(args.place.listen()?);
    let mut receivers = Vec::new();
    let slots: anyhow::Result<Arc<[Slot]>> = (0..args.tables)
        .map(|_| {
            let (sender, receiver) = channel();
            receivers.push(receiver);
            Ok(Slot { sender: Mutex::new(sender), bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)? })
        })
        .collect();
    let slots = slots?;
    let held_max =
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(RESERVE + receivers.len() as u64);
    let mut threads = Vec::new();
    for (number, told) in receivers.into_iter().enumerate() {
        let (listener, slots, tables) = (listener.clone(), slots.clone(), args.tables);
        threads.push(thread::spawn(move || -> anyhow::Result<()> {
            if tables > 1 {
                own_table()?;
            }
            let epoll = epoll::create(CreateFlags::CLOEXEC)?;
            let (connections, buffer, answer) = (Vec::new(), vec![0; BUFFER_BYTES], BytesMut::new());
            let held = 0;
            Bare { number, epoll, listener, connections, held, held_max, slots, told, buffer, answer }.run()
        }));
    }
    args.place.ready(&listener)?;
    for thread in threads {
        thread.join().expect("a thread failed")?;
    }
    Ok(())
}

/// Gives this thread a table of descriptors of its own: a copy of that of the process.
#[expect(unsafe_code, reason = "threads agree on what descriptors mean")]
fn own_table() -> rustix::io::Result<()> {
    // SAFETY: what the thread closes it opened after this; listener and bells, which all threads use, are never closed.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }
}

impl Bare {
    fn run(&mut self) -> anyhow::Result<()> {
        let token = |fd: &dyn AsRawFd| EventData::new_u64(fd.as_raw_fd() as u64);
        let (slots, listener) = (self.slots.clone(), self.listener.clone());
        let bell = &slots[self.number].bell;
        epoll::add(&self.epoll, &listener, token(&listener), EventFlags::IN | EventFlags::EXCLUSIVE)?;
        epoll::add(&self.epoll, bell, token(bell), EventFlags::IN)?;
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll"),
            }
            for event in &events {
                let fd = event.data.u64() as RawFd;
                if fd == listener.as_raw_fd() {
                    self.accept()?;
                } else if fd == bell.as_raw_fd() {
                    let _ = rustix::io::read(bell, &mut [0; 8]);
                    while let Ok(message) = self.told.try_recv() {
                        self.send_to_all(&message);
                    }
                } else if self.read(fd).is_err() {
                    // Closing it takes it out of epoll.
                    self.connections[fd as usize] = None;
                    self.held -= 1;
                }
            }
        }
    }

    fn send_to_all(&self, message: &[u8]) {
        for conn in self.connections.iter().flatten() {
            let _ = send(conn, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// Hands a message to every thread.
    fn broadcast(&self, message: &Arc<[u8]>) {
        for slot in self.slots.iter() {
            // The thread may have failed.
            let _ = slot.sender.lock().expect("nobody panicked").send(message.clone());
            let _ = rustix::io::write(&slot.bell, &1_u64.to_ne_bytes());
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        for _ in 0..EVENTS {
            let conn = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(conn) => conn,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error).context("accept"),
            };
            let fd = conn.as_raw_fd();
            epoll::add(&self.epoll, &conn, EventData::new_u64(fd as u64), EventFlags::IN | EventFlags::RDHUP)?;
            if self.connections.len() <= fd as usize {
                self.connections.resize_with(fd as usize + 1, || None);
            }
            self.connections[fd as usize] = Some(conn);
            self.held += 1;
            if self.held == self.held_max {
                // The others have room.
                epoll::delete(&self.epoll, &*self.listener)?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes what has come. An error ends the connection.
    fn read(&mut self, fd: RawFd) -> anyhow::Result<()> {
        let conn = self.connections[fd as usize].as_ref().context("a descriptor of ours")?;
        let (_, len) = match recv(conn, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((_, 0)) => bail!("the end"),
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.answer.clear();
        if self.buffer[0] == b'G' {
            let Some((Request::Upgrade(upgrade), _)) = parse_request(&self.buffer[..len])? else { bail!("no upgrade") };
            write_accept(upgrade.key, None, &mut self.answer);
            send(conn, &self.answer, SendFlags::NOSIGNAL)?;
            return Ok(());
        }
        let mut at = 0;
        while at < len {
            let Some((header, header_bytes)) = Header::decode(&self.buffer[at..len], Side::Server)? else { break };
            let (from, to) = (at + header_bytes, at + header_bytes + header.len as usize);
            let kind = match header.opcode {
                OpCode::Text => Some(MessageKind::Text),
                OpCode::Binary => Some(MessageKind::Binary),
                OpCode::Ping => None,
                _ => bail!("closing, or nothing it knows"),
            };
            let Some(payload) = self.buffer[..len].get_mut(from..to) else { bail!("a frame in two pieces") };
            let mask = header.mask.unwrap_or_default();
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            self.answer.clear();
            match kind {
                Some(kind) => {
                    write_message_header(kind, payload.len(), None, &mut self.answer);
                    self.answer.extend_from_slice(payload);
                }
                None => write_pong(payload, None, &mut self.answer),
            }
            if kind.is_some() && is_to_all(payload) {
                let message: Arc<[u8]> = Arc::from(&self.answer[..]);
                if self.slots.len() == 1 { self.send_to_all(&message) } else { self.broadcast(&message) }
            } else {
                send(conn, &self.answer, SendFlags::NOSIGNAL)?;
            }
            at = to;
        }
        Ok(())
    }
}
