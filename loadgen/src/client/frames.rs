//! What a client makes of received bytes.

use roost_wire::limits::SERVER_FRAME_BYTES_MAX;
use roost_wire::native::Cut;
use roost_wire::ws::{self, MessageKind, handshake};
use roost_wire::{Encoding, FrameBody, FrameError, pb};

use super::entry::{self, Pushed};
use super::{Arrival, Asked, Client, Event, Inbox, Stamp, body, decoder};
use crate::plan::Conv;
use crate::scenario::Protocol;

/// An entry further than this behind what a session has is nonsense, in a run of at most hours.
const SEQ_AHEAD_MAX: u64 = 1 << 22;

impl Client {
    /// Takes bytes of the server; they are changed in place. After [`Event::Closed`] or [`Event::Failed`] the
    /// connection is of no further use.
    pub fn received(&mut self, bytes: &mut [u8], inbox: &mut Inbox<'_>) {
        if let Some(cut) = self.stream.take() {
            return self.stream(cut, bytes, inbox);
        }
        if self.upgrade.is_none() {
            return self.messages(bytes, inbox);
        }
        match self.upgraded(bytes) {
            Ok(None) => {}
            Ok(Some(mut rest)) => {
                inbox.events.push(Event::Upgraded);
                self.live = self.protocol == Protocol::Plain;
                self.messages(&mut rest, inbox);
            }
            Err(reason) => inbox.events.push(Event::Failed(reason)),
        }
    }

    fn stream(&mut self, mut cut: Cut, bytes: &[u8], inbox: &mut Inbox<'_>) {
        // There again before the first frame: answers to it are for the stream.
        self.stream = Some(Cut::default());
        let mut at = 0;
        loop {
            match cut.next(bytes, &mut at, SERVER_FRAME_BYTES_MAX) {
                Ok(Some(frame)) => self.frames(frame, inbox),
                Ok(None) => break,
                Err(error) => return inbox.events.push(Event::Failed(error.to_string())),
            }
        }
        self.stream = Some(cut);
    }

    /// Gathers the answer to the upgrade, as long as a head may be. Returns what came behind it.
    fn upgraded(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let Some(upgrade) = &mut self.upgrade else { return Ok(None) };
        upgrade.head.extend_from_slice(bytes);
        let Some((response, len)) =
            handshake::parse_response(&upgrade.head, &upgrade.key).map_err(|error| error.to_string())?
        else {
            return Ok(None);
        };
        if self.protocol == Protocol::Roost && response.protocol != Some(Encoding::Protobuf.subprotocol()) {
            return Err("the server does not speak roost.v1.pb".into());
        }
        let rest = upgrade.head.split_off(len);
        self.upgrade = None;
        Ok(Some(rest))
    }

    fn messages(&mut self, bytes: &mut [u8], inbox: &mut Inbox<'_>) {
        // Taken out, because an event borrows it while the rest of the client handles the event.
        let mut decoder = std::mem::replace(&mut self.decoder, decoder());
        let mut at = 0;
        loop {
            match decoder.next(bytes, &mut at) {
                Ok(None) => break,
                Ok(Some(ws::Event::Message { kind: MessageKind::Binary, payload })) => self.frames(payload, inbox),
                Ok(Some(ws::Event::Message { kind: MessageKind::Text, payload })) => self.text(payload, inbox),
                Ok(Some(ws::Event::Ping(payload))) => {
                    ws::write_pong(payload, Some(inbox.pen.mask()), &mut self.out);
                }
                Ok(Some(ws::Event::Pong(_))) => {}
                Ok(Some(ws::Event::Close(close))) => {
                    inbox.events.push(Event::Closed(close.map(|close| close.code)));
                    break;
                }
                Err(error) => {
                    inbox.events.push(Event::Failed(error.to_string()));
                    break;
                }
            }
        }
        self.decoder = decoder;
    }

    /// A text of a plain server. What everybody is sent has a serial instead of a seq.
    fn text(&mut self, payload: &[u8], inbox: &mut Inbox<'_>) {
        if self.protocol == Protocol::Roost {
            return inbox.events.push(Event::Failed("text where binary is due".into()));
        }
        match payload.strip_prefix(b"!").and_then(|text| body::read(text, inbox.body_bytes)) {
            Some(stamp) => self.arrived(0, u64::from(stamp.serial) + 1, stamp, inbox),
            None => inbox.events.push(Event::Garbled),
        }
    }

    fn frames(&mut self, mut payload: &[u8], inbox: &mut Inbox<'_>) {
        while !payload.is_empty() {
            let mut peek = payload;
            let frame = entry::varint(&mut peek).and_then(|len| peek.split_at_checked(usize::try_from(len).ok()?));
            if let Some((frame, rest)) = frame
                && let Some(pushed) = entry::pushed(frame)
            {
                payload = rest;
                self.pushed(pushed, inbox);
                continue;
            }
            match Encoding::Protobuf.decode(&mut payload) {
                Ok(Some(frame)) => self.frame(frame, inbox),
                Ok(None) => return,
                // A body of a later version.
                Err(FrameError::Empty { .. }) => inbox.events.push(Event::Other),
                Err(error) => return inbox.events.push(Event::Failed(error.to_string())),
            }
        }
    }

