//! One WebSocket on its own task: bytes in, bytes out, no thought.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::{RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use roost_wire::Encoding;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::core::{Gone, LinkId, MESSAGE_BYTES_MAX};
use crate::url::Url;

/// The receive buffer: large enough for a burst of messages, small enough for thousands of clients in one process.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes the socket may owe before the connection counts as stuck.
const WRITE_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// How long the server may take to answer a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What a link tells the driver.
#[derive(Debug)]
pub(crate) enum FromLink {
    Opened,
    Message(Bytes),
    Gone(Gone),
}

/// What the driver tells a link.
#[derive(Debug)]
pub(crate) enum ToLink {
    Payload(Bytes),
    Close(u16),
}

type Socket = WebSocketStream<TcpStream>;

pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) url: Url,
    pub(crate) encoding: Encoding,
    pub(crate) orders: mpsc::Receiver<ToLink>,
    pub(crate) reports: mpsc::Sender<(LinkId, FromLink)>,
}

impl Link {
    /// Opens the socket and serves it until it ends or a `Close` comes. Tells how it ended, unless it was told to.
    pub(crate) async fn run(mut self) {
        let opened = tokio::select! {
            opened = open(&self.url, self.encoding) => opened,
            // Nothing but a close can come before the socket is open.
            _ = self.orders.recv() => return,
        };
        let gone = match opened {
            Ok(mut socket) => {
                if self.reports.send((self.id, FromLink::Opened)).await.is_err() {
                    return;
                }
                match self.serve(&mut socket).await {
                    Some(gone) => gone,
                    None => return,
                }
            }
            Err(gone) => gone,
        };
        let _ = self.reports.send((self.id, FromLink::Gone(gone))).await;
    }

    /// `None` if the driver had it closed.
    async fn serve(&mut self, socket: &mut Socket) -> Option<Gone> {
        // A message the driver has no room for yet. Meanwhile nothing is read: the server feels it.
        let mut held: Option<FromLink> = None;
        loop {
            tokio::select! {
                permit = self.reports.reserve(), if held.is_some() => {
                    if let (Ok(permit), Some(message)) = (permit, held.take()) {
                        permit.send((self.id, message));
                    }
                }
                message = socket.next(), if held.is_none() => match message {
                    Some(Ok(Message::Binary(payload))) => held = Some(FromLink::Message(payload)),
                    Some(Ok(Message::Text(text))) => held = Some(FromLink::Message(text.into())),
                    Some(Ok(Message::Close(frame))) => {
                        let _ = socket.flush().await;
                        return Some(closed(frame));
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Err(error)) => return Some(broke(&error)),
                    None => return Some(closed(None)),
                },
                order = self.orders.recv() => match order {
                    Some(ToLink::Payload(payload)) => {
                        if let Err(error) = self.write(socket, payload).await {
                            return Some(last_words(socket, &error).await);
                        }
                    }
                    Some(ToLink::Close(code)) => {
                        close(socket, code).await;
                        return None;
                    }
                    None => return None,
                },
            }
        }
    }

    async fn write(&self, socket: &mut Socket, payload: Bytes) -> Result<(), WsError> {
        let message = match self.encoding {
            Encoding::Protobuf => Message::Binary(payload),
            Encoding::Json => {
                Message::Text(Utf8Bytes::try_from(payload).map_err(|error| WsError::Utf8(error.to_string()))?)
            }
        };
        socket.send(message).await
    }
}

async fn open(url: &Url, encoding: Encoding) -> Result<Socket, Gone> {
    let failed = |error: &dyn std::fmt::Display| Gone::Failed(error.to_string());
    let stream = TcpStream::connect((url.host(), url.port())).await.map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let mut request = url.uri().into_client_request().map_err(|error| failed(&error))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(encoding.subprotocol()));
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

/// Says goodbye and waits a little for the answer, so that what was written is read.
async fn close(socket: &mut Socket, code: u16) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::default() };
    let polite = async {
        if socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_WITHIN, polite).await;
}
