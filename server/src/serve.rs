//! `roost serve`: opens the store, binds, wires, tells that it is ready.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use roost_edge::driver::quic::{QuicConfig, SECRET_BYTES, WEBTRANSPORT_ALPN};
use roost_edge::{Bound, Edge, Running};
use roost_router::auth::Keys;
use roost_router::{Router, SystemEnv};
use roost_storage::{EmbeddedOptions, EmbeddedStore};
use roost_wire::limits;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, Phase};
use crate::admission::{Plan, Watch};
use crate::commands::key;
use crate::config::{Config, QuicListen};
use crate::glue::{EdgeLink, NodeRouter, Pages, RouterLink};
use crate::guests::Guests;
use crate::http::{self, Api, Transports};
use crate::metrics::Sources;
use crate::system::Root;
use crate::tls::Tls;

/// What QUIC's tokens are made from, as the store names it: the same after a restart.
const QUIC_SECRET: &str = "quic";

/// A node that serves.
pub(crate) struct Node {
    pub edge: Running,
    pub router: Arc<NodeRouter>,
    pub phase: Arc<Phase>,
    /// Refuses new sessions while there is no memory for them.
    pub memory: Watch,
    /// Ends the admin pages: the last thing to go.
    pub admin_stop: CancellationToken,
    /// The certificate of the public port; `None` if it speaks no TLS.
    pub tls: Option<Arc<Tls>>,
    pub listen: SocketAddr,
    /// Where it takes QUIC, if it does.
    pub quic: Option<SocketAddr>,
    pub admin: SocketAddr,
}

/// Starts a node.
pub(crate) async fn start(config: &Config) -> anyhow::Result<Node> {
    // Cheap refusals first: a port in use must not open, and so lock or change, the data directory.
    let memory = Plan::new(Root::new(&config.system_root), config.memory_reserve)?;
    let bound = Edge::bind(config.edge())?;
    let admin_listener = TcpListener::bind(config.admin)
        .await
        .with_context(|| format!("cannot serve admin pages on {} (choose another with --admin)", config.admin))?;
    let store = EmbeddedStore::open(&config.data, &EmbeddedOptions::default())?;
    let tls = Tls::open(config)?;
    let bound = match &tls {
        Some(tls) => bound.with_tls(tls.setup(config.plaintext)?),
        None => bound,
    };
    let quic_secret = || store.secret(QUIC_SECRET).context("cannot make the secret of QUIC");
    let bound = match quic(config, &bound, tls.as_deref(), quic_secret)? {
        Some(quic) => bound.with_quic(&quic).context("QUIC (choose another address with --quic, or --quic off)")?,
        None => bound,
    };
    let keys = Keys::new(&store.secret(key::NAME).context("cannot make the token key")?);

    let handle = bound.handle();
    let listen = bound.local_addr();
    let quic = handle.quic_addr();
    let down = Arc::new(EdgeLink(handle.clone()));
    let router = Router::new(config.router(), keys, Arc::new(store.clone()), down, SystemEnv);
    let phase = Arc::new(Phase::default());
    let guests = Arc::new(Guests::new(config.guests_per_minute, config.addresses_exempt.clone()));
    let link = RouterLink { router: Arc::clone(&router), guests: Arc::clone(&guests), edge: handle.clone() };
    let memory = {
        let edge = handle.clone();
        memory.watch(move |admitting| edge.admit(admitting)).context("cannot watch the memory")?
    };
    let sources = Arc::new(Sources {
        edge: handle,
        guests: Arc::clone(&guests),
        router: Arc::clone(&router),
        memory: Arc::clone(&memory.admission),
        tls: tls.clone(),
        store,
    });
    let admin = admin_listener.local_addr()?;
    let admin_stop = CancellationToken::new();
    let stopped = admin_stop.clone().cancelled_owned();
    let pages = admin::service(Admin { phase: Arc::clone(&phase), sources });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(admin_listener, pages).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the admin pages ended");
        }
    });

    let pages = Pages {
        runtime: tokio::runtime::Handle::current(),
        service: http::service(Api {
            router: Arc::clone(&router),
            guests,
            transports: Arc::new(Transports { quic_port: quic.map(|addr| addr.port()), tls: tls.clone() }),
        }),
    };
    match &tls {
        Some(tls) => Arc::clone(tls).watch()?,
        None => crate::tls::outlive_hangups()?,
    }
    let edge = bound.start(Arc::new(link), Arc::new(pages))?;
    phase.ready();
    Ok(Node { edge, router, phase, memory, admin_stop, tls, listen, quic, admin })
}

/// How the node takes QUIC; `None`: it does not. Without another address it is that of the streams, so that a client needs to
/// know one.
fn quic(
    config: &Config,
    bound: &Bound,
    tls: Option<&Tls>,
    secret: impl FnOnce() -> anyhow::Result<[u8; SECRET_BYTES]>,
) -> anyhow::Result<Option<QuicConfig>> {
    let listen = match config.quic {
        QuicListen::Off => return Ok(None),
        QuicListen::Auto => bound.local_addr(),
        QuicListen::At(addr) => addr,
    };
    let Some(tls) = tls else { return Ok(None) };
    let tls =
        tls.identity.server_config(&[limits::ALPN.as_bytes(), WEBTRANSPORT_ALPN]).context("QUIC does not work here")?;
    Ok(Some(QuicConfig::new(listen, Arc::new(tls), secret()?)))
}
