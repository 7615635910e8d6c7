//! `roost serve`: opens the store, binds, wires, tells that it is ready.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use roost_edge::driver::quic::{QuicConfig, SECRET_BYTES, WEBTRANSPORT_ALPN};
use roost_edge::{Bound, Edge, EdgeHandle, Running};
use roost_link::{ApiService, EdgeLink, Fabric, LinkConfig, LinkService};
use roost_router::auth::Keys;
use roost_router::{Router, SystemEnv};
use roost_storage::cql::CqlStore;
use roost_storage::{AnyStore, EmbeddedOptions, EmbeddedStore};
use roost_wire::limits;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, Phase};
use crate::admission::{Admission, Plan, Watch};
use crate::backend::{Backend, Core, Grpc, Look};
use crate::commands::key;
use crate::config::{Config, QuicListen, Role, StoreAt};
use crate::fleet::Joining;
use crate::glue::{Gate, Pages};
use crate::guests::Guests;
use crate::http::{self, Api, Transports};
use crate::metrics::{Front, Sources, StoreWatch};
use crate::system::Root;
use crate::tls::Tls;

/// What QUIC's tokens are made from, as the store names it: the same after a restart.
const QUIC_SECRET: &str = "quic";

/// A node that serves.
pub(crate) struct Node {
    /// Where clients are; `None` in a router.
    pub public: Option<Public>,
    pub core: Core,
    pub phase: Arc<Phase>,
    /// Ends the admin pages: the last thing to go.
    pub admin_stop: CancellationToken,
    pub admin: SocketAddr,
}

impl Node {
    /// Where it serves gRPC, if it does.
    pub(crate) fn grpc(&self) -> Option<SocketAddr> {
        match &self.core {
            Core::Router { grpc, .. } => grpc.as_ref().map(|grpc| grpc.addr),
            Core::Link { .. } => None,
        }
    }
}

/// The part of a node that clients connect to.
pub(crate) struct Public {
    pub edge: Running,
    /// Refuses new sessions while there is no memory for them.
    pub memory: Watch,
    /// The certificate of the public port; `None` if it speaks no TLS.
    pub tls: Option<Arc<Tls>>,
    pub listen: SocketAddr,
    /// Where it takes QUIC, if it does.
    pub quic: Option<SocketAddr>,
}

/// Starts a node.
pub(crate) async fn start(config: &Config) -> anyhow::Result<Node> {
    // Cheap refusals first: a port in use must not open, and so lock or change, the data directory.
    let port = if config.role == Role::Router { None } else { Some(Port::bind(config)?) };
    let admin_listener = TcpListener::bind(config.admin)
        .await
        .with_context(|| format!("cannot serve admin pages on {} (choose another with --admin)", config.admin))?;
    let grpc_listener = match config.grpc {
        Some(grpc) => Some(
            TcpListener::bind(grpc)
                .await
                .with_context(|| format!("cannot serve gRPC on {grpc} (choose another with --grpc)"))?,
        ),
        None => None,
    };
    let opened = match config.role {
        Role::Edge => None,
        Role::All | Role::Router => Some(Opened::open(config).await?),
    };
    let port = match port {
        Some(port) => Some(port.with_tls(config, opened.as_ref().map(|opened| opened.quic_secret))?),
        None => None,
    };
    let handle = port.as_ref().map(|port| port.bound.handle());
    let core = match opened {
        Some(opened) => opened.into_core(config, handle.clone(), grpc_listener).await?,
        None => edge_core(config, handle.clone().context("an edge has a public port")?).await?,
    };

    let (phase, admin_stop) = (Arc::new(Phase::default()), CancellationToken::new());
    let guests = Arc::new(Guests::new(config.guests_per_minute, config.addresses_exempt.clone()));
    let watched = match port {
        Some(port) => Some(port.watch_memory()?),
        None => None,
    };
    let front = watched.as_ref().map(|port| port.front(&guests));
    let admin = admin_listener.local_addr()?;
    serve_admin(admin_listener, &phase, core.look(), front, admin_stop.clone());
    let public = match watched {
        Some(port) => Some(port.open(core.backend(), guests)?),
        None => {
            crate::tls::outlive_hangups()?;
            None
        }
    };
    phase.ready();
    Ok(Node { public, core, phase, admin_stop, admin })
}

fn serve_admin(listener: TcpListener, phase: &Arc<Phase>, look: Look, front: Option<Front>, stop: CancellationToken) {
    let sources = Arc::new(Sources { look, front });
    let pages = admin::service(Admin { phase: Arc::clone(phase), sources });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, pages).with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::error!(%error, "the admin pages ended");
        }
    });
}

/// What a node with a router has opened.
struct Opened {
    store: AnyStore,
    keys: Keys,
    quic_secret: [u8; SECRET_BYTES],
}

