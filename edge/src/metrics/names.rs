//! Every metric of the edge: its name (unit in it, counters end in `_total`), its help and where its value comes from.

use roost_edge_core::metrics::ShardSnapshot;

use super::{Kind, LoopSnapshot};
use crate::driver::quic::QuicSnapshot;
use crate::tls::TlsSnapshot;

/// A metric's name and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// One sentence for its HELP line.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
}

const fn counter(name: &'static str, help: &'static str) -> Name {
    Name { name, help, kind: Kind::Counter }
}

const fn gauge(name: &'static str, help: &'static str) -> Name {
    Name { name, help, kind: Kind::Gauge }
}

/// Connections accepted and not ended.
pub const CONNECTIONS_OPEN: Name = gauge("roost_connections_open", "Connections accepted and not ended.");
/// Connections accepted.
pub const CONNECTIONS_OPENED: Name = counter("roost_connections_opened_total", "Connections accepted.");
/// Connections ended.
pub const CONNECTIONS_CLOSED: Name = counter("roost_connections_closed_total", "Connections ended.");
/// Connections and requests refused, by reason.
pub const REFUSED: Name = counter("roost_connections_refused_total", "Connections and requests refused.");
/// Connections that have not sent CONNECT.
pub const UNAUTHENTICATED: Name = gauge(
    "roost_connections_unauthenticated",
    "Connections that have not sent CONNECT, requests that are not answered included.",
);
/// Upgrades answered with 101.
pub const UPGRADES: Name = counter("roost_upgrades_total", "Upgrades answered with 101.");
/// Upgrades that agreed on permessage-deflate.
pub const UPGRADES_DEFLATE: Name =
    counter("roost_upgrades_deflate_total", "Upgrades that agreed on permessage-deflate.");
/// Bytes that came out of compressed messages.
pub const INFLATED_BYTES: Name = counter("roost_inflated_bytes_total", "Bytes that came out of compressed messages.");
/// Compressed messages above the limit.
pub const INFLATIONS_REFUSED: Name = counter(
    "roost_inflations_refused_total",
    "WebSockets closed because a compressed message inflates beyond the limit.",
);
/// Messages compressed for one session.
pub const MESSAGES_DEFLATED: Name = counter(
    "roost_messages_deflated_total",
    "Messages compressed for one session; those of a fan-out are compressed once and not counted.",
);
/// Bytes that compressing them saved.
pub const DEFLATE_BYTES_SAVED: Name =
    counter("roost_deflate_saved_bytes_total", "Bytes that compressing messages for one session saved.");
/// Connections handed to the HTTP service.
pub const HTTP_OPENED: Name = counter("roost_http_streams_opened_total", "Connections handed to the HTTP service.");
/// Sessions accepted and not ended.
pub const SESSIONS_OPEN: Name = gauge("roost_sessions_open", "Sessions accepted and not ended.");
/// Sessions the router accepted.
pub const SESSIONS_OPENED: Name = counter("roost_sessions_opened_total", "Sessions the router accepted.");
/// Sessions that ended.
pub const SESSIONS_CLOSED: Name = counter("roost_sessions_closed_total", "Sessions that ended.");
/// CONNECTs the router refused.
pub const SESSIONS_REFUSED: Name = counter("roost_sessions_refused_total", "CONNECTs the router refused.");
/// WebSockets closed, by reason.
pub const CLOSES: Name = counter("roost_websocket_closes_total", "WebSockets closed, by who or what closed them.");
/// Bytes read from clients.
pub const BYTES_IN: Name = counter("roost_received_bytes_total", "Bytes read from clients.");
/// Bytes written to clients.
pub const BYTES_OUT: Name = counter("roost_sent_bytes_total", "Bytes written to clients.");
/// Frames read.
pub const FRAMES_IN: Name = counter("roost_frames_received_total", "Protocol frames read.");
/// Frames written.
pub const FRAMES_OUT: Name = counter("roost_frames_sent_total", "Frames written to the end.");
/// Commands handed to the router.
pub const COMMANDS: Name = counter("roost_commands_total", "Commands handed to the router.");
/// Commands refused by the edge, by error code.
pub const COMMAND_ERRORS: Name = counter("roost_command_errors_total", "Commands the edge refused, by error code.");
/// Replies that became errors.
pub const REPLIES_REFUSED: Name =
    counter("roost_replies_refused_total", "Replies that became error 401: the session leaves too much unread.");
