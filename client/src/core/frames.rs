//! What the server says, and what follows from it.

use std::str::FromStr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use roost_wire::{ConvId, Encoding, ErrorCode, FrameBody, FrameError, Seq, pb};

use super::link::{Asked, Stage};
use super::requests::{PAUSE, Ticket, pause};
use super::sync::SyncState;
use super::{Channel, Cmid, Core, Effect, Event, LinkId, Start};
use crate::error::{RequestError, SendError};

/// The payload of a message with one frame.
pub(crate) fn encode(encoding: Encoding, rid: u64, body: FrameBody) -> Bytes {
    let mut payload = BytesMut::new();
    encoding.encode(&pb::Frame { rid, body: Some(body) }, &mut payload);
    payload.freeze()
}

impl Core {
    /// A whole WebSocket message came on `link`.
    pub fn message(&mut self, link: LinkId, mut payload: &[u8], now: Instant) {
        let links = [&mut self.current, &mut self.coming, &mut self.leaving];
        let Some(heard) = links.into_iter().flatten().find(|known| known.id == link) else { return };
        heard.heard(now);
        loop {
            match self.encoding.decode(&mut payload) {
                Ok(Some(pb::Frame { rid, body: Some(body) })) => self.frame(link, rid, body, now),
                // A newer server may say more than this client knows.
                Ok(Some(_)) | Err(FrameError::Empty { .. }) if !payload.is_empty() => {}
                Ok(_) | Err(FrameError::Empty { .. }) => break,
                Err(_) => return self.broken(link, now),
            }
        }
        self.settle(now);
    }

    fn frame(&mut self, link: LinkId, rid: u64, body: FrameBody, now: Instant) {
        if rid == 0 {
            return self.push(link, body, now);
        }
        let links = [&mut self.current, &mut self.coming, &mut self.leaving];
        let Some(known) = links.into_iter().flatten().find(|known| known.id == link) else { return };
        let Some(asked) = known.answers(rid) else { return };
        self.reply(asked, body, now);
    }

    fn push(&mut self, link: LinkId, body: FrameBody, now: Instant) {
        match body {
            FrameBody::Entry(entry) => self.entry(entry, now),
            FrameBody::Receipt(receipt) => self.event(Event::Receipt(receipt)),
            FrameBody::Typing(typing) => self.event(Event::Typing(typing)),
            FrameBody::Presence(presence) => self.event(Event::Presence(presence.users)),
            FrameBody::Changed(changed) => {
                let rows = self.without_rumours(changed.rows);
                self.rows(rows, now);
                if changed.more {
                    self.sync.want();
                    // Something was not pushed, and SYNC tells nothing of channels.
                    self.channels.keys().for_each(|channel| self.order.probe(channel, now));
                }
            }
            FrameBody::Goaway(goaway) => self.goaway(link, &goaway, now),
            FrameBody::Pong(_) => self.marks.ponged(),
            // HELLO, and errors of commands that wanted no reply: a mark of a conversation left meanwhile.
            _ => {}
        }
    }

    fn reply(&mut self, asked: Asked, body: FrameBody, now: Instant) {
        match (asked, body) {
            (Asked::Connect, FrameBody::Welcome(welcome)) => self.welcomed(welcome, now),
            (Asked::Connect, FrameBody::Error(error)) => self.refused(error, now),
            (Asked::Send(cmid), FrameBody::Sent(sent)) => self.sent(&cmid, sent, now),
            (Asked::Send(cmid), FrameBody::Error(error)) => self.not_sent(&cmid, error, now),
            (Asked::Request(ticket), body) => self.answer(ticket, body, now),
            (Asked::Sync, FrameBody::Changed(changed)) => self.synced(changed, now),
            (Asked::Sync, FrameBody::Error(error)) => self.sync_failed(&error, now),
            // The conversation was left since, and perhaps joined again: this is no answer to what is asked now.
            (Asked::Fetch(conv, after), _) if !self.order.is_asked(&conv, after) => {}
            (Asked::Fetch(conv, _), FrameBody::Page(page)) => self.fetched(&conv, page, now),
            (Asked::Fetch(conv, _), FrameBody::Error(error)) => self.fetch_failed(&conv, &error, now),
            (Asked::Watch, FrameBody::Presence(presence)) => self.event(Event::Presence(presence.users)),
            (Asked::Subscribe(channel), FrameBody::Ok(_)) => drop(self.subscribed(&channel, None, now)),
            (asked @ (Asked::Watch | Asked::Subscribe(_)), FrameBody::Error(error)) => {
                self.refused_again(asked, &error, now);
            }
            (Asked::Head(channel, ticket), answer) => self.stands(&channel, ticket, answer, now),
            // An answer that does not fit: the outcome is unknown.
            (Asked::Send(cmid), _) => self.outbox.retry(&cmid, now + PAUSE, true),
            (Asked::Sync, _) => self.sync.state = SyncState::Later(now + PAUSE),
            (Asked::Fetch(conv, _), _) => self.order.fetch_later(&conv, now + PAUSE),
            (Asked::Connect, _) => {
                if let Some(link) = self.coming.as_ref().filter(|link| link.stage == Stage::Greeting) {
                    self.broken(link.id, now);
                }
            }
            (Asked::Watch | Asked::Subscribe(_), _) => {}
        }
    }