impl Opened {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let store = match &config.store {
            StoreAt::Embedded => AnyStore::Embedded(EmbeddedStore::open(&config.data, &EmbeddedOptions::default())?),
            StoreAt::Cql(at) => AnyStore::Cql(CqlStore::connect(at.options()).await?),
        };
        let keys = Keys::new(&store.secret(key::NAME).await.context("cannot make the token key")?);
        let quic_secret = store.secret(QUIC_SECRET).await.context("cannot make the secret of QUIC")?;
        Ok(Self { store, keys, quic_secret })
    }

    async fn into_core(
        self,
        config: &Config,
        edge: Option<EdgeHandle>,
        grpc: Option<TcpListener>,
    ) -> anyhow::Result<Core> {
        let listen = edge.as_ref().map(|edge| edge.local_addr().to_string()).unwrap_or_default();
        let grpc_addr = grpc.as_ref().map(TcpListener::local_addr).transpose()?;
        let told = config.grpc_advertise.clone().or(grpc_addr.map(|addr| addr.to_string())).unwrap_or_default();
        let joining = Joining::join(config, listen, told).await?;
        let name = joining.name(config);
        let fabric = Fabric::new(edge, LinkConfig::default());
        let (store, bus) = (Arc::new(self.store.clone()), joining.bus.clone());
        let router = Router::with_bus(config.router(), self.keys, store, Arc::clone(&fabric), SystemEnv, bus);
        let fleet = joining.hear(&router);
        let grpc = match grpc.zip(grpc_addr) {
            Some((listener, addr)) => {
                let link = LinkService::new(Arc::clone(&router), Arc::clone(&fabric), name);
                let api = ApiService::new(Arc::clone(&router), Arc::clone(&fabric));
                let serving =
                    roost_link::serve(listener, config.link_tls().as_ref(), config.grpc_insecure, link.clone(), api)
                        .context("grpc")?;
                Some(Grpc { serving, link, addr })
            }
            None => None,
        };
        let store = Arc::new(StoreWatch::start(self.store));
        Ok(Core::Router { router, fabric, fleet, grpc, store })
    }
}

async fn edge_core(config: &Config, edge: EdgeHandle) -> anyhow::Result<Core> {
    let joining = Joining::join(config, edge.local_addr().to_string(), String::new()).await?;
    let (name, routers) = (joining.name(config), joining.routers(config)?);
    let (tls, insecure) = (config.link_tls(), config.grpc_insecure);
    let link = EdgeLink::new(edge, name, routers, tls, insecure, LinkConfig::default());
    Ok(Core::Link { link, fleet: joining.deaf() })
}

/// A public port that is bound, before there is anything behind it.
struct Port {
    bound: Bound,
    memory: Plan,
    tls: Option<Arc<Tls>>,
}

impl Port {
    fn bind(config: &Config) -> anyhow::Result<Self> {
        let memory = Plan::new(Root::new(&config.system_root), config.memory_reserve)?;
        let bound = Edge::bind(config.edge())?;
        Ok(Self { bound, memory, tls: None })
    }

    /// `secret`: what QUIC's tokens are made from; an edge alone makes its own, anew at each start.
    fn with_tls(self, config: &Config, secret: Option<[u8; SECRET_BYTES]>) -> anyhow::Result<Self> {
        let Self { bound, memory, .. } = self;
        let tls = Tls::open(config)?;
        let bound = match &tls {
            Some(tls) => bound.with_tls(tls.setup(config.plaintext)?),
            None => bound,
        };
        let bound = match quic(config, &bound, tls.as_deref(), secret.unwrap_or_else(rand::random))? {
            Some(quic) => bound.with_quic(&quic).context("QUIC (choose another address with --quic, or --quic off)")?,
            None => bound,
        };
        Ok(Self { bound, memory, tls })
    }

    fn watch_memory(self) -> anyhow::Result<Watched> {
        let Self { bound, memory, tls } = self;
        let edge = bound.handle();
        let memory = memory.watch(move |admitting| edge.admit(admitting)).context("cannot watch the memory")?;
        Ok(Watched { bound, memory, tls })
    }
}

/// A public port that knows whether there is memory for those who come.
struct Watched {
    bound: Bound,
    memory: Watch,
    tls: Option<Arc<Tls>>,
}

impl Watched {
    /// What the metrics page tells of it.
    fn front(&self, guests: &Arc<Guests>) -> Front {
        let memory: Arc<Admission> = Arc::clone(&self.memory.admission);
        Front { edge: self.bound.handle(), guests: Arc::clone(guests), memory, tls: self.tls.clone() }
    }

    /// Lets clients in.
    fn open(self, backend: Backend, guests: Arc<Guests>) -> anyhow::Result<Public> {
        let Self { bound, memory, tls } = self;
        let handle = bound.handle();
        let (listen, quic) = (bound.local_addr(), handle.quic_addr());
        let gate = Gate { backend: backend.clone(), guests: Arc::clone(&guests), edge: handle };
        let transports = Arc::new(Transports { quic_port: quic.map(|addr| addr.port()), tls: tls.clone() });
        let pages = Pages {
            runtime: tokio::runtime::Handle::current(),
            service: http::service(Api { backend, guests, transports }),
        };
        match &tls {
            Some(tls) => Arc::clone(tls).watch()?,
            None => crate::tls::outlive_hangups()?,
        }
        let edge = bound.start(Arc::new(gate), Arc::new(pages))?;
        Ok(Public { edge, memory, tls, listen, quic })
    }
}

/// How the node takes QUIC; `None`: it does not. Without another address it is that of the streams, so that a client needs to
/// know one.
fn quic(
    config: &Config,
    bound: &Bound,
    tls: Option<&Tls>,
    secret: [u8; SECRET_BYTES],
) -> anyhow::Result<Option<QuicConfig>> {
    let listen = match config.quic {
        QuicListen::Off => return Ok(None),
        QuicListen::Auto => bound.local_addr(),
        QuicListen::At(addr) => addr,
    };
    let Some(tls) = tls else { return Ok(None) };
    let tls =
        tls.identity.server_config(&[limits::ALPN.as_bytes(), WEBTRANSPORT_ALPN]).context("QUIC does not work here")?;
    Ok(Some(QuicConfig::new(listen, Arc::new(tls), secret)))
}