/// Fan-outs begun.
pub const FANOUTS: Name = counter("roost_fanouts_total", "Envelopes fanned out.");
/// Pushes queued to sessions.
pub const DELIVERIES: Name = counter("roost_deliveries_total", "Pushes queued, one per envelope and session.");
/// Pushes not queued, by reason.
pub const DELIVERIES_LOST: Name = counter(
    "roost_deliveries_dropped_total",
    "Pushes not queued: ephemeral ones to slow readers, durable ones to readers that catch up from the log, and those \
     that found a full queue.",
);
/// Sessions marked behind.
pub const BEHIND: Name = counter("roost_sessions_behind_total", "Times a session was marked behind.");
/// Sessions told to catch up.
pub const CAUGHT_UP: Name =
    counter("roost_sessions_caught_up_total", "Times a session that was behind was told to sync.");
/// Topics joined and not left.
pub const TOPICS_JOINED: Name = gauge("roost_topic_memberships", "Memberships of sessions in topics.");
/// Items waiting for fan-out.
pub const FANOUT_WAITING: Name = gauge("roost_fanout_items_waiting", "Items that wait for fan-out.");
/// Slices that ended with work left.
pub const SLICES_EXHAUSTED: Name =
    counter("roost_fanout_slices_exhausted_total", "Fan-out slices that left work over.");
/// Deliveries were lost and all sessions told to sync.
pub const DOUBTS: Name =
    counter("roost_doubts_total", "Times deliveries were lost and every session was told to sync.");
/// Sessions told to sync for that reason.
pub const DOUBTS_TOLD: Name = counter("roost_doubts_told_total", "Sessions told to sync after deliveries were lost.");
/// GOAWAYs.
pub const GOAWAYS: Name = counter("roost_goaways_total", "GOAWAYs queued.");
/// Reading paused.
pub const PAUSES: Name = counter("roost_read_pauses_total", "Times reading from a connection was paused.");
/// Reading resumed.
pub const RESUMES: Name = counter("roost_read_resumes_total", "Times reading from a connection was resumed.");
/// Sessions not read for a while.
pub const THROTTLES: Name =
    counter("roost_throttles_total", "Times a session was not read for a while because it sent too many frames.");
/// Turns of the shards' loops.
pub const TURNS: Name = counter("roost_shard_turns_total", "Turns of a shard's loop.");
/// Turns that left work over.
pub const TURNS_EXHAUSTED: Name = counter("roost_shard_turns_exhausted_total", "Turns that left work over.");
/// Time shards spent working.
pub const BUSY: Name = counter("roost_shard_busy_seconds_total", "Time a shard was not waiting.");
/// Writes to connections.
pub const WRITES: Name = counter("roost_writes_total", "Writes to connections that took bytes; each gathers frames.");
/// Deliveries dropped at a full mailbox.
pub const MAILBOX_DROPPED: Name = counter("roost_mailbox_dropped_total", "Deliveries dropped at a full mailbox.");
/// Rings of the io_uring driver.
pub const RINGS: Name = gauge("roost_uring_rings", "Rings of a shard's io_uring driver; 0 with another driver.");
/// Places in use in the tables of rings.
pub const PLACES_USED: Name =
    gauge("roost_uring_places_used", "Places in the tables of a shard's rings that hold a connection.");
