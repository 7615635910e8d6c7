//! The ring itself: entries in, completions out, and what may go wrong between.
//!
//! Invariants:
//! - once [`Ring::submit`] has returned, the kernel has every entry: descriptors that they name may be closed then;
//! - completions are taken out after every call, so that the kernel always has room for the next ones; what did not
//!   fit it keeps (`IORING_FEAT_NODROP`), and the next call brings it;
//! - (A) `kept` never grows beyond its first allocation, and is emptied only when no entry waits;
//! - (B) `adopting` is the kernel's from the push of an adoption until its completion.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::address::Address;
use crate::{Bell, Token};

/// How often a submission is tried again when the kernel lacks memory for a moment, and the pause between.
const TRIES: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(1);
/// How often a wait enters the kernel for what it holds back. The rest comes with the next one.
const CALLS_PER_WAIT: u32 = 64;
/// Room for completions that is kept when none is left.
const DONE_KEPT: usize = 16 * 1024;
/// What operations of the ring's own carry.
const OWN: u64 = u64::MAX;

/// What the kernel says of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Completion<T> {
    /// Whose it is.
    pub token: T,
    /// What the system call would have returned; an error is negative.
    pub result: i32,
    flags: u32,
}

impl<T> Completion<T> {
    /// Whether the operation goes on and will complete again.
    #[must_use]
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// Whether a receive left bytes in the socket.
    #[must_use]
    pub fn bytes_left(&self) -> bool {
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
///
/// Single issuer, cooperative task running: what completes is run when its thread enters the kernel anyway, or sleeps
/// there.
pub struct Ring<T> {
    ring: IoUring,
    state: State,
    done: VecDeque<Completion<T>>,
    /// A wake-up came outside of a sleep: the next one is to end at once.
    woken: bool,
    /// Addresses that entries point at which are not submitted yet.
    kept: Vec<Address>,
    /// A descriptor on its way into the table, then its place there.
    adopting: Option<Box<UnsafeCell<i32>>>,
    /// What became of operations of the ring's own.
    own: Vec<i32>,
    overflows: u64,
}

// SAFETY: the addresses and the descriptor are the ring's own, and nothing in them belongs to a thread.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Token> Ring<T> {
    /// A ring for `entries` that wait to be submitted, and `completions` before the kernel has to keep them elsewhere;
    /// both are rounded up to powers of two.
    ///
    /// # Errors
    /// The system forbids it (EPERM, ENOSYS), does not know what is asked of it (EINVAL, `Unsupported`), or has no
    /// memory or descriptor left.
    pub fn new(entries: u32, completions: u32) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        // One thread submits, and what completes later is put down by it when it asks, not whenever it is interrupted: whoever
        // sleeps elsewhere meanwhile is not woken. An entry that fails does not hold up those behind it.
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        let ring = builder.setup_r_disabled().setup_cqsize(completions).build(entries)?;
        let params = ring.params();
        if !(params.is_feature_nodrop() && params.is_feature_ext_arg() && params.is_feature_submit_stable()) {
            return Err(ErrorKind::Unsupported.into());
        }
        Ok(Self {
            ring,
            state: State::New,
            done: VecDeque::new(),
            woken: false,
            kept: Vec::new(),
            adopting: None,
            own: Vec::new(),
            overflows: 0,
        })
    }

    /// Gives it a table of `places` free places for files, see [`files::places`](crate::files::places). Once a ring.
    ///
    /// # Errors
    /// EMFILE: more than the soft limit of descriptors; or no memory.
    pub fn register_files(&self, places: u32) -> io::Result<()> {
        self.ring.submitter().register_files_sparse(places)
    }

    /// Lets it ring `bell` whenever something completes.
    ///
    /// # Errors
    /// It rings one already, or no memory is left.
    pub fn register_bell(&self, bell: &Bell) -> io::Result<()> {
        self.ring.submitter().register_eventfd(bell.as_fd().as_raw_fd())
    }

    /// Whether its bell stays silent whatever completes: for a thread that is awake and looks anyway. Look once more after
    /// allowing it to ring, before sleeping.
    pub fn mute(&mut self, mute: bool) {
        let queue = self.ring.completion();
        if mute { queue.disable_eventfd() } else { queue.enable_eventfd() }
    }

