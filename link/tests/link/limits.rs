//! Full queues, routers that say nothing or too late, and items that make no sense.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use roost_link::LinkConfig;
use roost_link::proto::link::edge_item::Item as Brought;
use roost_link::proto::link::link_client::LinkClient;
use roost_link::proto::link::link_server::{Link, LinkServer};
use roost_link::proto::link::router_item::Item as Told;
use roost_link::proto::link::{
    Accepted, Close, Command, Connect, Credentials, Deliver, Doubt, EdgeBatch, EdgeHello, EdgeItem, Gone, GuestRequest,
    Join, PublishRequest, RefreshRequest, Reply, Resume, RouterBatch, RouterHello, RouterItem,
};
use roost_wire::link::SessionKey;
use roost_wire::pb::{self, Frame};
use roost_wire::{ErrorCode, FrameBody};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::harness::{channel, config, town, town_with, until};
use crate::raw::{Raw, direct, made, send, text_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_to_the_router_is_answered_with_503() {
    let town = town();
    let _one = town.router();
    let full = town.edge_with(LinkConfig { up_items_max: 0, ..config() }, None);
    until("it is linked", || full.link.routers() == 1).await;
    let (_raw, answer) = Raw::knock(full.addr, "u_ada").await;
    let Some(FrameBody::Error(error)) = answer.body else { panic!("{answer:?}") };
    assert_eq!((error.code, error.retryable), (ErrorCode::Overloaded.number(), true));
    assert_eq!(full.metric("roost_link_up_full_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_that_find_no_room_are_made_good_by_a_sync() {
    let town = town_with(config());
    let one = town.router_with(&LinkConfig { down_items_max: 0, ..config() }, None);
    town.announce(&one);
    let edge = town.edge().await;
    let (mut ada, mut bob) = (Raw::enter(edge.addr, "u_ada").await, Raw::enter(edge.addr, "u_bob").await);
    let conv = made(&mut ada, direct("u_bob")).await;
    assert!(matches!(ada.call(send(&conv, "hi")).await, FrameBody::Sent(_)), "replies always fit");
    loop {
        match bob.push().await {
            FrameBody::Changed(changed) if changed.more => break,
            other => assert!(text_of(&other).is_none(), "{other:?}"),
        }
    }
    let page = bob.call(FrameBody::History(pb::History { conv, after: Some(0), ..pb::History::default() })).await;
    assert!(matches!(page, FrameBody::Page(page) if page.entries.len() == 1));
    assert!(one.metric("roost_link_down_dropped_total") > 0.0);
}

/// A router that a test plays.
#[derive(Clone)]
struct Played {
    heard: mpsc::UnboundedSender<EdgeItem>,
    says: Arc<Mutex<Option<mpsc::UnboundedReceiver<RouterBatch>>>>,
}

/// What a test plays it with.
struct Player {
    addr: SocketAddr,
    heard: mpsc::UnboundedReceiver<EdgeItem>,
    say: mpsc::UnboundedSender<RouterBatch>,
}

#[tonic::async_trait]
impl Link for Played {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<RouterBatch, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<EdgeBatch>>) -> Result<Response<Self::AttachStream>, Status> {
        let says = self.says.lock().take().ok_or_else(|| Status::unavailable("once"))?;
        let (heard, mut incoming) = (self.heard.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(batch)) = incoming.message().await {
                batch.items.into_iter().for_each(|item| drop(heard.send(item)));
            }
        });
        let hello = RouterHello { version: 1, node: "played".into(), incarnation: 1 };
        let first = RouterBatch { hello: Some(hello), ..RouterBatch::default() };
        let rest = futures_util::stream::unfold(says, |mut says| async { Some((Ok(says.recv().await?), says)) });
        Ok(Response::new(futures_util::stream::iter([Ok(first)]).chain(rest).boxed()))
    }

    async fn guest(&self, _: Request<GuestRequest>) -> Result<Response<Credentials>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn refresh(&self, _: Request<RefreshRequest>) -> Result<Response<Credentials>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn publish(&self, _: Request<PublishRequest>) -> Result<Response<pb::Sent>, Status> {
        Err(Status::unimplemented("no"))
    }
}

async fn play() -> Player {
    let (heard, hears) = mpsc::unbounded_channel();
    let (say, says) = mpsc::unbounded_channel();
    let played = Played { heard, says: Arc::new(Mutex::new(Some(says))) };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepted = futures_util::stream::unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    let server = tonic::transport::Server::builder().add_service(LinkServer::new(played));
    tokio::spawn(server.serve_with_incoming(accepted));
    Player { addr, heard: hears, say }
}

impl Player {
    fn say(&self, items: Vec<Told>) {
        let items = items.into_iter().map(|item| RouterItem { item: Some(item) }).collect();
        let _ = self.say.send(RouterBatch { items, ..RouterBatch::default() });
    }

    async fn hear(&mut self) -> Brought {
        crate::harness::within("the edge says something", self.heard.recv()).await.unwrap().item.unwrap()
    }