/// Polls armed again.
pub const POLLS_REARMED: Name = counter(
    "roost_uring_polls_rearmed_total",
    "Polls that the kernel ended, for want of room for their report, and that were armed again.",
);
/// Completions that did not fit.
pub const COMPLETIONS_OVERFLOWED: Name = counter(
    "roost_uring_completions_overflowed_total",
    "Times completions did not fit into a ring, so that the kernel kept them elsewhere.",
);
/// Handshakes that ended well.
pub const TLS_HANDSHAKES: Name = counter(
    "roost_tls_handshakes_total",
    "TLS handshakes that ended well: full ones, and those that resumed a session.",
);
/// Handshakes that failed, by reason.
pub const TLS_FAILED: Name = counter("roost_tls_handshakes_failed_total", "TLS handshakes that did not end well.");
/// Sessions of TLS.
pub const TLS_OPEN: Name =
    gauge("roost_tls_sessions_open", "Connections whose TLS handshake is over and that have not ended.");
/// What TLS keeps.
pub const TLS_BYTES: Name =
    gauge("roost_tls_session_bytes", "Bytes that TLS keeps for its open sessions, beside what their connections take.");
/// Sessions of TLS that broke.
pub const TLS_BROKEN: Name = counter(
    "roost_tls_sessions_broken_total",
    "Connections closed because what came after the TLS handshake was forged, damaged or out of place.",
);
/// Connections of QUIC.
pub const QUIC_OPEN: Name =
    gauge("roost_quic_connections_open", "QUIC connections, handshakes under way and those that end included.");
/// Connections of QUIC begun.
pub const QUIC_OPENED: Name = counter("roost_quic_connections_opened_total", "QUIC connections begun.");
/// Handshakes of QUIC.
pub const QUIC_HANDSHAKES: Name = counter("roost_quic_handshakes_total", "QUIC handshakes that ended well.");
/// Connections of QUIC that became no session, by reason.
pub const QUIC_FAILED: Name =
    counter("roost_quic_connections_failed_total", "QUIC connections that ended before they were a session.");
/// Retries.
pub const QUIC_RETRIES: Name =
    counter("roost_quic_retries_total", "Initials answered with Retry: too many strangers began handshakes.");
/// Clients that moved.
pub const QUIC_MIGRATIONS: Name =
    counter("roost_quic_migrations_total", "Times a QUIC client was heard from another address than before.");
/// Datagrams received.
pub const QUIC_DATAGRAMS_IN: Name = counter("roost_quic_datagrams_received_total", "UDP datagrams received.");
/// Datagrams sent.
pub const QUIC_DATAGRAMS_OUT: Name = counter("roost_quic_datagrams_sent_total", "UDP datagrams sent.");
/// Calls that receive.
pub const QUIC_RECEIVES: Name =
    counter("roost_quic_receives_total", "Calls of the kernel that receive datagrams; each may bring many.");
/// Calls that send.
pub const QUIC_SENDS: Name =
    counter("roost_quic_sends_total", "Calls of the kernel that send datagrams; each may take many of one client.");
/// Datagrams handed on.
pub const QUIC_FORWARDED: Name = counter(
    "roost_quic_datagrams_forwarded_total",
    "Datagrams handed to the shard they belong to; none where the kernel steers them.",
);
/// Datagrams dropped, by reason.
pub const QUIC_DROPPED: Name = counter("roost_quic_datagrams_dropped_total", "UDP datagrams dropped.");
/// Sends that waited.
pub const QUIC_HELD_BACK: Name = counter(
    "roost_quic_sends_held_back_total",
    "Times a send waited because an address that may be forged would have got more than three times what came from it.",
);
/// Pings of ours.
pub const QUIC_PINGS: Name = counter(
    "roost_quic_pings_total",
    "Pings sent to clients that had acknowledged nothing for a while, so that what is kept for them is let go.",
);
/// Sessions of WebTransport.
pub const WEBTRANSPORT_SESSIONS: Name =
    counter("roost_webtransport_sessions_total", "WebTransport sessions let in: their request was answered with 200.");
/// What was refused of WebTransport, by reason.
pub const WEBTRANSPORT_REFUSED: Name = counter(
    "roost_webtransport_refused_total",
    "Requests of HTTP/3 that became no WebTransport session, and streams and datagrams beside one.",
);
/// Connections that broke HTTP/3.
pub const WEBTRANSPORT_BROKEN: Name =
    counter("roost_webtransport_broken_total", "Connections closed because what came on them broke HTTP/3.");
