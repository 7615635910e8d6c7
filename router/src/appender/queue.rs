//! The commands waiting at a conversation, and the task that works on them.

#[cfg(all(test, roost_model))]
mod models;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prost::Message;
use roost_storage::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Store};
use roost_wire::link::SessionKey;
use roost_wire::pb::{self, Body};
use roost_wire::{ConvId, ErrorCode, FrameBody, Seq, UserId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::conversation::Conversation;
use crate::conversation::cache::Entered;
use crate::conversation::heard::Heard;
use crate::outbox::Outbox;
use crate::router::Command;
use crate::{Bus, Downstream, Env, Router};

/// Turns of a conversation's task before it lets others run.
const TURNS_MAX: u32 = 32;

/// Who is to be answered.
pub(crate) enum Origin {
    /// A command of a session.
    Session { session: SessionKey, rid: u64 },
    /// A call within the process.
    Call(oneshot::Sender<Result<pb::Sent, pb::Error>>),
}

impl Origin {
    /// The session that need not be pushed what it sent.
    pub(crate) const fn session(&self) -> Option<SessionKey> {
        match self {
            Self::Session { session, .. } => Some(*session),
            Self::Call(_) => None,
        }
    }

    /// Answers into `out`, or the caller.
    pub(crate) fn answer(self, answer: Result<pb::Sent, pb::Error>, out: &mut Outbox) {
        match self {
            Self::Session { session, rid } => out.answer(session, rid, answer.map(FrameBody::Sent)),
            // A caller that went away does not want to know.
            Self::Call(caller) => drop(caller.send(answer)),
        }
    }
}

/// A SEND or PUBLISH whose fields were checked.
pub(crate) struct Sending {
    pub(crate) origin: Origin,
    pub(crate) from: UserId,
    pub(crate) cmid: String,
    pub(crate) body: Body,
    pub(crate) attempt: u32,
    pub(crate) seen: Option<Seq>,
    /// PUBLISH: to a channel, and pushed to the sender as well.
    pub(crate) publish: bool,
    /// What was known when it came, where other nodes append too.
    pub(crate) came: Option<Came>,
}

/// A SEND on its way in. If it takes long, the client may meanwhile have sent it again through another node, which
/// then appended it: after `since`, and above `head`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    pub(crate) since: Instant,
    /// The head of the conversation at that time, if it was in memory.
    pub(crate) head: Option<Seq>,
}

impl Sending {
    /// The error for a command that was not stored by this try. A resend may have been stored by an earlier one.
    pub(crate) fn refusal(&self, code: ErrorCode) -> pb::Error {
        if self.attempt > 0 && code.retryable() { ErrorCode::Unknown.error() } else { code.error() }
    }
}

/// What waits at a conversation.
pub(crate) enum Work {
    /// To be appended.
    Send(Sending),
    /// Anything else about the conversation.
    Other(Box<Command>),
    /// See what became of an append of unknown outcome.
    Settle,
    /// Another node told something.
    Heard(Heard),
}

/// What the task does next.
pub(crate) enum Next {
    /// SENDs that may become one append.
    Sends(Vec<Sending>),
    /// One other command.
    Other(Box<Command>),
    /// See [`Work::Settle`].
    Settle,
    /// See [`Work::Heard`].
    Heard(Heard),
}

impl Came {
    /// Now, unless this node is `alone`.
    pub(crate) fn now(alone: bool) -> Option<Self> {
        (!alone).then(|| Self { since: Instant::now(), head: None })
    }
}

impl Conversation {
    /// Queues `work`. `Ok(true)`: a task must be started.
    ///
    /// # Errors
    /// Gives `work` back if `queued_max` commands wait already.
    fn push(&self, mut work: Work, queued_max: usize) -> Result<bool, Box<Work>> {
        let mut state = self.state.lock();
        if state.queue.len() >= queued_max {
            return Err(Box::new(work));
        }
        if let Work::Send(Sending { came: Some(came), .. }) = &mut work {
            came.head = state.loaded.as_ref().map(|loaded| loaded.meta.head);
        }
        state.queue.push_back(work);
        Ok(!std::mem::replace(&mut state.running, true))
    }