    /// How many threads the kernel may use for operations of this thread's rings that it does not do in the call itself.
    ///
    /// # Errors
    /// Linux before 5.15.
    pub fn limit_workers(&self, most: u32) -> io::Result<()> {
        self.ring.submitter().register_iowq_max_workers(&mut [most, most])
    }

    /// Gives each of `slots` of the table a plain descriptor beside, which `each` gets, in order, for calls that rings
    /// do not have. So many descriptors are open at once. Everything that waits is submitted. Linux 6.8.
    ///
    /// # Errors
    /// As [`Ring::submit`]. `each` hears of EMFILE, and EBADF for an empty place.
    pub fn install(&mut self, slots: &[u32], mut each: impl FnMut(io::Result<OwnedFd>)) -> io::Result<()> {
        // Their completions follow each other, as each ends in the call that submits it, in order.
        self.own.clear();
        for slot in slots {
            let entry = opcode::FixedFdInstall::new(types::Fixed(*slot), 0).build().user_data(OWN);
            // SAFETY: the entry points at nothing, and the table's files are the ring's own.
            unsafe { self.push(&entry) }?;
        }
        self.submit()?;
        for result in self.own.drain(..) {
            if result < 0 {
                each(Err(io::Error::from_raw_os_error(-result)));
            } else {
                // SAFETY: the kernel made this descriptor for us, and nobody else knows of it.
                each(Ok(unsafe { OwnedFd::from_raw_fd(result) }));
            }
        }
        Ok(())
    }

