//! Who may attach itself to whom.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use roost_link::proto::link::link_client::LinkClient;
use roost_link::proto::link::{EdgeBatch, EdgeHello};
use roost_link::{LinkConfig, LinkTls, Routers};
use roost_wire::FrameBody;
use roost_wire::pb;
use tonic::Code;

use crate::harness::{channel, config, town, town_with, until, within};
use crate::raw::Raw;

/// Every log line of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The log, kept from the first call on.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    })
}

/// Waits for a line of the log that holds all of `parts`.
async fn logged(parts: &[&str]) {
    let log = log();
    let holds = || {
        let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
        text.lines().any(|line| parts.iter().all(|part| line.contains(part)))
    };
    until(&format!("a log line with {parts:?}"), holds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_edge_beside_a_newer_router_speaks_what_both_speak_or_is_refused_with_a_reason() {
    log();
    let town = town();
    let newer = LinkConfig { versions: (2, 3), ..config() };
    let router = town.router_with(&newer, None);
    town.announce(&router);
    let older = town.edge_with(config(), None);
    for side in ["an edge was refused", "cannot link to a router"] {
        logged(&[side, "the edge speaks versions 1 to 1 of the link, this router 2 to 3"]).await;
    }
    assert!(router.metric("roost_link_edges_refused_total") >= 1.0);
    let (_raw, answer) = Raw::knock(older.addr, "u_ada").await;
    assert!(matches!(answer.body, Some(FrameBody::Error(error)) if error.retryable));
    let wide = town.edge_with(LinkConfig { versions: (1, 2), ..config() }, None);
    until("they speak version 2", || wide.link.routers() == 1).await;
    Raw::enter(wide.addr, "u_ada").await;
    assert_eq!(older.link.routers(), 0);
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Files of a node that trusts `ca`.
    fn node(&self, dir: &Path, name: &str, ca: &Self) -> LinkTls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |what: &str, text: String| {
            let path = dir.join(format!("{name}-{what}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        LinkTls {
            cert: file("cert", cert.pem()),
            key: file("key", key.serialize_pem()),
            ca: file("ca", ca.issuer.pem()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_show_certificates_of_one_authority() {
    log();
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut town = town();
    town.tls = Some(ours.node(dir.path(), "router", &ours));
    let router = town.router();
    let edge = town.edge_with(config(), Some(ours.node(dir.path(), "edge", &ours)));
    until("it is linked", || edge.link.routers() == 1).await;
    let mut ada = Raw::enter(edge.addr, "u_ada").await;
    assert!(matches!(ada.call(FrameBody::Sync(pb::Sync::default())).await, FrameBody::Changed(_)));

    // Another authority's edge, that trusts ours: the router refuses it in the handshake.
    let stranger = town.edge_with(config(), Some(theirs.node(dir.path(), "stranger", &ours)));
    logged(&["a gRPC connection was refused", "certificate"]).await;
    // Ours, that trusts another: it refuses the router.
    let wary = town.edge_with(config(), Some(ours.node(dir.path(), "wary", &theirs)));
    logged(&["cannot link to a router", "certificate"]).await;
    until("it was refused", || router.metric("roost_link_handshakes_failed_total") >= 2.0).await;
    // Nothing to show.
    let plain = town.edge_with(config(), None);
    until("it was refused", || plain.metric("roost_link_attach_failed_total") >= 1.0).await;
    // As a backend would call, with TLS and without a certificate: it may, but not as an edge.
    let ca = tonic::transport::Certificate::from_pem(std::fs::read(&town.tls.as_ref().unwrap().ca).unwrap());
    let tls = tonic::transport::ClientTlsConfig::new().ca_certificate(ca).domain_name("router");
    let channel = tonic::transport::Endpoint::from_shared(format!("https://{}", router.addr)).unwrap();
    let channel = channel.tls_config(tls).unwrap().connect().await.unwrap();
    let refused = attach(LinkClient::new(channel), Some(hello())).await;
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "an edge needs a certificate"));
    logged(&["an edge was refused", "an edge needs a certificate"]).await;
    for edge in [&stranger, &wary, &plain] {
        assert_eq!(edge.link.routers(), 0);
    }
    assert_eq!(router.metric("roost_link_edges"), 1.0);
}

fn hello() -> EdgeHello {
    EdgeHello { version_min: 1, version_max: 1, node: "raw".into(), incarnation: 1, shards: 1, linked: Vec::new() }
}

/// Attaches with this greeting; gives why it was refused.
async fn attach(mut client: LinkClient<tonic::transport::Channel>, hello: Option<EdgeHello>) -> tonic::Status {
    let batch = EdgeBatch { hello, items: Vec::new() };
    let attached = client.attach(futures_util::stream::iter([batch])).await;
    attached.expect_err("it was let in")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_nobody_is_served_or_called_beyond_loopback() {
    log();
    let town = town();
    let any = tokio::net::TcpListener::bind(("0.0.0.0", 0)).await.unwrap();
    let router = town.router();
    let api = roost_link::ApiService::new(Arc::clone(&router.router), Arc::clone(&router.fabric));
    let served = roost_link::serve(any, None, false, router.link.clone(), api);
    assert!(matches!(served, Err(roost_link::ServeError::Insecure(_))));
    let far = Routers::List(vec![roost_link::RouterAddr::new("192.0.2.1:9")]).watch();
    let bound =
        roost_edge::Edge::bind(roost_edge::EdgeConfig { listen: ([127, 0, 0, 1], 0).into(), ..Default::default() });
    let name = roost_link::NodeName { node: "edge".into(), incarnation: 1 };
    let _link = roost_link::EdgeLink::new(bound.unwrap().handle(), name, far, None, false, config());
    logged(&["cannot link to a router", "192.0.2.1:9", "without TLS links are for loopback only"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_that_makes_no_sense_is_refused() {
    let town = town_with(LinkConfig { attach_within: Duration::from_millis(300), ..config() });
    let router = town.router();
    let connect = || async { LinkClient::new(channel(router.addr).await) };
    for (name, hello, code) in [
        ("none", None, Code::InvalidArgument),
        ("no shards", Some(EdgeHello { shards: 0, ..hello() }), Code::Unavailable),
        ("too many shards", Some(EdgeHello { shards: 1024, ..hello() }), Code::Unavailable),
        ("far too many", Some(EdgeHello { shards: u32::MAX, ..hello() }), Code::Unavailable),
        ("from the future", Some(EdgeHello { version_min: 9, version_max: 9, ..hello() }), Code::FailedPrecondition),
    ] {
        assert_eq!(attach(connect().await, hello).await.code(), code, "{name}");
    }
    let linked = roost_link::proto::link::NodeName { node: "router-1".into(), incarnation: 1 };
    let twice = EdgeHello { linked: vec![linked], ..hello() };
    assert_eq!(attach(connect().await, Some(twice)).await.code(), Code::AlreadyExists);
    let long = EdgeHello { node: "x".repeat(10_000), ..hello() };
    assert_eq!(attach(connect().await, Some(long)).await.code(), Code::InvalidArgument);
    // Says nothing at all.
    let silent = within("it is refused", connect().await.attach(futures_util::stream::pending::<EdgeBatch>())).await;
    assert_eq!(silent.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(router.metric("roost_link_edges_refused_total"), 8.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_comes_back_before_its_old_link_is_seen_dead_keeps_its_sessions() {
    let town = town();
    let router = town.router();
    let mut client = LinkClient::new(channel(router.addr).await);
    let stay = || {
        let first = EdgeBatch { hello: Some(hello()), items: vec![resume("u_ada")] };
        futures_util::StreamExt::chain(futures_util::stream::iter([first]), futures_util::stream::pending())
    };
    let sessions = || router.router.metrics().get("roost_router_sessions");
    let _old = client.attach(stay()).await.unwrap();
    // What came with the greeting is not looked at.
    assert_eq!(sessions(), Some(0.0));
    let again = || {
        let first = EdgeBatch { hello: Some(hello()), items: Vec::new() };
        let then = EdgeBatch { hello: None, items: vec![resume("u_ada")] };
        futures_util::StreamExt::chain(futures_util::stream::iter([first, then]), futures_util::stream::pending())
    };
    let _first = client.attach(again()).await.unwrap();
    until("it is there", || sessions() == Some(1.0)).await;
    let _second = client.attach(again()).await.unwrap();
    until("it was brought again", || router.router.metrics().get("roost_router_sessions_adopted_total") == Some(2.0))
        .await;
    assert_eq!((sessions(), router.metric("roost_link_edges")), (Some(1.0), 1.0));
}

fn resume(user: &str) -> roost_link::proto::link::EdgeItem {
    use roost_link::proto::link::{EdgeItem, Resume, edge_item::Item};
    let session = roost_wire::link::SessionKey::new(0, 1, 1).to_bits();
    let resume = Resume { session, user: user.into(), device: "phone".into(), name: String::new() };
    EdgeItem { item: Some(Item::Resume(resume)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_with_two_addresses_is_linked_once() {
    let town = town();
    let router = town.router();
    let proxy = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (other, addr) = (proxy.local_addr().unwrap(), router.addr);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = proxy.accept().await {
            tokio::spawn(async move {
                let mut through = tokio::net::TcpStream::connect(addr).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut through).await;
            });
        }
    });
    town.announce_addr(other);
    let edge = town.edge_with(config(), None);
    until("both were tried", || edge.metric("roost_link_attach_failed_total") >= 3.0).await;
    let attached = edge.metric("roost_link_attached_total");
    until("and again", || edge.metric("roost_link_attach_failed_total") >= 6.0).await;
    assert_eq!(edge.metric("roost_link_attached_total"), attached, "the link that stands is left alone");
    assert_eq!((edge.link.routers(), router.metric("roost_link_edges")), (1, 1.0));
    Raw::enter(edge.addr, "u_ada").await;
}
