//! How a bidirectional stream of a client begins: a request (RFC 9114 §4.1), or a stream of a session.

use quinn_proto::StreamId;
use web_transport_proto::http::StatusCode;
use web_transport_proto::{ConnectError, ConnectRequest, Frame, VarInt};

use super::{Breach, Doors};

/// Largest request, in encoded bytes, with what stands before it.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// A stream of which it is not known yet what it is.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) id: StreamId,
    bytes: Vec<u8>,
}

/// What a stream begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// More has to come.
    More,
    /// It belongs to the session that the request on this stream made.
    Stream(u64),
    /// A request for a session, and what stood behind it.
    Session(Vec<u8>),
    /// Another request, or one that is not let in.
    Refused(StatusCode),
}

impl Fresh {
    pub(super) const fn new(id: StreamId) -> Self {
        Self { id, bytes: Vec::new() }
    }

    /// How many bytes may be read: never any of what follows the beginning of a stream of a session.
    pub(super) fn wanted(&self) -> usize {
        match self.signal() {
            Ok(Some(_)) => 0,
            Ok(None) => REQUEST_BYTES_MAX.saturating_sub(self.bytes.len()),
            Err(more) => more,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The session that it says it belongs to; `None`: it is a request. Else how many bytes that takes to know.
    fn signal(&self) -> Result<Option<u64>, usize> {
        let mut rest = self.bytes.as_slice();
        let Ok(kind) = Frame::decode(&mut rest) else { return Err(missing(&self.bytes)) };
        if kind != Frame::WEBTRANSPORT {
            return Ok(None);
        }
        let front = rest;
        match VarInt::decode(&mut rest) {
            Ok(session) => Ok(Some(session.into_inner())),
            Err(_) => Err(missing(front)),
        }
    }

    /// What it is, as far as is known.
    pub(super) fn head(&self, doors: &Doors) -> Result<Head, Breach> {
        match self.signal() {
            Err(_) => return Ok(Head::More),
            Ok(Some(session)) => return Ok(Head::Stream(session)),
            Ok(None) => {}
        }
        let mut rest = self.bytes.as_slice();
        match ConnectRequest::decode(&mut rest) {
            Ok(request) => Ok(match judge(&request, doors) {
                None => Head::Session(rest.to_vec()),
                Some(status) => Head::Refused(status),
            }),
            Err(ConnectError::UnexpectedEnd) if self.bytes.len() < REQUEST_BYTES_MAX => Ok(Head::More),
            Err(error) => refused(&error).map(Head::Refused),
        }
    }
}

/// How many bytes a varint lacks that is not whole.
fn missing(front: &[u8]) -> usize {
    front.first().map_or(1, |first| (1 << (first >> 6)) - front.len())
}

/// `None`: it is let in.
fn judge(request: &ConnectRequest, doors: &Doors) -> Option<StatusCode> {
    if request.url.path() != doors.path {
        return Some(StatusCode::NOT_FOUND);
    }
    // One that is no text is no origin of ours.
    let origin = request.headers.get("origin").map(|origin| origin.to_str().unwrap_or("?"));
    if doors.origins.admits(origin, request.url.authority()) { None } else { Some(StatusCode::FORBIDDEN) }
}

/// What a request is answered that makes no session.
fn refused(error: &ConnectError) -> Result<StatusCode, Breach> {
    Ok(match error {
        ConnectError::UnexpectedEnd | ConnectError::FieldSectionTooLarge | ConnectError::FrameTooLarge => {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        }
        ConnectError::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
        // CONNECT of another kind (RFC 9220 §3).
        ConnectError::WrongProtocol(_) => StatusCode::NOT_IMPLEMENTED,
        // A reference to the table that has no room, or no field section at all (RFC 9204 §2.2).
        ConnectError::QpackError(_) => return Err(Breach::Decompression),
        ConnectError::UnexpectedFrame(_) => return Err(Breach::FrameUnexpected),
        _ => StatusCode::BAD_REQUEST,
    })
}