    /// The first of `codes`, each with a name, that this kernel does not know.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn unknown(&self, codes: &[(u8, &'static str)]) -> io::Result<Option<&'static str>> {
        let mut probe = io_uring::Probe::new();
        self.ring.submitter().register_probe(&mut probe)?;
        Ok(codes.iter().find(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name))
    }

    /// Puts an entry in, submitting what is there if it is full.
    ///
    /// # Errors
    /// As [`Ring::submit`]; the entry is not in then.
    ///
    /// # Safety
    /// What the entry points at stays valid until its completion, or until it is submitted if the kernel copies it then.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        self.make_room(1)?;
        let mut queue = self.ring.submission();
        // SAFETY: promised by the caller.
        let pushed = unsafe { queue.push(entry) };
        pushed.map_err(|_full| io::Error::from(ErrorKind::WouldBlock))
    }

    /// Submits what is there if `entries` more do not fit: so that linked ones come to be in one submission.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn make_room(&mut self, entries: usize) -> io::Result<()> {
        let queue = self.ring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < entries { self.submit() } else { Ok(()) }
    }

    /// Keeps an address until the entry that is pushed next is submitted.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub(crate) fn keep(&mut self, addr: SocketAddr) -> io::Result<(*const libc::sockaddr, libc::socklen_t)> {
        // First, as the push would: what is kept then is gone by the time its entry goes in.
        self.make_room(1)?;
        if self.kept.capacity() == 0 {
            self.kept.reserve_exact(self.ring.params().sq_entries() as usize);
        }
        if self.kept.len() == self.kept.capacity() {
            // Entries without addresses that failed to go in left theirs behind.
            self.submit()?;
        }
        self.kept.push(addr.into());
        let kept = self.kept.last().ok_or(ErrorKind::OutOfMemory)?;
        Ok((kept.start(), kept.len()))
    }

    /// Puts the file of `fd` into a free place of the table, and returns the place. `fd` itself may be closed then.
    /// Everything that waits is submitted.
    ///
    /// # Errors
    /// ENFILE: no place is free. Else as [`Ring::submit`].
    pub fn adopt(&mut self, fd: BorrowedFd<'_>) -> io::Result<u32> {
        let cell = Box::new(UnsafeCell::new(fd.as_raw_fd()));
        let start: *const i32 = self.adopting.insert(cell).get();
        // The kernel allocates the place, and writes it to where the descriptor was.
        let entry = opcode::FilesUpdate::new(start, 1).offset(-1).build().user_data(OWN);
        self.own.clear();
        // SAFETY: the cell stays until the completion (B).
        unsafe { self.push(&entry) }?;
        self.submit()?;
        // It has ended in that call: it never waits.
        let Some(result) = self.own.pop() else {
            std::mem::forget(self.adopting.take());
            return Err(io::Error::other("a file is not in the table yet"));
        };
        let mut cell = self.adopting.take().ok_or(ErrorKind::Other)?;
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        u32::try_from(*cell.get_mut()).map_err(io::Error::other)
    }

    /// Entries that are not submitted yet.
    #[must_use]
    pub fn pending(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// How often completions did not fit, so that the kernel kept them elsewhere.
    #[must_use]
    pub const fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Hands every entry to the kernel. What it completes at once is there afterwards.
    ///
    /// # Errors
    /// The ring is broken, or the kernel lacked memory for too long. Nothing can be done with it any more.
    pub fn submit(&mut self) -> io::Result<()> {
        self.guard(Self::try_submit)
    }

    /// Hands every entry to the kernel and sleeps until there is a completion or `timeout` is over; `None` waits for
    /// ever, and zero does not sleep, but enters the kernel for what it has kept. Does not sleep if a completion that
    /// [wakes](Token::wakes) came since the last sleep, whoever has taken it out.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.woken { Some(Duration::ZERO) } else { timeout };
        let result = self.guard(|ring| ring.try_wait(timeout));
        self.woken = false;
        result
    }

    /// Takes out what has completed, entering the kernel only if it holds something back. For rings that share a [`Bell`].
    /// Returns whether a completion that wakes came since the last call of this or of [`Ring::wait`].
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn look(&mut self) -> io::Result<bool> {
        self.reap();
        if self.holds_back() {
            self.guard(|ring| ring.try_wait(Some(Duration::ZERO)))?;
        }
        Ok(std::mem::take(&mut self.woken))
    }

    /// The next completion that was taken out.
    pub fn pop(&mut self) -> Option<Completion<T>> {
        let next = self.done.pop_front();
        if next.is_none() && self.done.capacity() > DONE_KEPT {
            self.done.shrink_to(DONE_KEPT);
        }
        next
    }

    /// True if completions wait for [`Ring::pop`].
    #[must_use]
    pub fn has_completions(&self) -> bool {
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
                self.kept.clear();
                return Ok(());
            }
            self.call(IoUring::submit)?;
        }
        Err(ErrorKind::OutOfMemory.into())
    }

    fn try_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match timeout {
            Some(Duration::ZERO) => self.call(IoUring::submit)?,
            Some(timeout) => {
                let timeout = types::Timespec::from(timeout);
                let args = types::SubmitArgs::new().timespec(&timeout);
                self.call(|ring| ring.submitter().submit_with_args(1, &args))?;
            }
            None => self.call(|ring| ring.submit_and_wait(1))?,
        }
        // A call puts down some twenty at most.
        for _ in 0..CALLS_PER_WAIT {
            if !self.holds_back() {
                break;
            }
            self.call(IoUring::submit)?;
        }
        self.try_submit()
    }

    /// Whether the kernel has completions that it puts down when it is entered.
    fn holds_back(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.cq_overflow() || queue.taskrun()
    }

    /// Enters the kernel, and takes out what completed.
    fn call(&mut self, enter: impl FnOnce(&IoUring) -> io::Result<usize>) -> io::Result<()> {
        let result = enter(&self.ring);
        self.reap();
        pass_over(result)
    }

    fn reap(&mut self) {
        // Told before the queue is emptied: the next call of the kernel takes it back.
        self.overflows += u64::from(self.ring.submission().cq_overflow());
        for entry in self.ring.completion() {
            if entry.user_data() == OWN {
                self.own.push(entry.result());
                continue;
            }
            let (token, result, flags) = (T::unpack(entry.user_data()), entry.result(), entry.flags());
            self.woken |= token.wakes();
            self.done.push_back(Completion { token, result, flags });
        }
    }
}

impl<T> Drop for Ring<T> {
    /// The kernel ends what is under way in its own time: what it may yet write to is leaked.
    fn drop(&mut self) {
        std::mem::forget(self.adopting.take());
    }
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
