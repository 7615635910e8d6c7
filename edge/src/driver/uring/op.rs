//! Operations that the kernel is asked for, with what makes each of them sound here.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;

use roost_uring::op::{accept, poll, recv, send};
use roost_uring::{How, Lent, LentAddress, Ring, Target};

use super::batch::Piece;
use super::place::Place;
use super::token::Token;
use super::waker::UringWaker;

/// Receives from `place` into the buffer that was lent.
pub(super) fn receive(ring: &mut Ring<Token>, place: Place, lent: &Lent) -> io::Result<()> {
    let (target, token) = (Target::fixed(place.slot()), Token::Recv(lent.buffer));
    // SAFETY: a buffer is taken back when its completion comes, or leaked.
    unsafe { recv::start(ring, target, lent, How::PLAIN, token) }
}

/// Sends `piece`, which stands at `index` in the batch, to `place`.
pub(super) fn send(ring: &mut Ring<Token>, place: Place, index: u32, piece: Piece) -> io::Result<()> {
    let (target, token) = (Target::fixed(place.slot()), Token::Send(index));
    // SAFETY: the bytes stay as they are until the batch is emptied (batch, A), which is not before this completes
    // (batch, B).
    unsafe { send::start(ring, target, piece.start, piece.len, How::PLAIN, token) }
}

/// Takes the next connection of `listener`; its peer's address comes into the row that was lent.
pub(super) fn accept(ring: &mut Ring<Token>, listener: &TcpListener, peer: &LentAddress) -> io::Result<()> {
    // SAFETY: the listener is closed after every accept has ended, or with the ring.
    let target = unsafe { Target::plain(listener.as_fd()) };
    // SAFETY: a row is taken back when its completion comes, or leaked.
    unsafe { accept::start(ring, target, peer, How::PLAIN, Token::Accept(peer.row)) }
}

/// Tells when `waker` is called.
pub(super) fn hear(ring: &mut Ring<Token>, waker: &UringWaker) -> io::Result<()> {
    // SAFETY: the driver has the waker for as long as the ring.
    let target = unsafe { Target::plain(waker.as_fd()) };
    poll::start(ring, target, poll::READS, How::PLAIN, Token::Wake)
}
