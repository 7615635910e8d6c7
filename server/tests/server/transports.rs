//! The same session by QUIC and by WebSocket, and from one to the other, with the SDK as the client.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roost_client::{Client, ConnectError, EndReason, Event, Events, Transport, Trust, Way};
use roost_wire::ConvId;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::common::{PATIENCE, Server, folder};

fn ca(folder: &Path) -> PathBuf {
    folder.join("data/dev-tls/cert.pem")
}

/// A session of `name` at `port` of this machine.
async fn enter(name: &str, port: u16, folder: &Path, transport: Transport) -> (Client, Events) {
    let builder = Client::builder(&format!("https://localhost:{port}"));
    let builder = builder.guest(name).trust(Trust::File(ca(folder))).transport(transport);
    timeout(PATIENCE, builder.connect()).await.expect("in time").expect("a session")
}

/// The next event that `pick` wants. A lost session is a fault: nothing here takes one away.
async fn hear<T>(events: &mut Events, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let listen = async {
        loop {
            match events.recv().await.expect("the client goes on") {
                event @ (Event::Disconnected { .. } | Event::Ended(_)) => panic!("{event:?}"),
                event => {
                    if let Some(picked) = pick(event) {
                        return picked;
                    }
                }
            }
        }
    };
    timeout(PATIENCE, listen).await.expect("in time")
}

async fn hear_text(events: &mut Events, wanted: &str) {
    let told = |event| match event {
        Event::Entry(entry) => entry.body.is_some_and(|body| body.text == wanted).then_some(()),
        _ => None,
    };
    hear(events, told).await;
}

async fn until_way(client: &Client, way: Way) {
    let turn = async {
        while client.way() != Some(way) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, turn).await.unwrap_or_else(|_| panic!("it never came by {way:?}"));
}

async fn channel(client: &Client) -> ConvId {
    let news = ConvId::new("news").unwrap();
    client.subscribe(&news).await.expect("subscribed");
    news
}

#[tokio::test]
async fn f02_people_by_quic_and_by_websocket_talk_to_each_other() {
    talk(Transport::Quic, Way::Quic).await;
}

#[tokio::test]
async fn f02_people_by_webtransport_and_by_websocket_talk_to_each_other() {
    talk(Transport::WebTransport, Way::WebTransport).await;
}