    /// Takes what can be done at once; `None` ends the task.
    fn take(&self) -> Option<Next> {
        let mut state = self.state.lock();
        let mut sends: Vec<Sending> = Vec::new();
        let mut bytes = 0;
        while let Some(work) = state.queue.front() {
            if let Work::Send(send) = work {
                bytes += send.body.encoded_len();
                if sends.len() == APPEND_ENTRIES_MAX || (bytes > APPEND_BYTES_MAX && !sends.is_empty()) {
                    break;
                }
            } else if !sends.is_empty() {
                break;
            }
            match state.queue.pop_front() {
                Some(Work::Send(send)) => sends.push(send),
                Some(Work::Other(command)) => return Some(Next::Other(command)),
                Some(Work::Settle) => return Some(Next::Settle),
                Some(Work::Heard(heard)) => return Some(Next::Heard(heard)),
                None => {}
            }
        }
        if sends.is_empty() {
            state.running = false;
            // A burst must not keep its room for ever.
            state.queue.shrink_to(4);
            return None;
        }
        Some(Next::Sends(sends))
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// The conversation `id`, in memory from now on.
    pub(crate) fn conversation(&self, id: &ConvId) -> Arc<Conversation> {
        let (conv, entered) = self.cache.enter(id, |evicted| self.lose_interest(evicted));
        if let Entered::New { evicted } = entered {
            self.metrics.conversations.add(1);
            self.metrics.conversations.sub(evicted.into());
            self.metrics.conversations_evicted.add(evicted.into());
        }
        conv
    }

    /// Queues `work` at a conversation. A conversation whose task must be started is added to `ready`.
    ///
    /// # Errors
    /// Gives `work` back if too much waits, at it or altogether.
    pub(crate) fn enqueue(&self, id: &ConvId, work: Work, ready: &mut Vec<Arc<Conversation>>) -> Result<(), Box<Work>> {
        if self.queued.fetch_add(1, Relaxed) >= self.config.appends_queued_total_max {
            self.queued.fetch_sub(1, Relaxed);
            return Err(Box::new(work));
        }
        let conv = self.conversation(id);
        match conv.push(work, self.config.appends_queued_max) {
            Ok(start) => {
                if start {
                    ready.push(conv);
                }
                Ok(())
            }
            Err(work) => {
                self.queued.fetch_sub(1, Relaxed);
                Err(work)
            }
        }
    }

    /// Starts the tasks of conversations that have work. One wake-up of the runtime, however many they are.
    pub(crate) fn start(self: &Arc<Self>, mut ready: Vec<Arc<Conversation>>) {
        let Some(first) = ready.pop() else { return };
        let router = Arc::clone(self);
        self.runtime.spawn(async move {
            for conv in ready {
                tokio::spawn(Arc::clone(&router).work_on(conv));
            }
            router.work_on(first).await;
        });
    }

    /// Works on the queue of `conv` until it is empty.
    async fn work_on(self: Arc<Self>, conv: Arc<Conversation>) {
        let mut turns = 0;
        while let Some(next) = conv.take() {
            let done = match next {
                Next::Sends(sends) => {
                    let count = sends.len();
                    self.append_sends(&conv, sends).await;
                    count
                }
                Next::Other(command) => {
                    Box::pin(self.conversation_command(&conv, *command)).await;
                    1
                }
                Next::Settle => {
                    Box::pin(self.settle(&conv)).await;
                    1
                }
                Next::Heard(heard) => {
                    Box::pin(self.heard(&conv, heard)).await;
                    1
                }
            };
            self.queued.fetch_sub(done, Relaxed);
            turns += 1;
            if turns % TURNS_MAX == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}
