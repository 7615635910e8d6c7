//! The edge's side of the link: commands go to routers, and sessions stay when routers do not.
//!
//! Each session has one router, chosen at CONNECT among those that are there so that load spreads and little moves when
//! one comes or goes. When it goes, or says that it will, its sessions are brought to others: what the first one knew of
//! them is remembered here. Sockets notice nothing; clients are told to sync.

mod attach;
mod moves;
mod peer;
mod seats;
mod take;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use roost_edge::{EdgeHandle, Upstream};
use roost_router::Credentials;
use roost_router::metrics::Snapshot;
use roost_wire::link::{Down, SessionKey, Up};
use roost_wire::{ErrorCode, FrameBody, UserId, pb};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Request;
use tonic::transport::Channel;

use crate::metrics::EdgeMetrics;
use crate::proto::link as proto;
use crate::proto::link::link_client::LinkClient;
use crate::proto::link::{EdgeItem, GuestRequest, PublishRequest, RefreshRequest};
use crate::status::from_status;
use crate::{LinkConfig, LinkTls, NodeName, RouterAddr};
use moves::Moves;
use peer::{NotQueued, Peer};
use seats::{Seat, Stage, Table, What, error_reply, no_router, refusal, writes};

/// How often it is looked for commands that were not answered in time.
const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// An edge's links to routers. Dropping it ends them.
pub struct EdgeLink {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

pub(crate) struct Inner {
    edge: EdgeHandle,
    name: NodeName,
    config: LinkConfig,
    tls: Option<LinkTls>,
    insecure: bool,
    tables: Box<[Mutex<Table>]>,
    /// Those that take commands.
    live: RwLock<Arc<[Arc<Peer>]>>,
    moves: Moves,
    metrics: EdgeMetrics,
    leaving: AtomicBool,
}

impl EdgeLink {
    /// Links `edge` to the routers at the addresses in `routers`, as they come and go. An address that is not named any
    /// more is not tried again, but a link that stands is kept: lists are hints.
    ///
    /// `tls`: see [`LinkTls`]; `None` for routers on loopback, or on any address if `insecure`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(
        edge: EdgeHandle,
        name: NodeName,
        routers: watch::Receiver<Vec<RouterAddr>>,
        tls: Option<LinkTls>,
        insecure: bool,
        config: LinkConfig,
    ) -> Arc<Self> {
        let tables = (0..edge.shards()).map(|_| Mutex::default()).collect();
        let inner = Arc::new(Inner {
            edge,
            name,
            config,
            tls,
            insecure,
            tables,
            live: RwLock::new(Arc::new([])),
            moves: Moves::default(),
            metrics: EdgeMetrics::default(),
            leaving: AtomicBool::new(false),
        });
        let tasks = vec![
            tokio::spawn(attach::supervise(Arc::clone(&inner), routers)),
            tokio::spawn(moves::run(Arc::clone(&inner))),
            tokio::spawn(sweep(Arc::clone(&inner))),
        ];
        Arc::new(Self { inner, tasks })
    }

    /// How many routers take commands at the moment. An edge with none refuses who comes.
    #[must_use]
    pub fn routers(&self) -> usize {
        self.inner.live.read().len()
    }

    /// What was counted.
    #[must_use]
    pub fn metrics(&self) -> Snapshot {
        self.inner.metrics.routers.set(self.routers());
        self.inner.metrics.adrift.set(self.inner.moves.waiting());
        self.inner.metrics.snapshot()
    }

    /// The edge has ended: what is queued is still told to the routers, then the links end, or after `within`.
    pub async fn leave(&self, within: Duration) {
        self.inner.leaving.store(true, Relaxed);
        let live = self.inner.live.read().clone();
        live.iter().for_each(|peer| peer.queue.finish());
        let ended = async {
            while self.routers() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(within, ended).await;
    }

    /// A new guest, by a router.
    ///
    /// # Errors
    /// What the client is to be told.
    pub async fn guest(&self, name: &str) -> Result<Credentials, pb::Error> {
        let request = self.request(GuestRequest { name: name.to_owned() });
        let made = self.client()?.guest(request).await.map_err(|status| from_status(&status))?;
        credentials(made.into_inner())
    }

    /// A newer token, by a router.
    ///
    /// # Errors
    /// What the client is to be told.
    pub async fn refresh(&self, token: &str) -> Result<Credentials, pb::Error> {
        let request = self.request(RefreshRequest { token: token.to_owned() });
        let made = self.client()?.refresh(request).await.map_err(|status| from_status(&status))?;
        credentials(made.into_inner())
    }

    /// A publish with a service token, by a router.
    ///
    /// # Errors
    /// What the caller is to be told; 502 if it is not known whether it was stored.
    pub async fn publish(&self, token: &str, publish: pb::Publish) -> Result<pb::Sent, pb::Error> {
        let request = self.request(PublishRequest { token: token.to_owned(), publish: Some(publish) });
        let sent = self.client()?.publish(request).await.map_err(|status| from_status(&status))?;
        Ok(sent.into_inner())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.inner.config.command_deadline);
        request
    }

    fn client(&self) -> Result<LinkClient<Channel>, pb::Error> {
        let any = SessionKey::from_bits(rand::random());
        let peer = self.inner.pick(any).ok_or_else(|| no_router(self.inner.config.no_router_retry))?;
        Ok(LinkClient::new(peer.channel.clone()))
    }
}