/// Sessions without a head.
pub const NATIVE_OPENED: Name =
    counter("roost_quic_sessions_begun_total", "QUIC connections that opened their stream, so that CONNECT is due.");
/// Pauses of accepting.
pub const ACCEPT_PAUSES: Name =
    counter("roost_accept_pauses_total", "Times accepting paused because descriptors or memory ran out.");
/// Failed accepts of other kinds.
pub const ACCEPT_ERRORS: Name = counter("roost_accept_errors_total", "Connections that failed while being accepted.");

/// One series of a metric: the label that tells it from the others, and its value.
pub(super) type Series<S, V> = (Name, Option<(&'static str, &'static str)>, fn(&S) -> V);

const fn reason(name: &'static str) -> Option<(&'static str, &'static str)> {
    Some(("reason", name))
}

const fn code(number: &'static str) -> Option<(&'static str, &'static str)> {
    Some(("code", number))
}

/// What is summed over the shards. Series of one metric stand together.
pub(super) const SUMMED: &[Series<ShardSnapshot, u64>] = &[
    (CONNECTIONS_OPEN, None, |shard| shard.connections_opened.saturating_sub(shard.connections_closed)),
    (CONNECTIONS_OPENED, None, |shard| shard.connections_opened),
    (CONNECTIONS_CLOSED, None, |shard| shard.connections_closed),
    (REFUSED, reason("full"), |shard| shard.refused_full),
    (REFUSED, reason("memory"), |shard| shard.refused_memory),
    (REFUSED, reason("head_late"), |shard| shard.refused_head_late),
    (REFUSED, reason("head_large"), |shard| shard.refused_head_large),
    (REFUSED, reason("head_malformed"), |shard| shard.refused_head_malformed),
    (REFUSED, reason("origin"), |shard| shard.refused_origin),
    (REFUSED, reason("request_late"), |shard| shard.refused_request_late),
    (REFUSED, reason("unauthenticated"), |shard| shard.refused_unauthenticated),
    (UNAUTHENTICATED, None, |shard| shard.unauthenticated_opened.saturating_sub(shard.unauthenticated_closed)),
    (UPGRADES, None, |shard| shard.upgrades),
    (UPGRADES_DEFLATE, None, |shard| shard.upgrades_deflate),
    (INFLATED_BYTES, None, |shard| shard.inflated_bytes),
    (INFLATIONS_REFUSED, None, |shard| shard.inflations_refused),
    (MESSAGES_DEFLATED, None, |shard| shard.messages_deflated),
    (DEFLATE_BYTES_SAVED, None, |shard| shard.deflate_bytes_saved),
    (NATIVE_OPENED, None, |shard| shard.native_opened),
    (HTTP_OPENED, None, |shard| shard.http_opened),
    (SESSIONS_OPEN, None, |shard| shard.sessions_opened.saturating_sub(shard.sessions_closed)),
    (SESSIONS_OPENED, None, |shard| shard.sessions_opened),
    (SESSIONS_CLOSED, None, |shard| shard.sessions_closed),
    (SESSIONS_REFUSED, None, |shard| shard.sessions_refused),
    (CLOSES, reason("peer"), |shard| shard.closed_by_peer),
    (CLOSES, reason("going_away"), |shard| shard.closed_going_away),
    (CLOSES, reason("protocol"), |shard| shard.closed_protocol),
    (CLOSES, reason("internal"), |shard| shard.closed_internal),
    (CLOSES, reason("drain"), |shard| shard.closed_drain),
    (CLOSES, reason("token_expired"), |shard| shard.closed_token_expired),
    (CLOSES, reason("heartbeat"), |shard| shard.closed_heartbeat),
    (CLOSES, reason("connect_late"), |shard| shard.closed_connect_late),
    (CLOSES, reason("overloaded"), |shard| shard.closed_overloaded),
    (CLOSES, reason("message_late"), |shard| shard.closed_message_late),
    (CLOSES, reason("slow"), |shard| shard.closed_slow),
    (CLOSES, reason("unauthenticated"), |shard| shard.closed_unauthenticated),
    (CLOSES, reason("bad_frames"), |shard| shard.closed_bad_frames),
    (CLOSES, reason("replaced"), |shard| shard.closed_replaced),
    (CLOSES, reason("flood"), |shard| shard.closed_flood),
    (CLOSES, reason("disconnected"), |shard| shard.closed_disconnected),
    (BYTES_IN, None, |shard| shard.bytes_in),
    (BYTES_OUT, None, |shard| shard.bytes_out),
    (FRAMES_IN, None, |shard| shard.frames_in),
    (FRAMES_OUT, None, |shard| shard.frames_out),
    (COMMANDS, None, |shard| shard.commands),
    (COMMAND_ERRORS, code("100"), |shard| shard.bad_malformed),
    (COMMAND_ERRORS, code("101"), |shard| shard.bad_unknown),
    (COMMAND_ERRORS, code("102"), |shard| shard.bad_not_connected),
    (COMMAND_ERRORS, code("103"), |shard| shard.bad_already_connected),
    (COMMAND_ERRORS, code("104"), |shard| shard.bad_field),
    (COMMAND_ERRORS, code("400"), |shard| shard.rate_limited),
    (COMMAND_ERRORS, code("401"), |shard| shard.in_flight_refused),
    (REPLIES_REFUSED, None, |shard| shard.replies_refused),
    (FANOUTS, None, |shard| shard.fanouts),
    (DELIVERIES, None, |shard| shard.deliveries),
    (DELIVERIES_LOST, reason("ephemeral"), |shard| shard.drops_ephemeral),
    (DELIVERIES_LOST, reason("behind"), |shard| shard.withheld),
    (DELIVERIES_LOST, reason("fanout_full"), |shard| shard.fanout_overflow),
    (BEHIND, None, |shard| shard.behind),
    (CAUGHT_UP, None, |shard| shard.caught_up),
    (TOPICS_JOINED, None, |shard| shard.topics_joined.saturating_sub(shard.topics_left)),
    (FANOUT_WAITING, None, |shard| shard.fanout_items_queued.saturating_sub(shard.fanout_items_done)),
    (SLICES_EXHAUSTED, None, |shard| shard.slices_exhausted),
    (DOUBTS, None, |shard| shard.doubts),
    (DOUBTS_TOLD, None, |shard| shard.doubts_told),
    (GOAWAYS, None, |shard| shard.goaways),
    (PAUSES, None, |shard| shard.pauses),
    (RESUMES, None, |shard| shard.resumes),
    (THROTTLES, None, |shard| shard.throttles),
];

