//! Nodes and clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use roost_client::{Client, Events};
use roost_edge::{DriverKind, Edge, EdgeConfig, HttpIo, HttpService, Running};
use roost_link::{
    ApiService, EdgeLink, Fabric, LinkConfig, LinkService, LinkTls, NodeName, RouterAddr, Serving, serve,
};
use roost_router::auth::{Claims, Keys, Scope};
use roost_router::metrics::Snapshot;
use roost_router::{Bus, Env, NodeId, Parcel, Router, RouterConfig, SystemEnv};
use roost_storage::MemoryStore;
use roost_wire::UserId;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) const SECRET: [u8; 32] = [7; 32];
/// Nothing here takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type TestRouter = Router<MemoryStore, Fabric, SystemEnv, Wire>;

/// Ways to routers, by node.
type Ways = Arc<parking_lot::Mutex<Vec<(NodeId, mpsc::UnboundedSender<Parcel>)>>>;

/// A bus within the process.
pub(crate) struct Wire {
    node: NodeId,
    incarnation: u64,
    ways: Ways,
}

impl Bus for Wire {
    fn node(&self) -> NodeId {
        self.node
    }

    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn post(&self, to: Option<NodeId>, parcel: Parcel) {
        for (node, way) in self.ways.lock().iter() {
            if *node != self.node && to.is_none_or(|to| to == *node) {
                let _ = way.send(parcel.clone());
            }
        }
    }
}

/// What all nodes share.
pub(crate) struct Town {
    store: Arc<MemoryStore>,
    ways: Ways,
    lives: AtomicU64,
    pub(crate) tls: Option<LinkTls>,
    pub(crate) config: LinkConfig,
    addrs: watch::Sender<Vec<RouterAddr>>,
}

/// A router in a runtime of its own.
pub(crate) struct RouterNode {
    runtime: Option<Runtime>,
    pub(crate) router: Arc<TestRouter>,
    pub(crate) fabric: Arc<Fabric>,
    pub(crate) link: LinkService<TestRouter>,
    pub(crate) serving: Option<Serving>,
    pub(crate) addr: SocketAddr,
}

pub(crate) struct EdgeNode {
    pub(crate) link: Arc<EdgeLink>,
    pub(crate) running: Option<Running>,
    pub(crate) addr: SocketAddr,
}

/// Times that are short enough for tests.
pub(crate) fn config() -> LinkConfig {
    LinkConfig {
        beat_every: Duration::from_millis(100),
        dead_after: Duration::from_secs(2),
        retry_after: Duration::from_millis(20),
        retry_after_max: Duration::from_millis(200),
        no_router_retry: Duration::from_millis(50),
        ..LinkConfig::default()
    }
}

pub(crate) fn town() -> Town {
    town_with(config())
}

pub(crate) fn town_with(config: LinkConfig) -> Town {
    let store = Arc::new(MemoryStore::default());
    let (ways, lives) = (Ways::default(), AtomicU64::new(1));
    Town { store, ways, lives, tls: None, config, addrs: watch::channel(Vec::new()).0 }
}

impl Town {
    /// A router that edges hear of.
    pub(crate) fn router(&self) -> RouterNode {
        let node = self.router_with(&self.config, self.tls.as_ref());
        self.announce(&node);
        node
    }

    pub(crate) fn announce(&self, node: &RouterNode) {
        let addr = RouterAddr { addr: node.addr.to_string(), name: self.tls.as_ref().map(|_| "router".to_owned()) };
        self.addrs.send_modify(|addrs| addrs.push(addr));
    }

    pub(crate) fn announce_addr(&self, addr: SocketAddr) {
        self.addrs.send_modify(|addrs| addrs.push(RouterAddr::new(addr.to_string())));
    }

