//! This node among others: what it tells them, and what is known of them.

use std::sync::Arc;

use anyhow::Context;
use roost_link::{NodeName, RouterAddr, Routers};
use roost_router::redis::{Health, Link, NodeSpec, RedisBus, RedisInbox, RedisOptions, Serving};
use roost_router::{Bus, NodeId, Parcel};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::backend::NodeRouter;
use crate::config::{Config, RoutersAt};

/// The way to the other nodes, if there are any.
#[derive(Clone)]
pub(crate) enum NodeBus {
    /// There are none.
    Alone,
    /// By Redis.
    Redis(RedisBus),
}

impl Bus for NodeBus {
    fn is_alone(&self) -> bool {
        matches!(self, Self::Alone)
    }

    fn node(&self) -> NodeId {
        match self {
            Self::Alone => NodeId(0),
            Self::Redis(bus) => bus.node(),
        }
    }

    fn incarnation(&self) -> u64 {
        match self {
            Self::Alone => 0,
            Self::Redis(bus) => bus.incarnation(),
        }
    }

    fn post(&self, to: Option<NodeId>, parcel: Parcel) {
        if let Self::Redis(bus) = self {
            bus.post(to, parcel);
        }
    }
}

impl NodeBus {
    /// What /readyz tells of it; `None` without other nodes. Never a reason to send clients elsewhere: without Redis the
    /// node serves, and is only slower to hear of others.
    pub(crate) fn tell(&self) -> Option<Value> {
        let Self::Redis(bus) = self else { return None };
        let health = bus.health();
        let state = match &health.link {
            Link::Up if health.deaf => "deaf: nothing comes back of what is told; it is subscribed anew".to_owned(),
            Link::Up if health.out_of_memory => "out of memory: see maxmemory of Redis".to_owned(),
            Link::Up => "ok".to_owned(),
            Link::Starting => "not reached yet".to_owned(),
            Link::Down { since_ms, why } => format!("down since {since_ms}: {why}"),
            Link::Superseded { by } => format!("another node has this one's name: {by}"),
        };
        let mut told = json!({ "state": state, "nodes": health.nodes, "clock_skew_ms": health.clock_skew_ms });
        if health.clock_off {
            told["clock"] = "far from that of Redis: set it by NTP".into();
        }
        Some(told)
    }
}

/// A node that has joined, and does not hear anything yet.
pub(crate) struct Joining {
    pub(crate) bus: NodeBus,
    inbox: Option<RedisInbox>,
}

/// A node that hears the others.
pub(crate) struct Joined {
    bus: NodeBus,
    serving: Option<Serving>,
}

impl Joining {
    /// Joins the fleet of `config`, or none. `listen` and `grpc` are told to the others, and may be empty.
    ///
    /// # Errors
    /// Redis refuses, or a live node has this one's name.
    pub(crate) async fn join(config: &Config, listen: String, grpc: String) -> anyhow::Result<Self> {
        let Some(at) = &config.redis else { return Ok(Self { bus: NodeBus::Alone, inbox: None }) };
        let options = RedisOptions { cluster: config.fleet.clone(), ..RedisOptions::new(at.url()) };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let spec = NodeSpec { name: config.node.clone(), role: config.role.into(), listen, grpc, version };
        let (bus, inbox) = RedisBus::connect(options, spec).await.with_context(|| format!("cannot join by {at:?}"))?;
        tracing::info!(node = %bus.node(), incarnation = bus.incarnation(), fleet = config.fleet, "joined the fleet");
        Ok(Self { bus: NodeBus::Redis(bus), inbox: Some(inbox) })
    }

    /// Begins to hear the others.
    pub(crate) fn hear(self, router: &Arc<NodeRouter>) -> Joined {
        Joined { bus: self.bus, serving: self.inbox.map(|inbox| inbox.serve(router)) }
    }

    /// Hears nothing: an edge is told by its routers.
    pub(crate) fn deaf(self) -> Joined {
        Joined { bus: self.bus, serving: None }
    }

    /// What this life of the node is called.
    pub(crate) fn name(&self, config: &Config) -> NodeName {
        let incarnation = match &self.bus {
            NodeBus::Alone => rand::random(),
            NodeBus::Redis(bus) => bus.incarnation(),
        };
        NodeName { node: config.node.clone(), incarnation }
    }

    /// Where the routers are, as `routers` has it.
    ///
    /// # Errors
    /// They are to be found by Redis, and there is none.
    pub(crate) fn routers(&self, config: &Config) -> anyhow::Result<watch::Receiver<Vec<RouterAddr>>> {
        match (&config.routers, &self.bus) {
            (Some(RoutersAt::Named(routers)), _) => Ok(Routers::watch(routers.clone())),
            (_, NodeBus::Redis(bus)) => Ok(on_table(bus)),
            (_, NodeBus::Alone) => anyhow::bail!("routers: where are they? Name them, or a Redis that knows them"),
        }
    }
}

/// The routers on the table of nodes, now and as it changes.
fn on_table(bus: &RedisBus) -> watch::Receiver<Vec<RouterAddr>> {
    let mut table = bus.table();
    let routers = move |table: &mut watch::Receiver<Arc<roost_router::redis::NodeTable>>| -> Vec<RouterAddr> {
        let table = Arc::clone(&table.borrow_and_update());
        table.routers().filter(|node| !node.grpc.is_empty()).map(|node| RouterAddr::new(&node.grpc)).collect()
    };
    let (found, watching) = watch::channel(routers(&mut table));
    tokio::spawn(async move {
        while table.changed().await.is_ok() && !found.is_closed() {
            let now = routers(&mut table);
            found.send_if_modified(|known| {
                let new = *known != now;
                *known = now;
                new
            });
        }
    });
    watching
}

impl Joined {
    /// Waits until another node has taken this one's name, which then has to end: nobody hears it any more.
    pub(crate) async fn superseded(&self) {
        let NodeBus::Redis(bus) = &self.bus else { return std::future::pending().await };
        let mut health = bus.watch_health();
        let taken = |health: &Health| matches!(health.link, Link::Superseded { .. });
        match health.wait_for(taken).await.map(|health| health.link.clone()) {
            Ok(Link::Superseded { by }) => {
                tracing::error!(by, "another node has this one's name: stopping (give each its own by --node)");
            }
            _ => std::future::pending().await,
        }
    }

    pub(crate) const fn bus(&self) -> &NodeBus {
        &self.bus
    }

    /// Tells the others that this node stops in good order. Call it after its router was closed.
    pub(crate) async fn leave(self, router: Option<&NodeRouter>) {
        let NodeBus::Redis(bus) = &self.bus else { return };
        if let Some(router) = router {
            router.leave();
        }
        bus.leave().await;
        // Hears no more.
        drop(self.serving);
    }
}
