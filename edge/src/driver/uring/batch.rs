//! Sends from the moment they are asked for until the kernel has ended them.
//!
//! Every send is told not to wait, so it ends in the call that submits it, and a batch lives as long as that call. But
//! nothing here relies on it: what the kernel may still read stays until the completion says that it is done.
//!
//! Invariants:
//! - (A) a [`Piece`] points at bytes that neither move nor change until the batch is emptied: a counted reference in
//!   `frames` keeps those that were taken as they are, and `copied` never grows beyond its first allocation;
//! - (B) the batch is emptied only when no send is under way.

use bytes::Bytes;
use roost_edge_core::Outbound;
use roost_wire::link::SessionKey;

/// Several frames that wait for one connection are copied into one piece of up to this many bytes: a copy of that size
/// costs less than a second send, or a list of addresses.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// Bytes for such copies, of one batch.
const COPIED_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one send.
const SEND_BYTES_MAX: usize = 1 << 20;
/// Room for frames that an empty batch keeps.
const FRAMES_KEPT: usize = 4096;

/// Bytes for one send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) start: *const u8,
    pub(super) len: u32,
}

/// A send, by its place in the batch.
struct Op {
    /// `None`: it belongs to no session.
    key: Option<SessionKey>,
    len: u32,
    done: bool,
}

/// The sends under way.
#[derive(Default)]
pub(super) struct Batch {
    ops: Vec<Op>,
    under_way: usize,
    frames: Vec<Bytes>,
    copied: Vec<u8>,
    /// The last piece, and where in `frames` those of it begin: receivers of a fan-out follow one another with the
    /// same frames, so the piece of the first one serves all.
    last: Option<(Piece, usize)>,
}

// SAFETY: the pointer in `last` is into what the batch itself owns.
unsafe impl Send for Batch {}

impl Batch {
    /// A place for what `key` sends from the front of `outbound`, and the bytes; `None` if nothing waits.
    pub(super) fn add(&mut self, key: SessionKey, outbound: &Outbound) -> Option<(u32, Piece)> {
        let piece = self.piece(outbound)?;
        Some((self.begin(Some(key), piece), piece))
    }

    /// A place for `answer`, which no session sends, and its bytes.
    pub(super) fn add_answer(&mut self, answer: Bytes) -> (u32, Piece) {
        let piece = Piece { start: answer.as_ptr(), len: answer.len().min(SEND_BYTES_MAX) as u32 };
        self.last = None;
        self.frames.push(answer);
        (self.begin(None, piece), piece)
    }

    fn begin(&mut self, key: Option<SessionKey>, piece: Piece) -> u32 {
        let index = self.ops.len() as u32;
        self.ops.push(Op { key, len: piece.len, done: false });
        self.under_way += 1;
        index
    }

    /// The send at `index` has ended. Returns whose it was (`None`: no session's) and how many bytes were offered.
    ///
    /// # Panics
    /// On a completion we did not ask for.
    pub(super) fn ended(&mut self, index: u32) -> (Option<SessionKey>, usize) {
        let op = &mut self.ops[index as usize];
        assert!(!std::mem::replace(&mut op.done, true), "a send ends once");
        self.under_way -= 1;
        (op.key, op.len as usize)
    }

    /// Sends that have not ended.
    pub(super) const fn under_way(&self) -> usize {
        self.under_way
    }

    /// Lets everything go that the kernel has ended, if it has ended all (B).
    pub(super) fn tidy(&mut self) {
        if self.under_way == 0 && !self.ops.is_empty() {
            self.ops.clear();
            self.frames.clear();
            self.frames.shrink_to(FRAMES_KEPT);
            self.copied.clear();
            self.last = None;
        }
    }

    fn piece(&mut self, outbound: &Outbound) -> Option<Piece> {
        let (count, len) = gathered(outbound)?;
        if let Some((piece, from)) = self.last
            && self.frames.len() - from == count
            && self.frames[from..].iter().zip(outbound.frames()).all(|(held, frame)| is_same(held, frame))
        {
            return Some(piece);
        }
        let from = self.frames.len();
        let room = COPIED_BYTES_MAX - self.copied.len();
        let piece = if count > 1 && len <= room { self.copy(outbound, count, len) } else { self.hold(outbound)? };
        self.last = Some((piece, from));
        Some(piece)
    }

    /// The first frame as it is.
    fn hold(&mut self, outbound: &Outbound) -> Option<Piece> {
        let frame = outbound.frames().next()?;
        self.frames.push(frame.clone());
        Some(Piece { start: frame.as_ptr(), len: frame.len().min(SEND_BYTES_MAX) as u32 })
    }

    /// The first `count` frames, which have `len` bytes, one behind the other.
    fn copy(&mut self, outbound: &Outbound, count: usize, len: usize) -> Piece {
        if self.copied.capacity() == 0 {
            self.copied.reserve_exact(COPIED_BYTES_MAX);
        }
        let at = self.copied.len();
        for frame in outbound.frames().take(count) {
            // Kept as well: while they live, no other frame can have their addresses.
            self.frames.push(frame.clone());
            self.copied.extend_from_slice(frame);
        }
        debug_assert_eq!(self.copied.len(), at + len);
        Piece { start: self.copied.as_ptr().wrapping_add(at), len: len as u32 }
    }
}

impl Drop for Batch {
    /// What the kernel may yet read is leaked.
    fn drop(&mut self) {
        if self.under_way > 0 {
            tracing::warn!(sends = self.under_way, "frames are left to the kernel");
            std::mem::forget(std::mem::take(&mut self.frames));
            std::mem::forget(std::mem::take(&mut self.copied));
        }
    }
}

