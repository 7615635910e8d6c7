//! The router: takes commands, sees that each is answered once, and keeps what the parts share.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use roost_storage::{Store, StoreError};
use roost_wire::link::{SessionKey, Up};
use roost_wire::{ConvId, ErrorCode, FrameBody, UserId, pb};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::appender::dedup::Fingerprints;
use crate::appender::queue::{Origin, Sending, Work};
use crate::auth::Keys;
use crate::cluster::Cluster;
use crate::cluster::local::Local;
use crate::conversation::Conversation;
use crate::conversation::cache::Cache;
use crate::interest::Interest;
use crate::marks::Marks;
use crate::metrics::{RouterMetrics, Snapshot};
use crate::outbox::{Answer, Outbox};
use crate::presence::Presence;
use crate::sessions::Sessions;
use crate::sync::groups::Groups;
use crate::{Alone, Bus, Downstream, Env, RouterConfig};

/// How often [`Router::close`] looks whether all is done.
const CLOSE_POLL: Duration = Duration::from_millis(5);

/// The router of one node.
///
/// `S` keeps the log, `D` takes what goes to the edges, `E` gives time and randomness, `B` reaches the other nodes on
/// the same store, if there are any.
pub struct Router<S: Store, D: Downstream, E: Env, B: Bus = Alone> {
    pub(crate) config: RouterConfig,
    pub(crate) keys: Keys,
    pub(crate) store: Arc<S>,
    pub(crate) down: Arc<D>,
    pub(crate) env: E,
    pub(crate) metrics: RouterMetrics,
    pub(crate) runtime: Handle,
    /// For tasks that outlive a call.
    pub(crate) me: Weak<Self>,
    pub(crate) fingerprints: Fingerprints,
    pub(crate) cache: Cache,
    pub(crate) local: Local,
    pub(crate) cluster: Cluster<B>,
    pub(crate) interest: Interest,
    pub(crate) sessions: Sessions,
    pub(crate) marks: Marks,
    pub(crate) presence: Presence,
    pub(crate) groups: Groups,
    /// Commands waiting at conversations or being worked on there.
    pub(crate) queued: AtomicUsize,
    /// Tasks outside of conversations.
    pub(crate) tasks: Arc<AtomicUsize>,
}

/// A command of a session.
pub(crate) struct Command {
    pub(crate) session: SessionKey,
    pub(crate) user: UserId,
    pub(crate) rid: u64,
    pub(crate) body: FrameBody,
}

/// What [`Router::submit`] gathers while it goes through a batch.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) out: Outbox,
    /// Conversations whose task must be started.
    pub(crate) ready: Vec<Arc<Conversation>>,
}