/// What TLS counts, summed over the shards.
pub(super) const TLS: &[Series<TlsSnapshot, u64>] = &[
    (TLS_HANDSHAKES, Some(("kind", "full")), |tls| tls.handshakes_full),
    (TLS_HANDSHAKES, Some(("kind", "resumed")), |tls| tls.handshakes_resumed),
    (TLS_FAILED, reason("refused"), |tls| tls.failed_refused),
    (TLS_FAILED, reason("unfit"), |tls| tls.failed_unfit),
    (TLS_FAILED, reason("alpn"), |tls| tls.failed_alpn),
    (TLS_FAILED, reason("malformed"), |tls| tls.failed_malformed),
    (TLS_FAILED, reason("large"), |tls| tls.failed_large),
    (TLS_FAILED, reason("ended"), |tls| tls.failed_ended),
    (TLS_FAILED, reason("plaintext"), |tls| tls.failed_plaintext),
    (TLS_FAILED, reason("internal"), |tls| tls.failed_internal),
    (TLS_OPEN, None, TlsSnapshot::open),
    (TLS_BYTES, None, TlsSnapshot::bytes),
    (TLS_BROKEN, None, |tls| tls.broken),
];

/// What QUIC counts, summed over its shards.
pub(super) const QUIC: &[Series<QuicSnapshot, u64>] = &[
    (QUIC_OPEN, None, |quic| quic.opened.saturating_sub(quic.closed)),
    (QUIC_OPENED, None, |quic| quic.opened),
    (QUIC_HANDSHAKES, None, |quic| quic.handshakes),
    (QUIC_FAILED, reason("handshake"), |quic| quic.failed_handshake),
    (QUIC_FAILED, reason("late"), |quic| quic.failed_late),
    (QUIC_FAILED, reason("crowded"), |quic| quic.failed_crowded),
    (QUIC_FAILED, reason("address"), |quic| quic.failed_address),
    (QUIC_FAILED, reason("stopping"), |quic| quic.failed_stopping),
    (QUIC_RETRIES, None, |quic| quic.retries),
    (QUIC_MIGRATIONS, None, |quic| quic.migrations),
    (QUIC_DATAGRAMS_IN, None, |quic| quic.datagrams_in),
    (QUIC_DATAGRAMS_OUT, None, |quic| quic.datagrams_out),
    (QUIC_RECEIVES, None, |quic| quic.receives),
    (QUIC_SENDS, None, |quic| quic.sends),
    (QUIC_FORWARDED, None, |quic| quic.forwarded),
    (QUIC_DROPPED, reason("stray"), |quic| quic.dropped_stray),
    (QUIC_DROPPED, reason("forward_full"), |quic| quic.dropped_forward),
    (QUIC_DROPPED, reason("answer"), |quic| quic.dropped_answer),
    (QUIC_DROPPED, reason("move"), |quic| quic.dropped_move),
    (QUIC_DROPPED, reason("unsendable"), |quic| quic.dropped_unsendable),
    (QUIC_HELD_BACK, None, |quic| quic.held_back),
    (QUIC_PINGS, None, |quic| quic.pings),
    (WEBTRANSPORT_SESSIONS, None, |quic| quic.h3_sessions),
    (WEBTRANSPORT_REFUSED, reason("path"), |quic| quic.h3_refused_path),
    (WEBTRANSPORT_REFUSED, reason("origin"), |quic| quic.h3_refused_origin),
    (WEBTRANSPORT_REFUSED, reason("method"), |quic| quic.h3_refused_method),
    (WEBTRANSPORT_REFUSED, reason("malformed"), |quic| quic.h3_refused_malformed),
    (WEBTRANSPORT_REFUSED, reason("stream"), |quic| quic.h3_refused_stream),
    (WEBTRANSPORT_REFUSED, reason("datagram"), |quic| quic.h3_refused_datagram),
    (WEBTRANSPORT_BROKEN, None, |quic| quic.h3_broken),
];

