//! A server that speaks enough of Roost for a load, and lies on demand. A thread a connection; logs in memory.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use roost_wire::pb::{self, Frame};
use roost_wire::ws::handshake::{Request, parse_request, refusal_for_now, write_accept};
use roost_wire::ws::{Decoder, Event, Side};
use roost_wire::{Encoding, FrameBody};

/// What the server does wrong with every tenth message of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// Acknowledges it, but neither pushes nor stores it.
    Lose,
    /// Stores it, but does not push it: a client catches up.
    NoPush,
    /// Pushes it twice.
    Double,
    /// Pushes it after the one that follows.
    Reorder,
    /// Stores and pushes another text.
    Change,
    /// Acknowledges and pushes it, but does not store it.
    Forget,
    /// Stores it, and cuts the connections of its readers instead of pushing it.
    Cut,
    /// Answers no heartbeat.
    NoPong,
    /// Closes whatever became a session.
    Leave,
    /// Tells every second who comes to come back in a second.
    Busy,
}

#[derive(Default)]
struct State {
    /// Connections that asked for WebSocket.
    asked: u32,
    users: u32,
    streams: HashMap<String, TcpStream>,
    conversations: Vec<Conversation>,
}

#[derive(Default)]
struct Conversation {
    id: String,
    /// Who publishes gets it as well.
    channel: bool,
    members: Vec<String>,
    head: u64,
    log: Vec<pb::Entry>,
    /// Stored just now, and to be pushed.
    fresh: Option<pb::Entry>,
}

/// Starts one; it lives as long as the test.
pub fn start(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::new(Mutex::new(State::default()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, state) = (stream.unwrap(), Arc::clone(&state));
            std::thread::spawn(move || serve(stream, &state, lie));
        }
    });
    address
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, lie: Lie) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = vec![0; 64 * 1024];
    let mut head = Vec::new();
    loop {
        let taken = stream.read(&mut buffer).ok().filter(|taken| *taken > 0)?;
        head.extend_from_slice(&buffer[..taken]);
        if let Some((Request::Upgrade(upgrade), len)) = parse_request(&head).unwrap() {
            let mut answer = BytesMut::new();
            let asked = {
                let mut state = state.lock().unwrap();
                state.asked += 1;
                state.asked
            };
            if lie == Lie::Busy && asked % 2 == 1 {
                stream.write_all(&refusal_for_now(503, 1, "busy")).ok()?;
                return None;
            }
            write_accept(upgrade.key, Some("roost.v1.pb"), &mut answer);
            stream.write_all(&answer).ok()?;
            assert_eq!(len, head.len(), "the client waits for the answer");
            break;
        }
    }
    let mut decoder = Decoder::new(Side::Server, 64 * 1024);
    let mut user = String::new();
    loop {
        let taken = stream.read(&mut buffer).ok().filter(|taken| *taken > 0)?;
        let mut at = 0;
        while let Some(event) = decoder.next(&mut buffer[..taken], &mut at).unwrap() {
            let Event::Message { mut payload, .. } = event else { return None };
            while let Some(frame) = Encoding::Protobuf.decode(&mut payload).unwrap() {
                let mut state = state.lock().unwrap();
                if let Some(body) = state.answer(frame.body.unwrap(), &mut user, &stream, lie) {
                    let message = Encoding::Protobuf.server_message(&Frame { rid: frame.rid, body: Some(body) });
                    stream.write_all(&message).ok()?;
                }
                if lie == Lie::Leave {
                    stream.shutdown(Shutdown::Both).ok()?;
                    return None;
                }
                state.push(lie);
            }
        }
    }
}

