//! What is known of each other node: which of its parcels came, whether it lives, and who is there. No I/O; the time
//! comes in.
//!
//! Parcels may come in any order and several times. Most are acted upon as they come; news of who is where wait for
//! their turn, so that the last one counts. A hole in the numbers that stays open too long is given up: what waited
//! behind it is done, and the caller is to doubt.
//!
//! Who is at a node also says what has to be posted to it. While that is not known for certain everything is; and the
//! node is told afterwards that something may have been missing before it was noticed.

mod lane;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use roost_wire::UserId;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::bus::{Known, NodeId};
use lane::Lane;

/// Nodes that are remembered; above it the one that was silent longest is forgotten.
const NODES_MAX: usize = 1024;
/// A node that was silent this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// A node is asked again who is there if it did not tell within this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// A name in a token.
pub(crate) type Name = Option<Arc<str>>;

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A parcel that is missing this long is lost.
    pub(crate) gap_after: Duration,
    /// A node that says nothing this long is silent.
    pub(crate) silent_after: Duration,
    /// Parcels behind a missing one that are remembered; above it that one is lost.
    pub(crate) parcels_ahead_max: usize,
    /// Users of all other nodes that are remembered.
    pub(crate) users_max: usize,
}

/// What is done in the order it was posted.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Came { user: UserId, name: Name },
    Gone { user: UserId },
    Users { part: u32, last: bool, users: Arc<[(UserId, Name)]> },
    Leaving,
}

/// What a parcel is, as far as its number goes.
pub(crate) enum Kind {
    Heartbeat {
        /// The last number of parcels for this node alone.
        direct: u64,
    },
    /// Has a number of its own among those for this node alone.
    Direct,
    /// Has a number of its own among those for all.
    Counted(Option<News>),
}

/// What came of hearing a parcel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Of an earlier life, or of a node that has left.
    Stale,
    /// It was heard before, or given up for lost.
    Duplicate,
    /// To be acted upon.
    New,
}

/// What else is to be done.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Parcels may be lost: so many times.
    pub(crate) doubts: usize,
    /// Nodes that were not known: an earlier life of theirs may have told what never came.
    pub(crate) met: usize,
    /// Holes that appeared.
    pub(crate) gaps: usize,
    /// Nodes that fell silent.
    pub(crate) silences: usize,
    /// Users that may have come or gone.
    pub(crate) changed: Vec<UserId>,
    /// Users that were not remembered for want of room.
    pub(crate) users_dropped: usize,
    /// Nodes to be asked who is there.
    pub(crate) ask: Vec<NodeId>,
    /// Who was not known to be where it is.
    pub(crate) entered: Vec<(NodeId, UserId)>,
    /// Nodes of which it was not known, without being noticed, who is there.
    pub(crate) blind: Vec<NodeId>,
}

/// To which nodes something is to be posted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    /// To every one that is heard.
    All,
    /// To these.
    Nodes(SmallVec<[NodeId; 4]>),
}

/// All other nodes.
#[derive(Default)]
pub(crate) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

struct Peer {
    incarnation: u64,
    /// Parcels for all.
    shared: Lane<Option<News>>,
    /// Parcels for this node alone; all are acted upon as they come.
    direct: Lane<()>,
    heard: Instant,
    silent: bool,
    left: bool,
    users: Users,
    /// Who is there is not known for certain.
    unsure: bool,
    /// Somebody there is not remembered, for want of room.
    partial: bool,
    asked: Option<Instant>,
}

/// Who is at a node.
#[derive(Default)]
struct Users {
    now: HashMap<UserId, Name>,
    /// Those of before the list that is being told, until it is told whole.
    before: HashMap<UserId, Name>,
    /// The part of the list that comes next.
    part: Option<u32>,
}

impl Users {
    fn len(&self) -> usize {
        self.now.len() + self.before.len()
    }

    fn get(&self, user: &UserId) -> Option<&Name> {
        self.now.get(user).or_else(|| self.before.get(user))
    }

