//! What comes out of the core: work for the driver and news for the app.

use std::time::Duration;

use bytes::Bytes;
use roost_wire::{ConvId, FrameBody, Seq, UserId, pb};

use super::requests::Ticket;
use super::{Cmid, LinkId};
use crate::error::{EndReason, RequestError, SendError};
use crate::url::Url;

/// What the driver is to do, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Open a connection; answer with `Core::opened` or `Core::closed`.
    Open {
        /// Its name from now on.
        link: LinkId,
        /// Where to.
        url: Url,
    },
    /// Send one message.
    Transmit {
        /// Where.
        link: LinkId,
        /// The payload of a WebSocket message of the encoding's kind.
        payload: Bytes,
    },
    /// Close the connection, politely with this code if it is open. Nothing more is wanted from it.
    Shut {
        /// Which.
        link: LinkId,
        /// Close code for the server.
        code: u16,
    },
    /// Tell the app.
    Event(Event),
    /// The fate of a send. Except for [`SendError::Ended`] the outbox store may forget it.
    Sent {
        /// Which.
        cmid: Cmid,
        /// What became of it.
        result: Result<pb::Sent, SendError>,
    },
    /// The answer to a request of the app.
    Answer {
        /// Which.
        ticket: Ticket,
        /// The reply's body.
        result: Result<FrameBody, RequestError>,
    },
}

/// What an app hears.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A session is there: after the start, and after every cut. Not told when it merely moved to another node.
    Connected {
        /// Nothing was missed since the last session.
        fresh: bool,
        /// Who the server says this is.
        user: UserId,
        /// The user's display name.
        name: String,
        /// The session's id, for support.
        session: String,
    },
    /// The session was lost, or could not be had.
    Disconnected {
        /// Close code; `None` if the connection broke without one.
        code: Option<u16>,
        /// When the next try comes. `None`: never, `Ended` follows.
        retry_in: Option<Duration>,
        /// What happened, for people.
        reason: String,
    },
    /// The next entry of a conversation, in order, the user's own included.
    Entry(pb::Entry),
    /// Entries that will not be shown: too many, or not readable any more. HISTORY may have them.
    Skipped {
        /// Where.
        conv: ConvId,
        /// The first one.
        from: Seq,
        /// The last one.
        to: Seq,
    },
    /// Somebody's marks moved.
    Receipt(pb::Receipt),
    /// Somebody writes, or has stopped.
    Typing(pb::Typing),
    /// Watched users came or went.
    Presence(Vec<pb::UserPresence>),
    /// Conversations are new or have changed.
    Conversations(Vec<pb::Row>),
    /// A message was refused for good: it is certainly not stored.
    Rejected {
        /// Which.
        cmid: Cmid,
        /// Where it should have gone.
        conv: ConvId,
        /// Why.
        error: pb::Error,
    },
    /// The client has stopped and will not connect again.
    Ended(EndReason),
}

/// How a connection ended, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The server closed it. `None`: no close frame was seen.
    Closed {
        /// The close code.
        code: Option<u16>,
        /// What came with it.
        reason: String,
    },
    /// The upgrade was answered with another status than 101.
    Status {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// It could not be opened, or broke.
    Failed(String),
}

impl Gone {
    pub(crate) const fn code(&self) -> Option<u16> {
        match self {
            Self::Closed { code, .. } => *code,
            Self::Status { .. } | Self::Failed(_) => None,
        }
    }

    /// For people.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Closed { code: Some(code), reason } if reason.is_empty() => format!("closed with code {code}"),
            Self::Closed { code: Some(code), reason } => format!("{reason} (code {code})"),
            Self::Closed { code: None, .. } => "the connection broke".to_owned(),
            Self::Status { status, .. } => format!("the upgrade was answered with HTTP status {status}"),
            Self::Failed(text) => text.clone(),
        }
    }
}
