//! Whether this kernel allows what the driver needs.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use roost_uring::op::poll::Report;
use roost_uring::op::{accept, adopt, cancel, close, install, poll, recv, send};
use roost_uring::{Addresses, Arena, Completion, How, Ring, Target};
use roost_wire::link::SessionKey;

use super::batch::Piece;
use super::op;
use super::place::Place;
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
    let mut ring = Ring::new(8, 64)?;
    let needed = [
        (accept::CODE, "accept"),
        (adopt::CODE, "files_update"),
        (cancel::CODE, "cancel"),
        (close::CODE, "close"),
        (poll::CODE, "poll"),
        (recv::CODE, "recv"),
        (send::CODE, "send"),
    ];
    if let Some(name) = ring.unknown(&needed)? {
        return Err(Unfit::TooOld(name));
    }
    try_out(&mut ring).map_err(Unfit::from)
}

/// Whether a file of a ring can have a descriptor for a moment.
pub(super) fn installs() -> bool {
    let ring = Ring::<Token>::new(1, 2);
    ring.is_ok_and(|ring| matches!(ring.unknown(&[(install::CODE, "install")]), Ok(None)))
}

/// A connection to ourselves, in a table of the ring: an accept, a poll that tells of it and stays armed, a send, a
/// receive, and a close that the peer hears.
fn try_out(ring: &mut Ring<Token>) -> io::Result<()> {
    ring.register_files(2)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut peers = Addresses::new(1);
    let lent = peers.lend().ok_or(io::ErrorKind::OutOfMemory)?;
    op::accept(ring, &listener, &lent)?;
    ring.submit()?;
    let mut far = TcpStream::connect(listener.local_addr()?)?;
    let accepted = next(ring)?;
    let peer = peers.take_back(lent.row);
    expect(peer == Some(far.local_addr()?), "an accept tells no address")?;
    let slot = u32::try_from(accepted.result).map_err(|_| io::Error::from_raw_os_error(-accepted.result))?;
    let (place, key) = (Place::new(0, slot), SessionKey::new(0, 0, 0));
    let other = ring.adopt(far.try_clone()?.as_fd())?;
    expect(other != slot, "a place is given twice")?;
    poll::start(ring, Target::fixed(slot), libc::POLLIN, How::PLAIN, Token::poll(key))?;
    let piece = Piece { start: BYTE.as_ptr(), len: BYTE.len() as u32 };
    op::send(ring, Place::new(0, other), 0, piece)?;
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
    let mut arena = Arena::new(1, 64);
    let lent = arena.lend(key).ok_or(io::ErrorKind::OutOfMemory)?;
    op::receive(ring, place, &lent)?;
    let received = next(ring)?;
    let (_, bytes) = arena.take_back(lent.buffer, received.result.max(0) as usize);
    expect(bytes == BYTE, "a receive brings nothing")?;
    close::after_cancel(ring, slot, Token::poll(key), Token::Done, Token::Close)?;
    let ended = [next(ring)?, next(ring)?].map(|completion| (completion.token, completion.result));
    expect(ended.contains(&(Token::poll(key), -libc::ECANCELED)), "a poll cannot be cancelled")?;
    expect(ended.contains(&(Token::Close, 0)), "a place cannot be closed")?;
    far.set_read_timeout(Some(PATIENCE))?;
    expect(far.read(&mut [0])? == 0, "the peer does not hear of a close")
}

fn next(ring: &mut Ring<Token>) -> io::Result<Completion<Token>> {
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
