//! Receive buffers: the shard owns them, a receive borrows one until its completion.
//!
//! Every receive is told not to wait, so it ends in the call that submits it: a few buffers serve any number of
//! connections, an idle one has none, and running out of them cannot happen within a batch of that many.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use roost_wire::link::SessionKey;

/// Buffers, and so receives of one batch.
pub(super) const BUFFERS: usize = 64;
/// Bytes of a buffer. Pages of it that were never written take no memory.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

/// Buffers lent to the kernel.
///
/// Invariants: (A) `base` points at `BUFFERS * BUFFER_BYTES` initialised bytes until drop. (B) A buffer is with the
/// kernel exactly while `lent` names its borrower; Rust makes no reference into it then.
pub(super) struct Arena {
    base: NonNull<u8>,
    lent: Box<[Option<SessionKey>]>,
    /// Last given back, first lent: what is warm is used again.
    free: Vec<u16>,
}

/// Where a receive may write.
pub(super) struct Lent {
    pub(super) buffer: u16,
    pub(super) start: *mut u8,
}

// SAFETY: the arena owns its bytes alone; nothing in it belongs to a thread.
unsafe impl Send for Arena {}

impl Arena {
    const LAYOUT: Layout = match Layout::from_size_align(BUFFERS * BUFFER_BYTES, 4096) {
        Ok(layout) => layout,
        Err(_) => panic!("a power of two"),
    };

    pub(super) fn new() -> Self {
        // SAFETY: the size of the layout is not zero.
        let base = unsafe { alloc_zeroed(Self::LAYOUT) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(Self::LAYOUT) };
        Self { base, lent: vec![None; BUFFERS].into(), free: (0..BUFFERS as u16).rev().collect() }
    }

    /// Lends a buffer for bytes of `key`; `None`: all are lent.
    pub(super) fn lend(&mut self, key: SessionKey) -> Option<Lent> {
        let buffer = self.free.pop()?;
        self.lent[usize::from(buffer)] = Some(key);
        Some(Lent { buffer, start: self.start(buffer) })
    }

    /// Takes `buffer` back. Returns whom it was lent for, and the `len` bytes the kernel wrote.
    ///
    /// # Panics
    /// On a completion we did not ask for.
    pub(super) fn take_back(&mut self, buffer: u16, len: usize) -> (SessionKey, &mut [u8]) {
        let key = self.lent[usize::from(buffer)].take().expect("a buffer that was lent");
        assert!(len <= BUFFER_BYTES, "{len} B in a buffer of {BUFFER_BYTES} B");
        self.free.push(buffer);
        // SAFETY: `len <= BUFFER_BYTES` initialised bytes (A); the kernel is done with them (B), and `&mut self` keeps
        // anyone from lending the buffer while the slice lives.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.start(buffer), len) };
        (key, bytes)
    }

    /// How many buffers the kernel has.
    pub(super) fn lent(&self) -> usize {
        BUFFERS - self.free.len()
    }

    fn start(&self, buffer: u16) -> *mut u8 {
        assert!(usize::from(buffer) < BUFFERS, "a buffer of ours");
        // SAFETY: (A): `buffer < BUFFERS`, so it is inside the allocation.
        unsafe { self.base.as_ptr().add(usize::from(buffer) * BUFFER_BYTES) }
    }
}

impl Drop for Arena {
    /// With a buffer still lent the memory is leaked: the kernel may yet write there.
    fn drop(&mut self) {
        if self.lent() == 0 {
            // SAFETY: (A): allocated with this layout, and nobody has a part of it (B).
            unsafe { dealloc(self.base.as_ptr(), Self::LAYOUT) };
        } else {
            tracing::warn!(buffers = self.lent(), "receive buffers are left to the kernel");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_lent_once_each_and_come_back_with_their_borrower() {
        let mut arena = Arena::new();
        let keys: Vec<_> = (0..BUFFERS as u32).map(|slot| SessionKey::new(0, slot, 9)).collect();
        let mut lent: Vec<_> = keys.iter().map(|key| arena.lend(*key).expect("room")).collect();
        assert!(arena.lend(keys[0]).is_none(), "all are lent");
        lent.sort_by_key(|lent| lent.start);
        assert!(lent.windows(2).all(|two| two[1].start as usize - two[0].start as usize == BUFFER_BYTES));
        for one in &lent {
            // SAFETY: the test plays the kernel: the buffer is lent, and 4 bytes fit.
            unsafe { one.start.copy_from_nonoverlapping([7, 8, 9, one.buffer as u8].as_ptr(), 4) };
        }
        let mut back: Vec<_> = lent
            .iter()
            .map(|one| {
                let (key, bytes) = arena.take_back(one.buffer, 4);
                assert_eq!(bytes, [7, 8, 9, one.buffer as u8]);
                key
            })
            .collect();
        back.sort_unstable();
        assert_eq!((back, arena.lent()), (keys, 0));
    }

    #[test]
    #[should_panic(expected = "a buffer that was lent")]
    fn a_completion_nobody_asked_for_is_a_fault_of_ours() {
        Arena::new().take_back(3, 0);
    }
}