    // ---- sends -----------------------------------------------------------------------------------------------------

    fn sent(&mut self, cmid: &Cmid, sent: pb::Sent, now: Instant) {
        let Some(record) = self.outbox.settle(cmid) else { return };
        // The other sessions get an ENTRY, this one has it already.
        let entry = pb::Entry {
            conv: sent.conv.clone(),
            seq: sent.seq,
            from: self.user.as_ref().map(ToString::to_string).unwrap_or_default(),
            cmid: cmid.to_string(),
            ts: sent.ts,
            body: Some(pb::Body { text: record.text, event: None }),
        };
        self.effects.push_back(Effect::Sent { cmid: *cmid, result: Ok(sent) });
        let followed = |conv: ConvId| conv.is_channel() || self.order.target(&conv).is_some();
        if ConvId::new(&entry.conv).is_ok_and(followed) {
            self.entry(entry, now);
        } else {
            // The user has left it since, or it is new here: SYNC tells which. If it is new, HISTORY brings the entry.
            self.sync.want();
        }
    }

    fn not_sent(&mut self, cmid: &Cmid, error: pb::Error, now: Instant) {
        let Some((refusals, certain)) = self.outbox.refusals(cmid) else { return };
        let unknown = error.code == ErrorCode::Unknown.number();
        let patience = !certain || unknown || refusals < self.config.send_refusals_max;
        if (error.retryable || unknown) && patience {
            let wait = pause(&error, PAUSE * 2u32.pow(refusals.min(4)));
            let at = now + wait + self.random.up_to(wait / 4);
            self.outbox.retry(cmid, at, unknown);
        } else if let Some(record) = self.outbox.settle(cmid) {
            self.effects.push_back(Effect::Sent { cmid: *cmid, result: Err(SendError::Refused(error.clone())) });
            self.event(Event::Rejected { cmid: *cmid, conv: record.conv, error });
        }
    }

    // ---- entries ---------------------------------------------------------------------------------------------------

    fn entry(&mut self, entry: pb::Entry, now: Instant) {
        let Ok(conv) = ConvId::new(&entry.conv) else { return };
        self.own(&entry);
        let followed = !conv.is_channel() || self.channels.contains_key(&conv) || self.order.target(&conv).is_some();
        if followed && entry.seq > 0 {
            self.order.entry(&conv, entry, now);
        }
    }

    /// An entry with the cmid of a message that still waits: it is stored, and its acknowledgement is lost or on its way.
    fn own(&mut self, entry: &pb::Entry) {
        if self.user.as_ref().is_none_or(|user| user.as_str() != entry.from) {
            return;
        }
        let Ok(cmid) = Cmid::from_str(&entry.cmid) else { return };
        if self.outbox.record(&cmid).is_some_and(|record| record.conv.as_str() == entry.conv) {
            let dup = self.outbox.was_tried(&cmid);
            self.outbox.settle(&cmid);
            let sent = pb::Sent { conv: entry.conv.clone(), seq: entry.seq, ts: entry.ts, dup };
            self.effects.push_back(Effect::Sent { cmid, result: Ok(sent) });
        }
    }

    fn fetched(&mut self, conv: &ConvId, page: pb::Page, now: Instant) {
        for entry in &page.entries {
            self.own(entry);
        }
        self.order.page(conv, page, now);
    }

    fn fetch_failed(&mut self, conv: &ConvId, error: &pb::Error, now: Instant) {
        if error.retryable {
            let wait = pause(error, PAUSE);
            self.order.fetch_later(conv, now + wait + self.random.up_to(wait / 4));
        } else {
            // Not a member any more: nothing of it is for this user.
            self.order.forget(conv);
            self.marks.forget(conv);
        }
    }

    // ---- sync ------------------------------------------------------------------------------------------------------

