//! A client that shows every frame as it comes, doubled or not.

use std::net::SocketAddr;

use roost_wire::pb::{self, Frame};
use roost_wire::{Encoding, FrameBody};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use futures_util::{SinkExt, StreamExt};

use crate::harness::{token, within};

pub(crate) struct Raw {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    rid: u64,
    /// Pushes that came before a reply that was waited for.
    held: Vec<FrameBody>,
}

impl Raw {
    /// Connects and sends CONNECT; gives what came of it.
    pub(crate) async fn knock(addr: SocketAddr, user: &str) -> (Self, Frame) {
        let url = format!("ws://{addr}/ws");
        let (socket, _) = within("the upgrade", tokio_tungstenite::connect_async(url)).await.unwrap();
        let mut raw = Self { socket, rid: 1, held: Vec::new() };
        assert!(matches!(raw.frame().await, Some(Frame { body: Some(FrameBody::Hello(_)), .. })));
        let connect = pb::Connect { token: token(user), device: "raw".into(), ..pb::Connect::default() };
        raw.send(1, FrameBody::Connect(connect)).await;
        let answer = raw.frame().await.expect("an answer");
        (raw, answer)
    }

    pub(crate) async fn enter(addr: SocketAddr, user: &str) -> Self {
        let (raw, answer) = Self::knock(addr, user).await;
        assert!(matches!(answer.body, Some(FrameBody::Welcome(_))), "{answer:?}");
        raw
    }

    /// The next frame; `None` once the connection ended.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            match within("a frame", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    return Encoding::Json.decode(&mut text.as_bytes()).expect("a frame of the server");
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    async fn send(&mut self, rid: u64, body: FrameBody) {
        let mut out = Default::default();
        Encoding::Json.encode(&Frame { rid, body: Some(body) }, &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends a command without waiting.
    pub(crate) async fn ask(&mut self, body: FrameBody) -> u64 {
        self.rid += 1;
        self.send(self.rid, body).await;
        self.rid
    }

    /// The reply to it.
    pub(crate) async fn answer(&mut self, rid: u64) -> FrameBody {
        loop {
            let frame = self.frame().await.expect("a reply, not the end");
            match frame.body {
                Some(body) if frame.rid == rid => return body,
                Some(body) if frame.rid == 0 => self.held.push(body),
                other => panic!("not asked: {other:?}"),
            }
        }
    }

    pub(crate) async fn call(&mut self, body: FrameBody) -> FrameBody {
        let rid = self.ask(body).await;
        self.answer(rid).await
    }

    /// The next push.
    pub(crate) async fn push(&mut self) -> FrameBody {
        if !self.held.is_empty() {
            return self.held.remove(0);
        }
        let frame = self.frame().await.expect("a push, not the end");
        assert_eq!(frame.rid, 0, "{frame:?}");
        frame.body.unwrap()
    }

    /// Everything that came until the server answers once more.
    pub(crate) async fn pushes_so_far(&mut self) -> Vec<FrameBody> {
        self.call(FrameBody::Sync(pb::Sync::default())).await;
        std::mem::take(&mut self.held)
    }
}

pub(crate) fn publish(channel: &str, text: &str) -> FrameBody {
    let body = Some(pb::Body { text: text.into(), event: None });
    FrameBody::Publish(pb::Publish { channel: channel.into(), body, cmid: text.into(), ..pb::Publish::default() })
}

pub(crate) fn send(conv: &str, text: &str) -> FrameBody {
    let body = Some(pb::Body { text: text.into(), event: None });
    FrameBody::Send(pb::Send { conv: conv.into(), cmid: text.into(), body, ..pb::Send::default() })
}

pub(crate) fn direct(user: &str) -> FrameBody {
    FrameBody::Create(pb::Create { kind: pb::Kind::Direct.into(), members: vec![user.into()], ..pb::Create::default() })
}

pub(crate) fn group(users: &[&str]) -> FrameBody {
    let members = users.iter().map(|user| (*user).to_owned()).collect();
    FrameBody::Create(pb::Create { kind: pb::Kind::Group.into(), name: "Birds".into(), members, open: false })
}

/// Has a conversation made, and gives its id.
pub(crate) async fn made(raw: &mut Raw, body: FrameBody) -> String {
    match raw.call(body).await {
        FrameBody::Conversation(conversation) => conversation.conv,
        other => panic!("{other:?}"),
    }
}

/// The text of an entry.
pub(crate) fn text_of(body: &FrameBody) -> Option<&str> {
    match body {
        FrameBody::Entry(entry) => entry.body.as_ref().map(|body| body.text.as_str()).filter(|text| !text.is_empty()),
        _ => None,
    }
}

impl Raw {
    /// Sends a command without a rid.
    pub(crate) async fn quietly(&mut self, body: FrameBody) {
        self.send(0, body).await;
    }
}

impl Raw {
    /// Waits for the end of the connection, and gives its close code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            match within("the end", self.socket.next()).await {
                Some(Ok(Message::Close(close))) => return close.map(|close| close.code.into()),
                Some(Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }
}
