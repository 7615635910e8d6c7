//! The router's side of the link: edges attach themselves here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::{Stream, stream};
use roost_wire::limits::NAME_BYTES_MAX;
use roost_wire::link::{SessionKey, Up};
use roost_wire::{ErrorCode, pb};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::codec::Brought;
use crate::fabric::{Fabric, Next, Port};
use crate::metrics::RouterMetrics;
use crate::proto::link::link_server::Link;
use crate::proto::link::{
    Credentials, EdgeBatch, EdgeHello, GuestRequest, PublishRequest, RefreshRequest, RouterBatch, RouterHello,
};
use crate::status::to_status;
use crate::{Hub, NodeName};

/// How often [`LinkService::leave`] looks whether all edges have left.
const LEAVE_POLL: Duration = Duration::from_millis(10);

/// Where edges attach themselves to a router.
pub struct LinkService<H> {
    inner: Arc<Inner<H>>,
}

struct Inner<H> {
    hub: Arc<H>,
    fabric: Arc<Fabric>,
    name: NodeName,
    /// Edges must have shown a certificate.
    certificates: AtomicBool,
    leaving: AtomicBool,
}

impl<H> Clone for LinkService<H> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<H: Hub> LinkService<H> {
    /// For the router `hub`, whose deliveries go to `fabric`, on the node `name`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(hub: Arc<H>, fabric: Arc<Fabric>, name: NodeName) -> Self {
        if let Some(mut orphans) = fabric.orphans() {
            let hub = Arc::downgrade(&hub);
            tokio::spawn(async move {
                while let Some((session, user)) = orphans.recv().await {
                    let Some(hub) = hub.upgrade() else { return };
                    hub.submit(&mut vec![Up::Gone { session, user }]);
                }
            });
        }
        let (certificates, leaving) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { hub, fabric, name, certificates, leaving }) }
    }

    pub(crate) fn fabric(&self) -> &Arc<Fabric> {
        &self.inner.fabric
    }

    /// From now on edges must have shown a certificate: who calls the API need not.
    pub(crate) fn want_certificates(&self) {
        self.inner.certificates.store(true, Relaxed);
    }

    /// Takes no more edges, and has those that are attached bring their sessions to other routers. Returns when all
    /// have left, or after `within`: the links are then cut, and sessions that were not brought elsewhere yet are brought there as
    /// from a router that died.
    pub async fn leave(&self, within: Duration) {
        self.inner.leaving.store(true, Relaxed);
        let gone = async {
            loop {
                let ports = self.inner.fabric.ports();
                if ports.is_empty() {
                    return;
                }
                ports.iter().for_each(|port| port.say_goodbye());
                tokio::time::sleep(LEAVE_POLL).await;
            }
        };
        if timeout(within, gone).await.is_err() {
            let ports = self.inner.fabric.ports();
            tracing::warn!(edges = ports.len(), "edges did not leave in time");
            // Their streams end, as if this process had.
            ports.iter().for_each(|port| self.inner.fabric.detach(port));
        }
    }
}

impl<H: Hub> Inner<H> {
    fn metrics(&self) -> &RouterMetrics {
        &self.fabric.metrics
    }

    fn refuse(&self, edge: &str, status: Status) -> Status {
        self.metrics().edges_refused.add(1);
        tracing::warn!(edge, reason = status.message(), "an edge was refused");
        status
    }

    /// Whether an edge may speak here at all.
    fn admit<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let peer = request.remote_addr().map_or_else(|| "unknown".to_owned(), |addr| addr.to_string());
        if self.certificates.load(Relaxed) && request.peer_certs().is_none_or(|certs| certs.is_empty()) {
            return Err(self.refuse(&peer, Status::unauthenticated("an edge needs a certificate")));
        }
        Ok(peer)
    }

    /// The edge's greeting, if it may attach itself, and the version to speak.
    async fn greet(&self, request: &mut Request<Streaming<EdgeBatch>>) -> Result<(EdgeHello, u32), Status> {
        let peer = self.admit(request)?;
        let first = timeout(self.fabric.config.attach_within, request.get_mut().message()).await;
        let hello = match first {
            Ok(Ok(Some(EdgeBatch { hello: Some(hello), .. }))) => hello,
            Ok(Err(status)) => return Err(status),
            _ => return Err(self.refuse(&peer, Status::invalid_argument("the first batch holds no greeting"))),
        };
        if hello.node.len() > NAME_BYTES_MAX {
            return Err(self.refuse(&peer, Status::invalid_argument("the edge's name is too long")));
        }
        let (lowest, highest) = self.fabric.config.versions;
        let version = highest.min(hello.version_max);
        if version < lowest.max(hello.version_min) {
            let why = format!(
                "the edge speaks versions {} to {} of the link, this router {lowest} to {highest}",
                hello.version_min, hello.version_max
            );
            return Err(self.refuse(&hello.node, Status::failed_precondition(why)));
        }
        if hello.linked.contains(&(&self.name).into()) {
            return Err(self.refuse(&hello.node, Status::already_exists("this router is linked by another address")));
        }
        if self.leaving.load(Relaxed) {
            return Err(self.refuse(&hello.node, Status::unavailable("this router leaves")));
        }
        Ok((hello, version))
    }

    /// Takes what comes from an edge until it is gone.
    async fn listen(self: Arc<Self>, port: Arc<Port>, mut incoming: Streaming<EdgeBatch>) {
        let shards = port.shards();
        let mut ups = Vec::new();
        let why = loop {
            let batch = match timeout(self.fabric.config.dead_after, incoming.message()).await {
                Ok(Ok(Some(batch))) => batch,
                Ok(Ok(None)) => break None,
                Ok(Err(status)) => break Some(status.message().to_owned()),
                Err(_) => break Some("nothing came from it".to_owned()),
            };
            // Its shards may be another link's by now.
            if port.is_closed() {
                break None;
            }
            self.metrics().up_items.add(batch.items.len());
            for item in batch.items {
                match item.into_brought(shards.start, port.shards().len() as u16) {
                    Some(Brought::Up(up)) => ups.push(up),
                    Some(Brought::Adoptee(adoptee)) => {
                        // What came before it is done before it.
                        self.hub.submit(&mut ups);
                        self.hub.adopt(&adoptee);
                    }
                    None => self.metrics().up_garbled.add(1),
                }
            }
            if !ups.is_empty() {
                self.hub.submit(&mut ups);
            }
        };
        match &why {
            None => tracing::info!(edge = port.name().node, "an edge left"),
            Some(why) => {
                self.metrics().edges_lost.add(1);
                tracing::warn!(edge = port.name().node, %why, "an edge is gone");
            }
        }
        self.part(&port).await;
    }

    /// Forgets an edge and its sessions. Whoever asks again waits until that is done.
    async fn part(&self, port: &Arc<Port>) {
        self.fabric.detach(port);
        let forget = || async {
            let sessions = self.hub.drop_shards(port.shards()).await;
            self.fabric.rest(port);
            tracing::debug!(edge = port.name().node, sessions, "its sessions are gone");
        };
        port.forgotten.get_or_init(forget).await;
    }
}

