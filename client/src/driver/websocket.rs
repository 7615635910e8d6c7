//! One WebSocket.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::{RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use roost_wire::Encoding;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::link::{CLOSE_WITHIN, Manner};
use crate::core::{Gone, MESSAGE_BYTES_MAX};
use crate::url::Url;

/// The receive buffer: large enough for a burst of messages, small enough for thousands of clients in one process.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes the socket may owe before the connection counts as stuck.
const WRITE_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// A TCP connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Socket = WebSocketStream<Box<dyn Stream>>;

pub(super) struct WebSocket {
    socket: Socket,
    encoding: Encoding,
}

impl WebSocket {
    pub(super) async fn open(url: &Url, manner: &Manner) -> Result<Self, Gone> {
        let encoding = manner.encoding;
        let socket = open(url, manner).await?;
        Ok(Self { socket, encoding })
    }

    /// The next payload. Nothing is lost if the wait is given up.
    pub(super) async fn next(&mut self) -> Result<Bytes, Gone> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(payload))) => return Ok(payload),
                Some(Ok(Message::Text(text))) => return Ok(text.into()),
                Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(broke(&error)),
                None => return Err(closed(None)),
            }
        }
    }

    pub(super) async fn send(&mut self, payload: Bytes) -> Result<(), Gone> {
        let message = match self.encoding {
            Encoding::Protobuf => Message::Binary(payload),
            Encoding::Json => Message::Text(Utf8Bytes::try_from(payload).map_err(|error| failed(&error))?),
        };
        match self.socket.send(message).await {
            Ok(()) => Ok(()),
            Err(error) => Err(last_words(&mut self.socket, &error).await),
        }
    }

    /// The server has closed: it is told that this was heard.
    pub(super) async fn over(&mut self) {
        let _ = self.socket.flush().await;
    }

    /// Says goodbye and waits a little for the answer, so that what was written is read.
    pub(super) async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::default() };
        let polite = async {
            if self.socket.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        let _ = tokio::time::timeout(CLOSE_WITHIN, polite).await;
    }
}

fn failed(error: &dyn std::fmt::Display) -> Gone {
    Gone::Failed(error.to_string())
}

async fn open(url: &Url, manner: &Manner) -> Result<Socket, Gone> {
    let stream = TcpStream::connect((url.host(), url.port())).await.map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let stream: Box<dyn Stream> = if url.is_tls() {
        let connector = manner.tls.get().map_err(|error| failed(&error))?;
        Box::new(connector.connect(url.host(), stream).await.map_err(|error| failed(&error))?)
    } else {
        Box::new(stream)
    };
    let mut request = url.uri().into_client_request().map_err(|error| failed(&error))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(manner.encoding.subprotocol()));
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(response)) => {
            let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = header.and_then(|text| text.parse().ok()).map(Duration::from_secs);
            Err(Gone::Status { status: response.status().as_u16(), retry_after })
        }
        Err(error) => Err(failed(&error)),
    }
}

fn closed(frame: Option<CloseFrame>) -> Gone {
    match frame {
        Some(frame) => Gone::Closed { code: Some(frame.code.into()), reason: frame.reason.to_string() },
        None => Gone::Closed { code: None, reason: String::new() },
    }
}

fn broke(error: &WsError) -> Gone {
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => closed(None),
        error => Gone::Failed(error.to_string()),
    }
}

/// A write failed: the reason may already lie in the receive buffer, as a close frame.
async fn last_words(socket: &mut Socket, error: &WsError) -> Gone {
    let read = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return Some(closed(frame)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    };
    tokio::time::timeout(CLOSE_WITHIN, read).await.ok().flatten().unwrap_or_else(|| broke(error))
}