    fn take_all(&mut self) -> impl Iterator<Item = UserId> {
        let Self { now, before, .. } = std::mem::take(self);
        now.into_keys().chain(before.into_keys())
    }
}

impl Peers {
    /// Takes note of a parcel.
    pub(crate) fn hear(
        &mut self,
        (from, incarnation, number): (NodeId, u64, u64),
        kind: Kind,
        now: Instant,
        limits: &Limits,
        out: &mut Outcome,
    ) -> Verdict {
        self.make_room(from, out);
        let mut room = limits.users_max.saturating_sub(self.users());
        let peer = self.peers.entry(from).or_insert_with(|| {
            out.met += 1;
            Peer::new(incarnation, now)
        });
        if incarnation < peer.incarnation || (incarnation == peer.incarnation && peer.left) {
            return Verdict::Stale;
        }
        if incarnation > peer.incarnation {
            // What the earlier life did last may never have been told.
            out.doubts += usize::from(!peer.left);
            out.changed.extend(peer.users.take_all());
            *peer = Peer::new(incarnation, now);
        }
        peer.heard = now;
        if std::mem::take(&mut peer.silent) {
            out.blind.push(from);
        }
        let before = (peer.shared.next(), peer.direct.next());
        let new = match kind {
            Kind::Heartbeat { direct } => {
                peer.shared.given(number);
                peer.direct.given(direct);
                true
            }
            Kind::Direct => peer.direct.enter(number, ()),
            Kind::Counted(news) => peer.shared.enter(number, news),
        };
        peer.advance(from, &mut room, out);
        out.gaps += usize::from(peer.shared.look_for_gap(before.0, now));
        out.gaps += usize::from(peer.direct.look_for_gap(before.1, now));
        peer.give_up_overdue(from, now, limits, &mut room, out);
        if new { Verdict::New } else { Verdict::Duplicate }
    }

    /// Where any of `users` is or may be.
    pub(crate) fn targets<'a>(&self, users: &(impl Iterator<Item = &'a UserId> + Clone)) -> Targets {
        let here = self.peers.iter().filter(|(_, peer)| !peer.left);
        let (mut nodes, mut all) = (SmallVec::new(), true);
        for (node, peer) in here {
            if peer.is_uncertain() || users.clone().any(|user| peer.users.get(user).is_some()) {
                nodes.push(*node);
            } else {
                all = false;
            }
        }
        // Of one, too: what is told to all has one number, which everybody waits for anyway.
        if all && !nodes.is_empty() { Targets::All } else { Targets::Nodes(nodes) }
    }

    /// Looks for what is overdue.
    pub(crate) fn beat(&mut self, now: Instant, limits: &Limits, out: &mut Outcome) {
        let mut room = limits.users_max.saturating_sub(self.users());
        for (node, peer) in &mut self.peers {
            peer.give_up_overdue(*node, now, limits, &mut room, out);
            if !peer.silent && !peer.left && now.duration_since(peer.heard) >= limits.silent_after {
                out.silences += 1;
                out.doubts += 1;
                out.changed.extend(peer.users.take_all());
                (peer.silent, peer.unsure) = (true, true);
            }
            let waited = peer.asked.is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN_AFTER);
            if peer.unsure && !peer.silent && !peer.left && waited {
                peer.asked = Some(now);
                out.ask.push(*node);
            }
        }
        self.peers.retain(|_, peer| now.duration_since(peer.heard) < FORGET_AFTER);
    }

    /// Whether `user` has a session on another node, as far as is known; with the name in its token, if that was told.
    pub(crate) fn find(&self, user: &UserId) -> Option<&Name> {
        self.peers.values().find_map(|peer| peer.users.get(user))
    }

    /// How much of what the other nodes told is known: of those that have not left.
    pub(crate) fn known(&self) -> Arc<[Known]> {
        let here = self.peers.iter().filter(|(_, peer)| !peer.left);
        here.map(|(node, peer)| Known { node: *node, incarnation: peer.incarnation, number: peer.shared.highest() })
            .collect()
    }

    /// Users at other nodes.
    pub(crate) fn users(&self) -> usize {
        self.peers.values().map(|peer| peer.users.len()).sum()
    }

    /// Nodes that are heard.
    pub(crate) fn alive(&self) -> usize {
        self.peers.values().filter(|peer| !peer.silent && !peer.left).count()
    }

    /// Forgets a node if `from` is one too many.
    fn make_room(&mut self, from: NodeId, out: &mut Outcome) {
        if self.peers.len() < NODES_MAX || self.peers.contains_key(&from) {
            return;
        }
        let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.heard).map(|(node, _)| *node);
        if let Some(mut peer) = oldest.and_then(|oldest| self.peers.remove(&oldest)) {
            out.doubts += 1;
            out.changed.extend(peer.users.take_all());
        }
    }
}

