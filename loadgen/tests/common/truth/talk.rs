//! What the server of known truth answers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mio::Token;
use roost_wire::pb::{self, Frame};
use roost_wire::ws::{MessageKind, write_message_header};
use roost_wire::{Encoding, FrameBody};

use super::{Parcel, Serving, What, intended};

/// Conversations, and who is where.
#[derive(Default)]
pub struct Talk {
    users: HashMap<String, Token>,
    conversations: HashMap<String, Conversation>,
    /// By their names, in the order of their making.
    names: Vec<String>,
}

#[derive(Default)]
struct Conversation {
    /// Who publishes gets it as well.
    channel: bool,
    members: Vec<String>,
    head: u64,
    log: Vec<pb::Entry>,
    /// No push leaves before the one before it.
    free_at: Option<Instant>,
    /// To be pushed after the next one of the same sender.
    held: Vec<(pb::Entry, Instant)>,
}

/// The conversation that a plain broadcast is.
const EVERYBODY: &str = "everybody";

impl Serving {
    /// Frames of Roost in one message.
    pub(super) fn frames(&mut self, token: Token, mut payload: &[u8], now: Instant) {
        while let Some(frame) = Encoding::Protobuf.decode(&mut payload).unwrap() {
            let rid = frame.rid;
            match frame.body.unwrap() {
                FrameBody::Publish(pb::Publish { channel, cmid, body, .. }) => {
                    self.sent(token, rid, pb::Send { conv: channel, cmid, body, ..Default::default() }, now);
                }
                FrameBody::Send(send) => self.sent(token, rid, send, now),
                body => {
                    if let Some(answer) = self.answer(token, body) {
                        let bytes = Encoding::Protobuf.server_message(&Frame { rid, body: Some(answer) });
                        self.conns.get_mut(&token).unwrap().out.extend_from_slice(&bytes);
                    }
                }
            }
        }
    }

    fn answer(&mut self, token: Token, body: FrameBody) -> Option<FrameBody> {
        let user = self.conns[&token].user.clone();
        let talk = &mut self.talk;
        Some(match body {
            FrameBody::Connect(connect) => {
                let user = match connect.token.is_empty() {
                    true => format!("u_{}", talk.users.len()),
                    false => connect.token,
                };
                talk.users.insert(user.clone(), token);
                self.conns.get_mut(&token).unwrap().user.clone_from(&user);
                let token = user.clone();
                FrameBody::Welcome(pb::Welcome { user, token, heartbeat_ms: 20_000, ..Default::default() })
            }
            FrameBody::Create(create) => {
                let conv = format!("c_{}", talk.names.len());
                let members = create.members.into_iter().chain([user]).collect();
                talk.names.push(conv.clone());
                talk.conversations.insert(conv.clone(), Conversation { members, ..Default::default() });
                FrameBody::Conversation(pb::Conversation { conv, kind: create.kind, ..Default::default() })
            }
            FrameBody::Subscribe(subscribe) => {
                let conversation = talk.conversations.entry(subscribe.channel).or_default();
                conversation.channel = true;
                conversation.members.push(user);
                FrameBody::Ok(pb::Ok {})
            }
            FrameBody::History(history) => {
                let conversation = &talk.conversations[&history.conv];
                let after = history.after.unwrap();
                let entries = conversation.log.iter().filter(|entry| entry.seq > after).take(50).cloned().collect();
                FrameBody::Page(pb::Page { conv: history.conv, entries, head: conversation.head })
            }
            FrameBody::Sync(_) => {
                let mine = talk.conversations.iter().filter(|(_, of)| of.members.contains(&user));
                let row = |(conv, of): (&String, &Conversation)| pb::Row {
                    conv: conv.clone(),
                    head: of.head,
                    ..Default::default()
                };
                FrameBody::Changed(pb::Changed { rows: mine.map(row).collect(), ..Default::default() })
            }
            FrameBody::Ping(_) => FrameBody::Pong(pb::Pong {}),
            FrameBody::Ack(_) => return None,
            other => panic!("not expected: {other:?}"),
        })
    }

