//! From an entry to the sessions of its readers: one envelope per entry, one post per shard and batch.

use std::sync::Arc;

use roost_storage::{Entry, Range, Store};
use roost_wire::link::{Audience, Down, Envelope, Lane, SessionKey};
use roost_wire::{FrameBody, Seq, UserId, pb};
use smallvec::SmallVec;

use crate::appender::queue::Origin;
use crate::conversation::Conversation;
use crate::outbox::Outbox;
use crate::{Bus, Downstream, Env, Notice, Router};

/// Entries pushed one by one after a doubt; if there are more, the members are told to sync.
const MISSED_ENTRIES_MAX: usize = 256;

/// An entry to be pushed.
pub(crate) struct Telling {
    pub(crate) entry: Entry,
    /// But not to this session.
    pub(crate) except: Option<SessionKey>,
    /// Its sender's answer: before it, or, if the sender too is pushed the entry, behind all that are told at once.
    pub(crate) sent: Option<(Origin, pb::Sent)>,
}

/// The readers of a conversation at one moment.
pub(crate) enum Reach {
    /// Sessions by shard.
    Sessions(SmallVec<[(u16, Arc<[SessionKey]>); 2]>),
    /// Whoever joined, on every shard.
    Topic,
}

/// Groups sessions by shard.
pub(crate) fn by_shard(mut sessions: Vec<SessionKey>) -> SmallVec<[(u16, Arc<[SessionKey]>); 2]> {
    sessions.sort_unstable();
    sessions.dedup();
    sessions.chunk_by(|a, b| a.shard() == b.shard()).map(|part| (part[0].shard(), part.into())).collect()
}

/// An entry as clients see it.
pub(crate) fn wire_entry(conv: &str, entry: Entry) -> pb::Entry {
    pb::Entry {
        conv: conv.to_owned(),
        seq: entry.seq,
        from: entry.from.into(),
        cmid: entry.cmid,
        ts: entry.ts_ms,
        body: Some(entry.body),
    }
}