    /// Lets whoever knocks in, as Ada.
    async fn let_in(&mut self, addr: SocketAddr) -> (Raw, u64) {
        let entering = tokio::spawn(Raw::enter(addr, "u_ada"));
        let Brought::Connect(Connect { session, rid, .. }) = self.hear().await else { panic!() };
        let welcome =
            pb::Welcome { user: "u_ada".into(), device: "raw".into(), expires: u64::MAX, ..Default::default() };
        self.say(vec![Told::Accepted(Accepted { session, rid, user: "u_ada".into(), welcome: Some(welcome) })]);
        (entering.await.unwrap(), session)
    }
}

fn reply(session: u64, rid: u64, body: FrameBody) -> Told {
    Told::Reply(Reply { session, frame: Some(Frame { rid, body: Some(body) }) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_answers_late_is_answered_for_once() {
    let config =
        LinkConfig { command_deadline: Duration::from_millis(300), dead_after: Duration::from_secs(60), ..config() };
    let town = town_with(config);
    let mut player = play().await;
    town.announce_addr(player.addr);
    let edge = town.edge().await;
    let (mut ada, session) = player.let_in(edge.addr).await;
    let rid = ada.ask(send("c_1", "hi")).await;
    let Brought::Command(Command { frame: Some(frame), .. }) = player.hear().await else { panic!() };
    let FrameBody::Error(error) = ada.answer(rid).await else { panic!("not yet") };
    assert_eq!(error.code, ErrorCode::Unknown.number(), "it may have been stored");
    // The answer comes after all, and twice; and one to something that was never asked.
    let late = || reply(session, frame.rid, FrameBody::Sent(pb::Sent::default()));
    player.say(vec![late(), late(), reply(session, 999, FrameBody::Ok(pb::Ok {}))]);
    until("they are counted", || edge.metric("roost_link_replies_stray_total") >= 3.0).await;
    let rid = ada.ask(FrameBody::Sync(pb::Sync::default())).await;
    let Brought::Command(Command { frame: Some(frame), .. }) = player.hear().await else { panic!() };
    player.say(vec![reply(session, frame.rid, FrameBody::Changed(pb::Changed::default()))]);
    assert!(matches!(ada.answer(rid).await, FrameBody::Changed(_)));
    // A CONNECT that is never answered.
    let (_raw, answer) = Raw::knock(edge.addr, "u_bob").await;
    assert!(matches!(answer.body, Some(FrameBody::Error(error)) if error.retryable));
    let Brought::Connect(Connect { session, rid, .. }) = player.hear().await else { panic!() };
    player.say(vec![Told::Accepted(Accepted {
        session,
        rid,
        user: "u_bob".into(),
        welcome: Some(pb::Welcome::default()),
    })]);
    assert!(matches!(player.hear().await, Brought::Gone(Gone { session: gone, .. }) if gone == session), "too late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_falls_silent_is_left() {
    let town = town();
    let mut player = play().await;
    town.announce_addr(player.addr);
    let edge = town.edge().await;
    let (mut ada, _) = player.let_in(edge.addr).await;
    let (writes, reads) = (ada.ask(send("c_1", "hi")).await, ada.ask(FrameBody::Sync(pb::Sync::default())).await);
    let two = town.router();
    for (rid, code) in [(writes, ErrorCode::Unknown), (reads, ErrorCode::Overloaded)] {
        let FrameBody::Error(error) = ada.answer(rid).await else { panic!("it says nothing") };
        assert_eq!((error.code, error.retryable), (code.number(), true));
    }
    assert!(matches!(ada.call(FrameBody::Sync(pb::Sync::default())).await, FrameBody::Changed(_)));
    assert_eq!(two.router.metrics().get("roost_router_sessions"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_router_says_that_makes_no_sense_is_counted_and_ignored() {
    let town = town();
    let mut player = play().await;
    town.announce_addr(player.addr);
    let edge = town.edge().await;
    let (mut ada, session) = player.let_in(edge.addr).await;
    let far = SessionKey::new(900, 1, 1).to_bits();
    let items = vec![
        Told::Reply(Reply { session: far, frame: None }),
        Told::Accepted(Accepted { session, rid: 1, user: "no id".into(), welcome: None }),
        Told::Join(Join { session, topic: String::new() }),
        Told::Deliver(Deliver { frame: vec![1, 2, 3, 4].into(), sessions: vec![session], ..Deliver::default() }),
        Told::Deliver(Deliver { frame: vec![0].into(), topic: "news".into(), ..Deliver::default() }),
        Told::Deliver(Deliver { frame: Vec::new().into(), ..Deliver::default() }),
    ];
    let count = items.len() as f64;
    player.say(items);
    player.say(vec![
        // These make sense, and concern nobody.
        Told::Doubt(Doubt { shards: vec![900, u32::MAX] }),
        Told::Close(Close { session: SessionKey::new(0, 77, 7).to_bits(), code: 4000 }),
        Told::Leave(Join { session: SessionKey::new(1, 77, 7).to_bits(), topic: "news".into() }),
    ]);
    let _ = player.say.send(RouterBatch { items: vec![RouterItem { item: None }], ..RouterBatch::default() });
    until("they are counted", || edge.metric("roost_link_garbled_total") >= count + 1.0).await;
    assert_eq!(edge.metric("roost_link_stale_total"), 2.0);
    // A close code of the future is one that lets the client come back.
    player.say(vec![Told::Close(Close { session, code: 70_000 })]);
    assert_eq!(ada.closed().await, Some(4000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edge_says_that_makes_no_sense_is_counted_and_ignored() {
    let town = town();
    let router = town.router();
    let mut client = LinkClient::new(channel(router.addr).await);
    let hello =
        EdgeHello { version_min: 1, version_max: 1, node: "raw".into(), incarnation: 1, shards: 2, linked: Vec::new() };
    let (here, far) = (SessionKey::new(1, 5, 5).to_bits(), SessionKey::new(2, 5, 5).to_bits());
    let frame = Some(Frame { rid: 4, body: Some(FrameBody::Sync(pb::Sync::default())) });
    let items = [
        None,
        Some(Brought::Connect(Connect { session: here, ..Connect::default() })),
        Some(Brought::Connect(Connect {
            session: here,
            connect: Some(pb::Connect::default()),
            peer: "?".into(),
            ..Connect::default()
        })),
        Some(Brought::Command(Command { session: far, user: "u_ada".into(), frame: frame.clone() })),
        Some(Brought::Command(Command { session: here, user: "no id".into(), frame })),
        Some(Brought::Command(Command { session: here, user: "u_ada".into(), frame: Some(Frame::default()) })),
        Some(Brought::Gone(Gone { session: far, user: "u_ada".into() })),
        Some(Brought::Resume(Resume { session: here, user: String::new(), ..Resume::default() })),
    ];
    let count = items.len() as f64;
    let batches = [
        EdgeBatch { hello: Some(hello), items: Vec::new() },
        EdgeBatch { hello: None, items: items.into_iter().map(|item| EdgeItem { item }).collect() },
        // Of a session that nobody knows: it ends nothing.
        EdgeBatch {
            hello: None,
            items: vec![EdgeItem { item: Some(Brought::Gone(Gone { session: here, user: "u_ada".into() })) }],
        },
    ];
    let up = futures_util::stream::iter(batches).chain(futures_util::stream::pending());
    let _down = client.attach(up).await.unwrap();
    until("they are counted", || router.metric("roost_link_up_garbled_total") >= count).await;
    assert_eq!(router.metric("roost_link_edges"), 1.0, "the link stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_repeated_for_a_session_is_tried_until_taken_and_its_client_syncs_once() {
    let town = town();
    let mut first = town.router();
    let edge = town.edge().await;
    let mut ada = Raw::enter(edge.addr, "u_ada").await;
    ada.call(FrameBody::Subscribe(pb::Subscribe { channel: "news".into() })).await;
    ada.pushes_so_far().await;
    let mut player = play().await;
    town.announce_addr(player.addr);
    until("both are linked", || edge.link.routers() == 2).await;
    first.kill();
    assert!(
        matches!(player.hear().await, Brought::Resume(Resume { user, device, .. }) if user == "u_ada" && device == "raw")
    );
    let subscribes = |brought: Brought| match brought {
        Brought::Command(Command {
            session, frame: Some(Frame { rid, body: Some(FrameBody::Subscribe(_)) }), ..
        }) => (session, rid),
        other => panic!("{other:?}"),
    };
    let (session, rid) = subscribes(player.hear().await);
    player.say(vec![reply(session, rid, FrameBody::Error(ErrorCode::Overloaded.error()))]);
    let (_, rid) = subscribes(player.hear().await);
    // It leaves before it has answered: all is repeated at the next one, and its answer counts for nothing.
    let two = town.router();
    until("the next one is linked", || edge.link.routers() == 2).await;
    let _ = player.say.send(RouterBatch { goodbye: true, ..RouterBatch::default() });
    assert!(matches!(player.hear().await, Brought::Gone(_)));
    player.say(vec![reply(session, rid, FrameBody::Ok(pb::Ok {}))]);
    until("the session is there", || two.router.metrics().get("roost_router_sessions") == Some(1.0)).await;
    let mut syncs = 0;
    while syncs == 0 {
        syncs += usize::from(matches!(ada.push().await, FrameBody::Changed(_)));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let more = ada.pushes_so_far().await;
    assert!(more.iter().all(|body| !matches!(body, FrameBody::Changed(_))), "{more:?}");
    assert!(matches!(ada.call(crate::raw::publish("news", "hi")).await, FrameBody::Sent(_)));
    let told = ada.push().await;
    assert_eq!(text_of(&told), Some("hi"));
}