/// How many frames the next send takes, and their bytes. `None`: nothing waits.
fn gathered(outbound: &Outbound) -> Option<(usize, usize)> {
    let mut frames = outbound.frames();
    let (mut count, mut len) = (1, frames.next()?.len());
    for frame in frames {
        if len + frame.len() > PIECE_BYTES_MAX {
            break;
        }
        count += 1;
        len += frame.len();
    }
    Some((count, len))
}

/// Whether both are the same bytes in memory. They cannot have changed since: `held` keeps them.
fn is_same(held: &Bytes, frame: &Bytes) -> bool {
    std::ptr::eq(held.as_ptr(), frame.as_ptr()) && held.len() == frame.len()
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;
    use std::sync::Arc;
    use std::time::Instant;

    use roost_edge_core::{HttpDown, Shard, ShardConfig, ShardMetrics};

    use super::*;

    /// Queues of connections whose requests are the HTTP service's: what that answers is queued as it is.
    struct Queues(Shard, Instant);

    impl Queues {
        fn new() -> Self {
            let now = Instant::now();
            Self(Shard::new(Arc::new(ShardConfig::default()), 0, Arc::new(ShardMetrics::default()), now, 0), now)
        }

        fn queue(&mut self, frames: &[Bytes]) -> SessionKey {
            let key = self.0.opened(([127, 0, 0, 1], 1).into(), self.1).expect("room");
            self.0.received(key, &mut b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), self.1);
            for frame in frames {
                self.0.http(key, HttpDown::Data(frame.clone()), self.1);
            }
            key
        }

        fn add(&self, batch: &mut Batch, key: SessionKey) -> (u32, Piece) {
            batch.add(key, self.0.outbound(key).expect("a live key")).expect("something waits")
        }
    }

    /// Bytes that are known to be alive.
    struct Alive {
        _one_of: Arc<()>,
        bytes: Vec<u8>,
    }

    impl AsRef<[u8]> for Alive {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    fn bytes(piece: Piece) -> Vec<u8> {
        // SAFETY: the test plays the kernel: the batch keeps the piece, and the send has not ended.
        unsafe { std::slice::from_raw_parts(piece.start, piece.len as usize) }.to_vec()
    }

    #[test]
    fn receivers_of_the_same_frames_share_one_piece() {
        let (one, two) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; 50]));
        let (mut queues, mut batch) = (Queues::new(), Batch::default());
        let frames: [&[Bytes]; 6] = [
            from_ref(&one),
            from_ref(&one),
            &[one.clone(), two.clone()],
            &[one.clone(), two.clone()],
            &[two.clone(), one.clone()],
            from_ref(&one),
        ];
        let pieces: Vec<_> = frames.map(|frames| queues.queue(frames)).map(|key| queues.add(&mut batch, key).1).into();
        for (piece, frames) in pieces.iter().zip(frames) {
            assert_eq!(bytes(*piece), frames.concat());
        }
        let starts: Vec<_> = pieces.iter().map(|piece| piece.start).collect();
        assert_eq!((starts[0], starts[2]), (starts[1], starts[3]));
        assert_eq!(starts[0], one.as_ptr(), "one frame is sent from where it is");
        assert_ne!(starts[3], starts[4]);
        assert_eq!(batch.frames.len(), 6, "each list is held once");
        (0..6).for_each(|index| _ = batch.ended(index));
    }

    #[test]
    fn frames_are_held_until_the_last_send_has_ended() {
        let alive = Arc::new(());
        let (mut queues, mut batch) = (Queues::new(), Batch::default());
        let frame = |len| Bytes::from_owner(Alive { _one_of: alive.clone(), bytes: vec![7; len] });
        let keys = [vec![frame(10)], vec![frame(20), frame(30)], vec![frame(PIECE_BYTES_MAX), frame(1)]]
            .map(|frames| queues.queue(&frames));
        let added = keys.map(|key| queues.add(&mut batch, key));
        drop(queues);
        assert_eq!(added.map(|(_, piece)| bytes(piece).len()), [10, 50, PIECE_BYTES_MAX]);
        for (key, (index, _)) in keys.into_iter().zip(added) {
            assert!(Arc::strong_count(&alive) > 1, "held");
            assert_eq!(batch.ended(index).0, Some(key));
            batch.tidy();
        }
        assert_eq!(Arc::strong_count(&alive), 1, "let go");
        assert_eq!((batch.under_way(), batch.ops.len(), batch.copied.len()), (0, 0, 0));
    }

    #[test]
    fn copies_never_move_and_what_has_no_room_goes_frame_by_frame() {
        let (mut queues, mut batch) = (Queues::new(), Batch::default());
        let mut added = Vec::new();
        for number in 0..COPIED_BYTES_MAX / PIECE_BYTES_MAX + 3 {
            let half = Bytes::from(vec![number as u8; PIECE_BYTES_MAX / 2]);
            let key = queues.queue(&[half.clone(), half.slice(1..), half]);
            added.push((number as u8, queues.add(&mut batch, key)));
        }
        for (number, (index, piece)) in &added {
            let piece = bytes(*piece);
            let whole = if (usize::from(*number) + 1) * (PIECE_BYTES_MAX - 1) <= COPIED_BYTES_MAX { 2 } else { 1 };
            assert!(piece == vec![*number; PIECE_BYTES_MAX / 2 * whole - (whole - 1)], "{number}");
            batch.ended(*index);
        }
    }

    #[test]
    #[should_panic(expected = "a send ends once")]
    fn a_send_that_ends_twice_is_a_fault_of_ours() {
        let (mut queues, mut batch) = (Queues::new(), Batch::default());
        let key = queues.queue(&[Bytes::from_static(b"x")]);
        let (index, _) = queues.add(&mut batch, key);
        batch.ended(index);
        batch.ended(index);
    }
}