/// The push that has its readers sync.
pub(crate) fn to_sync() -> Arc<Envelope> {
    let changed = pb::Changed { rows: Vec::new(), sync: String::new(), more: true };
    Envelope::new(Lane::Durable, FrameBody::Changed(changed))
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// The accepted sessions of `users`.
    pub(crate) fn sessions_of<'a>(&self, users: impl Iterator<Item = &'a UserId>) -> Vec<SessionKey> {
        let mut sessions = Vec::new();
        users.for_each(|user| self.local.reach(user, &mut sessions));
        sessions
    }

    fn reach(&self, conv: &Conversation) -> Reach {
        let found = conv.peek(|loaded| (loaded.is_channel() || loaded.interest.is_some(), loaded.roster.clone()));
        match found {
            None => Reach::Sessions(SmallVec::new()),
            Some((true, _)) => Reach::Topic,
            Some((false, roster)) => Reach::Sessions(by_shard(self.sessions_of(roster.users()))),
        }
    }

    /// Pushes entries in their order.
    ///
    /// Who is not pushed its own entry gets SENT in its place, so that it sees every seq in order. Who is pushed it
    /// gets SENT behind them all: the entries then follow one another, and leave a shard as one write a receiver.
    pub(crate) fn tell_all(&self, conv: &Conversation, tellings: Vec<Telling>, out: &mut Outbox) {
        self.tell_reach(conv, &self.reach(conv), tellings, out);
    }

    /// As [`Self::tell_all`], to readers that are known.
    pub(crate) fn tell_reach(&self, conv: &Conversation, reach: &Reach, tellings: Vec<Telling>, out: &mut Outbox) {
        let mut answers = Vec::new();
        for Telling { entry, except, sent } in tellings {
            match sent {
                Some((origin, sent)) if except.is_some() => origin.answer(Ok(sent), out),
                Some(answer) => answers.push(answer),
                None => {}
            }
            let entry = || FrameBody::Entry(wire_entry(conv.id.as_str(), entry));
            match reach {
                Reach::Sessions(shards) if shards.is_empty() => {}
                Reach::Sessions(shards) => {
                    let envelope = Envelope::new(Lane::Durable, entry());
                    self.push_to(shards, except, &envelope, out);
                }
                Reach::Topic => self.push_topic(conv, except, &Envelope::new(Lane::Durable, entry()), out),
            }
        }
        for (origin, sent) in answers {
            origin.answer(Ok(sent), out);
        }
    }

    /// Pushes to the readers of `conv`.
    pub(crate) fn push_reach(&self, conv: &Conversation, envelope: &Arc<Envelope>, out: &mut Outbox) {
        match self.reach(conv) {
            Reach::Sessions(shards) => self.push_to(&shards, None, envelope, out),
            Reach::Topic => self.push_topic(conv, None, envelope, out),
        }
    }

    fn push_topic(&self, conv: &Conversation, except: Option<SessionKey>, envelope: &Arc<Envelope>, out: &mut Outbox) {
        let mut shards = 0;
        self.down.for_each_shard(|shard| {
            shards += 1;
            let except = except.filter(|session| session.shard() == shard);
            let audience = Audience::Topic { topic: conv.id.clone(), except };
            out.push(shard, Down::Deliver { envelope: Arc::clone(envelope), audience });
        });
        self.metrics.topic_pushes.add(shards);
    }

    /// Addresses `envelope` to sessions, but not to `except`.
    pub(crate) fn push_to(
        &self,
        shards: &[(u16, Arc<[SessionKey]>)],
        except: Option<SessionKey>,
        envelope: &Arc<Envelope>,
        out: &mut Outbox,
    ) {
        for (shard, sessions) in shards {
            let sessions = match except {
                Some(except) if except.shard() == *shard && sessions.contains(&except) => {
                    sessions.iter().filter(|session| **session != except).copied().collect()
                }
                _ => Arc::clone(sessions),
            };
            if sessions.is_empty() {
                continue;
            }
            if envelope.lane() == Lane::Durable {
                self.metrics.deliveries.add(sessions.len());
            }
            let audience = Audience::Sessions(sessions);
            out.push(*shard, Down::Deliver { envelope: Arc::clone(envelope), audience });
        }
    }

    /// Pushes entries that others appended.
    pub(crate) fn tell(&self, conv: &Conversation, entries: &[Entry], except: &impl Fn(&Entry) -> Option<SessionKey>) {
        let (told, doubtful) = {
            let state = conv.state.lock();
            (state.told.unwrap_or(0), state.doubtful.is_some())
        };
        let new = &entries[entries.partition_point(|entry| entry.seq <= told)..];
        let telling = |entry: &Entry| Telling { except: except(entry), entry: entry.clone(), sent: None };
        let tellings = new.iter().map(telling).collect();
        let mut out = Outbox::default();
        self.tell_all(conv, tellings, &mut out);
        out.flush(&*self.down);
        let told = entries.last().map_or(told, |entry| entry.seq.max(told));
        {
            let mut state = conv.state.lock();
            state.told = Some(told);
            state.decided(told);
        }
        if doubtful {
            self.post_entries(conv, new);
        }
    }

    /// Pushes what the log has above `told`, up to `head`; the members are told to sync if that is much or fails.
    pub(crate) async fn tell_missed(&self, conv: &Conversation, told: Seq, head: Seq) {
        let missed = self.read(self.store.range(&conv.id, Range::After(told), MISSED_ENTRIES_MAX)).await;
        match missed {
            Ok(mut entries) if entries.last().is_some_and(|last| last.seq >= head) => {
                // What was appended since the members were read may have removed one of them: it is told once memory
                // has met it.
                entries.truncate(entries.partition_point(|entry| entry.seq <= head));
                self.tell(conv, &entries, &|_| None);
            }
            _ => {
                self.tell_to_sync(conv);
                let mut state = conv.state.lock();
                state.told = Some(head);
                if state.doubtful.is_some() {
                    self.post(|| Notice::Missed { conv: conv.id.clone() });
                }
            }
        }
    }
}