    fn pushed(&mut self, pushed: Pushed<'_>, inbox: &mut Inbox<'_>) {
        // Conversations of others, or ones that are still being made.
        let Some(conv) = inbox.names.conv(pushed.conv) else { return inbox.events.push(Event::Other) };
        match body::read(pushed.text, inbox.body_bytes) {
            Some(stamp) => self.arrived(conv, pushed.seq, stamp, inbox),
            None => inbox.events.push(Event::Garbled),
        }
    }

    fn arrived(&mut self, conv: Conv, seq: u64, stamp: Stamp, inbox: &mut Inbox<'_>) {
        let event = match self.track(conv) {
            Some(track) if seq > 0 && seq - track.have().min(seq) < SEQ_AHEAD_MAX => {
                let arrival = track.push(seq);
                if arrival == Arrival::New && seq > track.have() {
                    inbox.events.push(Event::Gap { conv });
                }
                Event::Pushed { conv, seq, stamp, arrival }
            }
            // To somebody who is no member, or nonsense.
            _ => Event::Garbled,
        };
        inbox.events.push(event);
    }

    fn frame(&mut self, frame: pb::Frame, inbox: &mut Inbox<'_>) {
        let asked = self.answered(frame.rid);
        let event = match (frame.body, asked) {
            (Some(FrameBody::Welcome(welcome)), Some(Asked::Connect)) => {
                self.live = true;
                Event::Welcomed { user: welcome.user, token: welcome.token, heartbeat_ms: welcome.heartbeat_ms }
            }
            (Some(FrameBody::Conversation(made)), Some(Asked::Create(conv))) => Event::Created { conv, id: made.conv },
            (Some(FrameBody::Ok(_)), Some(Asked::Subscribe(conv))) => Event::Subscribed { conv },
            (Some(FrameBody::Sent(sent)), Some(Asked::Send(conv, stamp))) => {
                if let Some(track) = self.track(conv) {
                    track.confirm(sent.seq);
                }
                Event::Acknowledged { conv, seq: sent.seq, stamp }
            }
            (Some(FrameBody::Page(page)), Some(Asked::History(conv))) => return self.page(conv, &page, inbox),
            (Some(FrameBody::Changed(changed)), Some(Asked::Sync)) => return self.changed(&changed, inbox),
            (Some(FrameBody::Changed(changed)), None) if changed.more => Event::Behind,
            (Some(FrameBody::Goaway(goaway)), None) => Event::AskedToMove { slot_ms: goaway.slot_ms },
            (Some(FrameBody::Error(error)), asked) => {
                if let Some(Asked::History(conv)) = asked {
                    self.fetching.retain(|(at, _)| *at != conv);
                }
                Event::Refused { asked, code: error.code }
            }
            // One that the short way did not understand.
            (Some(FrameBody::Entry(entry)), _) => {
                let text = entry.body.as_ref().map_or("", |body| &body.text);
                return self.pushed(Pushed { conv: &entry.conv, seq: entry.seq, text: text.as_bytes() }, inbox);
            }
            (_, Some(asked)) => Event::Failed(format!("the answer to {asked:?} is of another kind")),
            (_, None) => Event::Other,
        };
        inbox.events.push(event);
    }

    fn answered(&mut self, rid: u64) -> Option<Asked> {
        let at = self.asked.iter().position(|(asked, _)| u64::from(*asked) == rid)?;
        Some(self.asked.swap_remove(at).1)
    }

    fn page(&mut self, conv: Conv, page: &pb::Page, inbox: &mut Inbox<'_>) {
        let Some(fetch) = self.fetching.iter().position(|(at, _)| *at == conv) else { return };
        let mut at = self.fetching[fetch].1;
        for entry in &page.entries {
            if entry.seq <= at || entry.seq - at > SEQ_AHEAD_MAX {
                inbox.events.push(Event::Failed("a page is not in rising order".into()));
                break;
            }
            let text = entry.body.as_ref().map_or("", |body| &body.text);
            let stamp = body::read(text.as_bytes(), inbox.body_bytes);
            let Some(track) = self.track(conv) else { break };
            for seq in at + 1..entry.seq {
                track.absent(seq);
                inbox.events.push(Event::Absent { conv, seq });
            }
            at = entry.seq;
            let new = track.fetch(at);
            inbox.events.push(stamp.map_or(Event::Garbled, |stamp| Event::Fetched { conv, seq: at, stamp, new }));
        }
        if page.entries.is_empty() || at >= page.head {
            self.fetching.swap_remove(fetch);
            inbox.events.push(Event::LogEnded { conv, at });
        } else {
            self.fetching[fetch].1 = at;
            self.history(conv, at, inbox.names, inbox.pen);
        }
    }

    /// The answer to a SYNC: what has more than is there is read.
    fn changed(&mut self, changed: &pb::Changed, inbox: &mut Inbox<'_>) {
        for row in &changed.rows {
            if let Some(conv) = inbox.names.conv(&row.conv)
                && self.track(conv).is_some_and(|track| track.missing(row.head) > 0)
            {
                self.catch_up(conv, inbox.names, inbox.pen);
            }
        }
        if changed.more && !changed.rows.is_empty() {
            self.ask(Asked::Sync, FrameBody::Sync(pb::Sync { since: changed.sync.clone(), limit: 0 }), inbox.pen);
        }
    }
}
