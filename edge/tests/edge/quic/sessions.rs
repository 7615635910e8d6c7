//! Sessions over QUIC.

use std::sync::Arc;
use std::time::Duration;

use quinn::TransportConfig;
use roost_wire::link::{Audience, Down, Envelope, Lane};
use roost_wire::{CloseCode, ConvId, Encoding, FrameBody, pb};

use super::client::{Client, Heard, code, frame, pause, run, serve, without_datagrams};
use crate::support::{self, deliver, publish, send};

#[test]
fn f02_a_client_connects_by_quic_and_its_commands_are_answered() {
    let quic = serve(|_| {}, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        let mut ada = quic.session(&endpoint, "ada").await;
        ada.say(7, send("hi")).await;
        assert!(matches!(ada.reply(7).await, FrameBody::Sent(pb::Sent { seq: 2, .. })));
        ada.say(8, publish("news")).await;
        assert!(matches!(ada.reply(8).await, FrameBody::Sent(_)));
        ada.connection.close(1000_u32.into(), b"");
        endpoint.wait_idle().await;
    });
    quic.server.until("the session ends", |metrics| metrics.sessions_open() == 0 && metrics.connections_open() == 0);
    let metrics = quic.server.handle().metrics();
    let counted = metrics.quic.expect("QUIC is on");
    assert_eq!((counted.opened, counted.handshakes, metrics.total.native_opened), (1, 1, 1));
}

#[test]
fn f02_a_push_reaches_sessions_by_quic_and_by_websocket() {
    let quic = serve(|_| {}, |_| {});
    let mut bob = support::Client::connect(quic.server.addr, Encoding::Json, "bob");
    run(async {
        let endpoint = quic.endpoint();
        let mut clients = Vec::new();
        for number in 0..50 {
            clients.push(quic.session(&endpoint, &format!("guest{number}")).await);
        }
        quic.server.until("all joined", |metrics| metrics.total.topics_joined == 51);
        let long = "x".repeat(300_000);
        for text in ["to all", &long] {
            for shard in 0..quic.server.handle().shards() {
                quic.server.handle().post(shard, &mut vec![deliver(ConvId::channel("news").unwrap(), text, None)]);
            }
        }
        for client in &mut clients {
            // The second does not fit a queue: its readers catch up from the log.
            for wanted in ["to all", "changed"] {
                match client.frame().await.body {
                    Some(FrameBody::Entry(entry)) => assert_eq!(entry.body.unwrap_or_default().text, wanted),
                    Some(body) => assert_eq!(body.name(), wanted),
                    None => panic!("an empty frame"),
                }
            }
        }
    });
    assert_eq!(bob.entry(), "to all");
}

#[test]
fn frames_as_large_as_allowed_go_both_ways_and_larger_ones_end_the_session() {
    let quic = serve(|edge| edge.shard.outbound_bytes_max = 1 << 20, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        let mut ada = quic.session(&endpoint, "ada").await;
        let text = "x".repeat(60_000);
        for rid in 2..20 {
            ada.say(rid, send(&text)).await;
            assert!(matches!(ada.reply(rid).await, FrameBody::Sent(pb::Sent { seq: 60_000, .. })));
        }
        let page = "y".repeat(900_000);
        for shard in 0..quic.server.handle().shards() {
            quic.server.handle().post(shard, &mut vec![deliver(ConvId::channel("news").unwrap(), &page, None)]);
        }
        let Some(FrameBody::Entry(entry)) = ada.frame().await.body else { panic!("an entry") };
        assert!(entry.body.unwrap_or_default().text == page);
        // The length alone is enough.
        ada.tx.write_all(&[0x81, 0x80, 0x80, 0x01]).await.unwrap();
        assert_eq!(ada.closed().await, Some(1009));
    });
}

#[test]
fn who_is_refused_hears_why_before_the_code() {
    let quic = serve(|_| {}, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        let mut nobody = Client::open(quic.connect(&endpoint).await.unwrap()).await;
        nobody.say(1, FrameBody::Connect(pb::Connect { guest: "nobody".into(), ..Default::default() })).await;
        assert!(matches!(nobody.frame().await.body, Some(FrameBody::Hello(_))));
        assert!(matches!(nobody.frame().await.body, Some(FrameBody::Error(error)) if error.code == 202));
        assert_eq!(nobody.hear().await, Heard::Closed(Some(4500)));
    });
}