/// What is told per shard.
pub(super) const PER_SHARD: &[Series<LoopSnapshot, f64>] = &[
    (TURNS, None, |shard| shard.turns as f64),
    (TURNS_EXHAUSTED, None, |shard| shard.turns_exhausted as f64),
    (BUSY, None, |shard| shard.busy.as_secs_f64()),
    (WRITES, None, |shard| shard.writes as f64),
    (MAILBOX_DROPPED, None, |shard| shard.mailbox_dropped as f64),
    (RINGS, None, |shard| shard.rings as f64),
    (PLACES_USED, None, |shard| shard.places_used as f64),
    (POLLS_REARMED, None, |shard| shard.polls_rearmed as f64),
    (COMPLETIONS_OVERFLOWED, None, |shard| shard.completions_overflowed as f64),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_a_shard_is_told() {
        let zero = ShardSnapshot::default();
        // Two gauges are made of counters that are told as well, two of counters that are not.
        let open = [CONNECTIONS_OPEN, SESSIONS_OPEN];
        let told: usize = SUMMED
            .iter()
            .map(|(name, ..)| {
                if name.kind == Kind::Counter {
                    1
                } else if open.contains(name) {
                    0
                } else {
                    2
                }
            })
            .sum();
        assert_eq!(told, zero.fields().count());
    }

    #[test]
    fn names_follow_the_rules() {
        let names = SUMMED.iter().map(|(name, ..)| name).chain(TLS.iter().map(|(name, ..)| name));
        let names = names.chain(QUIC.iter().map(|(name, ..)| name));
        let names = names.chain(PER_SHARD.iter().map(|(name, ..)| name));
        for Name { name, help, kind } in names {
            assert!(name.starts_with("roost_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
    }
}
