//! What clients do, and what they hear.

use roost_client::core::{self, Effect, Gone, LinkId, Ticket};
use roost_client::url::Url;
use roost_client::{Event, RequestError, SendError};
use roost_wire::{ConvId, FrameBody, pb};

use super::lanes::wanted;
use super::{Room, World};
use crate::client::Heard;
use crate::model::About;
use crate::net::{Arrival, Conn};

impl World {
    /// Carries out what a client wants. True: it wanted something.
    pub(super) fn client_effects(&mut self, number: usize) -> bool {
        let mut worked = false;
        while let Some(effect) = self.clients[number].core.as_mut().and_then(core::Core::poll_effect) {
            self.client_effect(number, effect);
            worked = true;
        }
        worked
    }

    fn client_effect(&mut self, number: usize, effect: Effect) {
        let now = self.now();
        match effect {
            Effect::Open { link, url } => self.open(number, link, &url),
            Effect::Transmit { link, payload } => {
                if let Some(conn) = self.conn_of(number, link) {
                    let bytes = self.clients[number].message(&payload);
                    self.conns.get_mut(&conn).expect("found").up.send(&bytes, now, &mut self.net);
                } else {
                    self.transmit_by_lane(number, link, &payload);
                }
            }
            Effect::Shut { link, code } => {
                self.clients[number].races.remove(&link);
                if let Some(id) = self.conn_of(number, link) {
                    self.clients[number].sockets.remove(&link);
                    self.let_go(id);
                }
                if let Some(lane) = self.lane_of(number, link) {
                    lane.leave(code, now);
                }
            }
            Effect::Event(event) => self.event(number, event),
            Effect::Sent { cmid, result } => {
                if result == Err(SendError::Ended) {
                    return;
                }
                self.clients[number].disk.outbox.remove(&cmid);
                let cmid = cmid.to_string();
                match result {
                    Ok(sent) => {
                        let about = About::both(number, &sent.conv);
                        self.note(&about, format_args!("{number} has SENT {} {}: {cmid}", sent.conv, sent.seq));
                        self.model.acknowledged(number, &cmid, &sent);
                    }
                    Err(error) => {
                        self.note(&About::client(number), format_args!("{number} is refused {cmid}: {error}"));
                        self.model.refused(number, &cmid, &error.to_string());
                    }
                }
            }
            Effect::Answer { ticket, result } => self.answer(number, ticket, result),
        }
    }

    /// Asks the server for something.
    pub(super) fn ask(&mut self, number: usize, body: FrameBody) {
        self.tickets += 1;
        let (ticket, now) = (Ticket(self.tickets), self.now());
        let Some(core) = &mut self.clients[number].core else { return };
        self.asked.insert(ticket, (number, body.clone()));
        core.request(ticket, body, now);
    }

    fn answer(&mut self, number: usize, ticket: Ticket, result: Result<FrameBody, RequestError>) {
        let Some((_, asked)) = self.asked.remove(&ticket) else { return };
        let about = About::client(number);
        match (asked, result) {
            (FrameBody::Create(create), Ok(FrameBody::Conversation(made))) => {
                let conv = ConvId::new(&made.conv).expect("the node names it");
                self.note(&About::both(number, &made.conv), format_args!("{number} made {conv}"));
                self.rooms.push(Room { conv, kind: create.kind() });
            }
            (FrameBody::Create(_), other) => {
                self.model.violated(&about, format!("client {number} could not make a conversation: {other:?}"));
            }
            (FrameBody::Subscribe(subscribe), Ok(FrameBody::Ok(_))) => {
                self.subscribed(number, &subscribe.channel, true);
            }
            (FrameBody::Unsubscribe(unsubscribe), _) => self.subscribed(number, &unsubscribe.channel, false),
            (asked, Ok(_)) => self.note(&about, format_args!("{number} is answered: {}", name(&asked))),
            (asked, Err(error)) => self.note(&about, format_args!("{number} is refused {}: {error}", name(&asked))),
        }
    }

    fn subscribed(&mut self, number: usize, channel: &str, subscribed: bool) {
        let channel = ConvId::new(channel).expect("it is a name");
        self.note(
            &About::both(number, channel.as_str()),
            format_args!("{number} subscribed to {channel}: {subscribed}"),
        );
        self.model.subscribed(number, &channel, subscribed);
    }

