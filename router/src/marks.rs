//! ACK and READ: marks of users in conversations, gathered per user and conversation and written in batches.
//!
//! Invariants:
//! - a mark is never above the head;
//! - a command with a rid is answered, and a receipt is pushed, only after the mark is durable;
//! - READ counts as ACK: what the user has read, a device of the user holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use roost_storage::{Mark, Store};
use roost_wire::link::{Envelope, Lane, SessionKey};
use roost_wire::{ConvId, ErrorCode, FrameBody, Seq, UserId, pb};
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::conversation::Conversation;
use crate::fanout::by_shard;
use crate::outbox::{Answer, Outbox};
use crate::router::{Command, Light, conv_id};
use crate::{Bus, Downstream, Env, Router, To};

/// Marks written at once.
const MARKS_BATCH: usize = 512;
/// Pause after a write of marks that failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Marks that wait to be written.
#[derive(Default)]
pub(crate) struct Marks {
    /// Ordered, so that the same marks are written and told in the same order.
    waiting: Mutex<BTreeMap<(UserId, ConvId), Waiting>>,
    /// A task is about to write them.
    flushing: AtomicBool,
    enough: Notify,
}

/// The highest marks of one user in one conversation.
#[derive(Default)]
struct Waiting {
    delivered: Seq,
    read: Seq,
    /// The session that set them; `None` once several did.
    by: Option<SessionKey>,
    /// Commands to be answered.
    askers: SmallVec<[(SessionKey, u64); 1]>,
}

impl Waiting {
    fn merge(&mut self, other: Self) {
        let new = self.delivered == 0 && self.read == 0;
        self.by = if new || self.by == other.by { other.by } else { None };
        self.delivered = self.delivered.max(other.delivered);
        self.read = self.read.max(other.read);
        self.askers.extend(other.askers);
    }
}

impl Marks {
    /// What waits for a user in a conversation: delivered, read.
    pub(crate) fn waiting(&self, user: &UserId, conv: &ConvId) -> (Seq, Seq) {
        let waiting = self.waiting.lock();
        if waiting.is_empty() {
            return (0, 0);
        }
        waiting.get(&(user.clone(), conv.clone())).map_or((0, 0), |waiting| (waiting.delivered, waiting.read))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty() && !self.flushing.load(Relaxed)
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// ACK, READ or TYPING, done at once if its conversation is in memory.
    pub(crate) fn light(self: &Arc<Self>, command: Command) -> Light {
        let conv = match &command.body {
            FrameBody::Ack(ack) => conv_id(&ack.conv),
            FrameBody::Read(read) => conv_id(&read.conv),
            FrameBody::Typing(typing) => conv_id(&typing.conv),
            _ => return Light::Answer(Err(ErrorCode::UnknownCommand.error())),
        };
        let conv = match conv {
            Ok(conv) => conv,
            Err(error) => return Light::Answer(Err(error)),
        };
        let Some(conv) = self.cache.get(&conv) else { return Light::Queue(command) };
        let (known, running) = {
            let state = conv.state.lock();
            (state.loaded.as_ref().is_some_and(|loaded| self.may_rely_on(loaded)), state.running)
        };
        if !known {
            return Light::Queue(command);
        }
        // A command before it, a JOIN perhaps, may still wait, or have been done on another node: what fails is then
        // judged again in its turn.
        let again = (running || !self.is_alone()).then(|| Command {
            body: command.body.clone(),
            user: command.user.clone(),
            ..command
        });
        match (self.light_on(&conv, command), again) {
            (Light::Answer(Err(_)), Some(again)) => Light::Queue(again),
            (done, _) => done,
        }
    }

    /// ACK, READ or TYPING in a conversation that was loaded a moment ago.
    pub(crate) fn light_on(&self, conv: &Conversation, command: Command) -> Light {
        let Command { session, user, rid, body } = command;
        let waiting = |delivered, read| Waiting {
            delivered,
            read,
            by: Some(session),
            askers: if rid == 0 { SmallVec::new() } else { SmallVec::from_buf([(session, rid)]) },
        };
        match body {
            FrameBody::Ack(ack) => self.mark(conv, user, waiting(ack.seq, 0)),
            FrameBody::Read(read) => self.mark(conv, user, waiting(read.seq, read.seq)),
            FrameBody::Typing(typing) => Light::Answer(self.typing(conv, session, &user, &typing)),
            _ => Light::Answer(Err(ErrorCode::UnknownCommand.error())),
        }
    }

    fn mark(&self, conv: &Conversation, user: UserId, mark: Waiting) -> Light {
        let done = || Light::Answer(Ok(FrameBody::Ok(pb::Ok {})));
        let news = conv.peek(|loaded| {
            if loaded.is_channel() {
                // Channels keep no marks; a client that acknowledges everything does no harm.
                return Ok(false);
            }
            if loaded.roster.role(&user).is_none() {
                return Err(ErrorCode::NotMember.error());
            }
            if mark.delivered > loaded.meta.head {
                return Err(ErrorCode::BadField.because("seq is above the head"));
            }
            let stored = loaded.marks.get(&user).copied().unwrap_or((0, 0));
            Ok(mark.delivered > stored.0 || mark.read > stored.1)
        });
        match news {
            Some(Ok(true)) => {}
            Some(Ok(false)) => return done(),
            Some(Err(error)) => return Light::Answer(Err(error)),
            None => return Light::Answer(Err(self.overloaded())),
        }
        let answered_later = !mark.askers.is_empty();
        if !self.add_mark(user, conv.id.clone(), mark) {
            self.metrics.marks_dropped.add(1);
            return if answered_later { Light::Answer(Err(self.overloaded())) } else { done() };
        }
        if answered_later { Light::Later } else { done() }
    }

    /// Lets a mark wait; false if too many do.
    fn add_mark(&self, user: UserId, conv: ConvId, mark: Waiting) -> bool {
        let count = {
            let mut waiting = self.marks.waiting.lock();
            let key = (user, conv);
            if waiting.len() >= self.config.marks_pending_max && !waiting.contains_key(&key) {
                return false;
            }
            waiting.entry(key).or_default().merge(mark);
            waiting.len()
        };
        if !self.marks.flushing.swap(true, Relaxed)
            && let Some(router) = self.me.upgrade()
        {
            self.runtime.spawn(router.flush_soon());
        }
        if count >= self.config.marks_flush_count {
            self.marks.enough.notify_one();
        }
        true
    }

    /// Writes what waits, a moment after the first came or when enough are there, until nothing does.
    async fn flush_soon(self: Arc<Self>) {
        loop {
            let pause = tokio::time::sleep(self.config.marks_flush_after);
            tokio::select! {
                biased;
                () = pause => {}
                () = self.marks.enough.notified() => {}
            }
            if !self.flush_marks().await {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            self.marks.flushing.store(false, Relaxed);
            // One that came before the flag fell found it up: it is ours.
            if self.marks.waiting.lock().is_empty() || self.marks.flushing.swap(true, Relaxed) {
                return;
            }
        }
    }

    /// Writes the marks that wait; false if some could not be written.
    pub(crate) async fn flush_marks(&self) -> bool {
        let mut waiting: Vec<_> = std::mem::take(&mut *self.marks.waiting.lock()).into_iter().collect();
        let mut well = true;
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(MARKS_BATCH));
            let batch = std::mem::replace(&mut waiting, rest);
            well &= self.write_marks(batch).await;
        }
        well
    }

