//! The HTTP bridge: a task that waits for bytes, for room or for the end is woken; what it wrote stays in order.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use roost_edge_core::HttpDown;
use roost_wire::link::SessionKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Bell, explore};
use crate::HttpIo;
use crate::bridge::{Link, OUTSTANDING_BYTES_MAX};
use crate::inbox::Item;
use crate::mailbox::Mailbox;

/// A connection between this thread, which is its task, and a shard's mailbox.
struct Task {
    mailbox: Arc<Mailbox<Item<()>>>,
    woken: Arc<Bell>,
    io: HttpIo,
}

impl Task {
    fn new(first: &'static [u8]) -> (Arc<Link>, Self) {
        let mailbox = Arc::new(Mailbox::new(Arc::new(Bell::default()), usize::MAX));
        let (link, io) = Link::new(SessionKey::new(0, 0, 0), Bytes::from_static(first), mailbox.clone());
        (link, Self { mailbox, woken: Arc::default(), io })
    }

    /// Polls until it is ready; sleeps in between until it is woken.
    fn until<T>(&mut self, poll: impl Fn(Pin<&mut HttpIo>, &mut Context<'_>) -> Poll<T>) -> T {
        let waker = Waker::from(self.woken.clone());
        loop {
            match poll(Pin::new(&mut self.io), &mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => self.woken.sleep(),
            }
        }
    }

    fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let part = self.until(|io, cx| {
                let mut room = [0; 2];
                let mut buf = ReadBuf::new(&mut room);
                io.poll_read(cx, &mut buf).map(|result| result.map(|()| buf.filled().to_vec()))
            });
            match part {
                Ok(part) if !part.is_empty() => all.extend(part),
                _ => return all,
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until(|io, cx| io.poll_write(cx, bytes))
    }

    /// What the shard would find: bytes written, ends, bytes taken.
    fn posted(&self) -> (usize, usize, usize) {
        let mut items = VecDeque::new();
        self.mailbox.take(&mut items);
        let (mut written, mut ends, mut taken) = (0, 0, 0);
        for item in items {
            match item {
                Item::Http { down: HttpDown::Data(data), .. } => {
                    assert_eq!(ends, 0, "data behind the end");
                    written += data.len();
                }
                Item::Http { down: HttpDown::End, .. } => ends += 1,
                Item::Http { down: HttpDown::Taken(count), .. } => taken += count,
                _ => {}
            }
        }
        (written, ends, taken)
    }
}

#[test]
fn a_reader_gets_every_byte_then_the_end_and_the_shard_hears_what_was_taken() {
    explore(None, || {
        let (link, mut task) = Task::new(b"ab");
        let shard = loom::thread::spawn(move || {
            link.feed(Bytes::from_static(b"cde"));
            link.eof();
        });
        assert_eq!(task.read_to_end(), b"abcde");
        shard.join().unwrap();
        assert_eq!(task.posted(), (0, 0, 5));
    });
}

#[test]
fn a_reader_of_a_connection_that_goes_gets_what_was_received_and_ends() {
    explore(None, || {
        let (link, mut task) = Task::new(b"");
        let shard = loom::thread::spawn(move || {
            link.feed(Bytes::from_static(b"abc"));
            link.gone();
        });
        assert_eq!(task.read_to_end(), b"abc");
        shard.join().unwrap();
    });
}

#[test]
fn a_writer_without_room_goes_on_when_the_shard_has_sent() {
    explore(None, || {
        let (link, mut task) = Task::new(b"");
        assert_eq!(task.write(&[7; OUTSTANDING_BYTES_MAX + 1]).unwrap(), OUTSTANDING_BYTES_MAX);
        let shard = loom::thread::spawn(move || {
            link.sent(2);
            link.sent(1);
        });
        let mut more = 0;
        while more < 3 {
            more += task.write(&[7; 3][more..]).unwrap();
        }
        assert_eq!(task.posted().0, OUTSTANDING_BYTES_MAX + 3);
        shard.join().unwrap();
    });
}

#[test]
fn a_writer_without_room_fails_when_the_connection_goes() {
    explore(None, || {
        let (link, mut task) = Task::new(b"");
        task.write(&[7; OUTSTANDING_BYTES_MAX]).unwrap();
        let shard = loom::thread::spawn(move || link.gone());
        assert_eq!(task.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        shard.join().unwrap();
    });
}

#[test]
fn the_end_is_told_once_behind_all_data_whoever_leaves_first() {
    explore(None, || {
        let (link, mut task) = Task::new(b"ab");
        let shard = loom::thread::spawn(move || {
            link.feed(Bytes::from_static(b"c"));
            link.gone();
        });
        let written = task.write(b"bye").unwrap_or(0);
        task.until(|io, cx| io.poll_shutdown(cx)).unwrap();
        let Task { mailbox, woken, io } = task;
        drop(io);
        shard.join().unwrap();
        let (_, left) = Task::new(b"");
        let task = Task { mailbox, woken, ..left };
        let (data, ends, _) = task.posted();
        assert_eq!((data, ends), (written, 1));
    });
}
