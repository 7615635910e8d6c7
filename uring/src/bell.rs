//! One sleep for several rings: an eventfd that each of them adds to when something completed.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::Timespec;

/// Rings that rang it, or whoever calls [`Bell::ring`], end the sleep of [`Bell::wait`], or the next one.
///
/// Look at every ring after a sleep and before the next one: it tells that something completed, not where.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A silent one.
    ///
    /// # Errors
    /// No descriptor is left, most likely.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Rings it, from any thread.
    ///
    /// # Errors
    /// None that is known.
    pub fn ring(&self) -> io::Result<()> {
        match rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            // 64 bits that nobody read: it is ringing.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sleeps until it rings or `timeout` is over (`None`: for ever), and makes it silent. A signal ends the sleep too.
    /// Returns whether it rang.
    ///
    /// # Errors
    /// No memory is left, most likely.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        // What does not fit is as good as for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) => {
                let error = io::Error::from(error);
                return if error.kind() == ErrorKind::Interrupted { Ok(false) } else { Err(error) };
            }
        }
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
