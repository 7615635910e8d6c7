//! Whether this kernel allows what the driver needs.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use roost_wire::link::SessionKey;

use super::arena::Arena;
use super::batch::Piece;
use super::op::{self, poll::Report};
use super::ring::{self, Completion, Ring};
use super::token::Token;
use crate::driver::Unfit;

/// How long the little ring may take for each of its operations; they take microseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is sent.
const BYTE: &[u8] = b"!";

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden,
            Some(libc::ENOSYS) => Self::Missing,
            Some(libc::EINVAL) => Self::TooOld("a way to set it up is unknown"),
            _ if error.kind() == io::ErrorKind::Unsupported => Self::TooOld("a feature is missing"),
            _ => Self::Failed(error),
        }
    }
}

/// Sets up a little ring, asks for every operation, and does each of them once.
///
/// # Errors
/// Why the driver cannot be used.
pub fn probe() -> Result<(), Unfit> {
    let mut ring = Ring::with_sizes(8, 64)?;
    let needed =
        [(op::poll::CODE, "poll"), (op::send::CODE, "send"), (op::recv::CODE, "recv"), (op::cancel::CODE, "cancel")];
    if let Some(name) = ring::unknown(&ring, &needed)? {
        return Err(Unfit::TooOld(name));
    }
    try_out(&mut ring).map_err(Unfit::from)
}

/// A connection to ourselves: a send, a poll that tells of it and stays armed, a receive, and a
/// cancellation.
fn try_out(ring: &mut Ring) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    let key = SessionKey::new(0, 0, 0);
    op::poll::start(ring, near.as_fd(), libc::POLLIN, Token::poll(key))?;
    let piece = Piece { start: BYTE.as_ptr(), len: BYTE.len() as u32 };
    op::send::start(ring, far.as_fd(), 0, piece)?;
    for _ in 0..2 {
        let completion = next(ring)?;
        match completion.token {
            Token::Send(0) => expect(completion.result == 1, "a send takes nothing")?,
            _ => {
                let readable = Report(completion.result).is_readable();
                expect(readable && completion.more(), "a poll does not stay armed")?;
            }
        }
    }
    let mut arena = Arena::new();
    let lent = arena.lend(key).ok_or(io::ErrorKind::OutOfMemory)?;
    op::recv::start(ring, near.as_fd(), &lent)?;
    let received = next(ring)?;
    let (_, bytes) = arena.take_back(lent.buffer, received.result.max(0) as usize);
    expect(bytes == BYTE, "a receive brings nothing")?;
    op::cancel::start(ring, Token::poll(key))?;
    expect(next(ring)?.result == -libc::ECANCELED, "a poll cannot be cancelled")
}

fn next(ring: &mut Ring) -> io::Result<Completion> {
    if !ring.has_completions() {
        ring.wait(Some(PATIENCE))?;
    }
    ring.pop().ok_or_else(|| io::ErrorKind::TimedOut.into())
}

fn expect(holds: bool, otherwise: &'static str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(otherwise)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_kernel_are_told_apart() {
        for (number, text) in [
            (libc::EPERM, "forbidden here"),
            (libc::ENOSYS, "has no io_uring"),
            (libc::EINVAL, "too old"),
            (libc::ENOMEM, "does not work"),
        ] {
            let unfit = Unfit::from(io::Error::from_raw_os_error(number)).to_string();
            assert!(unfit.contains(text), "{number}: {unfit}");
        }
    }
}
