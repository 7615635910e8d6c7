//! Why things did not work, one enum per operation.

use std::time::Duration;

use roost_wire::pb;

/// Why a request brought no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The server said no: it was certainly not done.
    #[error("{} (error {})", .0.message, .0.code)]
    Refused(pb::Error),
    /// No answer came in time; whether it was done is not known.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The connection was lost after the request went out, and it is none that may be repeated.
    #[error("the connection was lost, it is not known whether the request was carried out")]
    Unknown,
    /// As many requests as allowed wait already.
    #[error("too many requests wait for an answer (limit {max})")]
    QueueFull {
        /// `Config::requests_max`.
        max: usize,
    },
    /// The frame is larger than the server takes.
    #[error("a frame of {bytes} B exceeds the limit of {max} B")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The server answered with something else than the request asks for.
    #[error("the server answered with {0}")]
    Unexpected(&'static str),
    /// The client has ended; see `Event::Ended` for the reason.
    #[error("the client has ended")]
    Ended,
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The server said no: it is certainly not stored.
    #[error("{} (error {})", .0.message, .0.code)]
    Refused(pb::Error),
    /// The outbox is full: wait for some sends to be acknowledged.
    #[error("the outbox is full ({entries_max} messages or {bytes_max} B)")]
    OutboxFull {
        /// `Config::outbox_entries_max`.
        entries_max: usize,
        /// `Config::outbox_bytes_max`.
        bytes_max: usize,
    },
    /// The client has not taken as many messages yet as may be handed to it at once: let it run.
    #[error("too many messages at once (limit {max})")]
    QueueFull {
        /// Messages and other commands.
        max: usize,
    },
    /// The text is longer than `limits::TEXT_BYTES_MAX`.
    #[error("a text of {bytes} B exceeds the limit of {max} B")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The outbox could not be written to its store.
    #[error("the outbox could not be saved: {0}")]
    Outbox(String),
    /// The client ended first. Whether the message is stored is not known; an outbox that persists still holds it.
    #[error("the client has ended before the message was acknowledged")]
    Ended,
}

/// Why a client will not connect again by itself.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The app closed it.
    #[error("closed")]
    Closed,
    /// CONNECT was refused for good: another token, or another name, is needed.
    #[error("the server refused the connection: {} (error {})", .0.message, .0.code)]
    Refused(pb::Error),
    /// The server closed with a code that says not to come back (4500 to 4999, or a broken protocol).
    #[error("the server closed the connection: {} (code {code})", if .reason.is_empty() { "no reason given" } else { .reason.as_str() })]
    Code {
        /// The close code.
        code: u16,
        /// What the server said.
        reason: String,
    },
    /// The upgrade was answered with an HTTP status that will not change by itself.
    #[error("the server answered the upgrade with HTTP status {0}")]
    Status(u16),
}

/// Why a client could not be started.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is none that can be used.
    #[error(transparent)]
    Url(#[from] crate::url::UrlError),
    /// Nobody is there to trust.
    #[error(transparent)]
    Trust(#[from] crate::tls::TrustError),
    /// QUIC was asked for where it cannot be.
    #[error("QUIC always speaks TLS, and protobuf inside: give an address with https://, and no other encoding")]
    NoQuic,
    /// Neither a token nor a guest's name was given, or both.
    #[error("give either a token or a guest's name")]
    Identity,
    /// The outbox could not be read.
    #[error("the outbox could not be read: {0}")]
    Outbox(String),
    /// The first connection failed.
    #[error("no connection to {url}: {reason}")]
    Failed {
        /// Where to.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server does not want this client.
    #[error(transparent)]
    Ended(EndReason),
}
