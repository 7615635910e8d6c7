//! What stands behind the edge of this node: a router in the same process, or a link to routers elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roost_link::{EdgeLink, Fabric, LinkService, Serving};
use roost_router::metrics::Snapshot;
use roost_router::{Credentials, Router, SystemEnv};
use roost_storage::AnyStore;
use roost_wire::link::Up;
use roost_wire::pb;

use crate::fleet::{Joined, NodeBus};
use crate::metrics::StoreWatch;

/// The router of this binary.
pub(crate) type NodeRouter = Router<AnyStore, Fabric, SystemEnv, NodeBus>;

/// How long edges may take to bring their sessions to another router.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);
/// How long calls that are under way may take when gRPC stops.
const CALLS_WITHIN: Duration = Duration::from_secs(1);
/// How long a node may take to tell its routers that it goes.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Where commands go.
#[derive(Clone)]
pub(crate) enum Backend {
    /// To the router of this process.
    Router(Arc<NodeRouter>),
    /// To routers elsewhere.
    Link(Arc<EdgeLink>),
}

impl Backend {
    pub(crate) fn submit(&self, batch: &mut Vec<Up>) {
        match self {
            Self::Router(router) => router.submit(batch),
            Self::Link(link) => roost_edge::Upstream::submit(&**link, batch),
        }
    }

    /// A new guest.
    pub(crate) async fn guest(&self, name: &str) -> Result<Credentials, pb::Error> {
        match self {
            Self::Router(router) => router.guest(name).await,
            Self::Link(link) => link.guest(name).await,
        }
    }

    /// A newer token for the holder of a valid one.
    pub(crate) async fn refresh(&self, token: &str) -> Result<Credentials, pb::Error> {
        match self {
            Self::Router(router) => router.refresh(token).await,
            Self::Link(link) => link.refresh(token).await,
        }
    }

    /// A publish by the holder of a service token.
    pub(crate) async fn publish(&self, token: &str, publish: pb::Publish) -> Result<pb::Sent, pb::Error> {
        let router = match self {
            Self::Router(router) => router,
            Self::Link(link) => return link.publish(token, publish).await,
        };
        router.allow_service(token)?;
        router.publish(None, publish).await
    }
}

/// gRPC of a node with a router.
pub(crate) struct Grpc {
    pub serving: Serving,
    pub link: LinkService<NodeRouter>,
    pub addr: SocketAddr,
}

/// What of a node is no edge.
pub(crate) enum Core {
    /// It has a router.
    Router { router: Arc<NodeRouter>, fabric: Arc<Fabric>, fleet: Joined, grpc: Option<Grpc>, store: Arc<StoreWatch> },
    /// Its routers are elsewhere.
    Link { link: Arc<EdgeLink>, fleet: Joined },
}

impl Core {
    /// What commands are submitted to.
    pub(crate) fn backend(&self) -> Backend {
        match self {
            Self::Router { router, .. } => Backend::Router(Arc::clone(router)),
            Self::Link { link, .. } => Backend::Link(Arc::clone(link)),
        }
    }

    /// What the metrics page and /readyz look at.
    pub(crate) fn look(&self) -> Look {
        match self {
            Self::Router { router, fabric, fleet, grpc, store } => Look {
                backend: Backend::Router(Arc::clone(router)),
                store: Some(Arc::clone(store)),
                bus: fleet.bus().clone(),
                fabric: grpc.is_some().then(|| Arc::clone(fabric)),
            },
            Self::Link { link, fleet } => {
                Look { backend: Backend::Link(Arc::clone(link)), store: None, bus: fleet.bus().clone(), fabric: None }
            }
        }
    }

    /// Waits until another node has taken this one's name.
    pub(crate) async fn superseded(&self) {
        match self {
            Self::Router { fleet, .. } | Self::Link { fleet, .. } => fleet.superseded().await,
        }
    }

    /// Edges bring their sessions to other routers. Before this node's own sessions have left.
    pub(crate) async fn hand_over(&self) {
        if let Self::Router { grpc: Some(grpc), .. } = self {
            grpc.serving.not_ready().await;
            grpc.link.leave(HAND_OVER_WITHIN).await;
        }
    }

    /// Ends it, once nobody submits anything.
    pub(crate) async fn stop(self) {
        match self {
            Self::Router { router, fleet, grpc, store, .. } => {
                router.close().await;
                store.flush().await;
                fleet.leave(Some(&router)).await;
                if let Some(grpc) = grpc {
                    grpc.serving.stop(CALLS_WITHIN).await;
                }
            }
            Self::Link { link, fleet } => {
                link.leave(LEAVE_WITHIN).await;
                fleet.leave(None).await;
            }
        }
    }
}

/// What is looked at from outside.
#[derive(Clone)]
pub(crate) struct Look {
    pub backend: Backend,
    pub store: Option<Arc<StoreWatch>>,
    pub bus: NodeBus,
    fabric: Option<Arc<Fabric>>,
}

impl Look {
    /// Counters of the link between edges and routers; `None` where there is none.
    pub(crate) fn link(&self) -> Option<Snapshot> {
        match (&self.backend, &self.fabric) {
            (Backend::Link(link), _) => Some(link.metrics()),
            (Backend::Router(_), Some(fabric)) => Some(fabric.metrics()),
            _ => None,
        }
    }

    /// Routers that this node can reach; `None`: it is one.
    pub(crate) fn routers(&self) -> Option<usize> {
        match &self.backend {
            Backend::Router(_) => None,
            Backend::Link(link) => Some(link.routers()),
        }
    }
}