#[test]
fn codes_are_those_of_the_protocol() {
    let quic = serve(|_| {}, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        for wanted in [CloseCode::Replaced, CloseCode::TokenExpired, CloseCode::Forbidden] {
            let mut ada = quic.session(&endpoint, "ada").await;
            for shard in 0..quic.server.handle().shards() {
                for session in quic.server.router.connected.lock().unwrap().iter().copied() {
                    quic.server.handle().post(shard, &mut vec![Down::Close { session, code: wanted }]);
                }
            }
            assert_eq!(ada.closed().await, Some(u64::from(wanted.number())));
        }
        // Ending the stream is leaving.
        let mut ada = quic.session(&endpoint, "ada").await;
        ada.tx.finish().unwrap();
        assert_eq!(ada.closed().await, Some(1000));
        // There is no session on half a stream.
        let mut ada = quic.session(&endpoint, "ada").await;
        ada.tx.reset(1_u32.into()).unwrap();
        assert_eq!(ada.closed().await, Some(1002));
    });
    quic.server.until("all ended", |metrics| metrics.sessions_open() == 0);
}

#[test]
fn ephemeral_pushes_are_datagrams_where_the_client_takes_them_and_go_by_the_stream_elsewhere() {
    let quic = serve(|_| {}, |_| {});
    run(async {
        let (with, mut without) = (quic.endpoint(), quic.endpoint());
        let mut config = quic.client_config(&[b"roost/1"]);
        config.transport_config(without_datagrams());
        without.set_default_client_config(config);
        let (mut ada, mut bob) = (quic.session(&with, "ada").await, quic.session(&without, "bob").await);
        quic.server.until("both joined", |metrics| metrics.total.topics_joined == 2);
        let typing = |text: &str| pb::Typing { conv: "c_1".into(), user: text.into(), on: true };
        let topic = ConvId::channel("news").unwrap();
        let tell = |text: &str| {
            let envelope = Envelope::new(Lane::Ephemeral, FrameBody::Typing(typing(text)));
            for shard in 0..quic.server.handle().shards() {
                let audience = Audience::Topic { topic: topic.clone(), except: None };
                quic.server.handle().post(shard, &mut vec![Down::Deliver { envelope: envelope.clone(), audience }]);
            }
        };
        tell("u_ada");
        assert!(matches!(ada.datagram().await.body, Some(FrameBody::Typing(_))));
        assert!(matches!(bob.frame().await.body, Some(FrameBody::Typing(_))));
        // One that fits no datagram goes by the stream.
        tell(&"u".repeat(3000));
        assert!(matches!(ada.frame().await.body, Some(FrameBody::Typing(_))));
        // And the other way: what does no harm when it is lost.
        let before = quic.server.handle().metrics().total.commands;
        let ack = FrameBody::Ack(pb::Ack { conv: "c_1".into(), seq: 1 });
        ada.connection.send_datagram(frame(0, ack).freeze()).unwrap();
        quic.server.until("the command", |metrics| metrics.total.commands == before + 1);
        ada.connection.send_datagram(frame(5, send("no")).freeze()).unwrap();
        assert!(matches!(ada.reply(5).await, FrameBody::Error(error) if error.code == 101));
    });
}

#[test]
fn a_reader_that_reads_nothing_falls_behind_and_is_told_to_catch_up() {
    let quic = serve(|_| {}, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        let mut ada = quic.session(&endpoint, "ada").await;
        quic.server.until("joined", |metrics| metrics.total.topics_joined == 1);
        let text = "x".repeat(20_000);
        for _ in 0..200 {
            for shard in 0..quic.server.handle().shards() {
                quic.server.handle().post(shard, &mut vec![deliver(ConvId::channel("news").unwrap(), &text, None)]);
            }
            pause().await;
        }
        quic.server.until("behind", |metrics| metrics.total.behind > 0);
        let mut changed = false;
        while !changed {
            changed = matches!(ada.frame().await.body, Some(FrameBody::Changed(_)));
        }
        ada.say(9, send("still here")).await;
        ada.reply(9).await;
    });
}