    fn synced(&mut self, changed: pb::Changed, now: Instant) {
        let rows = changed.rows.len();
        self.rows(changed.rows, now);
        self.sync.page(changed.sync, changed.more, rows);
    }

    fn sync_failed(&mut self, error: &pb::Error, now: Instant) {
        if !error.retryable && !self.sync.token.is_empty() {
            // The token means nothing to this server: ask for everything.
            self.sync.token.clear();
            self.sync.state = SyncState::Wanted;
        } else {
            let wait = pause(error, PAUSE);
            self.sync.state = SyncState::Later(now + wait + self.random.up_to(wait / 4));
        }
    }

    /// A push that says "left" may be older than a join that is known already: of what is followed SYNC has the word.
    fn without_rumours(&mut self, mut rows: Vec<pb::Row>) -> Vec<pb::Row> {
        let before = rows.len();
        rows.retain(|row| !(row.left && ConvId::new(&row.conv).is_ok_and(|conv| self.sync_tells_left(&conv))));
        if rows.len() < before {
            self.sync.want();
        }
        rows
    }

    /// Whether the next SYNC says so if `conv` was left. To a client without a token it says nothing of what was left.
    fn sync_tells_left(&self, conv: &ConvId) -> bool {
        !self.sync.token.is_empty() && self.order.target(conv).is_some()
    }

    fn rows(&mut self, rows: Vec<pb::Row>, now: Instant) {
        if rows.is_empty() {
            return;
        }
        for row in &rows {
            let Ok(conv) = ConvId::new(&row.conv) else { continue };
            if row.left {
                // It may have been joined since this was read: what comes after it is asked for once more.
                if self.order.target(&conv).is_some() {
                    self.sync.want();
                }
                self.order.forget(&conv);
                self.marks.forget(&conv);
                continue;
            }
            self.marks.known(&conv, row.delivered, row.read);
            let start = match self.config.start {
                Start::First => 0,
                Start::Head if !self.sync.complete => row.head,
                Start::Head | Start::Delivered => row.delivered.min(row.head),
            };
            let start = self.order.first_held(&conv).map_or(start, |first| start.min(first - 1));
            self.order.place(&conv, start, now);
            self.order.head(&conv, row.head, now);
        }
        self.event(Event::Conversations(rows));
    }

    /// Finds places for conversations that were first heard of by a push.
    pub(crate) fn place_strays(&mut self, now: Instant) {
        if self.order.unplaced().is_empty() {
            return;
        }
        let strays: Vec<ConvId> = self.order.unplaced().iter().cloned().collect();
        for conv in strays {
            if let Some(Channel { floor }) = self.channels.get(&conv) {
                if let (Some(floor), Some(first)) = (*floor, self.order.first_held(&conv)) {
                    self.order.place(&conv, floor.min(first - 1), now);
                }
            } else if self.sync.state == SyncState::Idle && self.sync.complete && !self.order.ask_once(&conv) {
                // SYNC did not list it either: the user has left it, and these were on their way for long.
                self.order.forget(&conv);
            } else if self.sync.state == SyncState::Idle {
                self.sync.want();
            }
        }
    }

    // ---- channels --------------------------------------------------------------------------------------------------

    /// True if it must be asked first where the channel stands; `ticket` is answered then.
    fn subscribed(&mut self, channel: &ConvId, ticket: Option<Ticket>, now: Instant) -> bool {
        let known = self.channels.entry(channel.clone()).or_default();
        match (known.floor.filter(|floor| *floor != Seq::MAX), self.order.position(channel)) {
            // Back after a cut: what was published meanwhile lies after what was last known.
            (_, Some(_)) => self.order.probe(channel, now),
            (Some(floor), None) => {
                self.order.place(channel, floor, now);
                self.order.probe(channel, now);
            }
            (None, None) => {
                // The last entry: it is read from the log, and shows where that ends even if the node has not heard of
                // it yet.
                let history = pb::History { conv: channel.to_string(), after: None, before: None, limit: 1 };
                let _ = self.ask(Asked::Head(channel.clone(), ticket), FrameBody::History(history), now);
                return true;
            }
        }
        false
    }

