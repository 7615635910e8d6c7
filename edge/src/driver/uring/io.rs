//! What came of polls, sends and receives, and the next receives.

use roost_edge_core::End;
use roost_edge_core::driver::Sink;
use roost_uring::Completion;
use roost_uring::op::poll::Report;
use roost_wire::link::SessionKey;

use super::token::Token;
use super::{BUFFER_BYTES, Conn, UringDriver, op};
use crate::driver::flags::Flags;

impl UringDriver {
    /// Tells what has completed. Returns how many bytes were received.
    pub(super) fn note<S: Sink<Conn = Conn>>(&mut self, sink: &mut S) -> usize {
        let mut bytes = 0;
        while let Some((ring, completion)) = self.rings.pop() {
            match completion.token {
                Token::Wake => self.waker_armed = completion.more(),
                Token::Poll { slot, generation } => {
                    self.note_poll(SessionKey::new(self.shard, slot, generation), completion, sink);
                }
                Token::Send(index) => self.note_send(index, completion.result, sink),
                Token::Recv(buffer) => bytes += self.note_recv(buffer, completion, sink),
                Token::Accept(row) => self.note_accept(ring, row, completion.result, sink),
                Token::Close => {
                    debug_assert_eq!(completion.result, 0, "a place that was in use");
                    self.rings.closed(ring);
                }
                Token::Done => {}
            }
        }
        self.batch.tidy();
        bytes
    }

    fn note_poll<S: Sink>(&mut self, key: SessionKey, completion: Completion<Token>, sink: &mut S) {
        let Some(socket) = self.sockets.get(key) else { return };
        let report = match completion.result {
            // Ended from outside, which nobody here did: it is armed again below.
            result if result == -libc::ECANCELED => Report(0),
            result if result < 0 => return self.end(key, End::Error, sink),
            events => Report(events),
        };
        if report.is_dead() && socket.flags.has(Flags::PAUSED) {
            // A reset. Nobody reads, so nobody else would notice; what is unread is lost with it.
            return self.end(key, End::Error, sink);
        }
        if report.is_writable() && socket.flags.has(Flags::BLOCKED) {
            socket.flags.clear(Flags::BLOCKED);
            sink.writable(key);
        }
        let ending = report.is_read_closed() || report.is_dead();
        if report.is_readable() || ending {
            socket.flags.set(Flags::READABLE);
            if ending {
                socket.flags.set(Flags::ENDING);
            }
            if socket.flags.may_queue() {
                self.ready.push_back(key);
            }
        }
        if !completion.more() {
            self.rearmed += 1;
            self.arm(key);
        }
    }

    fn note_send<S: Sink>(&mut self, index: u32, result: i32, sink: &mut S) {
        let (Some(key), len) = self.batch.ended(index) else { return };
        let Some(socket) = self.sockets.get(key) else { return };
        socket.flags.clear(Flags::SENDING);
        match result {
            0.. => {
                let sent = result as usize;
                // A short send has filled the socket: an event will tell when there is room again.
                if sent < len {
                    socket.flags.set(Flags::BLOCKED);
                }
                if sent > 0 {
                    sink.sent(key, sent);
                }
            }
            error if error == -libc::EAGAIN => socket.flags.set(Flags::BLOCKED),
            error if error == -libc::EINTR => sink.writable(key),
            _ => self.end(key, End::Error, sink),
        }
    }

    fn note_recv<S: Sink>(&mut self, buffer: u16, completion: Completion<Token>, sink: &mut S) -> usize {
        let (key, bytes) = self.arena.take_back(buffer, completion.result.max(0) as usize);
        let Some(socket) = self.sockets.get(key) else { return 0 };
        match completion.result {
            0 if sink.half_closed(key) => {
                // Nothing is left to be read, and everything may still be written.
                socket.flags.clear(Flags::READABLE);
                socket.flags.set(Flags::PAUSED);
            }
            0 => self.end(key, End::Eof, sink),
            1.. => {
                // A short read has emptied the socket, unless its end is already known to stand behind.
                let emptied = bytes.len() < BUFFER_BYTES && !completion.bytes_left();
                if emptied && !socket.flags.has(Flags::ENDING) {
                    socket.flags.clear(Flags::READABLE);
                } else if socket.flags.may_queue() {
                    self.ready.push_back(key);
                }
                sink.received(key, bytes);
                return bytes.len();
            }
            error if error == -libc::EAGAIN => socket.flags.clear(Flags::READABLE),
            error if error == -libc::EINTR => {
                if socket.flags.may_queue() {
                    self.ready.push_back(key);
                }
            }
            _ => self.end(key, End::Error, sink),
        }
        0
    }

    /// Asks for what up to `most` of those in `ready` have to read. Returns how many of them were looked at.
    pub(super) fn receive(&mut self, most: usize) -> usize {
        for looked_at in 0..most {
            let Some(key) = self.ready.pop_front() else { return looked_at };
            let Some(socket) = self.sockets.get(key) else { continue };
            socket.flags.clear(Flags::QUEUED);
            if !socket.flags.has(Flags::READABLE) || socket.flags.has(Flags::PAUSED) {
                continue;
            }
            let Some(lent) = self.arena.lend(key) else {
                socket.flags.set(Flags::QUEUED);
                self.ready.push_front(key);
                return looked_at;
            };
            let place = socket.place;
            let asked = op::receive(self.rings.get(place.ring()), place, &lent);
            self.note_failure(asked);
        }
        most
    }
}