#[test]
fn f31_a_drain_asks_quic_sessions_to_go_elsewhere_and_closes_with_4000() {
    let quic = serve(|_| {}, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        let mut ada = quic.session(&endpoint, "ada").await;
        let second = Duration::from_secs(1);
        quic.server.handle().drain("drain", second / 2, 2 * second);
        assert!(matches!(ada.frame().await.body, Some(FrameBody::Goaway(_))));
        // Nobody new is taken.
        let refused = quic.connect(&endpoint).await.expect_err("it drains");
        assert_eq!(code(&refused), None, "{refused}");
        // And who is here is served until the end.
        ada.say(2, send("hi")).await;
        assert!(matches!(ada.reply(2).await, FrameBody::Sent(_)));
        assert_eq!(ada.closed().await, Some(4000));
    });
    let counted = quic.server.handle().metrics().quic.expect("QUIC is on");
    assert!(counted.failed_stopping >= 1);
}

#[test]
fn a_server_that_stops_says_so() {
    let quic = Arc::new(serve(|_| {}, |_| {}));
    run(async {
        let endpoint = quic.endpoint();
        let mut clients = Vec::new();
        for number in 0..20 {
            clients.push(quic.session(&endpoint, &format!("guest{number}")).await);
        }
        quic.server.handle().stop();
        for client in &mut clients {
            assert_eq!(client.closed().await, Some(1001));
        }
    });
}

#[test]
fn a_server_that_stops_first_delivers_what_it_wrote() {
    let quic = serve(|_| {}, |_| {});
    run(async {
        // A client that lets little come before it reads.
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(8192_u32.into());
        let mut config = quic.client_config(&[b"roost/1"]);
        config.transport_config(Arc::new(transport));
        let mut endpoint = quic.endpoint();
        endpoint.set_default_client_config(config);
        let mut ada = quic.session(&endpoint, "ada").await;
        quic.server.until("joined", |metrics| metrics.total.topics_joined == 1);
        let text = "x".repeat(60_000);
        for shard in 0..quic.server.handle().shards() {
            quic.server.handle().post(shard, &mut vec![deliver(ConvId::channel("news").unwrap(), &text, None)]);
        }
        quic.server.until("queued", |metrics| metrics.total.deliveries == 1);
        quic.server.handle().stop();
        let Some(FrameBody::Entry(entry)) = ada.frame().await.body else { panic!("an entry") };
        assert!(entry.body.unwrap_or_default().text == text);
        assert_eq!(ada.closed().await, Some(1001));
    });
}

#[test]
fn hundreds_who_come_at_once_all_come_through() {
    const CLIENTS: u64 = 400;
    let quic = Arc::new(serve(|edge| edge.shards = 1, |_| {}));
    run(async {
        let entering: Vec<_> = (0..CLIENTS)
            .map(|number| {
                // A socket each: in one for all the answers would find no room.
                let quic = quic.clone();
                tokio::spawn(async move {
                    let endpoint = quic.endpoint();
                    (quic.session(&endpoint, &format!("guest{number}")).await, endpoint)
                })
            })
            .collect();
        let mut clients = Vec::new();
        for entering in entering {
            clients.push(entering.await.expect("a session"));
        }
        assert_eq!(quic.server.handle().metrics().sessions_open(), CLIENTS);
    });
}

#[test]
fn a_full_shard_and_a_node_without_memory_refuse_with_4004() {
    let quic = serve(|edge| edge.connections_max = 2, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..5 {
            let mut client = Client::open(quic.connect(&endpoint).await.unwrap()).await;
            client.say(1, FrameBody::Connect(pb::Connect { guest: "ada".into(), ..Default::default() })).await;
            match client.hear().await {
                Heard::Frame(_) => held.push(client),
                Heard::Closed(code) => {
                    assert_eq!(code, Some(4004));
                    refused += 1;
                }
            }
        }
        assert!(refused >= 3, "{} held", held.len());
        held.clear();
        quic.server.until("room", |metrics| metrics.connections_open() == 0);
        quic.server.handle().admit(false);
        let mut client = Client::open(quic.connect(&endpoint).await.unwrap()).await;
        client.say(1, FrameBody::Connect(pb::Connect::default())).await;
        assert_eq!(client.closed().await, Some(4004));
    });
}
