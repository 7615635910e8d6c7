//! Waking up at a time. Waiting in epoll is exact to a millisecond, which would be the generator's own lateness; a
//! timer descriptor is exact to microseconds.

use std::io;
use std::time::Duration;

use mio::Poll;

#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(super) struct Timer {
    descriptor: rustix::fd::OwnedFd,
    armed_ns: u64,
}

#[cfg(target_os = "linux")]
impl Timer {
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        use mio::Interest;
        use mio::unix::SourceFd;
        use rustix::fd::AsRawFd as _;
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

        let descriptor = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&descriptor.as_raw_fd()), super::TIMER, Interest::READABLE)?;
        Ok(Self { descriptor, armed_ns: u64::MAX })
    }

    /// How long to wait in poll for what is due at `due_ns`: the timer wakes it up.
    pub(super) fn arm(&mut self, due_ns: u64, now_ns: u64) -> io::Result<Option<Duration>> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        let Some(wait) = due_ns.checked_sub(now_ns).filter(|wait| *wait > 0) else { return Ok(Some(Duration::ZERO)) };
        if self.armed_ns != due_ns {
            let wait = Timespec { tv_sec: (wait / 1_000_000_000) as i64, tv_nsec: (wait % 1_000_000_000) as _ };
            let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: wait };
            timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
            self.armed_ns = due_ns;
        }
        Ok(None)
    }

    /// It has fired.
    pub(super) fn fired(&mut self) {
        // Edge-triggered: not reading it does no harm, and it is armed anew before it counts again.
        self.armed_ns = u64::MAX;
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub(super) fn new(_: &Poll) -> io::Result<Self> {
        Ok(Self)
    }

    /// How long to wait in poll for what is due at `due_ns`.
    pub(super) fn arm(&mut self, due_ns: u64, now_ns: u64) -> io::Result<Option<Duration>> {
        Ok(Some(Duration::from_nanos(due_ns.saturating_sub(now_ns))))
    }

    pub(super) fn fired(&mut self) {}
}