    pub(crate) fn router_with(&self, config: &LinkConfig, tls: Option<&LinkTls>) -> RouterNode {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _inside = runtime.enter();
        let life = self.lives.fetch_add(1, Relaxed);
        let node = NodeId(life);
        let (way, mut heard) = mpsc::unbounded_channel();
        let bus = Wire { node, incarnation: 1, ways: Arc::clone(&self.ways) };
        let fabric = Fabric::new(None, config.clone());
        let keys = Keys::new(&SECRET);
        let settings = RouterConfig { silent_after: Duration::from_secs(2), ..RouterConfig::default() };
        let store = Arc::clone(&self.store);
        let router = Router::with_bus(settings, keys, store, Arc::clone(&fabric), SystemEnv, bus);
        self.ways.lock().push((node, way));
        let hears = Arc::downgrade(&router);
        runtime.spawn(async move {
            while let Some(parcel) = heard.recv().await {
                let Some(router) = hears.upgrade() else { return };
                router.hear(parcel);
            }
        });
        let beats = Arc::downgrade(&router);
        runtime.spawn(async move {
            while let Some(router) = beats.upgrade() {
                router.beat();
                drop(router);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let name = NodeName { node: format!("router-{life}"), incarnation: 1 };
        let link = LinkService::new(Arc::clone(&router), Arc::clone(&fabric), name);
        let api = ApiService::new(Arc::clone(&router), Arc::clone(&fabric));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let serving = serve(listener, tls, false, link.clone(), api).unwrap();
        let addr = serving.local_addr();
        drop(_inside);
        RouterNode { runtime: Some(runtime), router, fabric, link, serving: Some(serving), addr }
    }

    /// An edge with as many shards as there are likely to be anywhere.
    pub(crate) async fn edge(&self) -> EdgeNode {
        let edge = self.edge_with(self.config.clone(), self.tls.clone());
        let routers = self.addrs.borrow().len();
        until("the edge is linked", || edge.link.routers() == routers).await;
        edge
    }

    pub(crate) fn edge_with(&self, config: LinkConfig, tls: Option<LinkTls>) -> EdgeNode {
        let edge = EdgeConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            shards: 2,
            driver: DriverKind::Poll,
            ..EdgeConfig::default()
        };
        let bound = Edge::bind(edge).unwrap();
        let name = NodeName { node: format!("edge-{}", self.lives.fetch_add(1, Relaxed)), incarnation: 1 };
        let link = EdgeLink::new(bound.handle(), name, self.addrs.subscribe(), tls, false, config);
        let addr = bound.local_addr();
        let running = bound.start(Arc::clone(&link), Arc::new(NoPages)).unwrap();
        EdgeNode { link, running: Some(running), addr }
    }
}

/// No HTTP but upgrades.
struct NoPages;

impl HttpService for NoPages {
    fn serve(&self, _: HttpIo, _: SocketAddr) {}
}

impl RouterNode {
    /// As kill -9: nobody is told.
    pub(crate) fn kill(&mut self) {
        drop(self.serving.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric(&self.fabric.metrics(), name)
    }
}

impl Drop for RouterNode {
    fn drop(&mut self) {
        self.kill();
    }
}

impl EdgeNode {
    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric(&self.link.metrics(), name)
    }

    /// A client of the SDK, connected.
    pub(crate) async fn client(&self, user: &str, device: &str) -> (Client, Events) {
        let url = format!("ws://{}/ws", self.addr);
        let connecting = Client::builder(&url).token(token(user)).device(device).connect();
        within("a client connects", connecting).await.unwrap()
    }
}

fn metric(snapshot: &Snapshot, name: &str) -> f64 {
    snapshot.get(name).unwrap_or_else(|| panic!("no metric {name}"))
}

pub(crate) fn token(user: &str) -> String {
    token_of(user, Scope::User)
}

pub(crate) fn token_of(user: &str, scope: Scope) -> String {
    Keys::new(&SECRET).mint(&Claims::new(id(user), user, scope, SystemEnv.now_ms(), 3600))
}

pub(crate) fn id(user: &str) -> UserId {
    UserId::new(user).unwrap()
}

pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("hangs: {what}"))
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A bare connection to a router.
pub(crate) async fn channel(addr: SocketAddr) -> tonic::transport::Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{addr}")).unwrap();
    within("a connection", endpoint.connect()).await.unwrap()
}
