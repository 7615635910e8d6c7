//! A session by WebTransport (draft-ietf-webtrans-http3): what HTTP/3 needs around the one stream that carries frames. Browsers come
//! this way; here it serves to see that it works.

use bytes::{Buf, Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream};
use roost_wire::limits;
use tokio::time::timeout;
use web_transport_proto::{Capsule, CapsuleError, ConnectRequest, ConnectResponse, Frame, Settings, VarInt};

use super::link::CLOSE_WITHIN;
use super::quic::failed;
use crate::core::Gone;
use crate::url::Url;

/// The name of HTTP/3 (RFC 9114 §3.1).
pub(super) const ALPN: &[u8] = b"h3";
/// Nothing is wrong (RFC 9114 §8.1).
const NO_ERROR: u32 = 0x100;
/// What the server may say on the stream of the request that is not understood yet: one frame of its last words.
const UNREAD_BYTES_MAX: usize = 4096;
/// Bytes taken off a stream at a time.
const READ_BYTES_MAX: usize = 4096;

pub(super) struct Session {
    /// The stream of the request, whose end is the session's.
    send: SendStream,
    recv: RecvStream,
    unread: BytesMut,
    /// Streams that must stay open (RFC 9114 §6.2.1): ours with SETTINGS, and the server's.
    _control: (SendStream, RecvStream),
}

impl Session {
    /// Exchanges SETTINGS and asks for a session.
    pub(super) async fn open(connection: &Connection, url: &Url) -> Result<Self, Gone> {
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        let mut ours = connection.open_uni().await.map_err(|error| failed(&error))?;
        settings.write(&mut ours).await.map_err(|error| failed(&error))?;
        let mut theirs = connection.accept_uni().await.map_err(|error| failed(&error))?;
        let settings = Settings::read(&mut theirs).await.map_err(|error| failed(&error))?;
        if settings.supports_webtransport() == 0 {
            return Err(Gone::Failed("the server does not take WebTransport".to_owned()));
        }
        let (mut send, mut recv) = connection.open_bi().await.map_err(|error| failed(&error))?;
        let address = format!("https://{}{}", url.authority(), limits::WEBTRANSPORT_PATH);
        let request = ConnectRequest::new(address.parse::<url::Url>().map_err(|error| failed(&error))?);
        request.write(&mut send).await.map_err(|error| failed(&error))?;
        // Everything but a 2xx is an error.
        ConnectResponse::read(&mut recv).await.map_err(|error| failed(&error))?;
        Ok(Self { send, recv, unread: BytesMut::new(), _control: (ours, theirs) })
    }

    /// Opens a stream of the session.
    pub(super) async fn stream(&self, connection: &Connection) -> Result<(SendStream, RecvStream), Gone> {
        let (mut send, recv) = connection.open_bi().await.map_err(|error| failed(&error))?;
        let mut head = Vec::new();
        Frame::WEBTRANSPORT.encode(&mut head);
        self.id().encode(&mut head);
        send.write_all(&head).await.map_err(|error| failed(&error))?;
        Ok((send, recv))
    }

    fn id(&self) -> VarInt {
        let id = quinn::VarInt::from(self.send.id()).into_inner();
        VarInt::from_u64(id).unwrap_or(VarInt::MAX)
    }

    /// What a datagram of the session holds (RFC 9297 §2.1); `None`: it is none.
    pub(super) fn payload(&self, datagram: &Bytes) -> Option<Bytes> {
        let mut payload = datagram.clone();
        let quarter = VarInt::decode(&mut payload).ok()?.into_inner();
        (quarter == self.id().into_inner() / 4).then_some(payload)
    }

    /// Waits for the session's end. Nothing is lost if the wait is given up.
    pub(super) async fn ended(&mut self) -> Gone {
        loop {
            let chunk = match self.recv.read_chunk(READ_BYTES_MAX, true).await {
                Ok(Some(chunk)) => chunk.bytes,
                Ok(None) => return Gone::Closed { code: None, reason: String::new() },
                Err(error) => return failed(&error),
            };
            self.unread.extend_from_slice(&chunk);
            match self.last_words() {
                Ok(None) if self.unread.len() <= UNREAD_BYTES_MAX => {}
                Ok(None) => return Gone::Failed("the server says too much beside the session".to_owned()),
                Ok(Some((code, reason))) => return Gone::Closed { code: u16::try_from(code).ok(), reason },
                Err(error) => return failed(&error),
            }
        }
    }

    /// Code and reason that close the session, once they are whole: a capsule of its own in a frame of its own.
    fn last_words(&mut self) -> Result<Option<(u32, String)>, CapsuleError> {
        loop {
            let mut rest = &self.unread[..];
            let Ok((kind, mut data)) = Frame::read(&mut rest) else { return Ok(None) };
            if kind == Frame::DATA
                && let Capsule::CloseWebTransportSession { code, reason } = Capsule::decode(&mut data)?
            {
                return Ok(Some((code, reason)));
            }
            let more = data.remaining();
            data.advance(more);
            let taken = self.unread.len() - rest.len();
            self.unread.advance(taken);
        }
    }

    /// Closes the session with `code`, and sees to it that this arrives. Returns what then closes the connection.
    pub(super) async fn close(&mut self, code: u16) -> u32 {
        let (mut capsule, mut frame) = (Vec::new(), Vec::new());
        Capsule::CloseWebTransportSession { code: code.into(), reason: String::new() }.encode(&mut capsule);
        Frame::DATA.encode(&mut frame);
        VarInt::from_u32(capsule.len() as u32).encode(&mut frame);
        frame.extend_from_slice(&capsule);
        let said = async {
            if self.send.write_all(&frame).await.is_ok() && self.send.finish().is_ok() {
                let _ = self.send.stopped().await;
            }
        };
        let _ = timeout(CLOSE_WITHIN, said).await;
        NO_ERROR
    }
}
