//! One connection on its own task: payloads in, payloads out, no thought.

use std::time::Duration;

use bytes::Bytes;
use roost_wire::Encoding;
use tokio::sync::mpsc;

use super::quic::{Endpoints, Quic};
use super::race::{self, Paths, Way};
use super::websocket::WebSocket;
use crate::Transport;
use crate::core::{Gone, LinkId};
use crate::tls::Lazy;
use crate::url::Url;

/// How long the server may take to answer a close.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What a link tells the driver.
#[derive(Debug)]
pub(crate) enum FromLink {
    Opened(Way),
    Message(Bytes),
    Gone(Gone),
}

/// What the driver tells a link.
#[derive(Debug)]
pub(crate) enum ToLink {
    Payload(Bytes),
    Close(u16),
}

/// How every link of a client speaks.
#[derive(Clone)]
pub(crate) struct Manner {
    pub(crate) encoding: Encoding,
    pub(crate) transport: Transport,
    pub(crate) tls: Lazy,
    pub(crate) endpoints: Endpoints,
    pub(crate) paths: Paths,
}

/// What carries the payloads.
pub(super) enum Lane {
    WebSocket(Box<WebSocket>),
    Quic(Box<Quic>),
}

impl Lane {
    pub(super) fn way(&self) -> Way {
        match self {
            Self::WebSocket(_) => Way::WebSocket,
            Self::Quic(quic) => quic.way(),
        }
    }

    async fn next(&mut self) -> Result<Bytes, Gone> {
        match self {
            Self::WebSocket(socket) => socket.next().await,
            Self::Quic(quic) => quic.next().await,
        }
    }

    async fn send(&mut self, payload: Bytes) -> Result<(), Gone> {
        match self {
            Self::WebSocket(socket) => socket.send(payload).await,
            Self::Quic(quic) => quic.send(payload).await,
        }
    }

    async fn over(&mut self) {
        if let Self::WebSocket(socket) = self {
            socket.over().await;
        }
    }

    async fn close(&mut self, code: u16) {
        match self {
            Self::WebSocket(socket) => socket.close(code).await,
            Self::Quic(quic) => quic.close(code).await,
        }
    }
}

pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) url: Url,
    pub(crate) manner: Manner,
    pub(crate) orders: mpsc::Receiver<ToLink>,
    pub(crate) reports: mpsc::Sender<(LinkId, FromLink)>,
}

impl Link {
    /// Opens the connection and serves it until it ends or a `Close` comes. Tells how it ended, unless it was told to.
    pub(crate) async fn run(mut self) {
        let opened = tokio::select! {
            opened = race::open(&self.url, &self.manner) => opened,
            // Nothing but a close can come before it is open.
            _ = self.orders.recv() => return,
        };
        let gone = match opened {
            Ok(mut lane) => {
                if self.reports.send((self.id, FromLink::Opened(lane.way()))).await.is_err() {
                    return;
                }
                match self.serve(&mut lane).await {
                    Some(gone) => gone,
                    None => return,
                }
            }
            Err(gone) => gone,
        };
        let _ = self.reports.send((self.id, FromLink::Gone(gone))).await;
    }

    /// `None` if the driver had it closed.
    async fn serve(&mut self, lane: &mut Lane) -> Option<Gone> {
        // A payload the driver has no room for yet. Meanwhile nothing is read: the server feels it.
        let mut held: Option<FromLink> = None;
        loop {
            tokio::select! {
                permit = self.reports.reserve(), if held.is_some() => {
                    if let (Ok(permit), Some(message)) = (permit, held.take()) {
                        permit.send((self.id, message));
                    }
                }
                payload = lane.next(), if held.is_none() => match payload {
                    Ok(payload) => held = Some(FromLink::Message(payload)),
                    Err(gone) => {
                        lane.over().await;
                        return Some(gone);
                    }
                },
                order = self.orders.recv() => match order {
                    Some(ToLink::Payload(payload)) => {
                        if let Err(gone) = lane.send(payload).await {
                            return Some(gone);
                        }
                    }
                    Some(ToLink::Close(code)) => {
                        lane.close(code).await;
                        return None;
                    }
                    None => return None,
                },
            }
        }
    }
}