impl Drop for EdgeLink {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.inner.live.read().iter().for_each(|peer| peer.queue.close());
    }
}

fn credentials(made: proto::Credentials) -> Result<Credentials, pb::Error> {
    let user = UserId::new(&made.user).map_err(|_| ErrorCode::Internal.error())?;
    Ok(Credentials { user, token: made.token, expires_ms: made.expires, name: made.name })
}

impl Upstream for EdgeLink {
    fn submit(&self, batch: &mut Vec<Up>) {
        self.inner.submit(batch);
    }
}

impl Inner {
    /// The table of the shard that `session` is of. It has one: keys of others were sorted out before.
    fn table(&self, session: SessionKey) -> MutexGuard<'_, Table> {
        self.tables[usize::from(session.shard()) % self.tables.len()].lock()
    }

    /// The router for `session` among those that take commands.
    fn pick(&self, session: SessionKey) -> Option<Arc<Peer>> {
        let live = self.live.read().clone();
        live.iter().max_by_key(|peer| peer.weight(session)).cloned()
    }

    fn submit(&self, batch: &mut Vec<Up>) {
        let mut ups = batch.drain(..).peekable();
        while let Some(first) = ups.next() {
            // A batch is of one shard.
            let shard = session_of(&first).shard();
            let mut down = Vec::new();
            {
                let mut table = self.table(session_of(&first));
                let mut next = Some(first);
                while let Some(up) = next {
                    self.take_up(&mut table, up, &mut down);
                    next = ups.next_if(|up| session_of(up).shard() == shard);
                }
            }
            if !down.is_empty() {
                self.edge.post(shard, &mut down);
            }
        }
    }

    fn take_up(&self, table: &mut Table, up: Up, down: &mut Vec<Down>) {
        match up {
            Up::Connect { session, rid, connect, bearer, peer } => {
                let Some(owner) = self.pick(session) else {
                    self.metrics.no_router.add(1);
                    return down.push(refusal(session, rid, self.config.no_router_retry));
                };
                let what = What::Connect { rid };
                let number = table.wait(session, &owner, self.config.command_deadline, what);
                match owner.queue.offer(EdgeItem::connect(session, rid, connect, bearer, peer)) {
                    Ok(()) => drop(table.seats.insert(session, Seat::new(&owner, number))),
                    Err(_) => {
                        table.forget(number);
                        self.metrics.up_full.add(1);
                        down.push(refusal(session, rid, self.config.no_router_retry));
                    }
                }
            }
            Up::Command { session, user, rid, body } => {
                if let Err(error) = self.command(table, session, &user, rid, body, down) {
                    down.push(error_reply(session, rid, error));
                }
            }
            Up::Gone { session, user } => {
                let seat = table.seats.remove(&session);
                if let Some(owner) = seat.as_ref().and_then(Seat::owner) {
                    owner.queue.push(EdgeItem::gone(session, &user));
                }
            }
        }
    }

    /// Passes a command on.
    ///
    /// # Errors
    /// It was not, and this is the answer.
    fn command(
        &self,
        table: &mut Table,
        session: SessionKey,
        user: &UserId,
        rid: u64,
        body: FrameBody,
        down: &mut Vec<Down>,
    ) -> Result<(), pb::Error> {
        let adrift = table.seats.get(&session).is_some_and(|seat| seat.owner().is_none());
        // Ahead of its turn: it is in use.
        if adrift && !self.bring(table, session, down) {
            self.metrics.no_router.add(1);
            return Err(no_router(self.config.no_router_retry));
        }
        let owner = table.seats.get(&session).and_then(Seat::owner).cloned();
        let owner = owner.ok_or_else(|| ErrorCode::Overloaded.error())?;
        let unwatch = if let FrameBody::Unwatch(unwatch) = &body { Some(unwatch.users.clone()) } else { None };
        let what = What::Command { rid, writes: writes(&body) };
        let number = table.wait(session, &owner, self.config.command_deadline, what);
        let queued = owner.queue.offer(EdgeItem::command(session, user, number, body));
        let Some(seat) = table.seats.get_mut(&session) else { return Ok(()) };
        match queued {
            Ok(()) => {
                self.metrics.commands.add(1);
                seat.in_flight += 1;
                if let (Some(users), Stage::Live(live)) = (unwatch, &mut seat.stage) {
                    live.unwatch(&users);
                }
                Ok(())
            }
            Err(why) => {
                table.forget(number);
                match why {
                    NotQueued::Full => {
                        self.metrics.up_full.add(1);
                        Err(ErrorCode::Overloaded.error())
                    }
                    // It is gone, and about to be known as such.
                    NotQueued::Closed => {
                        self.metrics.no_router.add(1);
                        Err(no_router(self.config.no_router_retry))
                    }
                }
            }
        }
    }

    /// A router takes commands from now on.
    fn enlist(&self, peer: &Arc<Peer>) {
        let mut live = self.live.write();
        *live = live.iter().chain([peer]).cloned().collect();
    }

    /// No more.
    fn strike(&self, peer: &Peer) {
        let mut live = self.live.write();
        *live = live.iter().filter(|other| other.id() != peer.id()).cloned().collect();
    }
}

const fn session_of(up: &Up) -> SessionKey {
    match up {
        Up::Connect { session, .. } | Up::Command { session, .. } | Up::Gone { session, .. } => *session,
    }
}

/// Answers what was not answered in time.
async fn sweep(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        inner.sweep();
    }
}
