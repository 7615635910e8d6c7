//! Drives a [`Core`] on tokio: one task for the core, one for each of its connections.

pub(crate) mod link;
mod quic;
pub(crate) mod race;
mod websocket;
mod webtransport;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roost_wire::{ConvId, FrameBody, Seq, UserId, pb};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Transport;
use crate::core::{Cmid, Core, Effect, Event, Gone, LinkId, Record, Resume, Ticket};
use crate::error::{RequestError, SendError};
use crate::persist::OutboxStore;
use link::{FromLink, Link, Manner, ToLink};
use race::{QUIC_AGAIN_AFTER, Way, may_be_quic};

/// Commands of the app that the driver has not taken yet.
pub(crate) const COMMANDS_QUEUED_MAX: usize = 256;
/// Events the app has not taken yet; above it nothing more is read from the server.
pub(crate) const EVENTS_QUEUED_MAX: usize = 1024;
/// Messages of the server the driver has not taken yet.
const REPORTS_QUEUED_MAX: usize = 16;
/// Messages a connection has not written yet; above it the connection counts as stuck.
const ORDERS_QUEUED_MAX: usize = 1024;
/// How long connections may take to say goodbye.
const GOODBYE_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// What the app asks of the driver.
pub(crate) enum Command {
    Send { record: Record, reply: oneshot::Sender<Result<pb::Sent, SendError>> },
    Request { body: FrameBody, reply: oneshot::Sender<Result<FrameBody, RequestError>> },
    Typing(ConvId, bool),
    Read(ConvId, Seq),
    Received(ConvId, Seq),
    Resume(oneshot::Sender<Resume>),
    RetryNow,
    NetworkChanged,
    Close,
}

/// What the app has taken out of its events, gathered until the driver looks.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    seqs: Mutex<BTreeMap<ConvId, Seq>>,
    news: Notify,
}

impl Taken {
    pub(crate) fn put(&self, conv: ConvId, seq: Seq) {
        self.seqs.lock().unwrap_or_else(PoisonError::into_inner).insert(conv, seq);
        self.news.notify_one();
    }