impl State {
    fn answer(&mut self, body: FrameBody, user: &mut String, stream: &TcpStream, lie: Lie) -> Option<FrameBody> {
        Some(match body {
            FrameBody::Connect(connect) => {
                *user = if connect.token.is_empty() {
                    assert!(!connect.guest.is_empty(), "without a key clients are guests");
                    self.users += 1;
                    format!("u_{}", self.users)
                } else {
                    connect.token
                };
                self.streams.insert(user.clone(), stream.try_clone().unwrap());
                FrameBody::Welcome(pb::Welcome {
                    user: user.clone(),
                    token: user.clone(),
                    heartbeat_ms: 300,
                    ..Default::default()
                })
            }
            FrameBody::Create(create) => {
                let id = format!("c_{}", self.conversations.len());
                let mut members = create.members.clone();
                members.push(user.clone());
                self.conversations.push(Conversation { id: id.clone(), members, ..Default::default() });
                FrameBody::Conversation(pb::Conversation { conv: id, kind: create.kind, ..Default::default() })
            }
            FrameBody::Subscribe(subscribe) => {
                if !self.conversations.iter().any(|conversation| conversation.id == subscribe.channel) {
                    let id = subscribe.channel.clone();
                    self.conversations.push(Conversation { id, channel: true, ..Default::default() });
                }
                self.conversation(&subscribe.channel).members.push(user.clone());
                FrameBody::Ok(pb::Ok {})
            }
            FrameBody::Publish(publish) => {
                let pb::Publish { channel, cmid, body, .. } = publish;
                let send = pb::Send { conv: channel, cmid, body, ..Default::default() };
                return self.answer(FrameBody::Send(send), user, stream, lie);
            }
            FrameBody::Send(send) => {
                let conversation = self.conversation(&send.conv);
                conversation.head += 1;
                let seq = conversation.head;
                let mut entry = pb::Entry {
                    conv: send.conv.clone(),
                    seq,
                    from: user.clone(),
                    cmid: send.cmid,
                    ts: 1,
                    body: send.body,
                };
                if lie == Lie::Change && seq.is_multiple_of(10) {
                    entry.body = Some(pb::Body { text: "something else".into(), event: None });
                }
                if !(matches!(lie, Lie::Lose | Lie::Forget) && seq.is_multiple_of(10)) {
                    conversation.log.push(entry.clone());
                }
                conversation.fresh = Some(entry);
                FrameBody::Sent(pb::Sent { conv: send.conv, seq, ts: 1, dup: false })
            }
            FrameBody::History(history) => {
                let conversation = self.conversation(&history.conv);
                let after = history.after.unwrap();
                let entries = conversation.log.iter().filter(|entry| entry.seq > after).take(7).cloned().collect();
                FrameBody::Page(pb::Page { conv: history.conv, entries, head: conversation.head })
            }
            FrameBody::Sync(_) => {
                let mine = self.conversations.iter().filter(|conversation| conversation.members.contains(user));
                let row = |of: &Conversation| pb::Row { conv: of.id.clone(), head: of.head, ..Default::default() };
                FrameBody::Changed(pb::Changed { rows: mine.map(row).collect(), ..Default::default() })
            }
            FrameBody::Ping(_) if lie == Lie::NoPong => return None,
            FrameBody::Ping(_) => FrameBody::Pong(pb::Pong {}),
            FrameBody::Ack(_) => return None,
            other => panic!("not expected: {other:?}"),
        })
    }

    fn conversation(&mut self, id: &str) -> &mut Conversation {
        self.conversations.iter_mut().find(|conversation| conversation.id == id).unwrap()
    }

    /// Pushes what was stored just now.
    fn push(&mut self, lie: Lie) {
        for conversation in &mut self.conversations {
            let Some(entry) = conversation.fresh.take() else { continue };
            let tenth = entry.seq.is_multiple_of(10);
            if lie == Lie::Reorder && tenth {
                // Goes with the next one.
                continue;
            }
            let times = match lie {
                Lie::Lose | Lie::NoPush | Lie::Cut if tenth => 0,
                Lie::Double if tenth => 2,
                _ => 1,
            };
            let late = (lie == Lie::Reorder && entry.seq % 10 == 1 && entry.seq > 10)
                .then(|| conversation.log[entry.seq as usize - 2].clone());
            for member in &conversation.members {
                if lie == Lie::Cut && tenth && entry.from != *member {
                    let _ = self.streams[member].shutdown(Shutdown::Both);
                }
                let entries = std::iter::repeat_n(&entry, times).chain(&late);
                for entry in entries.filter(|entry| conversation.channel || entry.from != *member) {
                    let frame = Frame { rid: 0, body: Some(FrameBody::Entry(entry.clone())) };
                    // A member that left gets nothing.
                    let _ = (&self.streams[member]).write_all(&Encoding::Protobuf.server_message(&frame));
                }
            }
        }
    }
}