    fn sent(&mut self, token: Token, rid: u64, send: pb::Send, now: Instant) {
        let n = self.counted(now);
        let from = self.conns[&token].user.clone();
        let conversation = self.talk.conversations.get_mut(&send.conv).unwrap();
        conversation.head += 1;
        let (seq, conv) = (conversation.head, send.conv);
        let entry = pb::Entry { conv: conv.clone(), seq, from, cmid: send.cmid, ts: 1, body: send.body };
        let sent = FrameBody::Sent(pb::Sent { conv: conv.clone(), seq, ts: 1, dup: false });
        let bytes = Encoding::Protobuf.server_message(&Frame { rid, body: Some(sent) });
        let ack = Parcel { to: token, bytes, received: now, intended: 0, what: What::Ack };
        self.later(now + self.plan.acks.of(n), ack);
        let faults = self.plan.faults;
        if is_nth(seq, faults.lose) {
            self.truth.lock().unwrap().lost.insert((conv, seq));
            return;
        }
        conversation_of(self, &conv).log.push(entry.clone());
        if is_nth(seq, faults.reorder) {
            conversation_of(self, &conv).held.push((entry, now));
            return;
        }
        let delay = self.plan.delays.of(n);
        self.push(&conv, &entry, now, delay);
    }

    /// Pushes an entry, and then what waited for it.
    fn push(&mut self, conv: &str, entry: &pb::Entry, now: Instant, delay: Duration) {
        let faults = self.plan.faults;
        let conversation = conversation_of(self, conv);
        let at = conversation.free_at.unwrap_or(now).max(now + delay);
        conversation.free_at = Some(at);
        let ours = |(held, _): &mut (pb::Entry, Instant)| held.from == entry.from;
        let held: Vec<_> = conversation.held.extract_if(.., ours).collect();
        let members = conversation.members.clone();
        let readers: Vec<String> =
            members.into_iter().filter(|member| conversation.channel || *member != entry.from).collect();
        let mut pushed = entry.clone();
        let place = (conv.to_owned(), entry.seq);
        let garbled = is_nth(entry.seq, faults.garble);
        if garbled {
            pushed.body = Some(pb::Body { text: "something else".into(), event: None });
            self.truth.lock().unwrap().garbled.insert(place.clone());
        }
        let message = Encoding::Protobuf.server_message(&Frame { rid: 0, body: Some(FrameBody::Entry(pushed)) });
        let what = if garbled { What::Extra } else { What::Push };
        let received = (now, meant(entry));
        self.tell(&readers, &message, at, received, what);
        if is_nth(entry.seq, faults.double) {
            self.tell(&readers, &message, at, received, What::Extra);
            self.truth.lock().unwrap().doubled.insert(place);
        }
        for (late, received) in held {
            self.truth.lock().unwrap().reordered.insert((conv.to_owned(), late.seq));
            let meant = meant(&late);
            let message = Encoding::Protobuf.server_message(&Frame { rid: 0, body: Some(FrameBody::Entry(late)) });
            self.tell(&readers, &message, at, (received, meant), What::Push);
        }
    }

    fn tell(&mut self, readers: &[String], message: &Bytes, at: Instant, received: (Instant, i64), what: What) {
        let (received, intended) = received;
        for reader in readers {
            let to = self.talk.users[reader];
            self.later(at, Parcel { to, bytes: message.clone(), received, intended, what });
        }
    }

    /// A text of the plain protocol: back to its sender, or to everybody.
    pub(super) fn text(&mut self, token: Token, text: &[u8], now: Instant) {
        let n = self.counted(now);
        let mut message = BytesMut::new();
        write_message_header(MessageKind::Text, text.len(), None, &mut message);
        message.extend_from_slice(text);
        let (bytes, delay) = (message.freeze(), self.plan.delays.of(n));
        let intended = intended(std::str::from_utf8(text).unwrap_or_default());
        if !text.starts_with(b"!") {
            return self.later(now + delay, Parcel { to: token, bytes, received: now, intended, what: What::Push });
        }
        let everybody = self.talk.conversations.entry(EVERYBODY.into()).or_default();
        everybody.head += 1;
        let (seq, place) = (everybody.head, (EVERYBODY.to_owned(), everybody.head));
        if is_nth(seq, self.plan.faults.lose) {
            self.truth.lock().unwrap().lost.insert(place);
            return;
        }
        let at = everybody.free_at.unwrap_or(now).max(now + delay);
        everybody.free_at = Some(at);
        let tokens: Vec<Token> = self.conns.iter().filter(|(_, conn)| conn.plain).map(|(token, _)| *token).collect();
        for to in tokens {
            self.later(at, Parcel { to, bytes: bytes.clone(), received: now, intended, what: What::Push });
        }
    }
}

/// When an entry was meant to be sent.
fn meant(entry: &pb::Entry) -> i64 {
    intended(entry.body.as_ref().map_or("", |body| &body.text))
}

fn conversation_of<'a>(serving: &'a mut Serving, conv: &str) -> &'a mut Conversation {
    serving.talk.conversations.get_mut(conv).unwrap()
}

fn is_nth(seq: u64, nth: u64) -> bool {
    nth > 0 && seq.is_multiple_of(nth)
}
