//! Channels.

use roost_router::{PublishPolicy, RouterConfig};
use roost_wire::{FrameBody, pb};

use crate::harness::{house, house_with, text};

fn subscribe(channel: &str) -> FrameBody {
    FrameBody::Subscribe(pb::Subscribe { channel: channel.into() })
}

fn publish(channel: &str, cmid: &str) -> pb::Publish {
    pb::Publish { channel: channel.into(), body: text("news"), cmid: cmid.into(), attempt: 0, seen: None }
}

#[tokio::test(start_paused = true)]
async fn f10_one_publish_reaches_every_subscriber_once() {
    let house = house();
    let mut clients = Vec::new();
    for n in 0..9 {
        clients.push(house.enter(&format!("user{n}")).await);
        house.ask(&clients[n], subscribe("news")).await.unwrap();
        house.ask(&clients[n], subscribe("news")).await.unwrap();
    }
    let reader = house.enter("reader").await;
    house.ask(&clients[8], FrameBody::Unsubscribe(pb::Unsubscribe { channel: "news".into() })).await.unwrap();
    let Ok(FrameBody::Sent(sent)) = house.ask(&clients[0], FrameBody::Publish(publish("news", "1"))).await else {
        panic!()
    };
    assert_eq!((sent.conv.as_str(), sent.seq), ("news", 1));
    for (place, client) in clients.iter().enumerate() {
        assert_eq!(house.entries(client).len(), usize::from(place != 8), "{place}");
    }
    assert!(house.entries(&reader).is_empty());
    assert_eq!(house.page(&reader, "news").await.len(), 1);
    assert!(house.page(&reader, "silence").await.is_empty());
    assert!(house.ask(&reader, FrameBody::Ack(pb::Ack { conv: "news".into(), seq: 1 })).await.is_ok());
    for (body, code) in [
        (subscribe("c_1"), 104),
        (FrameBody::Publish(publish("u_1", "1")), 104),
        (FrameBody::Publish(pb::Publish { body: None, ..publish("news", "1") }), 104),
        (FrameBody::Leave(pb::Leave { conv: "news".into() }), 305),
        (FrameBody::Join(pb::Join { conv: "news".into() }), 203),
    ] {
        assert_eq!(house.refused(&reader, body.clone()).await, code, "{body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f14_a_publish_is_retried_without_a_second_entry() {
    let house = house();
    let ada = house.enter("ada").await;
    for want in [false, true] {
        let Ok(FrameBody::Sent(sent)) = house.ask(&ada, FrameBody::Publish(publish("news", "1"))).await else {
            panic!()
        };
        assert_eq!((sent.seq, sent.dup), (1, want));
    }
}

#[tokio::test(start_paused = true)]
async fn f11_a_backend_publishes_without_a_socket() {
    let house = house_with(RouterConfig { publish: PublishPolicy::Service, ..RouterConfig::default() });
    let ada = house.enter("ada").await;
    house.ask(&ada, subscribe("news")).await.unwrap();
    assert_eq!(house.refused(&ada, FrameBody::Publish(publish("news", "1"))).await, 203);
    let sent = house.router.publish(None, publish("news", "")).await.unwrap();
    assert_eq!(sent.seq, 1);
    assert_eq!(house.entries(&ada).len(), 1);
    assert_eq!(house.router.publish(None, publish("c_1", "")).await.unwrap_err().code, 104);
    let nothing = pb::Publish { body: text(""), ..publish("news", "") };
    assert_eq!(house.router.publish(None, nothing).await.unwrap_err().code, 104);
}

#[tokio::test(start_paused = true)]
async fn f10_a_session_has_so_many_subscriptions_and_an_ended_one_none() {
    let house = house();
    let ada = house.enter("ada").await;
    for n in 0..roost_wire::limits::SUBSCRIPTIONS_MAX {
        house.ask(&ada, subscribe(&format!("ch{n}"))).await.unwrap();
    }
    assert_eq!(house.refused(&ada, subscribe("more")).await, 404);
    house.leave(&ada);
    house.ask(&ada, subscribe("late")).await.unwrap();
    assert!(!house.joined(&ada, "late"));
}
