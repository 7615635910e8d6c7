//! What TLS counts.

use roost_edge_core::metrics::OneWriter;
use rustls::HandshakeKind;

use super::broken::Reason;
use super::driver::SESSION_BYTES;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Counters of one shard. Only its thread writes. Aligned: two shards share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct TlsMetrics {
    writer: OneWriter,
    handshakes_full: AtomicU64,
    handshakes_resumed: AtomicU64,
    refused: AtomicU64,
    unfit: AtomicU64,
    alpn: AtomicU64,
    malformed: AtomicU64,
    large: AtomicU64,
    ended: AtomicU64,
    plaintext: AtomicU64,
    internal: AtomicU64,
    broken: AtomicU64,
    closed: AtomicU64,
}

/// What the counters stood at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsSnapshot {
    /// Handshakes that made a new session.
    pub handshakes_full: u64,
    /// Handshakes that went on with an earlier one.
    pub handshakes_resumed: u64,
    /// Ended by an alert of the client.
    pub failed_refused: u64,
    /// No version, cipher or group in common.
    pub failed_unfit: u64,
    /// No application protocol in common.
    pub failed_alpn: u64,
    /// Bytes that are no TLS, or not then.
    pub failed_malformed: u64,
    /// More bytes than a handshake has.
    pub failed_large: u64,
    /// The transport ended, or the time was over.
    pub failed_ended: u64,
    /// Plain HTTP where TLS is asked for.
    pub failed_plaintext: u64,
    /// Our fault.
    pub failed_internal: u64,
    /// Sessions broken by what came after the handshake.
    pub broken: u64,
    /// Sessions that ended.
    pub closed: u64,
}

fn add(counter: &AtomicU64) {
    // One writer: a load and a store, no locked instruction.
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

impl TlsMetrics {
    pub(super) fn shaken(&self, kind: HandshakeKind) {
        self.writer.check();
        add(if kind == HandshakeKind::Resumed { &self.handshakes_resumed } else { &self.handshakes_full });
    }

    pub(super) fn failed(&self, reason: Reason) {
        self.writer.check();
        add(match reason {
            Reason::Refused => &self.refused,
            Reason::Unfit => &self.unfit,
            Reason::Alpn => &self.alpn,
            Reason::Malformed => &self.malformed,
            Reason::Large => &self.large,
            Reason::Ended => &self.ended,
            Reason::Plaintext => &self.plaintext,
            Reason::Internal => &self.internal,
        });
    }

    pub(super) fn broke(&self) {
        self.writer.check();
        add(&self.broken);
    }

    pub(super) fn closed(&self) {
        self.writer.check();
        add(&self.closed);
    }

    /// What the counters stand at.
    #[must_use]
    pub fn snapshot(&self) -> TlsSnapshot {
        TlsSnapshot {
            handshakes_full: self.handshakes_full.load(Relaxed),
            handshakes_resumed: self.handshakes_resumed.load(Relaxed),
            failed_refused: self.refused.load(Relaxed),
            failed_unfit: self.unfit.load(Relaxed),
            failed_alpn: self.alpn.load(Relaxed),
            failed_malformed: self.malformed.load(Relaxed),
            failed_large: self.large.load(Relaxed),
            failed_ended: self.ended.load(Relaxed),
            failed_plaintext: self.plaintext.load(Relaxed),
            failed_internal: self.internal.load(Relaxed),
            broken: self.broken.load(Relaxed),
            closed: self.closed.load(Relaxed),
        }
    }
}

impl TlsSnapshot {
    /// Sessions whose handshake is over and that have not ended.
    #[must_use]
    pub const fn open(&self) -> u64 {
        (self.handshakes_full + self.handshakes_resumed).saturating_sub(self.closed)
    }

    /// What is kept for them, in bytes: of TLS 1.3, at rest. TLS 1.2, which stays with rustls, takes more.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.open() * SESSION_BYTES
    }
}

impl std::ops::AddAssign<&Self> for TlsSnapshot {
    fn add_assign(&mut self, other: &Self) {
        self.handshakes_full += other.handshakes_full;
        self.handshakes_resumed += other.handshakes_resumed;
        self.failed_refused += other.failed_refused;
        self.failed_unfit += other.failed_unfit;
        self.failed_alpn += other.failed_alpn;
        self.failed_malformed += other.failed_malformed;
        self.failed_large += other.failed_large;
        self.failed_ended += other.failed_ended;
        self.failed_plaintext += other.failed_plaintext;
        self.failed_internal += other.failed_internal;
        self.broken += other.broken;
        self.closed += other.closed;
    }
}
