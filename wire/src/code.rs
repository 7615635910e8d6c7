//! Error codes of replies and close codes, with what each tells the client to do. PROTOCOL.md lists them; a test
//! holds the two together.

use std::borrow::Cow;

use crate::pb;

macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $retryable:literal, $text:literal;)+) => {
        /// Code of an ERROR: 1xx protocol, 2xx auth, 3xx state, 4xx limits, 5xx server.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[doc = $doc])+ $name = $code,)+ }

        impl ErrorCode {
            /// Every code, in rising order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u32 { self as u32 }

            /// The code of a number; `None` for numbers this version does not know.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($code => Some(Self::$name),)+ _ => None }
            }

            /// Whether the same command may succeed later.
            #[must_use]
            pub const fn retryable(self) -> bool { match self { $(Self::$name => $retryable,)+ } }

            /// What it means, for people.
            #[must_use]
            pub const fn text(self) -> &'static str { match self { $(Self::$name => $text,)+ } }
        }
    };
}

errors! {
    /// The bytes are no frame of the encoding in force.
    Malformed = 100, false, "malformed frame";
    /// A frame without a body this server knows, or one only servers send.
    UnknownCommand = 101, false, "unknown command";
    /// CONNECT must come first.
    NotConnected = 102, false, "CONNECT first";
    /// A second CONNECT.
    AlreadyConnected = 103, false, "already connected";
    /// A field is missing, too long or out of range; the message names it.
    BadField = 104, false, "bad field";
    /// The token is not valid here.
    BadToken = 200, false, "token is not valid";
    /// The token has expired: get a new one, then connect again.
    TokenExpired = 201, false, "token has expired";
    /// Guests may not enter this server.
    GuestsOff = 202, false, "guests are not admitted";
    /// The user may not do this.
    Forbidden = 203, false, "not allowed";
    /// There is no such conversation, or it is not for this user.
    NoConversation = 300, false, "no such conversation";
    /// The user is no member.
    NotMember = 301, false, "not a member of this conversation";
    /// The user's role does not allow it.
    RoleTooLow = 302, false, "your role does not allow this";
    /// The cmid was used before, with another body.
    CmidConflict = 303, false, "this cmid was used with another body";
    /// There is no such user.
    NoUser = 304, false, "no such user";
    /// The command does not fit this kind of conversation.
    WrongKind = 305, false, "not for this kind of conversation";
    /// Too fast: wait `retry_after_ms`.
    RateLimited = 400, true, "too fast";
    /// Too many commands await their reply.
    TooManyInFlight = 401, true, "too many commands in flight";
    /// A group has as many members as it may.
    TooManyMembers = 402, false, "too many members";
    /// The body is too large.
    BodyTooLarge = 403, false, "body is too large";
    /// The session watches or subscribes to as much as it may.
    TooManyWatches = 404, false, "too many watches or subscriptions";
    /// A fault of the server; certainly not stored.
    Internal = 500, true, "internal error";
    /// Storage cannot take it now; certainly not stored.
    Unavailable = 501, true, "storage is unavailable";
    /// It is not known whether it was stored: resend with the same cmid.
    Unknown = 502, true, "outcome unknown, resend with the same cmid";
    /// The server is overloaded or draining; certainly not stored.
    Overloaded = 503, true, "server is busy";
    /// The disk is full; certainly not stored.
    DiskFull = 504, true, "storage is full";
}

impl ErrorCode {
    /// The ERROR body with the code's own text.
    #[must_use]
    pub fn error(self) -> pb::Error {
        self.because(self.text())
    }

    /// The ERROR body with a text of the caller's: no peer's bytes, no secrets.
    #[must_use]
    pub fn because<'a>(self, text: impl Into<Cow<'a, str>>) -> pb::Error {
        pb::Error {
            code: self.number(),
            message: text.into().into_owned(),
            retryable: self.retryable(),
            retry_after_ms: 0,
        }
    }
}

macro_rules! closes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal;)+) => {
        /// Close code of a connection: RFC 6455 §7.4.1 below 4000, ours from there. A QUIC connection uses the same
        /// integers as application errors. 4000 to 4499: reconnect; 4500 to 4999: do not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseCode { $($(#[doc = $doc])+ $name = $code,)+ }

        impl CloseCode {
            /// Every code, in rising order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 { self as u16 }

            /// The code of a number; `None` for numbers this version does not know.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($code => Some(Self::$name),)+ _ => None }
            }

            /// The reason sent with it.
            #[must_use]
            pub const fn text(self) -> &'static str { match self { $(Self::$name => $text,)+ } }
        }
    };
}

closes! {
    /// The peer is done.
    Normal = 1000, "done";
    /// The server or the page goes away.
    GoingAway = 1001, "going away";
    /// RFC 6455 was broken.
    Protocol = 1002, "protocol error";
    /// A kind of data that is not accepted here: text where binary is due, or the reverse.
    Unsupported = 1003, "unsupported data";
    /// Text that is not UTF-8.
    NotUtf8 = 1007, "not UTF-8";
    /// A message above the limit.
    TooBig = 1009, "message too big";
    /// A fault of the server.
    Internal = 1011, "internal error";
    /// The node drains: connect elsewhere.
    Drain = 4000, "draining";
    /// The token ran out: refresh it, then reconnect.
    TokenExpired = 4001, "token expired";
    /// Nothing came for too many heartbeats.
    HeartbeatMissed = 4002, "heartbeat missed";
    /// CONNECT did not come in time.
    ConnectLate = 4003, "no CONNECT in time";
    /// The node has no room: reconnect later.
    Overloaded = 4004, "overloaded";
    /// A message that was begun was not complete in time.
    MessageLate = 4005, "message not complete in time";
    /// The client does not read what it is sent.
    SlowConsumer = 4010, "slow consumer";
    /// The token is not valid, or guests are not admitted.
    Unauthenticated = 4500, "not authenticated";
    /// The user may not be here.
    Forbidden = 4501, "not allowed";
    /// Too many malformed frames.
    TooManyErrors = 4502, "too many malformed frames";
    /// The same device of the same user connected again.
    Replaced = 4503, "replaced by a newer connection of this device";
    /// Frames or pings far above what a session may send.
    Flood = 4504, "too many frames";
    /// Whoever runs the service ended the user's sessions.
    Disconnected = 4505, "ended by the service";
}

/// Whether a client should come back after a close, by its number alone.
///
/// Codes above 4999 or unknown ones below 4000 count as accidents: reconnect. `None` (no close frame was seen) too.
#[must_use]
pub const fn should_reconnect(code: Option<u16>) -> bool {
    match code {
        Some(1002 | 1003 | 1007 | 1009) => false,
        Some(number) => !(number >= 4500 && number <= 4999),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(*code));
        }
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_number(code.number()), Some(*code));
        }
    }

    #[test]
    fn ranges_tell_the_client_what_to_do() {
        assert!(should_reconnect(None));
        assert!(should_reconnect(Some(1006)));
        assert!(should_reconnect(Some(CloseCode::SlowConsumer.number())));
        assert!(!should_reconnect(Some(CloseCode::Replaced.number())));
        assert!(!should_reconnect(Some(4999)));
    }
}
