//! The counters of one shard. Their names on the outside are given by the edge.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use roost_wire::CloseCode;

/// The one thread that may write to counters which are written without a locked instruction: a second one would lose
/// counts. Debug builds remember the first that wrote and panic on another; others keep nothing.
#[derive(Debug, Default)]
pub struct OneWriter {
    #[cfg(debug_assertions)]
    first: std::sync::OnceLock<std::thread::ThreadId>,
}

impl OneWriter {
    /// To be called before a write.
    #[inline]
    pub fn check(&self) {
        #[cfg(debug_assertions)]
        {
            let me = std::thread::current().id();
            assert_eq!(*self.first.get_or_init(|| me), me, "counters of a shard are written by two threads");
        }
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One shard's counters. Only its thread writes, anybody reads. Aligned, so that two shards never write to
        /// one cache line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardMetrics { writer: OneWriter, $($name: AtomicU64,)+ }

        /// What the counters of one shard, or of several, stood at.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ShardSnapshot { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl ShardMetrics {
            /// Reads every counter. Each is exact; two of them may be from moments a few instructions apart.
            #[must_use]
            pub fn snapshot(&self) -> ShardSnapshot {
                ShardSnapshot { $($name: self.$name.load(Relaxed),)+ }
            }

            $(#[inline]
            pub(crate) fn $name(&self, count: u64) {
                self.writer.check();
                // One writer: a load and a store, no locked instruction.
                self.$name.store(self.$name.load(Relaxed).wrapping_add(count), Relaxed);
            })+
        }

        impl std::ops::AddAssign<&Self> for ShardSnapshot {
            fn add_assign(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }

        impl ShardSnapshot {
            /// Every counter with the name of its field, for tables and tests.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections_opened,
    /// Connections ended, for whatever reason.
    connections_closed,
    /// Connections refused because the shard was full.
    refused_full,
    /// Upgrades refused with 503: the node has no memory for more.
    refused_memory,
    /// Requests refused with 408: the head did not come in time.
    refused_head_late,
    /// Requests refused with 431: the head is too large.
    refused_head_large,
    /// Requests refused with 400 or 426: no head, or not one of an upgrade we speak.
    refused_head_malformed,
    /// Upgrades refused with 403: the page's origin is not let in.
    refused_origin,
    /// Requests refused with 408: not whole in time.
    refused_request_late,
    /// Connections let go before CONNECT because too many had not sent theirs.
    refused_unauthenticated,
    /// Connections that began without being a session.
    unauthenticated_opened,
    /// Connections that ended, were answered or sent CONNECT.
    unauthenticated_closed,
    /// Upgrades answered with 101.
    upgrades,
    /// Of these, those that agreed on permessage-deflate.
    upgrades_deflate,
    /// Connections that were sessions from the start: by QUIC.
    native_opened,
    /// Connections handed to the HTTP service.
    http_opened,
    /// Sessions that the router accepted.
    sessions_opened,
    /// Sessions that were accepted and ended.
    sessions_closed,
    /// CONNECTs that the router refused.
    sessions_refused,
    /// WebSockets ended by the peer: a close frame of its own, or the transport ended without one.
    closed_by_peer,
    /// WebSockets closed with 1000 or 1001.
    closed_going_away,
    /// WebSockets closed with 1002, 1003, 1007 or 1009: RFC 6455 was broken.
    closed_protocol,
    /// WebSockets closed with 1011.
    closed_internal,
    /// WebSockets closed with 4000.
    closed_drain,
    /// WebSockets closed with 4001.
    closed_token_expired,
    /// WebSockets closed with 4002.
    closed_heartbeat,
    /// WebSockets closed with 4003.
    closed_connect_late,
    /// WebSockets closed with 4004.
    closed_overloaded,
    /// WebSockets closed with 4005.
    closed_message_late,
    /// WebSockets closed with 4010.
    closed_slow,
    /// WebSockets closed with 4500 or 4501.
    closed_unauthenticated,
    /// WebSockets closed with 4502.
    closed_bad_frames,
    /// WebSockets closed with 4503.
    closed_replaced,
    /// WebSockets closed with 4504.
    closed_flood,
    /// Closed because whoever runs the service said so.
    closed_disconnected,
    /// Bytes read.
    bytes_in,
    /// Bytes written.
    bytes_out,
    /// Frames of the protocol read.
    frames_in,
    /// Frames written to the end (WebSocket messages; pieces of HTTP responses count too). Of pushes that share one piece all
    /// but one count when it is queued.
    frames_out,
    /// Commands handed to the router.
    commands,
    /// Answers with 100.
    bad_malformed,
    /// Answers with 101.
    bad_unknown,
    /// Answers with 102.
    bad_not_connected,
    /// Answers with 103.
    bad_already_connected,
    /// Answers with 104.
    bad_field,
    /// Answers with 400.
    rate_limited,
    /// Answers with 401.
    in_flight_refused,
    /// Replies that became 401 because the session leaves too much unread.
    replies_refused,
    /// Bytes that came out of compressed messages.
    inflated_bytes,
    /// WebSockets closed with 1009 because a compressed message inflates beyond the limit.
    inflations_refused,
    /// Messages compressed for one session; those of a fan-out are compressed once and not counted.
    messages_deflated,
    /// Bytes that compressing them saved.
    deflate_bytes_saved,
    /// Fan-outs begun: one per envelope.
    fanouts,
    /// Pushes queued: one per envelope and session.
    deliveries,
    /// Ephemeral pushes dropped because their reader was slow.
    drops_ephemeral,
    /// Durable pushes held back: their reader is behind and catches up from the log.
    withheld,
    /// Times a session was marked behind.
    behind,
    /// Times a session that was behind was told to catch up.
    caught_up,
    /// Items that entered the fan-out queue.
    fanout_items_queued,
    /// Items that left it.
    fanout_items_done,
    /// Deliveries dropped because the fan-out queue was full.
    fanout_overflow,
    /// Slices that ended with work left.
    slices_exhausted,
    /// Memberships of sessions in topics begun.
    topics_joined,
    /// Memberships ended.
    topics_left,
    /// Times deliveries were lost and every session was told to sync.
    doubts,
    /// Sessions told so.
    doubts_told,
    /// GOAWAYs queued.
    goaways,
    /// Times reading was paused.
    pauses,
    /// Times it was resumed.
    resumes,
    /// Times a session was not read for a while because it sent too many frames.
    throttles,
}

impl ShardMetrics {
    /// Counts a close that we began.
    pub(crate) fn closed(&self, code: CloseCode) {
        match code {
            CloseCode::Normal | CloseCode::GoingAway => self.closed_going_away(1),
            CloseCode::Protocol | CloseCode::Unsupported | CloseCode::NotUtf8 | CloseCode::TooBig => {
                self.closed_protocol(1);
            }
            CloseCode::Drain => self.closed_drain(1),
            CloseCode::TokenExpired => self.closed_token_expired(1),
            CloseCode::HeartbeatMissed => self.closed_heartbeat(1),
            CloseCode::ConnectLate => self.closed_connect_late(1),
            CloseCode::Overloaded => self.closed_overloaded(1),
            CloseCode::SlowConsumer => self.closed_slow(1),
            CloseCode::Unauthenticated | CloseCode::Forbidden => self.closed_unauthenticated(1),
            CloseCode::TooManyErrors => self.closed_bad_frames(1),
            CloseCode::Replaced => self.closed_replaced(1),
            CloseCode::MessageLate => self.closed_message_late(1),
            CloseCode::Flood => self.closed_flood(1),
            CloseCode::Disconnected => self.closed_disconnected(1),
            _ => self.closed_internal(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_add_up() {
        let (one, two) = (ShardMetrics::default(), ShardMetrics::default());
        one.deliveries(3);
        two.deliveries(4);
        two.closed(CloseCode::Replaced);
        let mut sum = one.snapshot();
        sum += &two.snapshot();
        assert_eq!((sum.deliveries, sum.closed_replaced), (7, 1));
        assert_eq!(sum.fields().filter(|(_, count)| *count != 0).count(), 2);
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "written by two threads")]
    fn a_second_writer_is_a_fault_of_ours() {
        let metrics = ShardMetrics::default();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| metrics.deliveries(1));
            first.join().expect("the first may write");
        });
        metrics.deliveries(1);
    }

    #[test]
    fn counters_of_two_shards_share_no_cache_line() {
        assert_eq!(align_of::<ShardMetrics>(), 128);
    }
}
