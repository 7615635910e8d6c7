//! The task's end of the bridge.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use roost_edge_core::HttpDown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Link, OUTSTANDING_BYTES_MAX, TAKEN_BYTES_STEP};

/// One client's connection as an in-memory stream, fed by its shard. Bounded both ways. Dropping it closes the
/// connection once everything written is sent.
///
/// Reading ends with 0 bytes when the peer has sent its last byte or the connection failed. A peer that only ended its
/// sending side still gets what is written; once the connection is gone, writing fails with `BrokenPipe`.
pub struct HttpIo {
    link: Arc<Link>,
}

impl HttpIo {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// Copies as much of `bufs` as the window lets through.
    fn take(&self, cx: &Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.link.state.lock();
        if state.gone || state.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let room = OUTSTANDING_BYTES_MAX.saturating_sub(state.outstanding_bytes).min(len);
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut data = BytesMut::with_capacity(room);
        for buf in bufs {
            let part = buf.len().min(room - data.len());
            data.extend_from_slice(&buf[..part]);
        }
        state.outstanding_bytes += room;
        // Posted under the lock, so that two halves of a split stream cannot swap data and end.
        self.link.post.post(self.link.key, HttpDown::Data(data.freeze()));
        Poll::Ready(Ok(room))
    }

    fn shut(&self) {
        let mut state = self.link.state.lock();
        if !state.shut {
            state.shut = true;
            self.link.post.post(self.link.key, HttpDown::End);
        }
    }
}

impl AsyncRead for HttpIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.link.state.lock();
        let before = buf.filled().len();
        while let Some(front) = state.inbound.front_mut()
            && buf.remaining() > 0
        {
            let part = front.len().min(buf.remaining());
            buf.put_slice(&front[..part]);
            front.advance(part);
            if front.is_empty() {
                state.inbound.pop_front();
            }
        }
        let taken = buf.filled().len() - before;
        state.taken_bytes += taken;
        let tell = state.taken_bytes >= TAKEN_BYTES_STEP || state.inbound.is_empty();
        let told = if tell && !state.gone { std::mem::take(&mut state.taken_bytes) } else { 0 };
        let ready = taken > 0 || state.eof || state.gone || buf.remaining() == 0;
        if !ready {
            state.reader = Some(cx.waker().clone());
        }
        drop(state);
        if told > 0 {
            self.link.post.post(self.link.key, HttpDown::Taken(told));
        }
        if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl AsyncWrite for HttpIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.take(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.take(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back on this side.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut();
        Poll::Ready(Ok(()))
    }
}

impl Drop for HttpIo {
    fn drop(&mut self) {
        self.shut();
        // What was received and never read holds memory until the link goes, which the shard decides.
        self.link.state.lock().inbound.clear();
    }
}

#[cfg(all(test, not(roost_model)))]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use parking_lot::Mutex;
    use roost_wire::link::SessionKey;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::bridge::Post;

    #[derive(Default)]
    struct Posted(Mutex<Vec<HttpDown>>);

    impl Post for Posted {
        fn post(&self, _: SessionKey, down: HttpDown) {
            self.0.lock().push(down);
        }
    }

    fn pair(first: &'static [u8]) -> (Arc<Posted>, Arc<Link>, HttpIo) {
        let posted = Arc::new(Posted::default());
        let (link, io) = Link::new(SessionKey::new(0, 0, 0), Bytes::from_static(first), posted.clone());
        (posted, link, io)
    }

    fn taken(posted: &Posted) -> usize {
        posted.0.lock().iter().map(|down| if let HttpDown::Taken(n) = down { *n } else { 0 }).sum()
    }

    #[tokio::test]
    async fn reads_what_is_fed_then_the_end_and_tells_what_it_took() {
        let (posted, link, mut io) = pair(b"GET ");
        link.feed(Bytes::from_static(b"/"));
        let mut buf = [0; 3];
        assert_eq!(io.read(&mut buf).await.unwrap(), 3);
        assert_eq!(io.read(&mut buf).await.unwrap(), 2);
        assert_eq!(taken(&posted), 5);
        let feeder = tokio::spawn(async move {
            link.feed(Bytes::from_static(b"late"));
            link.gone();
        });
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"late");
        feeder.await.unwrap();
    }

    #[tokio::test]
    async fn writing_waits_until_the_shard_has_sent() {
        let (posted, link, mut io) = pair(b"");
        let big = vec![7; OUTSTANDING_BYTES_MAX + 1];
        assert_eq!(io.write(&big).await.unwrap(), OUTSTANDING_BYTES_MAX);
        let blocked = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, &big).is_pending())).await;
        assert!(blocked, "the window is shut");
        link.sent(10);
        assert_eq!(io.write(&big).await.unwrap(), 10);
        assert_eq!(posted.0.lock().len(), 2);
    }

    #[tokio::test]
    async fn a_gone_connection_wakes_a_blocked_writer_with_an_error() {
        let (_, link, mut io) = pair(b"");
        let writer = tokio::spawn(async move { io.write_all(&vec![0; 2 * OUTSTANDING_BYTES_MAX]).await });
        tokio::task::yield_now().await;
        link.gone();
        assert_eq!(writer.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn the_end_is_posted_once_after_all_data() {
        let (posted, _link, mut io) = pair(b"");
        io.write_all(b"bye").await.unwrap();
        io.shutdown().await.unwrap();
        assert!(io.write_all(b"more").await.is_err());
        drop(io);
        let posted = posted.0.lock();
        assert!(matches!(&posted[..], [HttpDown::Data(data), HttpDown::End] if &data[..] == b"bye"));
    }
}