impl Peer {
    fn new(incarnation: u64, now: Instant) -> Self {
        Self {
            incarnation,
            shared: Lane::default(),
            direct: Lane::default(),
            heard: now,
            silent: false,
            left: false,
            users: Users::default(),
            unsure: false,
            partial: false,
            asked: None,
        }
    }

    /// Whether somebody may be there who is not known to be.
    const fn is_uncertain(&self) -> bool {
        self.unsure || self.partial || self.shared.has_gap()
    }

    /// Goes over what came without a hole.
    fn advance(&mut self, node: NodeId, room: &mut usize, out: &mut Outcome) {
        while self.direct.pop().is_some() {}
        while let Some(news) = self.shared.pop() {
            self.apply(node, news, room, out);
        }
    }

    /// What is missing for too long is lost.
    fn give_up_overdue(&mut self, node: NodeId, now: Instant, limits: &Limits, room: &mut usize, out: &mut Outcome) {
        let Limits { parcels_ahead_max, gap_after, .. } = *limits;
        if self.direct.is_overdue(now, parcels_ahead_max, gap_after) {
            self.direct.give_up().for_each(drop);
            out.doubts += 1;
        }
        if self.shared.is_overdue(now, parcels_ahead_max, gap_after) {
            for news in self.shared.give_up() {
                self.apply(node, news, room, out);
            }
            self.unsure = true;
            out.doubts += 1;
            out.blind.push(node);
        }
    }

    fn apply(&mut self, node: NodeId, news: Option<News>, room: &mut usize, out: &mut Outcome) {
        let users = &mut self.users;
        match news {
            None => {}
            Some(News::Came { user, name }) => {
                self.enter(node, &user, name, room, out);
                out.changed.push(user);
            }
            Some(News::Gone { user }) => {
                users.now.remove(&user);
                users.before.remove(&user);
                out.changed.push(user);
            }
            Some(News::Users { part, last, users: told }) => {
                if part == 0 {
                    let now = std::mem::take(&mut users.now);
                    users.before.extend(now);
                    users.part = Some(0);
                    self.partial = false;
                }
                let users = &mut self.users;
                let in_turn = users.part == Some(part);
                users.part = in_turn.then_some(part + 1);
                for (user, name) in told.iter() {
                    // Known already: it takes no further room.
                    if let Some(name) = self.users.before.remove(user) {
                        self.users.now.insert(user.clone(), name);
                    }
                    self.enter(node, user, name.clone(), room, out);
                    out.changed.push(user.clone());
                }
                if in_turn && last {
                    // Who was not told of is gone.
                    out.changed.extend(std::mem::take(&mut self.users.before).into_keys());
                    (self.users.part, self.unsure, self.asked) = (None, false, None);
                }
            }
            Some(News::Leaving) => {
                out.changed.extend(users.take_all());
                self.left = true;
            }
        }
    }

    fn enter(&mut self, node: NodeId, user: &UserId, name: Name, room: &mut usize, out: &mut Outcome) {
        let known = self.users.get(user).is_some();
        if !known && *room == 0 {
            out.users_dropped += 1;
            self.partial = true;
            return;
        }
        if !known {
            *room -= 1;
            out.entered.push((node, user.clone()));
        }
        self.users.now.insert(user.clone(), name);
    }
}

#[cfg(test)]
mod tests;
