//! The floor: epoll, one thread, and the least that a WebSocket client accepts for an answer. What it costs is the
//! kernel's price; whatever a server costs more is its own.
//!
//! It keeps nothing of a connection but its descriptor: heads and frames must arrive whole, and what does not fit into
//! a socket is lost. A message is echoed; one that begins with `!` goes to everybody in a loop of `send`.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use anyhow::{Context, bail};
use bytes::BytesMut;
use clap::Parser;
use roost_benches::peer::{Place, is_to_all};
use roost_wire::ws::handshake::{Request, parse_request, write_accept};
use roost_wire::ws::{Header, MessageKind, OpCode, Side, write_message_header};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

/// Events of one wait.
const EVENTS: usize = 1024;
/// The largest message, with its header.
const BUFFER_BYTES: usize = 256 * 1024;

#[derive(Parser)]
#[command(about = "The least a WebSocket server can be, to know the kernel's share of what others cost")]
struct Args {
    #[command(flatten)]
    place: Place,
}

struct Bare {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By descriptor.
    connections: Vec<Option<OwnedFd>>,
    buffer: Vec<u8>,
    answer: BytesMut,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listener = args.place.listen()?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(listener.as_raw_fd() as u64), EventFlags::IN)?;
    args.place.ready(&listener)?;
    Bare { epoll, listener, connections: Vec::new(), buffer: vec![0; BUFFER_BYTES], answer: BytesMut::new() }.run()
}

impl Bare {
    fn run(&mut self) -> anyhow::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll"),
            }
            for event in &events {
                let fd = event.data.u64() as RawFd;
                if fd == self.listener.as_raw_fd() {
                    self.accept()?;
                } else if self.read(fd).is_err() {
                    // Closing it takes it out of epoll.
                    self.connections[fd as usize] = None;
                }
            }
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
                OpCode::Text => MessageKind::Text,
                OpCode::Binary => MessageKind::Binary,
                _ => bail!("closing, or nothing it knows"),
            };
            let Some(payload) = self.buffer[..len].get_mut(from..to) else { bail!("a frame in two pieces") };
            let mask = header.mask.unwrap_or_default();
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            self.answer.clear();
            write_message_header(kind, payload.len(), None, &mut self.answer);
            self.answer.extend_from_slice(payload);
            if is_to_all(payload) {
                for conn in self.connections.iter().flatten() {
                    let _ = send(conn, &self.answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
                }
            } else {
                send(conn, &self.answer, SendFlags::NOSIGNAL)?;
            }
            at = to;
        }
        Ok(())
    }
}