impl<S: Store, D: Downstream, E: Env> Router<S, D, E> {
    /// A router on `store`, the only one there, whose deliveries go to `down`.
    ///
    /// # Panics
    /// Outside of a tokio runtime: that is where the work is done, whoever submits it.
    pub fn new(config: RouterConfig, keys: Keys, store: Arc<S>, down: Arc<D>, env: E) -> Arc<Self> {
        Self::with_bus(config, keys, store, down, env, Alone)
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// A router on `store` beside others, which `bus` reaches. They must share `keys`, `store` and the thresholds of
    /// `config`. Call [`Self::hear`] with what comes from the bus, and [`Self::beat`] on a timer.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn with_bus(config: RouterConfig, keys: Keys, store: Arc<S>, down: Arc<D>, env: E, bus: B) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            cache: Cache::new(config.conversations_cached_max),
            groups: Groups::new(config.users_cached_max),
            config,
            keys,
            store,
            down,
            env,
            metrics: RouterMetrics::default(),
            runtime: Handle::current(),
            me: me.clone(),
            fingerprints: Fingerprints::default(),
            local: Local::default(),
            cluster: Cluster::new(bus),
            interest: Interest::default(),
            sessions: Sessions::default(),
            marks: Marks::default(),
            presence: Presence::default(),
            queued: AtomicUsize::new(0),
            tasks: Arc::default(),
        })
    }

    /// Takes a batch of a shard, emptying it. Never blocks. What cannot be queued is answered with 503.
    ///
    /// Commands of one session about one conversation are worked on in the order they came.
    pub fn submit(self: &Arc<Self>, batch: &mut Vec<Up>) {
        let mut turn = Turn::default();
        for up in batch.drain(..) {
            match up {
                Up::Connect { session, rid, connect, bearer, .. } => {
                    self.connect(session, rid, connect, bearer, &mut turn);
                }
                Up::Gone { session, user } => self.gone(session, &user),
                Up::Command { session, user, rid, body } => {
                    self.metrics.commands.add(1);
                    self.command(Command { session, user, rid, body }, &mut turn);
                }
            }
        }
        turn.out.flush(&*self.down);
        self.start(turn.ready);
    }

    /// Publishes to a channel from within the process. `from` is whose token allowed it.
    ///
    /// A `publish` without a cmid gets one, and can then not be retried without the risk of a second entry.
    ///
    /// # Errors
    /// What the client is to be told; 502 if it is not known whether it was stored.
    pub async fn publish(self: &Arc<Self>, from: Option<UserId>, publish: pb::Publish) -> Result<pb::Sent, pb::Error> {
        let from = match from {
            Some(from) => from,
            None => UserId::new("roost").map_err(|_| ErrorCode::Internal.error())?,
        };
        let (caller, answer) = oneshot::channel();
        let (conv, sending) = self.check_publish(Origin::Call(caller), from, publish)?;
        let mut ready = Vec::new();
        if let Err(work) = self.enqueue(&conv, Work::Send(sending), &mut ready) {
            self.metrics.overloads.add(1);
            return Err(overload_of(&work));
        }
        self.start(ready);
        answer.await.unwrap_or_else(|_| Err(ErrorCode::Unknown.error()))
    }

    /// Waits until everything submitted is answered, and marks and times of last presence are written.
    ///
    /// Call it once nothing is submitted any more. It never ends while the store does not answer: set a time limit.
    pub async fn close(self: &Arc<Self>) {
        loop {
            self.flush_marks().await;
            self.flush_last_seen().await;
            let idle = self.queued.load(Relaxed) == 0 && self.tasks.load(Relaxed) == 0;
            if idle && self.marks.is_empty() && self.presence.last_seen_is_empty() {
                return;
            }
            tokio::time::sleep(CLOSE_POLL).await;
        }
    }

    /// What the counters stand at.
    pub fn metrics(&self) -> Snapshot {
        self.metrics.queued.set(self.queued.load(Relaxed));
        self.metrics.tasks.set(self.tasks.load(Relaxed));
        self.metrics.snapshot()
    }

    /// The key that signs and checks tokens.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    fn command(self: &Arc<Self>, command: Command, turn: &mut Turn) {
        let Command { session, rid, .. } = command;
        let answer = match command.body {
            FrameBody::Send(send) => return self.send(session, command.user, rid, send, turn),
            FrameBody::Publish(publish) => return self.publish_from(session, command.user, rid, publish, turn),
            FrameBody::Ack(_) | FrameBody::Read(_) | FrameBody::Typing(_) => match self.light(command) {
                Light::Answer(answer) => Some(answer),
                Light::Later => None,
                Light::Queue(command) => return self.queue(command, turn),
            },
            FrameBody::Get(_)
            | FrameBody::Update(_)
            | FrameBody::Members(_)
            | FrameBody::Join(_)
            | FrameBody::Leave(_)
            | FrameBody::History(_)
            | FrameBody::Subscribe(_)
            | FrameBody::Unsubscribe(_) => return self.queue(command, turn),
            FrameBody::Create(_) | FrameBody::Sync(_) | FrameBody::Search(_) | FrameBody::Watch(_) => {
                let router = Arc::clone(self);
                let work = async move { router.user_command(command).await };
                if self.spawn(work) { None } else { Some(Err(self.overloaded())) }
            }
            FrameBody::Unwatch(unwatch) => Some(self.unwatch(session, &unwatch)),
            FrameBody::Refresh(refresh) => Some(self.refresh_session(session, &command.user, &refresh, &mut turn.out)),
            _ => Some(Err(ErrorCode::UnknownCommand.error())),
        };
        if let Some(answer) = answer {
            self.answer(session, rid, answer, &mut turn.out);
        }
    }

    /// Queues a command at the conversation it names.
    fn queue(&self, command: Command, turn: &mut Turn) {
        let Command { session, rid, .. } = command;
        let conv = match conversation_of(&command.body) {
            Ok(conv) => conv,
            Err(error) => return self.answer(session, rid, Err(error), &mut turn.out),
        };
        if self.enqueue(&conv, Work::Other(Box::new(command)), &mut turn.ready).is_err() {
            let error = self.overloaded();
            self.answer(session, rid, Err(error), &mut turn.out);
        }
    }

    /// A command in the order of its conversation. Only the conversation's task calls this.
    pub(crate) async fn conversation_command(&self, conv: &Arc<Conversation>, command: Command) {
        let Command { session, user, rid, body } = command;
        let began = self.check_begins().at;
        let answer = match body {
            FrameBody::Get(_) => self.get(conv, &user).await,
            FrameBody::Update(update) => self.update(conv, &user, &update).await,
            FrameBody::Members(members) => self.change_members(conv, &user, &members).await,
            FrameBody::Join(_) => self.join_group(conv, &user).await,
            FrameBody::Leave(_) => self.leave_group(conv, session, &user).await,
            FrameBody::Subscribe(_) => self.subscribe(conv, session, &user),
            FrameBody::Unsubscribe(_) => self.unsubscribe(conv, session),
            FrameBody::History(history) => {
                match self.history_allowed(conv, &user, &history).await {
                    // Read aside, so that a long page does not hold up those who write.
                    Ok(reading) => {
                        let Some(router) = self.me.upgrade() else { return };
                        let read = async move {
                            let answer = router.history(reading).await;
                            router.answer_now(session, rid, answer);
                        };
                        if self.spawn(read) {
                            return;
                        }
                        Err(self.overloaded())
                    }
                    Err(error) => Err(error),
                }
            }
            body => match self.load_since(conv, began).await {
                Ok(()) => match self.light_on(conv, Command { session, user, rid, body }) {
                    Light::Answer(answer) => answer,
                    Light::Later => return,
                    Light::Queue(_) => Err(ErrorCode::Overloaded.error()),
                },
                Err(error) => Err(error),
            },
        };
        self.answer_now(session, rid, answer);
    }

    /// A command that is about no one conversation.
    async fn user_command(self: Arc<Self>, command: Command) {
        let Command { session, user, rid, body } = command;
        let answer = match body {
            FrameBody::Create(create) => self.create(session, &user, &create).await,
            FrameBody::Sync(sync) => self.sync(&user, &sync).await,
            FrameBody::Search(search) => self.search(&user, &search).await,
            FrameBody::Watch(watch) => self.watch(session, &user, &watch).await,
            _ => Err(ErrorCode::UnknownCommand.error()),
        };
        self.answer_now(session, rid, answer);
    }

    pub(crate) fn answer(&self, session: SessionKey, rid: u64, answer: Answer, out: &mut Outbox) {
        if answer.is_err() {
            self.metrics.errors.add(1);
        }
        out.answer(session, rid, answer);
    }

    pub(crate) fn answer_now(&self, session: SessionKey, rid: u64, answer: Answer) {
        let mut out = Outbox::default();
        self.answer(session, rid, answer, &mut out);
        out.flush(&*self.down);
    }

    pub(crate) fn overloaded(&self) -> pb::Error {
        self.metrics.overloads.add(1);
        ErrorCode::Overloaded.error()
    }

    /// Spawns `work` unless too much is under way; false then.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        if self.tasks.fetch_add(1, Relaxed) >= self.config.tasks_max {
            self.tasks.fetch_sub(1, Relaxed);
            return false;
        }
        self.spawn_counted(work);
        true
    }

    /// Spawns `work`, of which there can only be so much anyway.
    pub(crate) fn spawn_always(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.fetch_add(1, Relaxed);
        self.spawn_counted(work);
    }

    fn spawn_counted(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = Ended(Arc::clone(&self.tasks));
        self.runtime.spawn(async move {
            let _ended = ended;
            work.await;
        });
    }

    /// A read of the store within the time it may take.
    ///
    /// # Errors
    /// What the client is to be told.
    pub(crate) async fn read<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, pb::Error> {
        match tokio::time::timeout(self.config.store_timeout, read).await {
            Ok(done) => done.map_err(|error| self.store_error(&error)),
            Err(_) => Err(self.store_error(&StoreError::Unavailable("no answer in time".to_owned()))),
        }
    }

    /// A write to the store within the time it may take.
    ///
    /// # Errors
    /// What the client is to be told; 502 if it did not answer.
    pub(crate) async fn write<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, pb::Error> {
        match tokio::time::timeout(self.config.store_timeout, write).await {
            Ok(done) => done.map_err(|error| self.store_error(&error)),
            Err(_) => Err(self.store_error(&StoreError::Unknown("no answer in time".to_owned()))),
        }
    }

    /// What a failure of the store means to a client.
    pub(crate) fn store_error(&self, error: &StoreError) -> pb::Error {
        self.metrics.store_errors.add(1);
        match error {
            StoreError::NoConversation => ErrorCode::NoConversation.error(),
            StoreError::DiskFull => ErrorCode::DiskFull.error(),
            StoreError::Unavailable(_) => ErrorCode::Unavailable.error(),
            StoreError::Unknown(_) => ErrorCode::Unknown.error(),
            other => {
                tracing::error!(error = %other, "the store failed in a way it should not");
                ErrorCode::Internal.error()
            }
        }
    }
}

