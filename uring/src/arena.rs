//! Receive buffers: a thread owns them, a receive borrows one until its completion.
//!
//! A receive that is told not to wait ends in the call that submits it: a few buffers serve any number of connections,
//! an idle one has none, and running out of them cannot happen within a batch of that many.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Bytes of a page, so that pages of buffers that were never written take no memory.
const PAGE: usize = 4096;

/// Buffers lent to the kernel, for borrowers of kind `K`.
///
/// Invariants: (A) `base` points at `lent.len() * bytes` initialised bytes until drop. (B) A buffer is with the kernel
/// exactly while `lent` names its borrower; Rust makes no reference into it then.
#[derive(Debug)]
pub struct Arena<K> {
    base: NonNull<u8>,
    layout: Layout,
    bytes: usize,
    lent: Box<[Option<K>]>,
    /// Last given back, first lent: what is warm is used again.
    free: Vec<u16>,
}

/// Where a receive may write.
#[derive(Debug)]
pub struct Lent {
    /// Its number, to take it back by.
    pub buffer: u16,
    pub(crate) start: *mut u8,
    pub(crate) bytes: u32,
}

// SAFETY: the arena owns its bytes alone; nothing in it belongs to a thread.
unsafe impl<K: Send> Send for Arena<K> {}

impl<K: Copy> Arena<K> {
    /// `buffers` buffers of `bytes` bytes.
    ///
    /// # Panics
    /// If one of the two is 0, or together they are more than memory can hold.
    #[must_use]
    pub fn new(buffers: u16, bytes: u32) -> Self {
        let (count, bytes) = (usize::from(buffers), bytes as usize);
        let layout = count.checked_mul(bytes).and_then(|size| Layout::from_size_align(size, PAGE).ok());
        let layout = layout.filter(|layout| layout.size() > 0).expect("some buffers that memory can hold");
        // SAFETY: the size of the layout is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        Self { base, layout, bytes, lent: vec![None; count].into(), free: (0..buffers).rev().collect() }
    }

    /// Lends a buffer for bytes of `key`; `None`: all are lent.
    pub fn lend(&mut self, key: K) -> Option<Lent> {
        let buffer = self.free.pop()?;
        self.lent[usize::from(buffer)] = Some(key);
        Some(Lent { buffer, start: self.start(buffer), bytes: self.bytes as u32 })
    }

    /// Takes `buffer` back. Returns whom it was lent for, and the `len` bytes the kernel wrote.
    ///
    /// # Panics
    /// If it was not lent, or the kernel wrote more than it was given room for.
    pub fn take_back(&mut self, buffer: u16, len: usize) -> (K, &mut [u8]) {
        let key = self.lent[usize::from(buffer)].take().expect("a buffer that was lent");
        assert!(len <= self.bytes, "{len} B in a buffer of {} B", self.bytes);
        self.free.push(buffer);
        // SAFETY: `len <= bytes` initialised bytes (A); the kernel is done with them (B), and `&mut self` keeps anyone
        // from lending the buffer while the slice lives.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.start(buffer), len) };
        (key, bytes)
    }

    fn start(&self, buffer: u16) -> *mut u8 {
        assert!(usize::from(buffer) < self.lent.len(), "a buffer of ours");
        // SAFETY: (A): `buffer < lent.len()`, so it is inside the allocation.
        unsafe { self.base.as_ptr().add(usize::from(buffer) * self.bytes) }
    }
}

impl<K> Arena<K> {
    /// How many buffers the kernel has.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent.len() - self.free.len()
    }
}

impl<K> Drop for Arena<K> {
    /// With a buffer still lent the memory is leaked: the kernel may yet write there.
    fn drop(&mut self) {
        if self.lent() == 0 {
            // SAFETY: (A): allocated with this layout, and nobody has a part of it (B).
            unsafe { dealloc(self.base.as_ptr(), self.layout) };
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
        const BUFFERS: u16 = 8;
        let mut arena = Arena::new(BUFFERS, 256);
        let mut lent: Vec<_> = (0..BUFFERS).map(|key| arena.lend(key).expect("room")).collect();
        assert!(arena.lend(0).is_none(), "all are lent");
        lent.sort_by_key(|lent| lent.start);
        assert!(lent.windows(2).all(|two| two[1].start as usize - two[0].start as usize == 256));
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
        assert_eq!((back, arena.lent()), ((0..BUFFERS).collect(), 0));
    }

    #[test]
    #[should_panic(expected = "a buffer that was lent")]
    fn a_completion_nobody_asked_for_is_a_fault_of_ours() {
        Arena::<()>::new(4, 64).take_back(3, 0);
    }
}
