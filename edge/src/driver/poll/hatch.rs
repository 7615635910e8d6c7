//! Shards with descriptors of their own: more connections than one table of descriptors holds.
//!
//! The limit of descriptors is one of a table, and threads share theirs unless they ask otherwise (unshare(2),
//! `CLONE_FILES`). The acceptor has the process's table, so connections reach such a shard through a socket that carries
//! descriptors (unix(7), `SCM_RIGHTS`), in the order in which the mailbox tells of them.
//!
//! A new table begins as a copy. What a shard's thread does not use it closes there, so that it holds no file or connection
//! that others close. It keeps what it may have to touch: wakers of other threads and what signal handlers write to, which
//! must therefore exist before it begins.

use std::fs;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{FileType, fstat};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The acceptor's end.
#[derive(Debug)]
pub(crate) struct Hatch(OwnedFd);

/// The shard's end.
#[derive(Debug)]
pub(super) struct Hatchway(OwnedFd);

/// Both ends.
///
/// # Errors
/// No descriptor is left, most likely.
pub(super) fn pair() -> io::Result<(Hatch, Hatchway)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (hatch, hatchway) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((Hatch(hatch), Hatchway(hatchway)))
}

impl Hatch {
    /// Hands a connection over. It is the shard's then, and `stream` may be closed.
    ///
    /// # Errors
    /// `WouldBlock`: the shard has not taken those before; else it has ended, or no memory is left.
    pub(crate) fn give(&self, stream: &TcpStream) -> io::Result<()> {
        let stream = [stream.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&stream));
        match sendmsg(&self.0, &[IoSlice::new(b"!")], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            // So many descriptors of this user are on their way.
            Err(rustix::io::Errno::TOOMANYREFS) => Err(ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Hatchway {
    /// The next connection that was handed over.
    ///
    /// # Errors
    /// None was, or this table has no room for it: then it is closed.
    pub(super) fn take(&self) -> io::Result<TcpStream> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
        descriptor.map(TcpStream::from).ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))
    }
}

/// Gives this thread a table of its own.
///
/// # Errors
/// The system forbids it, or does not tell which descriptors there are (no `/proc`).
pub(super) fn own_table() -> io::Result<()> {
    // SAFETY: what this thread uses from here on was open before, and stays in its table: see `is_used`. What it opens is its
    // driver's, which lives and ends on this thread.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }?;
    let numbers: Vec<RawFd> = fs::read_dir("/proc/thread-self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers {
        // SAFETY: the table is this thread's alone, so nobody closes it meanwhile.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if !is_used(descriptor, number) {
            // SAFETY: nothing of this thread has it, and other threads have their own.
            unsafe { rustix::io::close(number) };
        }
    }
    Ok(())
}

/// Whether this thread may use it: not files, and not sockets of the network, which others close when they end.
fn is_used(descriptor: BorrowedFd<'_>, number: RawFd) -> bool {
    let standard = (0..=2).contains(&number);
    let kind = fstat(descriptor).map(|stat| FileType::from_raw_mode(stat.st_mode));
    standard
        || match kind {
            Ok(FileType::RegularFile | FileType::Directory) => false,
            Ok(FileType::Socket) => {
                sockopt::socket_domain(descriptor.as_fd()).is_ok_and(|of| of == AddressFamily::UNIX)
            }
            Ok(_) => true,
            // The listing itself, which is closed by now.
            Err(_) => true,
        }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::os::fd::AsRawFd;
    use std::thread;

    use super::*;

    #[test]
    fn connections_come_through_in_order_into_a_table_that_has_nothing_else() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (hatch, hatchway) = pair().unwrap();
        let shard = thread::spawn(move || {
            own_table().unwrap();
            while hatchway.take().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                thread::yield_now();
            }
            // Neither the listener nor any other connection is left here.
            let left = fs::read_dir("/proc/thread-self/fd").unwrap().count();
            let second = hatchway.take().unwrap();
            (&second).write_all(b"second").unwrap();
            left
        });
        let mut peers = Vec::new();
        for _ in 0..2 {
            peers.push(TcpStream::connect(addr).unwrap());
            hatch.give(&listener.accept().unwrap().0).unwrap();
        }
        let listening = listener.as_raw_fd();
        drop(listener);
        let left = shard.join().unwrap();
        assert!(left > 0 && listening > 2);
        let mut told = String::new();
        peers[1].read_to_string(&mut told).unwrap();
        assert_eq!((told.as_str(), peers[0].read(&mut [0]).unwrap()), ("second", 0));
        // The shard's table went with it, so nobody listens there any more.
        assert!(TcpStream::connect(addr).is_err());
    }
}
