//! What routers say, on its way to the shards; and what is said in their place when they do not.

use std::sync::Arc;

use roost_wire::link::{Audience, Down, Envelope, Lane, SessionKey};
use roost_wire::pb::{self, Frame};
use roost_wire::{ErrorCode, FrameBody, UserId};
use tokio::time::Instant;

use super::Inner;
use super::peer::Peer;
use super::seats::{Live, Seat, Stage, Table, Waiting, What, error_reply, no_router, refusal};
use crate::codec::Told;
use crate::proto::link::{EdgeItem, RouterItem};

/// What goes to each shard.
type PerShard = Vec<Vec<Down>>;

impl Inner {
    /// Takes a batch of a router.
    pub(super) fn take(&self, peer: &Arc<Peer>, items: Vec<RouterItem>) {
        let shards = self.tables.len() as u16;
        let mut down: PerShard = vec![Vec::new(); usize::from(shards)];
        for item in items {
            match item.into_told(shards) {
                None => self.metrics.garbled.add(1),
                Some(Told::Doubt(of)) => of.iter().for_each(|shard| down[usize::from(*shard)].push(Down::Doubt)),
                Some(Told::Deliver(envelope, keys)) => self.deliver(peer, &envelope, keys, &mut down),
                Some(Told::Topic(envelope, topic, of, except)) => {
                    self.metrics.pushes.add(1);
                    let topic = peer.topic(&topic);
                    for shard in of {
                        let except = except.filter(|session| session.shard() == shard);
                        let audience = Audience::Topic { topic: topic.clone(), except };
                        down[usize::from(shard)].push(Down::Deliver { envelope: Arc::clone(&envelope), audience });
                    }
                }
                Some(Told::Session(session, told)) => {
                    let mut table = self.table(session);
                    let out = &mut down[usize::from(session.shard())];
                    self.take_session(peer, &mut table, session, told, out);
                }
            }
        }
        for (shard, mut batch) in (0..shards).zip(down) {
            if !batch.is_empty() {
                self.edge.post(shard, &mut batch);
            }
        }
    }

    fn deliver(&self, peer: &Peer, envelope: &Arc<Envelope>, mut keys: Vec<SessionKey>, down: &mut PerShard) {
        self.metrics.pushes.add(1);
        // Only a router that leaves has lost sessions to another one, which tells them the same.
        if peer.is_leaving() {
            let before = keys.len();
            keys.retain(|key| self.table(*key).seats.get(key).is_some_and(|seat| seat.is_owned_by(peer)));
            self.metrics.stale.add(before - keys.len());
        }
        // One list for each shard, even if it was added to twice.
        keys.sort_unstable_by_key(|key| key.shard());
        for part in keys.chunk_by(|one, other| one.shard() == other.shard()) {
            let audience = Audience::Sessions(part.into());
            down[usize::from(part[0].shard())].push(Down::Deliver { envelope: Arc::clone(envelope), audience });
        }
    }

    fn take_session(&self, peer: &Arc<Peer>, table: &mut Table, session: SessionKey, told: Down, out: &mut Vec<Down>) {
        match told {
            Down::Reply { frame, .. } => {
                let frame = frame.map(|frame| *frame);
                match frame.as_ref().and_then(|frame| table.answered(frame.rid, peer)) {
                    Some(waiting) => self.answer(table, &waiting, frame.and_then(|frame| frame.body), out),
                    None => self.metrics.replies_stray.add(1),
                }
            }
            Down::Accepted { rid, user, welcome, .. } => {
                let mine = table.seats.get_mut(&session).filter(|seat| seat.is_owned_by(peer));
                match mine {
                    Some(Seat { stage: stage @ Stage::Connecting(_), .. }) => {
                        let live = Live::new(peer, user.clone(), &welcome);
                        let was = std::mem::replace(stage, Stage::Live(Box::new(live)));
                        if let Stage::Connecting(number) = was {
                            table.forget(number);
                        }
                        if peer.is_leaving() {
                            self.moves.add(session);
                        }
                        out.push(Down::Accepted { session, rid, user, welcome });
                    }
                    // Told twice: the session is what it is.
                    Some(_) => self.metrics.stale.add(1),
                    // It was refused meanwhile, as too late.
                    None => {
                        self.metrics.stale.add(1);
                        peer.queue.push(EdgeItem::gone(session, &user));
                    }
                }
            }
            Down::Refused { .. } => {
                let seat = table.seats.get(&session).filter(|seat| seat.is_owned_by(peer));
                let Some(Seat { stage: Stage::Connecting(number), .. }) = seat else {
                    return self.metrics.stale.add(1);
                };
                let number = *number;
                table.forget(number);
                table.seats.remove(&session);
                out.push(told);
            }
            told => {
                let seat = table.seats.get_mut(&session).filter(|seat| seat.is_owned_by(peer));
                let Some(Seat { stage: Stage::Live(live), .. }) = seat else { return self.metrics.stale.add(1) };
                out.push(match told {
                    Down::Join { topic, .. } => {
                        live.join(&topic);
                        Down::Join { session, topic: peer.topic(&topic) }
                    }
                    Down::Leave { topic, .. } => {
                        live.leave(&topic);
                        Down::Leave { session, topic: peer.topic(&topic) }
                    }
                    told => told,
                });
            }
        }
    }