    /// The answer to where a channel stands.
    fn stands(&mut self, channel: &ConvId, ticket: Option<Ticket>, answer: FrameBody, now: Instant) {
        let ticket = ticket.filter(|ticket| self.requests.get(*ticket).is_some());
        let mut result = Ok(FrameBody::Ok(pb::Ok {}));
        let floor = match answer {
            FrameBody::Page(page) => page.head,
            // A channel without an entry does not exist yet.
            FrameBody::Error(error) if error.code == ErrorCode::NoConversation.number() => 0,
            FrameBody::Error(error) if error.retryable && ticket.is_some() => {
                // Whoever is told that it is subscribed counts on what comes from then on, and nobody would know after a
                // cut where that began: so it is all asked once more.
                if ticket.is_some_and(|ticket| self.ask_later(ticket, &error, now)) {
                    return;
                }
                result = Err(RequestError::Refused(error));
                Seq::MAX
            }
            // The first push decides.
            _ => Seq::MAX,
        };
        if let Some(known) = self.channels.get_mut(channel) {
            known.floor = Some(floor);
            if floor != Seq::MAX {
                // What is pushed below it is older than the subscription: its node had not heard of it before.
                self.order.place(channel, floor, now);
            }
        }
        if let Some(ticket) = ticket {
            self.requests.finish(ticket);
            self.effects.push_back(Effect::Answer { ticket, result });
        }
    }

    /// A channel is followed no more. Where it stands needs no answer now: whoever subscribed and waits for that is told
    /// first, so that what is answered last is in force.
    fn unsubscribed(&mut self, channel: &ConvId) {
        let waits = |asked: &Asked| matches!(asked, Asked::Head(of, _) if of == channel);
        let over = self.current.as_mut().map_or_else(Vec::new, |link| link.await_only(|asked| !waits(asked)));
        for asked in over {
            if let Asked::Head(_, Some(ticket)) = asked
                && self.requests.finish(ticket).is_some()
            {
                self.effects.push_back(Effect::Answer { ticket, result: Ok(FrameBody::Ok(pb::Ok {})) });
            }
        }
        self.channels.remove(channel);
        self.order.forget(channel);
    }

    // ---- requests of the app ---------------------------------------------------------------------------------------

    fn answer(&mut self, ticket: Ticket, body: FrameBody, now: Instant) {
        if let FrameBody::Error(error) = &body
            && error.retryable
            && self.ask_later(ticket, error, now)
        {
            return;
        }
        // The app counts on what comes from the answer on: so it gets it when it is known where that begins. A cut
        // before would lose what is published until the next connection.
        if let (FrameBody::Ok(_), Some(FrameBody::Subscribe(subscribe))) = (&body, self.requests.get(ticket))
            && let Ok(channel) = ConvId::new(&subscribe.channel)
            && self.subscribed(&channel, Some(ticket), now)
        {
            return;
        }
        let Some(request) = self.requests.finish(ticket) else { return };
        let result = match body {
            FrameBody::Error(error) => Err(RequestError::Refused(error)),
            body => {
                self.learn(&request, &body, now);
                Ok(body)
            }
        };
        self.effects.push_back(Effect::Answer { ticket, result });
    }

    /// The server refused a request for a passing reason. False if there is no time left to ask once more.
    fn ask_later(&mut self, ticket: Ticket, error: &pb::Error, now: Instant) -> bool {
        let wait = pause(error, PAUSE);
        self.requests.retry(ticket, now + wait + self.random.up_to(wait / 4))
    }

    /// What an answer tells the client itself.
    fn learn(&mut self, request: &FrameBody, answer: &FrameBody, now: Instant) {
        match (request, answer) {
            (FrameBody::Watch(watch), FrameBody::Presence(_)) => self.watched.extend(watch.users.iter().cloned()),
            (FrameBody::Unwatch(unwatch), _) => self.watched.retain(|user| !unwatch.users.contains(user)),
            (FrameBody::Unsubscribe(unsubscribe), _) => {
                if let Ok(channel) = ConvId::new(&unsubscribe.channel) {
                    self.unsubscribed(&channel);
                }
            }
            (FrameBody::Leave(leave), FrameBody::Ok(_)) => {
                let Ok(conv) = ConvId::new(&leave.conv) else { return };
                if self.sync_tells_left(&conv) {
                    // The answer may be late, and the user back through another device.
                    self.sync.want();
                } else {
                    self.order.forget(&conv);
                    self.marks.forget(&conv);
                }
            }
            (_, FrameBody::Conversation(conversation)) => self.met(conversation, now),
            _ => {}
        }
    }

    /// A conversation was made, joined or looked at.
    fn met(&mut self, conversation: &pb::Conversation, now: Instant) {
        let Ok(conv) = ConvId::new(&conversation.conv) else { return };
        if self.order.position(&conv).is_some() || conv.is_channel() {
            return;
        }
        if conversation.head == 0 {
            self.order.place(&conv, 0, now);
        } else {
            // SYNC says how much of it this user already has.
            self.sync.want();
        }
    }
}
