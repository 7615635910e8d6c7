//! What is being sent, from the moment the kernel is told of it until it is done with it.

use std::collections::{HashMap, VecDeque};

/// Messages that may wait for one socket. A peer that leaves so many unread is a fault.
pub(super) const WAITING_MAX: usize = 1024;

/// A message, and how many of its bytes are sent.
type Rest = (Box<[u8]>, usize);

/// A send by its number. The bytes neither move nor change until [`Sends::ended`].
#[derive(Debug)]
struct Send {
    socket: u32,
    opening: u8,
    bytes: Box<[u8]>,
    /// So many of them went before.
    from: usize,
}

/// What was left of a send that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) socket: u32,
    pub(super) opening: u8,
    /// The bytes, and how many of them had gone before it.
    pub(super) bytes: Box<[u8]>,
    pub(super) from: usize,
}

/// Sends under way, and messages that wait for their turn.
///
/// Invariant: (A) a send's bytes stay until it has ended; with one under way they are leaked rather than freed.
#[derive(Debug, Default)]
pub(super) struct Sends {
    under_way: Vec<Option<Send>>,
    free: Vec<u32>,
    /// By socket, in order: behind one that is under way, or that found no room.
    waiting: HashMap<u32, VecDeque<Rest>>,
}

impl Sends {
    /// A number for a send of what is behind `from`, and where it is.
    pub(super) fn begin(&mut self, socket: u32, opening: u8, bytes: Box<[u8]>, from: usize) -> (u32, *const u8, u32) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.under_way.push(None);
            (self.under_way.len() - 1) as u32
        });
        let rest = &bytes[from..];
        let (start, len) = (rest.as_ptr(), u32::try_from(rest.len()).unwrap_or(u32::MAX));
        self.under_way[number as usize] = Some(Send { socket, opening, bytes, from });
        (number, start, len)
    }

    /// A send has ended.
    ///
    /// # Panics
    /// On a completion we did not ask for.
    pub(super) fn ended(&mut self, number: u32) -> Ended {
        let send = self.under_way[number as usize].take().expect("a send that is under way");
        self.free.push(number);
        let Send { socket, opening, bytes, from } = send;
        Ended { socket, opening, bytes, from }
    }

    /// Lets a message wait behind what waits. False: too many do.
    pub(super) fn wait(&mut self, socket: u32, bytes: Box<[u8]>) -> bool {
        let waiting = self.waiting.entry(socket).or_default();
        waiting.push_back((bytes, 0));
        waiting.len() <= WAITING_MAX
    }

    /// Puts the rest of a message back in front.
    pub(super) fn put_back(&mut self, socket: u32, bytes: Box<[u8]>, from: usize) {
        self.waiting.entry(socket).or_default().push_front((bytes, from));
    }

    /// The next message that waits for a socket.
    pub(super) fn next(&mut self, socket: u32) -> Option<Rest> {
        if self.waiting.is_empty() {
            return None;
        }
        let waiting = self.waiting.get_mut(&socket)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&socket);
        }
        next
    }

    /// Nothing waits for the socket any more.
    pub(super) fn forget(&mut self, socket: u32) {
        if !self.waiting.is_empty() {
            self.waiting.remove(&socket);
        }
    }
}

impl Drop for Sends {
    /// What the kernel may yet read is leaked (A).
    fn drop(&mut self) {
        let left = self.under_way.iter_mut().filter_map(Option::take);
        left.for_each(|send| std::mem::forget(send.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_bring_what_they_were_given() {
        let mut sends = Sends::default();
        let (first, ..) = sends.begin(7, 1, b"hello".as_slice().into(), 2);
        let (second, start, len) = sends.begin(8, 2, b"you".as_slice().into(), 0);
        assert!(first != second && len == 3 && !start.is_null());
        let ended = sends.ended(first);
        assert_eq!((ended.socket, ended.opening, &*ended.bytes, ended.from), (7, 1, &b"hello"[..], 2));
        assert_eq!(sends.begin(9, 0, b"x".as_slice().into(), 0).0, first);
    }

    #[test]
    fn what_waits_for_a_socket_keeps_its_order() {
        let mut sends = Sends::default();
        assert!(sends.wait(1, b"b".as_slice().into()));
        assert!(sends.wait(1, b"c".as_slice().into()));
        assert!(sends.wait(2, b"z".as_slice().into()));
        sends.put_back(1, b"aa".as_slice().into(), 1);
        let next: Vec<_> = std::iter::from_fn(|| sends.next(1)).collect();
        assert_eq!(
            next.iter().map(|(bytes, from)| (&bytes[..], *from)).collect::<Vec<_>>(),
            [(&b"aa"[..], 1), (b"b", 0), (b"c", 0)]
        );
        sends.forget(2);
        assert!(sends.next(2).is_none());
    }

    #[test]
    #[should_panic(expected = "a send that is under way")]
    fn a_send_that_ends_twice_is_a_fault_of_ours() {
        let mut sends = Sends::default();
        let (number, ..) = sends.begin(0, 0, Box::default(), 0);
        sends.ended(number);
        sends.ended(number);
    }
}
