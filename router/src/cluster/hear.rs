//! What this node makes of what others tell it, and of their silence.
//!
//! A doubt means: parcels of another node are lost, or may be. Nobody knows whom they concerned, so all sessions of
//! this node are told CHANGED, at the pace the edge keeps for that, and what is cached is compared with the store
//! before it counts again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use roost_storage::{Entry, Member, Store};
use roost_wire::link::{Down, Envelope, SessionKey};
use roost_wire::{CloseCode, ConvId, FrameBody, UserId};
use tokio::time::Instant;

use super::bus::{Bus, Known, Notice, Parcel, To};
use super::peers::{Kind, Limits, Name, News, Outcome, Verdict};
use crate::appender::queue::Work;
use crate::conversation::heard::Heard;
use crate::fanout::by_shard;
use crate::outbox::Outbox;
use crate::{Downstream, Env, Router};

/// Users that came or went that are looked at before others run.
const CHANGED_AT_ONCE_MAX: usize = 1024;

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Takes a parcel of another node. Never blocks. Parcels may come late, twice, in any order, or not at all.
    ///
    /// A parcel that is missing `gap_after` after a later one came is lost: a doubt.
    pub fn hear(self: &Arc<Self>, parcel: Parcel) {
        let Parcel { from, incarnation, direct, number, notice } = parcel;
        if self.is_alone() || from == self.cluster.node {
            return;
        }
        self.metrics.parcels_heard.add(1);
        let kind = match &notice {
            Notice::Heartbeat { direct } => {
                let mine = direct.iter().find(|(node, _)| *node == self.cluster.node);
                Kind::Heartbeat { direct: mine.map_or(0, |(_, number)| *number) }
            }
            _ if direct => Kind::Direct,
            notice => Kind::Counted(news(notice)),
        };
        let mut outcome = Outcome::default();
        let (now, limits) = (Instant::now(), self.limits());
        let verdict = {
            let mut peers = self.cluster.peers.lock();
            peers.hear((from, incarnation, number), kind, now, &limits, &mut outcome)
        };
        match verdict {
            Verdict::New => self.act_on(notice),
            Verdict::Duplicate => self.metrics.parcel_duplicates.add(1),
            Verdict::Stale => self.metrics.parcels_stale.add(1),
        }
        self.follow(outcome);
    }

    /// Tells the other nodes that this one lives, and looks for what is overdue. To be called on a timer, several times
    /// in the shorter of `gap_after` and `silent_after`.
    pub fn beat(self: &Arc<Self>) {
        if self.is_alone() {
            return;
        }
        let direct = self.cluster.directs();
        self.post_as(self.cluster.posted.load(Relaxed), Notice::Heartbeat { direct });
        self.cluster.recent.beat(Instant::now());
        let mut outcome = Outcome::default();
        let (nodes, users) = {
            let mut peers = self.cluster.peers.lock();
            peers.beat(Instant::now(), &self.limits(), &mut outcome);
            (peers.alive(), peers.users())
        };
        self.metrics.nodes.set(nodes);
        self.metrics.users_elsewhere.set(users);
        self.follow(outcome);
        self.post_users();
        self.tell_doubt(false);
    }

    fn limits(&self) -> Limits {
        let config = &self.config;
        Limits {
            gap_after: config.gap_after,
            silent_after: config.silent_after,
            parcels_ahead_max: config.parcels_ahead_max,
            users_max: config.users_elsewhere_max,
        }
    }

    fn act_on(self: &Arc<Self>, notice: Notice) {
        match notice {
            Notice::Appended { conv, entries, members } => self.hear_entries(&conv, entries, members),
            Notice::Missed { conv } => self.hear_of(&conv, Heard::Missed),
            Notice::Push { to, envelope } => self.hear_push(&to, &envelope),
            Notice::SessionTaken { user, device, knew } => self.hear_session(&user, &device, &knew),
            Notice::Ask { of } if of == self.cluster.node => self.cluster.asked.store(true, Relaxed),
            // Done in their turn.
            Notice::Ask { .. } | Notice::Came { .. } | Notice::Gone { .. } | Notice::Users { .. } => {}
            Notice::Blind => self.doubt(1),
            Notice::Disconnect { user } => self.disconnect_here(&user),
            Notice::Heartbeat { .. } | Notice::Leaving => {}
        }
    }

    /// Does what follows from hearing or not hearing.
    fn follow(self: &Arc<Self>, outcome: Outcome) {
        let Outcome { mut doubts, met, gaps, silences, changed, users_dropped, ask, entered, blind } = outcome;
        // While nobody is here nobody has missed anything.
        if self.metrics.sessions.get() > 0 {
            doubts += met;
        }
        self.metrics.parcel_gaps.add(gaps);
        self.metrics.node_silences.add(silences);
        self.metrics.users_elsewhere_dropped.add(users_dropped);
        for of in ask {
            self.post(|| Notice::Ask { of });
        }
        blind.into_iter().for_each(|node| self.post_to(node, Notice::Blind));
        self.catch_up_users(entered);
        if changed.len() <= CHANGED_AT_ONCE_MAX {
            changed.iter().for_each(|user| self.presence_changed(user));
        } else {
            let router = Arc::clone(self);
            self.spawn_always(async move {
                for part in changed.chunks(CHANGED_AT_ONCE_MAX) {
                    part.iter().for_each(|user| router.presence_changed(user));
                    tokio::task::yield_now().await;
                }
            });
        }
        if doubts > 0 {
            self.doubt(doubts);
        }
    }

    /// Parcels were lost, or may have been.
    pub(crate) fn doubt(&self, count: usize) {
        self.metrics.bus_doubts.add(count);
        self.cluster.doubts.fetch_add(1, Relaxed);
        self.tell_doubt(true);
    }

    /// Has every session told to sync, if that is due, and was not done a moment ago.
    fn tell_doubt(&self, due: bool) {
        {
            let mut telling = self.cluster.telling.lock();
            telling.due |= due;
            let now = Instant::now();
            let early = telling.told.is_some_and(|told| now.duration_since(told) < self.config.doubt_interval);
            if !telling.due || early {
                return;
            }
            (telling.due, telling.told) = (false, Some(now));
        }
        let mut out = Outbox::default();
        self.down.for_each_shard(|shard| out.push(shard, Down::Doubt));
        out.flush(&*self.down);
    }

    fn hear_entries(self: &Arc<Self>, conv: &ConvId, entries: Arc<[Entry]>, members: Option<Arc<[Member]>>) {
        if entries.is_empty() {
            return;
        }
        // What nobody here reads or knows of costs nothing more. Who reads a large conversation, only its members tell.
        let concerns = match &members {
            _ if self.cache.get(conv).is_some() => true,
            Some(members) => members.iter().any(|member| self.local.is_online(&member.user)),
            None => self.metrics.sessions.get() > 0,
        };
        if concerns {
            self.hear_of(conv, Heard::Entries { entries, members });
        }
    }

    fn hear_of(self: &Arc<Self>, conv: &ConvId, heard: Heard) {
        let mut ready = Vec::new();
        if self.enqueue(conv, Work::Heard(heard), &mut ready).is_err() {
            self.metrics.overloads.add(1);
            self.doubt(1);
        }
        self.start(ready);
    }

    fn hear_push(&self, to: &To, envelope: &Arc<Envelope>) {
        if let Some(FrameBody::Receipt(receipt)) = &envelope.frame().body {
            self.note_receipt(receipt);
        }
        let sessions = match to {
            To::Users(users) => self.sessions_of(users.iter()),
            To::Members { members, but } => {
                let users = members.iter().map(|member| &member.user);
                self.sessions_of(users.filter(|user| but.as_ref() != Some(user)))
            }
        };
        let mut out = Outbox::default();
        self.push_to(&by_shard(sessions), None, envelope, &mut out);
        out.flush(&*self.down);
    }

    /// A device connected to another node: its older session here ends.
    ///
    /// That parcel may be late, and the device back here long since. What the other node knew of this one proves which
    /// session is older; no clock does, as a node that has just begun knows of no other clock.
    fn hear_session(self: &Arc<Self>, user: &UserId, device: &str, knew: &[Known]) {
        let (node, incarnation) = (self.cluster.node, self.cluster.incarnation);
        let Some(known) = knew.iter().find(|known| known.node == node && known.incarnation == incarnation) else {
            return;
        };
        let older = |session: SessionKey| {
            let number = self.cluster.numbers.of(&session).lock().get(&session).copied();
            number.is_some_and(|number| number <= known.number)
        };
        let gone = || self.post(|| Notice::Gone { user: user.clone() });
        let displaced = self.local.displace(user, device, older, gone);
        let Some((session, last)) = displaced else { return };
        self.metrics.replaced.add(1);
        self.metrics.sessions.sub(1);
        self.forget_session(session);
        if last {
            self.saw_last(user);
            self.presence_changed(user);
        }
        let mut out = Outbox::default();
        out.push(session.shard(), Down::Close { session, code: CloseCode::Replaced });
        out.flush(&*self.down);
    }

    /// Whether the user has a session, here or, as far as is known, on another node.
    pub(crate) fn is_online(&self, user: &UserId) -> bool {
        self.local.is_online(user) || (!self.is_alone() && self.cluster.peers.lock().find(user).is_some())
    }

    /// The name in the token of one of the user's sessions, wherever it is. `None`: the user is not online, or its
    /// token has no name.
    pub(crate) fn token_name(&self, user: &UserId) -> Option<String> {
        let local = self.local.name(user).map(String::from);
        if self.is_alone() || local.is_some() {
            return local;
        }
        let name: Name = self.cluster.peers.lock().find(user).cloned().flatten();
        name.map(|name| name.as_ref().to_owned())
    }
}

/// What of a notice is done in its turn.
fn news(notice: &Notice) -> Option<News> {
    Some(match notice {
        Notice::Came { user, name } => News::Came { user: user.clone(), name: name.clone() },
        Notice::Gone { user } => News::Gone { user: user.clone() },
        Notice::Users { part, last, users } => News::Users { part: *part, last: *last, users: Arc::clone(users) },
        Notice::Leaving => News::Leaving,
        _ => return None,
    })
}