    async fn write_marks(&self, batch: Vec<((UserId, ConvId), Waiting)>) -> bool {
        let mark = |((user, conv), waiting): &((UserId, ConvId), Waiting)| Mark {
            user: user.clone(),
            conv: conv.clone(),
            delivered: Some(waiting.delivered),
            read: (waiting.read > 0).then_some(waiting.read),
        };
        let written = self.write(self.store.mark(batch.iter().map(mark).collect())).await;
        let mut out = Outbox::default();
        for ((user, conv), mut waiting) in batch {
            let answer: Answer = written.clone().map(|()| FrameBody::Ok(pb::Ok {}));
            for (session, rid) in waiting.askers.drain(..) {
                self.answer(session, rid, answer.clone(), &mut out);
            }
            if written.is_ok() {
                self.metrics.marks.add(1);
                self.receipt(&user, &conv, &waiting, &mut out).await;
            } else {
                // Marks only rise, so that writing them again does no harm.
                self.keep_mark(user, conv, waiting);
            }
        }
        out.flush(&*self.down);
        written.is_ok()
    }

    /// Puts back a mark that could not be written.
    fn keep_mark(&self, user: UserId, conv: ConvId, mark: Waiting) {
        let mut waiting = self.marks.waiting.lock();
        if waiting.len() >= self.config.marks_pending_max {
            self.metrics.marks_dropped.add(1);
            return;
        }
        waiting.entry((user, conv)).or_default().merge(mark);
    }

    /// Tells the other members of a small conversation who are online, and the user's other sessions.
    async fn receipt(&self, user: &UserId, conv: &ConvId, mark: &Waiting, out: &mut Outbox) {
        let Some(conv) = self.cache.get(conv) else { return };
        let threshold = self.config.index_threshold;
        let found = conv.peek(|loaded| {
            let small = !loaded.is_channel() && loaded.roster.len() <= threshold;
            let member = loaded.roster.role(user).is_some();
            (small && member && self.might_rely_on(loaded))
                .then(|| (loaded.roster.clone(), loaded.marks.get(user).copied()))
        });
        let Some(Some((roster, known))) = found else { return };
        let known = match known {
            Some(known) => known,
            None => {
                let rows = self.read(self.store.rows(&conv.id, std::slice::from_ref(user))).await;
                let Ok(Some(row)) = rows.map(|rows| rows.into_iter().next().flatten()) else { return };
                (row.delivered, row.read)
            }
        };
        let (delivered, read) = (known.0.max(mark.delivered), known.1.max(mark.read));
        conv.peek(|loaded| loaded.marks.insert(user.clone(), (delivered, read)));
        let sessions = self.sessions_of(roster.users());
        let receipt =
            pb::Receipt { conv: conv.id.as_str().to_owned(), user: user.as_str().to_owned(), delivered, read };
        let envelope = Envelope::new(Lane::Ephemeral, FrameBody::Receipt(receipt));
        self.metrics.receipts.add(1);
        self.push_to(&by_shard(sessions), mark.by, &envelope, out);
        self.post_push(|| To::Members { members: roster.share(), but: None }, &envelope);
    }

    /// Marks that another node wrote: what is told of them here rises from there.
    pub(crate) fn note_receipt(&self, receipt: &pb::Receipt) {
        let (Ok(conv), Ok(user)) = (ConvId::new(&receipt.conv), UserId::new(&receipt.user)) else { return };
        let Some(conv) = self.cache.get(&conv) else { return };
        conv.peek(|loaded| {
            if let Some((delivered, read)) = loaded.marks.get_mut(&user) {
                *delivered = receipt.delivered.max(*delivered);
                *read = receipt.read.max(*read);
            }
        });
    }
}