/// Parts from the edge even if nobody listened to it.
struct Parting<H: Hub> {
    inner: Arc<Inner<H>>,
    port: Arc<Port>,
}

impl<H: Hub> Drop for Parting<H> {
    fn drop(&mut self) {
        // The stream to the edge is gone: whoever listens to it will hear so.
        self.inner.fabric.detach(&self.port);
    }
}

type Down = Pin<Box<dyn Stream<Item = Result<RouterBatch, Status>> + Send>>;

#[tonic::async_trait]
impl<H: Hub> Link for LinkService<H> {
    type AttachStream = Down;

    async fn attach(&self, mut request: Request<Streaming<EdgeBatch>>) -> Result<Response<Down>, Status> {
        let inner = &self.inner;
        let (hello, version) = inner.greet(&mut request).await?;
        let name = NodeName { node: hello.node, incarnation: hello.incarnation };
        // An edge comes back before its old link was seen to be dead. That one's sessions are the same.
        for old in inner.fabric.ports().iter().filter(|port| *port.name() == name) {
            inner.part(old).await;
        }
        let shards = u16::try_from(hello.shards).ok().filter(|shards| *shards <= SessionKey::SHARDS_MAX);
        let port = shards.and_then(|shards| inner.fabric.attach(name.clone(), shards));
        let Some(port) = port else {
            return Err(inner.refuse(&name.node, Status::unavailable("no room for so many shards")));
        };
        inner.metrics().edges_attached.add(1);
        tracing::info!(edge = name.node, shards = hello.shards, version, "an edge attached itself");
        tokio::spawn(Arc::clone(inner).listen(Arc::clone(&port), request.into_inner()));
        let hello = RouterHello { version, node: inner.name.node.clone(), incarnation: inner.name.incarnation };
        let first = RouterBatch { hello: Some(hello), ..RouterBatch::default() };
        let parting = Parting { inner: Arc::clone(inner), port };
        let down = stream::unfold((Some(first), parting), |(first, parting)| async {
            let batch = match first {
                Some(first) => first,
                None => next(&parting.inner.fabric, &parting.port).await?,
            };
            Some((Ok(batch), (None, parting)))
        });
        Ok(Response::new(Box::pin(down)))
    }

    async fn guest(&self, request: Request<GuestRequest>) -> Result<Response<Credentials>, Status> {
        self.inner.admit(&request)?;
        let made = self.inner.hub.guest(&request.into_inner().name).await;
        Ok(Response::new(made.map_err(to_status)?.into()))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<Credentials>, Status> {
        self.inner.admit(&request)?;
        let made = self.inner.hub.refresh(&request.into_inner().token).await;
        Ok(Response::new(made.map_err(to_status)?.into()))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<pb::Sent>, Status> {
        self.inner.admit(&request)?;
        let PublishRequest { token, publish } = request.into_inner();
        self.inner.hub.allow_service(&token).map_err(to_status)?;
        let publish = publish.ok_or_else(|| to_status(ErrorCode::BadField.because("publish is missing")))?;
        Ok(Response::new(self.inner.hub.publish(None, publish).await.map_err(to_status)?))
    }
}

/// The next batch for an edge; one without items if there is nothing to say for too long. `None`: it is gone.
async fn next(fabric: &Fabric, port: &Port) -> Option<RouterBatch> {
    let beat = tokio::time::Instant::now() + fabric.config.beat_every;
    loop {
        match port.next() {
            Next::Batch(batch) => {
                fabric.metrics.down_items.add(batch.items.len());
                let pushes = batch.items.iter().filter(|item| item.is_push()).count();
                fabric.metrics.down_pushes.add(pushes);
                return Some(batch);
            }
            Next::End => return None,
            Next::Wait => {}
        }
        if tokio::time::timeout_at(beat, port.news()).await.is_err() {
            return Some(RouterBatch::default());
        }
    }
}

impl From<roost_router::Credentials> for Credentials {
    fn from(credentials: roost_router::Credentials) -> Self {
        let roost_router::Credentials { user, token, expires_ms, name } = credentials;
        Self { user: user.into(), token, expires: expires_ms, name }
    }
}
