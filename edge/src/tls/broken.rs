//! Why TLS with a peer cannot go on.

use rustls::{AlertDescription, Error};

/// What the peer is told, and what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Told to the peer if rustls has not done so already.
    pub(crate) alert: AlertDescription,
    /// What is counted.
    pub(crate) reason: Reason,
}

/// A small, closed set for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The peer ended it by an alert: most often it does not trust the certificate.
    Refused,
    /// No version, cipher or group in common.
    Unfit,
    /// No application protocol in common.
    Alpn,
    /// Bytes that are no TLS, or not now.
    Malformed,
    /// More bytes than a handshake has.
    Large,
    /// The transport ended, or the time was over.
    Ended,
    /// Plain HTTP, where TLS is asked for.
    Plaintext,
    /// It is our fault.
    Internal,
}

impl Broken {
    pub(crate) const fn new(alert: AlertDescription, reason: Reason) -> Self {
        Self { alert, reason }
    }

    pub(super) const fn malformed(alert: AlertDescription) -> Self {
        Self::new(alert, Reason::Malformed)
    }

    pub(super) const INTERNAL: Self = Self::new(AlertDescription::InternalError, Reason::Internal);
}

/// rustls has an alert queued for each of them that asks for one.
impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        let reason = match error {
            Error::AlertReceived(_) => Reason::Refused,
            Error::PeerIncompatible(_) => Reason::Unfit,
            Error::NoApplicationProtocol => Reason::Alpn,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord
            | Error::DecryptError => Reason::Malformed,
            _ => Reason::Internal,
        };
        Self::new(AlertDescription::InternalError, reason)
    }
}