    fn drain(&self) -> BTreeMap<ConvId, Seq> {
        std::mem::take(&mut *self.seqs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who the server said this is, and by which way.
#[derive(Debug, Default)]
pub(crate) struct Me(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    user: Option<(UserId, String)>,
    way: Option<Way>,
}

impl Me {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> Option<(UserId, String)> {
        self.known().user.clone()
    }

    pub(crate) fn way(&self) -> Option<Way> {
        self.known().way
    }
}

struct Handle {
    orders: mpsc::Sender<ToLink>,
    task: tokio::task::JoinHandle<()>,
    /// `None` until it is open.
    way: Option<Way>,
    /// It might be carried by QUIC.
    hopeful: bool,
}

pub(crate) struct Driver {
    core: Core,
    manner: Manner,
    store: Box<dyn OutboxStore>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Events the channel had no room for.
    pending: VecDeque<Event>,
    taken: Arc<Taken>,
    me: Arc<Me>,
    links: BTreeMap<LinkId, Handle>,
    /// When QUIC is tried for a session that has come by WebSocket.
    quic_at: Option<Instant>,
    /// The next connection is to be that try.
    by_quic: bool,
    /// Connections that are closing.
    goodbyes: JoinSet<()>,
    /// Given to every link.
    reporter: mpsc::Sender<(LinkId, FromLink)>,
    reports: mpsc::Receiver<(LinkId, FromLink)>,
    sends: HashMap<Cmid, oneshot::Sender<Result<pb::Sent, SendError>>>,
    requests: HashMap<Ticket, oneshot::Sender<Result<FrameBody, RequestError>>>,
    tickets: u64,
}

impl Driver {
    pub(crate) fn new(
        core: Core,
        manner: Manner,
        store: Box<dyn OutboxStore>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
        taken: Arc<Taken>,
        me: Arc<Me>,
    ) -> Self {
        let (reporter, reports) = mpsc::channel(REPORTS_QUEUED_MAX);
        Self {
            core,
            manner,
            store,
            commands,
            events,
            pending: VecDeque::new(),
            taken,
            me,
            links: BTreeMap::new(),
            quic_at: None,
            by_quic: false,
            goodbyes: JoinSet::new(),
            reporter,
            reports,
            sends: HashMap::new(),
            requests: HashMap::new(),
            tickets: 0,
        }
    }

    /// Runs until the client ends.
    pub(crate) async fn run(mut self) {
        self.core.start(now());
        self.carry_out();
        let mut paused = false;
        let events = self.events.clone();
        while !self.core.is_ended() {
            let deadline = self.core.next_deadline().map(Instant::from_std).into_iter().chain(self.quic_at).min();
            let full = self.pending.len() >= EVENTS_QUEUED_MAX;
            if paused && !full {
                self.core.forgive(now());
            }
            paused = full;
            tokio::select! {
                command = self.commands.recv() => self.command(command.unwrap_or(Command::Close)),
                () = self.taken.news.notified() => self.take(),
                permit = events.reserve(), if !self.pending.is_empty() => match (permit, self.pending.pop_front()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    // Nobody listens.
                    _ => self.pending.clear(),
                },
                report = self.reports.recv(), if !full => if let Some((link, report)) = report {
                    self.report(link, report);
                },
                () = sleep_until(deadline) => {
                    if full {
                        self.core.forgive(now());
                    }
                    self.core.timeout(now());
                    self.try_quic_if_due();
                }
                _ = self.goodbyes.join_next(), if !self.goodbyes.is_empty() => {}
            }
            self.carry_out();
        }
        self.goodbye().await;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send { mut record, reply } => {
                record.seen = self.core.seen(&record.conv);
                let taken = self.core.check_send(record.text.len());
                let kept =
                    taken.and_then(|()| self.store.put(&record).map_err(|error| SendError::Outbox(error.to_string())));
                match kept {
                    Ok(()) => {
                        self.sends.insert(record.cmid, reply);
                        self.core.send(record, now());
                    }
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Command::Request { body, reply } => {
                self.tickets += 1;
                self.requests.insert(Ticket(self.tickets), reply);
                self.core.request(Ticket(self.tickets), body, now());
            }
            Command::Typing(conv, on) => self.core.typing(&conv, on, now()),
            Command::Read(conv, seq) => self.core.read(&conv, seq, now()),
            Command::Received(conv, seq) => self.core.received(&conv, seq, now()),
            Command::Resume(reply) => {
                self.take();
                let _ = reply.send(self.core.resume());
            }
            Command::RetryNow => self.core.retry_now(now()),
            Command::NetworkChanged => self.network_changed(),
            Command::Close => {
                self.take();
                self.core.close(now());
            }
        }
    }

    fn take(&mut self) {
        for (conv, seq) in self.taken.drain() {
            self.core.received(&conv, seq, now());
        }
    }

    fn report(&mut self, link: LinkId, report: FromLink) {
        match report {
            FromLink::Opened(way) => {
                if let Some(handle) = self.links.get_mut(&link) {
                    handle.way = Some(way);
                }
                self.core.opened(link, now());
            }
            FromLink::Message(payload) => self.core.message(link, &payload, now()),
            FromLink::Gone(gone) => {
                self.links.remove(&link);
                self.core.closed(link, &gone, now());
            }
        }
    }

    /// A session by QUIC goes on from another socket; one by WebSocket is lost with its address, so another is opened.
    fn network_changed(&mut self) {
        self.manner.paths.forget();
        self.manner.endpoints.rebind();
        match self.serving().and_then(|handle| handle.way) {
            Some(Way::WebSocket) => self.core.try_another(now()),
            _ => self.core.retry_now(now()),
        }
    }

    /// The connection of the session.
    fn serving(&self) -> Option<&Handle> {
        self.links.get(&self.core.link()?)
    }

    fn try_quic_if_due(&mut self) {
        if self.quic_at.is_some_and(|at| at <= Instant::now()) {
            self.quic_at = None;
            self.by_quic = true;
            self.core.try_another(now());
            self.carry_out();
            // Unless a connection was under way already.
            self.by_quic = false;
        }
    }

    /// Notes which way the session has come, and when a better one is tried.
    fn note_way(&mut self) {
        let serving = self.serving();
        let (way, hopeful) = serving.map_or((None, false), |handle| (handle.way, handle.hopeful));
        self.me.known().way = way;
        match way {
            Some(Way::WebSocket) if hopeful => {
                self.quic_at.get_or_insert_with(|| Instant::now() + QUIC_AGAIN_AFTER);
            }
            _ => self.quic_at = None,
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Open { link, url } => self.open(link, url),
                Effect::Transmit { link, payload } => self.transmit(link, payload),
                Effect::Shut { link, code } => self.shut(link, code),
                Effect::Event(event) => self.event(event),
                Effect::Sent { cmid, result } => {
                    if result != Err(SendError::Ended) {
                        self.store.forget(&cmid);
                    }
                    if let Some(reply) = self.sends.remove(&cmid) {
                        let _ = reply.send(result);
                    }
                }
                Effect::Answer { ticket, result } => {
                    if let Some(reply) = self.requests.remove(&ticket) {
                        let _ = reply.send(result);
                    }
                }
            }
        }
        self.note_way();
    }

    fn open(&mut self, id: LinkId, url: crate::url::Url) {
        tracing::debug!(%url, "connecting");
        let (orders, receiver) = mpsc::channel(ORDERS_QUEUED_MAX);
        let (mut manner, reports) = (self.manner.clone(), self.reporter.clone());
        let hopeful = manner.transport == Transport::Auto && may_be_quic(&url, &manner);
        if std::mem::take(&mut self.by_quic) {
            manner.transport = Transport::Quic;
        }
        let link = Link { id, url, manner, orders: receiver, reports };
        let task = tokio::spawn(link.run());
        self.links.insert(id, Handle { orders, task, way: None, hopeful });
    }

    fn transmit(&mut self, link: LinkId, payload: bytes::Bytes) {
        let Some(handle) = self.links.get(&link) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = handle.orders.try_send(ToLink::Payload(payload)) {
            if let Some(handle) = self.links.remove(&link) {
                handle.task.abort();
            }
            self.core.closed(link, &Gone::Failed("the server does not take what it is sent".to_owned()), now());
        }
    }

    fn shut(&mut self, link: LinkId, code: u16) {
        let Some(Handle { orders, mut task, .. }) = self.links.remove(&link) else { return };
        let _ = orders.try_send(ToLink::Close(code));
        self.goodbyes.spawn(async move {
            // `orders` is dropped here: a link that had no room for the close ends with its queue.
            drop(orders);
            if tokio::time::timeout(GOODBYE_WITHIN, &mut task).await.is_err() {
                task.abort();
            }
        });
    }

    fn event(&mut self, event: Event) {
        if let Event::Connected { user, name, .. } = &event {
            self.me.known().user = Some((user.clone(), name.clone()));
        }
        if self.events.is_closed() {
            return;
        }
        if !self.pending.is_empty() {
            self.pending.push_back(event);
        } else if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            self.pending.push_back(event);
        }
    }

    /// The last events reach an app that still listens; connections say goodbye.
    async fn goodbye(mut self) {
        self.commands.close();
        while self.goodbyes.join_next().await.is_some() {}
        for event in std::mem::take(&mut self.pending) {
            if self.events.send(event).await.is_err() {
                break;
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
