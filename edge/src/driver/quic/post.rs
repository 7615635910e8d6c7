//! Datagrams on their way from the shard that received them to the one they belong to.
//!
//! Where the kernel steers none takes this way.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use roost_edge_core::driver::Wake;

use super::hub::Origin;
use crate::sync::Mutex;

/// Datagrams that wait for one shard. What does not fit is lost, as any datagram may be.
const WAITING_MAX: usize = 4096;

/// A datagram, and what came with it.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) origin: Origin,
    pub(super) bytes: BytesMut,
}

/// The boxes of all shards.
pub(super) struct Post {
    boxes: Vec<Letterbox>,
}

struct Letterbox {
    letters: Mutex<VecDeque<Letter>>,
    waker: Arc<dyn Wake>,
}

impl Post {
    /// Each waker wakes the shard of its number.
    pub(super) fn new(wakers: impl IntoIterator<Item = Arc<dyn Wake>>) -> Self {
        let letterbox = |waker| Letterbox { letters: Mutex::new(VecDeque::new()), waker };
        Self { boxes: wakers.into_iter().map(letterbox).collect() }
    }

    /// Hands `letter` to `shard`. False: its box is full, or it does not exist.
    pub(super) fn send(&self, shard: u16, letter: Letter) -> bool {
        let Some(Letterbox { letters, waker }) = self.boxes.get(usize::from(shard)) else { return false };
        let mut letters = letters.lock();
        if letters.len() >= WAITING_MAX {
            return false;
        }
        letters.push_back(letter);
        let first = letters.len() == 1;
        drop(letters);
        if first {
            waker.wake();
        }
        true
    }

    /// Moves what waits for `shard` into `letters`, which must be empty.
    pub(super) fn take(&self, shard: u16, letters: &mut VecDeque<Letter>) {
        debug_assert!(letters.is_empty(), "taken before the last ones were read");
        if let Some(waiting) = self.boxes.get(usize::from(shard)) {
            std::mem::swap(&mut *waiting.letters.lock(), letters);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn letter(number: u32) -> Letter {
        let bytes = BytesMut::from(&number.to_be_bytes()[..]);
        let origin = Origin { remote: (Ipv4Addr::LOCALHOST, 1).into(), local_ip: None, ecn: None };
        Letter { origin, bytes }
    }

    #[test]
    fn letters_arrive_in_order_with_one_bell_and_never_more_than_fit() {
        let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
        let post = Post::new(bells.clone().map(|bell| bell as Arc<dyn Wake>));
        for number in 0..WAITING_MAX as u32 {
            assert!(post.send(1, letter(number)));
        }
        assert!(!post.send(1, letter(0)) && !post.send(2, letter(0)));
        assert_eq!(bells.map(|bell| bell.0.load(Relaxed)), [0, 1]);
        let mut letters = VecDeque::new();
        post.take(0, &mut letters);
        assert!(letters.is_empty());
        post.take(1, &mut letters);
        assert!(letters.iter().zip(0_u32..).all(|(letter, number)| letter.bytes[..] == number.to_be_bytes()));
        assert_eq!(letters.len(), WAITING_MAX);
        assert!(post.send(1, letter(0)), "there is room again");
    }
}