    fn event(&mut self, number: usize, event: Event) {
        match event {
            Event::Connected { user, fresh, .. } => {
                self.note(&About::client(number), format_args!("{number} is connected, fresh: {fresh}"));
                self.model.connected(number, &user);
                if std::mem::replace(&mut self.clients[number].told_connected, true) {
                    let what = format!("client {number} was told of a session while it had one");
                    self.model.violated(&About::client(number), what);
                }
                self.clients[number].user = Some(user);
            }
            Event::Disconnected { reason, .. } => {
                self.note(&About::client(number), format_args!("{number} is disconnected: {reason}"));
                self.clients[number].told_connected = false;
                if self.plan.moving {
                    let what = format!("client {number} was told that its session is lost: {reason}");
                    self.model.violated(&About::client(number), what);
                }
            }
            Event::Entry(entry) => self.entry(number, &entry),
            Event::Skipped { conv, from, to } => {
                let about = About::both(number, conv.as_str());
                self.model.violated(&about, format!("client {number} was not shown {conv} {from} to {to}"));
            }
            Event::Conversations(rows) => {
                for row in rows {
                    let pb::Row { conv, head, left, .. } = &row;
                    let about = About::both(number, conv);
                    self.note(&about, format_args!("{number} has a row of {conv}: head {head}, left: {left}"));
                    if *left {
                        self.model.left(number, conv);
                    }
                }
            }
            Event::Ended(reason) => {
                let about = About::client(number);
                self.model.violated(&about, format!("client {number} gave up: {reason}"));
            }
            _ => {}
        }
    }

    fn entry(&mut self, number: usize, entry: &pb::Entry) {
        let pb::Entry { conv, seq, .. } = entry;
        self.note(&About::both(number, conv), format_args!("{number} is shown {conv} {seq}"));
        self.model.shown(number, entry);
        let (seq, now) = (*seq, self.now());
        let Ok(conv) = ConvId::new(conv) else { return };
        let Some(core) = &mut self.clients[number].core else { return };
        core.received(&conv, seq, now);
        if !conv.is_channel() && self.work.chance(30) {
            self.model.read(number, &conv, seq);
            core.read(&conv, seq, now);
        }
    }

    /// Opens a WebSocket.
    pub(super) fn open_socket(&mut self, number: usize, link: LinkId, url: &Url) {
        let now = self.now();
        let node = self.balance(wanted(url));
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1024));
        let shard = number % usize::from(self.setup.shards);
        let opened = node.and_then(|node| Some((node, self.nodes[node].as_mut()?.shards[shard].opened(peer, now)?)));
        let Some((node, session)) = opened else {
            return self.socket_failed(number, link, &Gone::Failed("connection refused".into()));
        };
        self.conns_made += 1;
        self.note(&About::client(number), format_args!("{number} opens {url}: node {node}, session {session}"));
        let mut conn = Conn::new(number, link, node, session);
        let head = self.clients[number].open(link, self.conns_made);
        conn.up.send(&head, now, &mut self.net);
        self.served.insert((node, session), self.conns_made);
        self.conns.insert(self.conns_made, conn);
    }

    fn conn_of(&self, number: usize, link: LinkId) -> Option<u64> {
        self.clients[number].sockets.get(&link).map(|socket| socket.conn)
    }

    /// The client's end is gone; the node hears of it later.
    pub(super) fn let_go(&mut self, id: u64) {
        let now = self.now();
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.held = false;
            conn.up.finish(now, &mut self.net);
        }
    }

    /// What arrives at the client's end of a connection.
    pub(super) fn client_arrivals(&mut self, id: u64) {
        let now = self.now();
        while let Some(conn) = self.conns.get_mut(&id)
            && conn.held
            && let Some(arrival) = conn.down.take(now)
        {
            let (number, link) = (conn.client, conn.link);
            match arrival {
                Arrival::Bytes(bytes) => self.heard(number, link, id, bytes),
                Arrival::End => self.lost(number, link, id, &Gone::Failed("the connection broke".into())),
            }
        }
    }

    fn heard(&mut self, number: usize, link: LinkId, id: u64, bytes: Vec<u8>) {
        let now = self.now();
        for heard in self.clients[number].receive(link, bytes) {
            match heard {
                Heard::Opened => self.opened_by_socket(number, link),
                Heard::Message(payload) => self.told(number, link, &payload),
                Heard::Gone(gone) => return self.lost(number, link, id, &gone),
                Heard::Answer(bytes) => {
                    if let Some(conn) = self.conns.get_mut(&id) {
                        conn.up.send(&bytes, now, &mut self.net);
                    }
                }
            }
        }
    }

    fn lost(&mut self, number: usize, link: LinkId, id: u64, gone: &Gone) {
        self.let_go(id);
        self.clients[number].sockets.remove(&link);
        self.socket_failed(number, link, gone);
    }
}

/// What a request asks for.
fn name(body: &FrameBody) -> String {
    let text = format!("{body:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}
