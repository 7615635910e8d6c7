//! One connection of an attack: what it says, and what it hears.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::BytesMut;
use mio::net::TcpStream;
use roost_wire::ws::{Decoder, Event, MessageKind, Side, write_client_message};
use socket2::{Domain, Protocol, Socket, Type};

/// The masking key of everything an attack sends.
const KEY: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
/// Bytes of an HTTP answer that are looked at.
const HEAD_MAX: usize = 4096;

/// What an attack counted: names of answers, and how often they came.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) answers: BTreeMap<String, u64>,
    pub(super) opened: u64,
    pub(super) opens_failed: u64,
    pub(super) units: u64,
    /// Units that found the socket full: the server did not read.
    pub(super) units_held_back: u64,
    pub(super) sent_bytes: u64,
}

impl Tally {
    fn heard(&mut self, what: impl Into<String>) {
        *self.answers.entry(what.into()).or_default() += 1;
    }
}

/// How far a connection is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The answer to a request is awaited.
    Http,
    /// It is a WebSocket.
    WebSocket,
    /// WELCOME came.
    Session,
}

/// One connection.
pub(super) struct Conn {
    pub(super) stream: TcpStream,
    pub(super) stage: Stage,
    /// The server compresses.
    pub(super) deflates: bool,
    /// Something is under way that bytes belong to.
    pub(super) in_frame: bool,
    decoder: Decoder,
    input: Vec<u8>,
    /// Said and not written yet.
    output: Vec<u8>,
}

impl Conn {
    /// Opens a connection to `target` from the address of number `from`.
    pub(super) fn open(target: SocketAddr, from: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source(target.ip(), from) {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            stream: TcpStream::from_std(socket.into()),
            stage: Stage::Http,
            deflates: false,
            in_frame: false,
            decoder: Decoder::new(Side::Client, 1 << 20),
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    /// Whether something said earlier is not written yet.
    pub(super) fn is_full(&self) -> bool {
        !self.output.is_empty()
    }

    /// Says `bytes` when the socket takes them.
    pub(super) fn say(&mut self, bytes: &[u8], tally: &mut Tally) {
        self.output.extend_from_slice(bytes);
        self.flush(tally);
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self, tally: &mut Tally) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(written) => {
                    tally.sent_bytes += written as u64;
                    self.output.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Later, or never: reading will tell.
                Err(_) => return,
            }
        }
    }

    /// Hears what there is. False: the connection is over.
    pub(super) fn hear(&mut self, buffer: &mut [u8], tally: &mut Tally) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return self.over("closed", tally),
                Ok(read) => {
                    self.input.extend_from_slice(&buffer[..read]);
                    if !self.understand(tally) {
                        return false;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return self.over("reset", tally),
                Err(_) => return self.over("failed", tally),
            }
        }
    }

    fn over(&self, how: &str, tally: &mut Tally) -> bool {
        tally.heard(match self.stage {
            Stage::Http => format!("{how} before an answer"),
            Stage::WebSocket | Stage::Session => format!("{how} without a close frame"),
        });
        false
    }

    /// Looks at what came. False: that was the last of it.
    fn understand(&mut self, tally: &mut Tally) -> bool {
        if self.stage == Stage::Http {
            let head = &self.input[..self.input.len().min(HEAD_MAX)];
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return self.input.len() < HEAD_MAX;
            };
            let head = String::from_utf8_lossy(&head[..end]).into_owned();
            let status = head.split(' ').nth(1).unwrap_or("?").to_owned();
            if status != "101" {
                tally.heard(format!("HTTP {status}"));
                return false;
            }
            self.deflates = head.to_ascii_lowercase().contains("permessage-deflate");
            self.stage = Stage::WebSocket;
            self.input.drain(..end + 4);
        }
        let mut at = 0;
        loop {
            match self.decoder.next(&mut self.input, &mut at) {
                Ok(None) => break,
                Ok(Some(Event::Message { payload, .. })) => {
                    if let Some(code) = error_code(payload) {
                        tally.heard(format!("ERROR {code}"));
                    } else if payload.windows(10).any(|ten| ten == b"\"welcome\":") {
                        self.stage = Stage::Session;
                    }
                }
                Ok(Some(Event::Close(body))) => {
                    let code = body.map_or("without a code".into(), |body| body.code.to_string());
                    tally.heard(format!("close {code}"));
                    return false;
                }
                Ok(Some(_)) => tally.heard("pong"),
                // Compressed, most likely: nothing an attack needs to read.
                Err(_) => {
                    tally.heard("not understood");
                    return false;
                }
            }
        }
        self.input.clear();
        true
    }
}

/// The number in `"error":{"code":…`.
fn error_code(payload: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, rest) = text.split_once("\"error\":{\"code\":")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A masked text message.
pub(super) fn text(payload: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_client_message(MessageKind::Text, payload.as_bytes(), KEY, &mut out);
    out.to_vec()
}

/// A masked frame with the mask 0, whatever its first byte says.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The address an attacker connects from; `None` for what the system chooses.
fn source(target: IpAddr, number: u32) -> Option<Ipv4Addr> {
    let IpAddr::V4(target) = target else { return None };
    // Elsewhere than on Linux only 127.0.0.1 is there by itself.
    (cfg!(target_os = "linux") && target.is_loopback())
        .then(|| Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 66, 0, 1)) + number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_errors_are_found() {
        for (payload, code) in [
            (r#"{"rid":3,"error":{"code":404,"message":"x"}}"#, Some(404)),
            (r#"{"error":{"code":100}}"#, Some(100)),
            (r#"{"entry":{}}"#, None),
        ] {
            assert_eq!(error_code(payload.as_bytes()), code);
        }
    }

    #[test]
    fn attackers_have_addresses_of_their_own() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if cfg!(target_os = "linux") {
            assert_eq!(source(loopback, 300), Some(Ipv4Addr::new(127, 66, 1, 45)));
        }
        assert_eq!(source(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0), None);
    }
}
