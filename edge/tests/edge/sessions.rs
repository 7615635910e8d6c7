//! Sessions: from the upgrade to pushes, with our client and an independent one.

use std::io::Write;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use roost_edge::EdgeConfig;
use roost_wire::{ConvId, Encoding, FrameBody, pb};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{Client, Server, config, deliver, publish, send, serve};

#[test]
fn a_client_connects_and_its_commands_are_answered_in_both_encodings() {
    let server = serve(config());
    for encoding in Encoding::ALL {
        let mut ada = Client::connect(server.addr, encoding, "ada");
        ada.say(7, send("hi"));
        let reply = ada.hear_frame();
        assert!(matches!(reply.body, Some(FrameBody::Sent(pb::Sent { seq: 2, .. }))), "{reply:?}");
        assert_eq!(reply.rid, 7);
    }
    let metrics = server.handle().metrics();
    assert_eq!((metrics.total.sessions_opened, metrics.total.commands >= 2), (2, true));
}

#[test]
fn who_is_refused_hears_why_and_is_closed() {
    let server = serve(config());
    let mut nobody = Client::open(server.addr, Encoding::Json);
    nobody.say(1, FrameBody::Connect(pb::Connect { guest: "nobody".into(), ..Default::default() }));
    let answer = nobody.hear_frame();
    assert!(matches!(&answer.body, Some(FrameBody::Error(error)) if error.code == 202), "{answer:?}");
    assert_eq!(nobody.hear_close(), Some(4500));
}

#[test]
fn a_push_reaches_a_thousand_sessions_and_not_its_sender() {
    let server = serve(config());
    let mut clients: Vec<Client> = (0..1000)
        .map(|number| Client::connect(server.addr, Encoding::ALL[number % 2], &format!("guest{number}")))
        .collect();
    server.until("all joined", |metrics| metrics.sessions_open() == 1000);
    let mut ada = Client::connect(server.addr, Encoding::Json, "ada");
    ada.say(2, publish("to all"));
    assert_eq!(ada.hear_frame().rid, 2);
    // The sender's shard knows it; the other shard is told here, as a router would.
    for shard in 0..server.handle().shards() {
        server.handle().post(shard, &mut vec![deliver(ConvId::channel("news").unwrap(), "second", None)]);
    }
    let mut heard = 0;
    for client in &mut clients {
        let mut entry = client.entry();
        if entry == "to all" {
            heard += 1;
            entry = client.entry();
        }
        assert_eq!(entry, "second");
    }
    assert!((450..=550).contains(&heard), "shards have about as many connections each: {heard}");
    assert_eq!(ada.entry(), "second");
}

#[test]
fn a_burst_to_a_topic_leaves_in_one_write_per_session() {
    let server = serve(EdgeConfig { shards: 1, ..config() });
    let mut clients: Vec<Client> =
        (0..300).map(|number| Client::connect(server.addr, Encoding::ALL[number % 2], &format!("g{number}"))).collect();
    // 101, HELLO and WELCOME each. A write is counted before its frames are.
    server.until("all in", |metrics| (metrics.total.topics_joined, metrics.total.frames_out) == (300, 900));
    let writes = |server: &Server| server.handle().metrics().shards[0].1.writes;
    let before = writes(&server);
    let texts: Vec<String> = (0..8).map(|number| format!("text {number}")).collect();
    let news = || ConvId::channel("news").unwrap();
    server.handle().post(0, &mut texts.iter().map(|text| deliver(news(), text, None)).collect());
    for client in &mut clients {
        let heard: Vec<String> = texts.iter().map(|_| client.entry()).collect();
        assert_eq!(heard, texts);
    }
    server.until("counted", |metrics| metrics.total.frames_out == 900 + 8 * 300);
    assert_eq!(writes(&server) - before, 300);
}

#[test]
fn big_messages_in_tiny_pieces_arrive_whole() {
    let server = serve(config());
    let mut ada = Client::connect(server.addr, Encoding::Protobuf, "ada");
    let text = "x".repeat(30_000);
    let message = ada.message(3, send(&text));
    for piece in message.chunks(97) {
        ada.stream.write_all(piece).unwrap();
    }
    assert!(matches!(ada.hear_frame().body, Some(FrameBody::Sent(pb::Sent { seq: 30_000, .. }))));
}

#[test]
fn many_commands_in_one_write_are_answered_in_order_and_together() {
    let server = serve(config());
    let mut ada = Client::connect(server.addr, Encoding::Json, "ada");
    let writes = || server.handle().metrics().shards.iter().map(|(_, turns)| turns.writes).sum::<u64>();
    let before = writes();
    let batch: Vec<u8> = (10..30).flat_map(|rid| ada.message(rid, send("hi"))).collect();
    ada.stream.write_all(&batch).unwrap();
    for rid in 10..30 {
        assert_eq!(ada.hear_frame().rid, rid);
    }
    assert!(writes() - before < 10, "{} writes for 20 replies", writes() - before);
}

#[test]
fn a_session_whose_client_vanishes_is_told_to_the_router() {
    let server = serve(config());
    let ada = Client::connect(server.addr, Encoding::Json, "ada");
    let mut bob = Client::connect(server.addr, Encoding::Json, "bob");
    drop(ada);
    server.until("ada is gone", |metrics| metrics.total.sessions_closed == 1);
    bob.say(2, send("still here"));
    assert_eq!(bob.hear_frame().rid, 2);
    let gone = || server.router.gone.lock().unwrap().len();
    server.until("the router knows", |_| gone() == 1);
}

#[tokio::test]
async fn an_independent_client_gets_the_same_service() {
    let server = serve(config());
    let (mut ws, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", server.addr)).await.unwrap();
    let hello = ws.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(hello.contains("\"hello\""), "{hello}");
    ws.send(Message::text(r#"{"rid":1,"connect":{"guest":"ada","device":"laptop"}}"#)).await.unwrap();
    let welcome = ws.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(welcome.contains("\"welcome\"") && welcome.contains("u_ada"), "{welcome}");
    ws.send(Message::text(r#"{"rid":2,"send":{"conv":"c_1","cmid":"1","body":{"text":"hi"}}}"#)).await.unwrap();
    let sent = ws.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(sent.contains("\"sent\"") && sent.contains("\"rid\":2"), "{sent}");
    ws.send(Message::Ping(b"are you there".to_vec().into())).await.unwrap();
    assert_eq!(ws.next().await.unwrap().unwrap(), Message::Pong(b"are you there".to_vec().into()));
    ws.close(None).await.unwrap();
    let mut last = None;
    while let Some(Ok(message)) = ws.next().await {
        last = Some(message);
    }
    assert!(matches!(last, Some(Message::Close(_))), "{last:?}");
    let closed = tokio::task::spawn_blocking(move || server.until("closed", |metrics| metrics.connections_open() == 0));
    tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_its_code() {
    let server = serve(config());
    let (mut ws, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", server.addr)).await.unwrap();
    ws.send(Message::binary(b"binary on a JSON session".to_vec())).await.unwrap();
    loop {
        match ws.next().await.unwrap().unwrap() {
            Message::Close(Some(close)) => break assert_eq!(close.code, CloseCode::Unsupported),
            Message::Text(hello) => assert!(hello.contains("hello")),
            other => panic!("{other:?}"),
        }
    }
}