    /// A router answered something.
    fn answer(&self, table: &mut Table, waiting: &Waiting, body: Option<FrameBody>, out: &mut Vec<Down>) {
        let session = waiting.session;
        let body = body.unwrap_or(FrameBody::Ok(pb::Ok {}));
        match waiting.what {
            // A CONNECT is answered otherwise.
            What::Connect { .. } => self.metrics.garbled.add(1),
            What::Command { rid, .. } => {
                if let Some(seat) = table.seats.get_mut(&session) {
                    seat.in_flight = seat.in_flight.saturating_sub(1);
                    if let (FrameBody::Presence(presence), Stage::Live(live)) = (&body, &mut seat.stage) {
                        live.watch(&presence.users);
                    }
                }
                let wanted = rid != 0 || matches!(body, FrameBody::Error(_));
                let frame = wanted.then(|| Box::new(Frame { rid, body: Some(body) }));
                out.push(Down::Reply { session, frame });
            }
            What::Replay => {
                let again = matches!(&body, FrameBody::Error(error) if error.retryable);
                // How it is now: the client is told as if it had changed.
                if let FrameBody::Presence(presence) = body {
                    out.push(push(Lane::Ephemeral, FrameBody::Presence(presence), session));
                }
                self.replayed(table, waiting, again, out);
            }
        }
    }

    /// A watch or a subscription was repeated at another router, or could not be.
    fn replayed(&self, table: &mut Table, waiting: &Waiting, again: bool, out: &mut Vec<Down>) {
        let session = waiting.session;
        let Some(Seat { stage: Stage::Live(live), .. }) = table.seats.get_mut(&session) else { return };
        // It was brought on meanwhile, and all of it repeated there.
        if live.named_by != waiting.peer {
            return;
        }
        live.replay_again |= again;
        live.replays = live.replays.saturating_sub(1);
        if live.replays > 0 {
            return;
        }
        if live.replay_again {
            self.moves.add_later(session);
        } else {
            out.push(to_sync(session));
        }
    }

    /// A link is gone: what its router was to answer is answered, and its sessions are adrift.
    pub(super) fn lose(&self, peer: &Arc<Peer>) {
        self.strike(peer);
        peer.queue.close();
        for (shard, table) in (0..).zip(&self.tables) {
            let mut out = Vec::new();
            {
                let mut table = table.lock();
                for waiting in table.lost(peer) {
                    self.give_up(&mut table, &waiting, false, &mut out);
                }
                for (session, seat) in &mut table.seats {
                    if seat.is_owned_by(peer) {
                        seat.give_to(None);
                        self.moves.add(*session);
                    }
                }
            }
            if !out.is_empty() {
                self.edge.post(shard, &mut out);
            }
        }
    }

    /// A router is about to end: its sessions are to be brought elsewhere while it still answers.
    pub(super) fn part_from(&self, peer: &Arc<Peer>) {
        self.metrics.goodbyes.add(1);
        self.strike(peer);
        peer.leaves();
        for table in &self.tables {
            for (session, seat) in &table.lock().seats {
                if seat.is_owned_by(peer) {
                    self.moves.add(*session);
                }
            }
        }
    }

    /// Answers what was not answered in time.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        for (shard, table) in (0..).zip(&self.tables) {
            let mut out = Vec::new();
            {
                let mut table = table.lock();
                while let Some(waiting) = table.overdue(now) {
                    self.give_up(&mut table, &waiting, true, &mut out);
                }
            }
            if !out.is_empty() {
                self.edge.post(shard, &mut out);
            }
        }
    }

    /// Nobody will answer this.
    fn give_up(&self, table: &mut Table, waiting: &Waiting, late: bool, out: &mut Vec<Down>) {
        let session = waiting.session;
        match waiting.what {
            What::Connect { rid } => {
                table.seats.remove(&session);
                out.push(refusal(session, rid, self.config.no_router_retry));
            }
            What::Command { rid, writes } => {
                let counter = if late { &self.metrics.answered_late } else { &self.metrics.answered_lost };
                counter.add(1);
                if let Some(seat) = table.seats.get_mut(&session) {
                    seat.in_flight = seat.in_flight.saturating_sub(1);
                }
                let error = if writes || late {
                    ErrorCode::Unknown.error()
                } else {
                    // Another router can be asked at once.
                    no_router(std::time::Duration::ZERO)
                };
                out.push(error_reply(session, rid, error));
            }
            What::Replay => self.replayed(table, waiting, true, out),
        }
    }
}

impl Live {
    fn new(peer: &Peer, user: UserId, welcome: &pb::Welcome) -> Self {
        Self {
            user,
            device: welcome.device.as_str().into(),
            name: welcome.name.as_str().into(),
            topics: Vec::new(),
            named_by: peer.id(),
            watches: Vec::new(),
            replays: 0,
            replay_again: false,
        }
    }
}

fn push(lane: Lane, body: FrameBody, session: SessionKey) -> Down {
    let audience = Audience::Sessions(Arc::from([session]));
    Down::Deliver { envelope: Envelope::new(lane, body), audience }
}

/// Something may not have been pushed to the session.
pub(super) fn to_sync(session: SessionKey) -> Down {
    let changed = pb::Changed { rows: Vec::new(), sync: String::new(), more: true };
    push(Lane::Durable, FrameBody::Changed(changed), session)
}
