//! Drives a [`Core`] on tokio: one task for the core, one for each of its connections.

pub(crate) mod link;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use roost_wire::{ConvId, Encoding, FrameBody, Seq, UserId, pb};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::core::{Cmid, Core, Effect, Event, Gone, LinkId, Record, Resume, Ticket};
use crate::error::{RequestError, SendError};
use crate::persist::OutboxStore;
use link::{FromLink, Link, ToLink};

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

/// Who the server said this is.
#[derive(Debug, Default)]
pub(crate) struct Me(Mutex<Option<(UserId, String)>>);

impl Me {
    pub(crate) fn get(&self) -> Option<(UserId, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, user: UserId, name: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((user, name));
    }
}

struct Handle {
    orders: mpsc::Sender<ToLink>,
    task: tokio::task::JoinHandle<()>,
}

pub(crate) struct Driver {
    core: Core,
    encoding: Encoding,
    store: Box<dyn OutboxStore>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Events the channel had no room for.
    pending: VecDeque<Event>,
    taken: Arc<Taken>,
    me: Arc<Me>,
    links: BTreeMap<LinkId, Handle>,
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
        encoding: Encoding,
        store: Box<dyn OutboxStore>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
        taken: Arc<Taken>,
        me: Arc<Me>,
    ) -> Self {
        let (reporter, reports) = mpsc::channel(REPORTS_QUEUED_MAX);
        Self {
            core,
            encoding,
            store,
            commands,
            events,
            pending: VecDeque::new(),
            taken,
            me,
            links: BTreeMap::new(),
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
            let deadline = self.core.next_deadline().map(Instant::from_std);
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
            FromLink::Opened => self.core.opened(link, now()),
            FromLink::Message(payload) => self.core.message(link, &payload, now()),
            FromLink::Gone(gone) => {
                self.links.remove(&link);
                self.core.closed(link, &gone, now());
            }
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
    }

    fn open(&mut self, id: LinkId, url: crate::url::Url) {
        tracing::debug!(%url, "connecting");
        let (orders, receiver) = mpsc::channel(ORDERS_QUEUED_MAX);
        let link = Link { id, url, encoding: self.encoding, orders: receiver, reports: self.reporter.clone() };
        self.links.insert(id, Handle { orders, task: tokio::spawn(link.run()) });
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
        let Some(Handle { orders, mut task }) = self.links.remove(&link) else { return };
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
            self.me.set(user.clone(), name.clone());
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
