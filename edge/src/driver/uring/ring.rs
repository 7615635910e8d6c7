//! The ring itself: entries in, completions out, and what may go wrong between.
//!
//! Invariants:
//! - once [`Ring::submit`] has returned, the kernel has every entry: descriptors that they name may be closed then;
//! - completions are taken out after every call, so that the kernel always has room for the next ones; what did not
//!   fit it keeps (`IORING_FEAT_NODROP`), and the next call brings it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue, types};

use super::token::Token;

/// Entries that fit before they are submitted.
const ENTRIES: u32 = 512;
/// Completions that fit before the kernel has to keep them elsewhere.
const COMPLETIONS: u32 = 8192;
/// How often a submission is tried again when the kernel lacks memory for a moment, and the pause between.
const TRIES: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(1);

/// What the kernel says of an operation.
#[derive(Clone, Copy)]
pub(super) struct Completion {
    pub(super) token: Token,
    /// What the system call would have returned; an error is negative.
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the operation goes on and will complete again.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// Whether a receive left bytes in the socket.
    pub(super) fn bytes_left(&self) -> bool {
        cqueue::sock_nonempty(self.flags)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No thread has it yet.
    New,
    Usable,
    /// It failed once. What it holds is never submitted: descriptors in there may be closed.
    Broken,
}

/// One ring. It is made on any thread, and used on the one that submits first.
pub(super) struct Ring {
    ring: IoUring,
    state: State,
    done: VecDeque<Completion>,
    /// A wake-up came outside of a sleep: the next one is to end at once.
    woken: bool,
}

impl Ring {
    /// A ring of the usual size.
    ///
    /// # Errors
    /// The system forbids it (EPERM, ENOSYS), does not know what is asked of it (EINVAL), or has no memory or
    /// descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        Self::with_sizes(ENTRIES, COMPLETIONS)
    }

    pub(super) fn with_sizes(entries: u32, completions: u32) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        // One thread submits; it runs what completes when it enters the kernel anyway, not whenever it is interrupted.
        // An entry that fails does not hold up those behind it.
        builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
        let ring = builder.setup_r_disabled().setup_cqsize(completions).build(entries)?;
        let params = ring.params();
        if !(params.is_feature_nodrop() && params.is_feature_ext_arg() && params.is_feature_submit_stable()) {
            return Err(ErrorKind::Unsupported.into());
        }
        Ok(Self { ring, state: State::New, done: VecDeque::new(), woken: false })
    }

    /// Puts an entry in, submitting what is there if it is full.
    ///
    /// # Errors
    /// As [`Ring::submit`]; the entry is not in then.
    ///
    /// # Safety
    /// What the entry points at stays valid until its completion, and the descriptor it names stays open until it is
    /// submitted.
    #[expect(unsafe_code, reason = "the kernel will read and write where the entry points at")]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.submit()?;
        }
        let mut queue = self.ring.submission();
        // SAFETY: promised by the caller.
        let pushed = unsafe { queue.push(entry) };
        pushed.map_err(|_full| io::Error::from(ErrorKind::WouldBlock))
    }

    /// Entries that are not submitted yet.
    pub(super) fn pending(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// Hands every entry to the kernel.
    ///
    /// # Errors
    /// The ring is broken, or the kernel lacked memory for too long. Nothing can be done with it any more.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.guard(Self::try_submit)
    }

    /// Hands every entry to the kernel and sleeps until there is a completion or `timeout` is over; `None` waits for
    /// ever. Does not sleep if a wake-up came since the last sleep, whoever has seen its completion.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.woken { Some(Duration::ZERO) } else { timeout };
        let result = self.guard(|ring| ring.try_wait(timeout));
        self.woken = false;
        result
    }

    /// The next completion that was taken out.
    pub(super) fn pop(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    /// True if completions wait for [`Ring::pop`].
    pub(super) fn has_completions(&self) -> bool {
        !self.done.is_empty()
    }

    /// Does `work` on a ring that is usable, and remembers if that was its end.
    fn guard(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let result = match self.state {
            State::Broken => Err(io::Error::other("the ring failed before")),
            // From now on it belongs to this thread.
            State::New => self.ring.submitter().register_enable_rings(),
            State::Usable => Ok(()),
        };
        let result = result.and_then(|()| work(self));
        self.state = if result.is_ok() { State::Usable } else { State::Broken };
        result
    }

    fn try_submit(&mut self) -> io::Result<()> {
        for _ in 0..TRIES {
            if self.ring.submission().is_empty() {
                return Ok(());
            }
            let result = self.ring.submit();
            self.reap();
            pass_over(result)?;
        }
        Err(ErrorKind::OutOfMemory.into())
    }

    fn try_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let result = match timeout {
            // Even so the kernel is entered: what completed waits for that.
            Some(Duration::ZERO) => self.ring.submit(),
            Some(timeout) => {
                let timeout = types::Timespec::from(timeout);
                let args = types::SubmitArgs::new().timespec(&timeout);
                self.ring.submitter().submit_with_args(1, &args)
            }
            None => self.ring.submit_and_wait(1),
        };
        self.reap();
        pass_over(result)?;
        self.try_submit()
    }

    fn reap(&mut self) {
        for entry in self.ring.completion() {
            let (token, result, flags) = (Token::unpack(entry.user_data()), entry.result(), entry.flags());
            self.woken |= token == Token::Wake;
            self.done.push_back(Completion { token, result, flags });
        }
    }
}

/// Whether operations of all these kinds are known; asked of a ring that is not used yet.
pub(super) fn unknown(ring: &Ring, codes: &[(u8, &'static str)]) -> io::Result<Option<&'static str>> {
    let mut probe = io_uring::Probe::new();
    ring.ring.submitter().register_probe(&mut probe)?;
    Ok(codes.iter().find(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name))
}

/// Turns errors that the next try may not have into nothing.
fn pass_over(result: io::Result<usize>) -> io::Result<()> {
    match result.map_err(|error| (error.raw_os_error(), error)) {
        // A signal; the time is over; completions had to be taken out first.
        Ok(_) | Err((Some(libc::EINTR | libc::ETIME | libc::EBUSY), _)) => Ok(()),
        // No memory for requests.
        Err((Some(libc::EAGAIN), _)) => {
            thread::sleep(PAUSE);
            Ok(())
        }
        Err((_, error)) => Err(error),
    }
}