/// Counts a task as ended when dropped, however it ends.
struct Ended(Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// How a command that needs no store read ended.
pub(crate) enum Light {
    /// At once.
    Answer(Answer),
    /// It will be answered when it is durable.
    Later,
    /// Not yet: the conversation must be read first.
    Queue(Command),
}

/// The error for `work` that could not be queued.
pub(crate) fn overload_of(work: &Work) -> pb::Error {
    match work {
        Work::Send(send) => send.refusal(ErrorCode::Overloaded),
        Work::Other(_) | Work::Settle | Work::Heard(_) => ErrorCode::Overloaded.error(),
    }
}

/// The conversation that a command names.
fn conversation_of(body: &FrameBody) -> Result<ConvId, pb::Error> {
    let conv = match body {
        FrameBody::Get(get) => &get.conv,
        FrameBody::Update(update) => &update.conv,
        FrameBody::Members(members) => &members.conv,
        FrameBody::Join(join) => &join.conv,
        FrameBody::Leave(leave) => &leave.conv,
        FrameBody::History(history) => &history.conv,
        FrameBody::Ack(ack) => &ack.conv,
        FrameBody::Read(read) => &read.conv,
        FrameBody::Typing(typing) => &typing.conv,
        FrameBody::Subscribe(subscribe) => return channel_id(&subscribe.channel),
        FrameBody::Unsubscribe(unsubscribe) => return channel_id(&unsubscribe.channel),
        _ => return Err(ErrorCode::UnknownCommand.error()),
    };
    conv_id(conv)
}

/// # Errors
/// 104 if `text` is no id.
pub(crate) fn conv_id(text: &str) -> Result<ConvId, pb::Error> {
    ConvId::new(text).map_err(|error| ErrorCode::BadField.because(format!("conv: {error}")))
}

/// # Errors
/// 104 if `text` is no name of a channel.
pub(crate) fn channel_id(text: &str) -> Result<ConvId, pb::Error> {
    ConvId::channel(text).map_err(|error| ErrorCode::BadField.because(format!("channel: {error}")))
}

/// # Errors
/// 104 if one of `texts` is no id, or there are too many.
pub(crate) fn user_ids(texts: &[String]) -> Result<Vec<UserId>, pb::Error> {
    if texts.len() > roost_wire::limits::USERS_PER_COMMAND_MAX {
        return Err(ErrorCode::BadField.because("too many users in one command"));
    }
    let id = |text: &String| UserId::new(text).map_err(|error| ErrorCode::BadField.because(format!("user: {error}")));
    texts.iter().map(id).collect()
}

impl Sending {
    /// Checks the fields that need no knowledge of the conversation.
    pub(crate) fn check(&self) -> Result<(), pb::Error> {
        if self.cmid.is_empty() || self.cmid.len() > roost_wire::limits::CMID_BYTES_MAX {
            return Err(ErrorCode::BadField.because("cmid has 1 to 64 bytes"));
        }
        if self.body.event.is_some() {
            return Err(ErrorCode::BadField.because("body.event is for the server only"));
        }
        if self.body.text.is_empty() {
            return Err(ErrorCode::BadField.because("body.text is empty"));
        }
        if self.body.text.len() > roost_wire::limits::TEXT_BYTES_MAX {
            return Err(ErrorCode::BodyTooLarge.error());
        }
        Ok(())
    }
}
