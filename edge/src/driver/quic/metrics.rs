//! What a QUIC shard counts.

use roost_edge_core::metrics::OneWriter;

use crate::sync::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of one QUIC shard. Only its thread writes. Aligned: two shards share no cache line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct QuicMetrics { writer: OneWriter, $($name: AtomicU64,)+ }

        /// What the counters of one QUIC shard, or of several, stood at.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct QuicSnapshot { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl QuicMetrics {
            /// Reads every counter.
            #[must_use]
            pub fn snapshot(&self) -> QuicSnapshot {
                QuicSnapshot { $($name: self.$name.load(Relaxed),)+ }
            }

            $(pub(crate) fn $name(&self, count: u64) {
                self.writer.check();
                // One writer: a load and a store, no locked instruction.
                self.$name.store(self.$name.load(Relaxed).wrapping_add(count), Relaxed);
            })+
        }

        impl std::ops::AddAssign<&Self> for QuicSnapshot {
            fn add_assign(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counters! {
    /// Connections begun: an Initial was accepted.
    opened,
    /// Connections of which nothing is left.
    closed,
    /// Handshakes that were completed.
    handshakes,
    /// Handshakes that failed: by TLS (a wrong ALPN, mostly), or the peer gave up.
    failed_handshake,
    /// Connections let go because the handshake, or the stream after it, did not come in time.
    failed_late,
    /// Connections let go because too many had not opened their stream.
    failed_crowded,
    /// Connections closed because too many of their address are open.
    failed_address,
    /// Initials refused because the node stops or drains.
    failed_stopping,
    /// Initials answered with Retry.
    retries,
    /// Times a client was heard from another address.
    migrations,
    /// Datagrams received.
    datagrams_in,
    /// Datagrams sent.
    datagrams_out,
    /// Calls of the kernel that received.
    receives,
    /// Calls of the kernel that sent.
    sends,
    /// Datagrams handed to the shard they belong to.
    forwarded,
    /// Datagrams for another shard whose box was full.
    dropped_forward,
    /// Datagrams that belong to no connection, or are none of QUIC.
    dropped_stray,
    /// Answers to strangers that the socket had no room for.
    dropped_answer,
    /// Times a send waited: an address that may be forged would have got more than three times what came from it.
    held_back,
    /// Datagrams from other addresses than the connection's, which has moved too often.
    dropped_move,
    /// Datagrams the socket refused to send.
    dropped_unsendable,
    /// WebTransport sessions let in: their request was answered with 200.
    h3_sessions,
    /// Requests refused with 404: no session is made there.
    h3_refused_path,
    /// Requests refused with 403: the page's origin is not let in.
    h3_refused_origin,
    /// Requests refused with 405 or 501: not for a WebTransport session.
    h3_refused_method,
    /// Requests refused with 400 or 431.
    h3_refused_malformed,
    /// Streams beside those of the session that were not looked at, a second session among them.
    h3_refused_stream,
    /// Datagrams of HTTP/3 that belong to no session.
    h3_refused_datagram,
    /// Connections ended because HTTP/3 was broken.
    h3_broken,
    /// Pings sent so that the peer acknowledges what we acknowledged.
    pings,
}
