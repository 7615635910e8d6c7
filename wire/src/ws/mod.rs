//! RFC 6455 for both sides, incremental and without I/O.
//!
//! - [`handshake`]: the HTTP/1.1 heads of an upgrade (§4);
//! - [`header`]: the 2 to 14 bytes before a payload (§5.2);
//! - [`mask`]: XOR with the masking key (§5.3);
//! - [`close`]: the body of a close frame (§5.5.1, §7.4);
//! - [`outgoing`]: whole frames to send (§5.5, §5.6);
//! - [`extension`]: permessage-deflate, offered and agreed on (RFC 7692 §7.1);
//! - [`deflate`], [`inflate`]: messages compressed, and back (RFC 7692 §7.2);
//! - [`message`]: frames to messages: fragments, control frames in between, UTF-8 as it arrives (§5.4, §8.1).

pub mod close;
pub mod deflate;
pub mod extension;
pub mod handshake;
pub mod header;
pub mod inflate;
pub mod mask;
pub mod message;
pub mod outgoing;

pub use deflate::Deflater;
pub use extension::Deflate;
pub use header::{HEADER_BYTES_MAX, Header, OpCode, write_message_header};
pub use inflate::Inflater;
pub use message::{Decoder, Event};
pub use outgoing::{payload_of, write_client_message, write_close, write_ping, write_pong};

/// Which end of the connection we are: a server refuses unmasked frames, a client masked ones (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We accepted the connection.
    Server,
    /// We opened it.
    Client,
}

/// The two kinds of data message (§5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

/// Why a peer broke RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WsError {
    /// The header announces a message above the limit, both in bytes.
    #[error("message of {len} B exceeds the limit of {max} B")]
    TooLarge {
        /// Announced so far.
        len: u64,
        /// Allowed.
        max: u64,
    },
    /// A compressed message has more bytes than the limit once it is inflated.
    #[error("message inflates to more than {max} B")]
    Inflated {
        /// Allowed, in bytes.
        max: u64,
    },
    /// A compressed message is no DEFLATE stream, or one that was cut (RFC 7692 §7.2.2).
    #[error("compressed message is broken")]
    Deflate,
    /// More fragments than a message may have.
    #[error("too many fragments")]
    TooManyFragments,
    /// A client frame without a mask, or a server frame with one (§5.1).
    #[error("wrong masking")]
    Masking,
    /// A reserved bit is set without an extension that gives it a meaning (§5.2).
    #[error("reserved bit set")]
    ReservedBit,
    /// An opcode without a meaning (§5.2).
    #[error("unknown opcode")]
    OpCode,
    /// A control frame that is fragmented or longer than 125 bytes (§5.5).
    #[error("bad control frame")]
    Control,
    /// A length that is not in its shortest form, or has its top bit set (§5.2).
    #[error("bad length")]
    Length,
    /// A continuation without a message, or a new message inside one (§5.4).
    #[error("bad fragmentation")]
    Fragmentation,
    /// Text that is not UTF-8 (§8.1).
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A close frame with one byte, or a code that may not be sent (§7.4).
    #[error("bad close frame")]
    Close,
}

impl WsError {
    /// The close code told to the peer (§7.4.1).
    #[must_use]
    pub const fn close_code(self) -> crate::CloseCode {
        match self {
            Self::TooLarge { .. } | Self::Inflated { .. } | Self::TooManyFragments => crate::CloseCode::TooBig,
            // "data … not consistent with the type of the message".
            Self::NotUtf8 | Self::Deflate => crate::CloseCode::NotUtf8,
            _ => crate::CloseCode::Protocol,
        }
    }

    /// Label for metrics: a small, closed set without peer data.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Inflated { .. } => "inflated",
            Self::Deflate => "deflate",
            Self::TooManyFragments => "too_many_fragments",
            Self::Masking => "masking",
            Self::ReservedBit => "reserved_bit",
            Self::OpCode => "opcode",
            Self::Control => "control",
            Self::Length => "length",
            Self::Fragmentation => "fragmentation",
            Self::NotUtf8 => "not_utf8",
            Self::Close => "close",
        }
    }
}