async fn talk(transport: Transport, way: Way) {
    let (_folder, path) = folder();
    let server = Server::start(&path, &["--dev-tls"]);
    let port = server.listen.port();
    let (ada, mut ada_hears) = enter("Ada", port, &path, transport).await;
    let (bob, mut bob_hears) = enter("Bob", port, &path, Transport::WebSocket).await;
    assert_eq!((ada.way(), bob.way()), (Some(way), Some(Way::WebSocket)));
    let (bob_id, _) = bob.me().expect("known");
    let conv = ada.create_direct(&bob_id).await.expect("made");
    let conv = ConvId::new(&conv.conv).unwrap();
    assert!(!ada.send(&conv, "by UDP").await.expect("stored").dup);
    hear_text(&mut bob_hears, "by UDP").await;
    bob.send(&conv, "by WebSocket").await.expect("stored");
    hear_text(&mut ada_hears, "by WebSocket").await;
    // A page long enough for a stream of its own, where there are such.
    for number in 0..30 {
        ada.send(&conv, format!("{number:0300}")).await.expect("stored");
    }
    let page = ada.history_after(&conv, 0, 100).await.expect("a page");
    assert!(page.entries.iter().map(|entry| entry.seq).eq(1..=32), "{page:?}");
    // In a datagram, which may be lost.
    let typed = async {
        loop {
            bob.typing(&conv, false);
            bob.typing(&conv, true);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let heard = hear(&mut ada_hears, |event| matches!(event, Event::Typing(typing) if typing.on).then_some(()));
    tokio::select! {
        () = heard => {}
        () = typed => {}
    }
}

#[tokio::test]
async fn f38_where_quic_is_off_or_swallowed_a_client_comes_by_websocket_and_else_by_quic() {
    for (name, flags, want) in
        [("there", &["--dev-tls"][..], Way::Quic), ("off", &["--dev-tls", "--quic", "off"], Way::WebSocket)]
    {
        let (_folder, path) = folder();
        let server = Server::start(&path, flags);
        let (client, _events) = enter("Ada", server.listen.port(), &path, Transport::Auto).await;
        assert_eq!(client.way(), Some(want), "{name}");
    }
    let (_folder, path) = folder();
    let server = Server::start(&path, &["--dev-tls"]);
    let network = Network::without_udp(server.listen).await;
    // Somebody takes the datagrams and says nothing.
    let _hole = UdpSocket::bind((Ipv4Addr::LOCALHOST, network.port)).await.unwrap();
    let (client, _events) = enter("Ada", network.port, &path, Transport::Auto).await;
    assert_eq!(client.way(), Some(Way::WebSocket), "swallowed");
}

/// What a client is told, which by WebTransport the session itself tells.
#[tokio::test]
async fn f02_a_session_by_webtransport_hears_its_code_and_says_its_own() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &["--dev-tls"]);
    let port = server.listen.port();
    let builder = |device| {
        let builder = Client::builder(&format!("https://localhost:{port}")).guest("Ada").device(device);
        builder.trust(Trust::File(ca(&path))).transport(Transport::WebTransport)
    };
    let error = Client::builder(&format!("https://localhost:{port}")).token("forged").trust(Trust::File(ca(&path)));
    let error = error.transport(Transport::WebTransport).connect().await.err().expect("refused");
    // The reply came before the end.
    assert!(matches!(&error, ConnectError::Ended(EndReason::Refused(error)) if error.code / 100 == 2), "{error:?}");
    let (first, mut first_hears) = timeout(PATIENCE, builder("same").connect()).await.unwrap().unwrap();
    let token = first.resume().await.expect("it goes on").token;
    let again = Client::builder(&format!("https://localhost:{port}")).token(token).device("same");
    let again = again.trust(Trust::File(ca(&path))).transport(Transport::WebTransport);
    let (second, _events) = timeout(PATIENCE, again.connect()).await.unwrap().unwrap();
    let ended = async {
        loop {
            if let Event::Ended(reason) = first_hears.recv().await.expect("told") {
                return reason;
            }
        }
    };
    let reason = timeout(PATIENCE, ended).await.expect("in time");
    assert!(matches!(reason, EndReason::Code { code: 4503, .. }), "{reason:?}");
    second.close();
    let gone = async {
        while server.metric(&["roost_quic_connections_open "]) > 0.0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("nothing is left");
}

/// Ten times to another address while messages go both ways: each is there once and in order, in one and the same session.
#[tokio::test]
async fn f38_a_session_by_quic_survives_ten_changes_of_its_address() {
    survive(Transport::Quic, Way::Quic).await;
}

#[tokio::test]
async fn f38_a_session_by_webtransport_survives_ten_changes_of_its_address() {
    survive(Transport::WebTransport, Way::WebTransport).await;
}

async fn survive(transport: Transport, way: Way) {
    let (_folder, path) = folder();
    let server = Server::start(&path, &["--dev-tls", "--shards", "4", "--sends-per-second", "0"]);
    let port = server.listen.port();
    let (ada, mut ada_hears) = enter("Ada", port, &path, transport).await;
    let (bob, mut bob_hears) = enter("Bob", port, &path, Transport::WebSocket).await;
    let news = channel(&ada).await;
    channel(&bob).await;
    let mut wanted = Vec::new();
    for round in 0..10 {
        ada.network_changed();
        for number in 0..5 {
            let (out, back) = (format!("{round}.{number} out"), format!("{round}.{number} back"));
            let (sent, answered) = tokio::join!(ada.publish(&news, out.clone()), bob.publish(&news, back.clone()));
            assert!(!sent.expect("stored").dup && !answered.expect("stored").dup);
            wanted.extend([out, back]);
        }
    }
    wanted.sort();
    let mut heard = Vec::new();
    for events in [&mut ada_hears, &mut bob_hears] {
        let mut seqs = Vec::new();
        let mut texts = Vec::new();
        while texts.len() < wanted.len() {
            let entry = |event| match event {
                Event::Entry(entry) => Some(entry),
                Event::Connected { .. } if !seqs.is_empty() => panic!("another session"),
                _ => None,
            };
            let entry = hear(events, entry).await;
            seqs.push(entry.seq);
            texts.push(entry.body.unwrap_or_default().text);
        }
        assert!(seqs.iter().copied().eq(1..=100), "{seqs:?}");
        texts.sort();
        heard.push(texts);
    }
    assert!(heard.iter().all(|texts| *texts == wanted));
    assert_eq!(ada.way(), Some(way));
    let moves = server.metric(&["roost_quic_migrations_total"]);
    assert!(moves >= 10.0, "the server saw {moves} new addresses");
}

/// A session moves from WebSocket to QUIC once that comes through, and back when it does not any more, while messages flow.
#[tokio::test]
async fn f38_a_live_session_moves_between_transports_and_nothing_is_lost_or_doubled() {
    let (_folder, path) = folder();
    let server = Server::start(&path, &["--dev-tls", "--sends-per-second", "0"]);
    let network = Network::without_udp(server.listen).await;
    let (ada, mut ada_hears) = enter("Ada", network.port, &path, Transport::Auto).await;
    assert_eq!(ada.way(), Some(Way::WebSocket));
    let news = channel(&ada).await;
    let talker = {
        let (bob, _events) = enter("Bob", server.listen.port(), &path, Transport::WebSocket).await;
        let (bob, news) = (Arc::new(bob), news.clone());
        tokio::spawn(async move {
            for number in 0..300 {
                bob.publish(&news, format!("from Bob {number}")).await.expect("stored");
            }
            bob
        })
    };
    let mut mine = Vec::new();
    let mut say = async |text: &str| mine.push(ada.publish(&news, text).await.expect("stored").seq);
    say("by WebSocket").await;
    let udp = network.with_udp().await;
    ada.network_changed();
    until_way(&ada, Way::Quic).await;
    say("by QUIC").await;
    network.without_tcp();
    say("still by QUIC").await;
    let _bob = timeout(PATIENCE, talker).await.expect("in time").expect("all stored");
    let entry = |event| match event {
        Event::Entry(entry) => Some(entry.seq),
        _ => None,
    };
    for want in 1..=303 {
        assert_eq!(hear(&mut ada_hears, entry).await, want, "in order, each once");
    }
    assert_eq!(mine.len(), 3);
    drop(udp);
}

/// A way to a server on a port of its own, whose parts can be taken away.
struct Network {
    port: u16,
    server: SocketAddr,
    tcp: JoinHandle<()>,
}

impl Network {
    async fn without_udp(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tcp = tokio::spawn(async move {
            let mut streams = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                streams.spawn(async move {
                    let mut far = TcpStream::connect(server).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        Self { port, server, tcp }
    }

    /// From now on datagrams go through, for one client.
    async fn with_udp(&self) -> Udp {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, self.port)).await.expect("the port is free for UDP");
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        far.connect(self.server).await.unwrap();
        Udp(tokio::spawn(async move {
            let (mut up, mut down) = ([0; 65536], [0; 65536]);
            let mut client = None;
            loop {
                tokio::select! {
                    Ok((len, from)) = near.recv_from(&mut up) => {
                        client = Some(from);
                        let _ = far.send(&up[..len]).await;
                    }
                    Ok(len) = far.recv(&mut down) => {
                        if let Some(client) = client {
                            let _ = near.send_to(&down[..len], client).await;
                        }
                    }
                }
            }
        }))
    }

    /// Connections by TCP break, and no other comes through.
    fn without_tcp(&self) {
        self.tcp.abort();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.tcp.abort();
    }
}

/// Datagrams go through while it is there.
struct Udp(JoinHandle<()>);

impl Drop for Udp {
    fn drop(&mut self) {
        self.0.abort();
    }
}
