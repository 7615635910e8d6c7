//! Sessions on their way to another router.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roost_wire::limits::USERS_PER_COMMAND_MAX;
use roost_wire::link::{Down, SessionKey};
use roost_wire::{ConvId, FrameBody, pb};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Inner;
use super::seats::{Seat, Stage, Table, What};
use super::take::to_sync;
use crate::proto::link::EdgeItem;

/// Sessions are brought in portions, one in this time.
const PORTION_EVERY: Duration = Duration::from_millis(10);
/// Pause while there is no router to bring them to.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Pause before a watch or a subscription that a router did not take is tried again.
const REPLAY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Who is to be moved. Holds each session a few times at most, so it is bounded by their number.
#[derive(Default)]
pub(crate) struct Moves {
    due: Mutex<VecDeque<SessionKey>>,
    later: Mutex<VecDeque<(Instant, SessionKey)>>,
    news: Notify,
}

/// What became of a session that was to be moved.
#[derive(Debug, PartialEq, Eq)]
enum Moved {
    /// It is where it should be, or gone.
    Done,
    /// Not yet: it waits for an answer, or there is no router.
    Later,
}

impl Moves {
    pub(crate) fn add(&self, session: SessionKey) {
        self.due.lock().push_back(session);
        self.news.notify_one();
    }

    pub(crate) fn add_later(&self, session: SessionKey) {
        self.later.lock().push_back((Instant::now() + REPLAY_AGAIN_AFTER, session));
        self.news.notify_one();
    }

    pub(crate) fn waiting(&self) -> usize {
        self.due.lock().len() + self.later.lock().len()
    }

    fn take(&self, max: usize) -> Vec<SessionKey> {
        let mut due = self.due.lock();
        {
            let (mut later, now) = (self.later.lock(), Instant::now());
            while later.front().is_some_and(|(at, _)| *at <= now) {
                due.extend(later.pop_front().map(|(_, session)| session));
            }
        }
        let count = due.len().min(max);
        due.drain(..count).collect()
    }
}

/// Brings sessions to routers, at a pace.
pub(crate) async fn run(inner: Arc<Inner>) {
    let portion = u64::from(inner.config.resumes_per_second) * PORTION_EVERY.as_millis() as u64 / 1000;
    let portion = usize::try_from(portion).unwrap_or(usize::MAX).max(1);
    loop {
        if inner.moves.waiting() == 0 {
            inner.moves.news.notified().await;
            continue;
        }
        if inner.live.read().is_empty() {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            continue;
        }
        for session in inner.moves.take(portion) {
            if inner.move_on(session) == Moved::Later {
                inner.moves.due.lock().push_back(session);
            }
        }
        tokio::time::sleep(PORTION_EVERY).await;
    }
}

impl Inner {
    fn move_on(&self, session: SessionKey) -> Moved {
        let mut down = Vec::new();
        let moved = {
            let mut table = self.table(session);
            self.move_in(&mut table, session, &mut down)
        };
        if !down.is_empty() {
            self.edge.post(session.shard(), &mut down);
        }
        moved
    }

    fn move_in(&self, table: &mut Table, session: SessionKey, down: &mut Vec<Down>) -> Moved {
        let Some(seat) = table.seats.get_mut(&session) else { return Moved::Done };
        let leaves = seat.owner().map(|owner| owner.is_leaving());
        let Stage::Live(live) = &mut seat.stage else { return Moved::Done };
        match leaves {
            None => {}
            // Its router still answers: what it does not know any more it could not do.
            Some(true) if seat.in_flight > 0 => return Moved::Later,
            Some(true) => {}
            Some(false) => {
                if std::mem::take(&mut live.replay_again) {
                    self.replay(table, session, down);
                }
                return Moved::Done;
            }
        }
        if self.bring(table, session, down) { Moved::Done } else { Moved::Later }
    }

    /// Brings a session to a router, with all that it would have to know. False: there is none.
    pub(super) fn bring(&self, table: &mut Table, session: SessionKey, down: &mut Vec<Down>) -> bool {
        let Some(peer) = self.pick(session) else { return false };
        let Some(seat) = table.seats.get_mut(&session) else { return false };
        let Stage::Live(live) = &mut seat.stage else { return false };
        if !peer.queue.push(EdgeItem::resume(session, &live.user, &live.device, &live.name)) {
            return false;
        }
        live.leave_all(session, down);
        live.topics.retain(ConvId::is_channel);
        live.named_by = peer.id();
        live.replay_again = false;
        let gone = EdgeItem::gone(session, &live.user);
        if let Some(before) = seat.owner().cloned() {
            before.queue.push(gone);
        }
        seat.give_to(Some(&peer));
        self.metrics.resumed.add(1);
        self.replay(table, session, down);
        true
    }

    /// Watches and subscribes anew at the session's router; then, or if there is nothing of it, its client is to sync.
    fn replay(&self, table: &mut Table, session: SessionKey, down: &mut Vec<Down>) {
        let Some(seat) = table.seats.get(&session) else { return };
        let (Stage::Live(live), Some(peer)) = (&seat.stage, seat.owner().cloned()) else { return };
        let user = live.user.clone();
        let watches = live.watches.chunks(USERS_PER_COMMAND_MAX).map(|users| {
            let users = users.iter().map(|user| user.as_str().to_owned()).collect();
            FrameBody::Watch(pb::Watch { users })
        });
        let channels = live.topics.iter().filter(|topic| topic.is_channel());
        let channels = channels.map(|topic| FrameBody::Subscribe(pb::Subscribe { channel: topic.as_str().to_owned() }));
        let bodies: Vec<FrameBody> = watches.chain(channels).collect();
        let replays = u16::try_from(bodies.len()).unwrap_or(u16::MAX);
        for body in bodies {
            let number = table.wait(session, &peer, self.config.command_deadline, What::Replay);
            // If the link is gone again the session is adrift again, and all this comes once more.
            peer.queue.push(EdgeItem::command(session, &user, number, body));
        }
        if let Some(Seat { stage: Stage::Live(live), .. }) = table.seats.get_mut(&session) {
            live.replays = replays;
        }
        if replays == 0 {
            down.push(to_sync(session));
        }
    }
}
