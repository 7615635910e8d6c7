//! What is said at one edge is heard at the others, once.

use std::time::Duration;

use roost_wire::{ErrorCode, FrameBody, pb};

use crate::harness::{config, town, town_with, until};
use crate::raw::{Raw, direct, group, made, publish, send, text_of};

#[tokio::test(flavor = "multi_thread")]
async fn messages_cross_edges_and_routers_in_order() {
    let town = town();
    let (_one, _two) = (town.router(), town.router());
    let (north, south) = (town.edge().await, town.edge().await);
    let mut bob = Raw::enter(south.addr, "u_bob").await;
    let mut ada = Raw::enter(north.addr, "u_ada").await;
    let conv = made(&mut ada, direct("u_bob")).await;
    for n in 0..40 {
        let sent = ada.call(send(&conv, &format!("m{n}"))).await;
        assert!(matches!(sent, FrameBody::Sent(sent) if sent.seq == n + 1));
    }
    let mut got = Vec::new();
    while got.len() < 40 {
        got.extend(text_of(&bob.push().await).map(str::to_owned));
    }
    assert!(got.into_iter().eq((0..40).map(|n| format!("m{n}"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_envelope_crosses_to_an_edge_whatever_its_audience() {
    let town = town();
    let _one = town.router();
    let (north, south) = (town.edge().await, town.edge().await);
    let names: Vec<String> = (0..60).map(|n| format!("u_{n}")).collect();
    let mut readers = Vec::new();
    for name in &names {
        readers.push(Raw::enter(south.addr, name).await);
    }
    let mut ada = Raw::enter(north.addr, "u_ada").await;
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let conv = made(&mut ada, group(&users)).await;
    for reader in &mut readers {
        reader.pushes_so_far().await;
    }
    let before = south.metric("roost_link_pushes_total");
    for n in 0..10 {
        ada.call(send(&conv, &format!("m{n}"))).await;
    }
    for reader in &mut readers {
        let mut got = Vec::new();
        while got.len() < 10 {
            got.extend(text_of(&reader.push().await).map(str::to_owned));
        }
        assert!(got.into_iter().eq((0..10).map(|n| format!("m{n}"))));
    }
    assert_eq!(south.metric("roost_link_pushes_total") - before, 10.0, "one for all sixty");
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_channel_reaches_each_subscriber_once_though_two_routers_push_it() {
    let town = town();
    let (one, two) = (town.router(), town.router());
    let edge = town.edge().await;
    let mut readers = Vec::new();
    for n in 0..24 {
        let mut reader = Raw::enter(edge.addr, &format!("u_{n}")).await;
        let subscribed = reader.call(FrameBody::Subscribe(pb::Subscribe { channel: "news".into() })).await;
        assert!(matches!(subscribed, FrameBody::Ok(_)));
        readers.push(reader);
    }
    let of = |router: &crate::harness::RouterNode| router.router.metrics().get("roost_router_sessions").unwrap();
    assert!(of(&one) > 0.0 && of(&two) > 0.0, "{} and {}: both have some", of(&one), of(&two));
    let mut ada = Raw::enter(edge.addr, "u_ada").await;
    for n in 0..10 {
        assert!(matches!(ada.call(publish("news", &format!("m{n}"))).await, FrameBody::Sent(_)));
    }
    for reader in &mut readers {
        let mut got = Vec::new();
        while got.len() < 10 {
            got.extend(text_of(&reader.push().await).map(str::to_owned));
        }
        // Whatever came twice would be there by now, or soon.
        tokio::time::sleep(Duration::from_millis(2)).await;
        got.extend(reader.pushes_so_far().await.iter().filter_map(text_of).map(str::to_owned));
        assert!(got.iter().eq((0..10).map(|n| format!("m{n}")).collect::<Vec<_>>().iter()), "{got:?}");
    }
    let mut first = readers.remove(0);
    let left = first.call(FrameBody::Unsubscribe(pb::Unsubscribe { channel: "news".into() })).await;
    assert!(matches!(left, FrameBody::Ok(_)));
    ada.call(publish("news", "last")).await;
    for reader in &mut readers {
        while text_of(&reader.push().await) != Some("last") {}
    }
    assert!(first.pushes_so_far().await.is_empty(), "it has left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_rid_is_answered_only_if_it_fails() {
    let town = town();
    let _one = town.router();
    let edge = town.edge().await;
    let (mut ada, _bob) = (Raw::enter(edge.addr, "u_ada").await, Raw::enter(edge.addr, "u_bob").await);
    let conv = made(&mut ada, direct("u_bob")).await;
    ada.quietly(send(&conv, "hi")).await;
    ada.quietly(send("c_nowhere", "hi")).await;
    let error = ada.push().await;
    assert!(matches!(error, FrameBody::Error(error) if error.code == ErrorCode::NoConversation.number()));
    let page = ada.call(FrameBody::History(pb::History { conv, after: Some(0), ..pb::History::default() })).await;
    assert!(matches!(page, FrameBody::Page(page) if page.entries.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_are_forgotten_by_their_router() {
    let town = town();
    let one = town.router();
    let edge = town.edge().await;
    let sessions = || one.router.metrics().get("roost_router_sessions");
    let raw = Raw::enter(edge.addr, "u_ada").await;
    let stays = Raw::enter(edge.addr, "u_bob").await;
    assert_eq!(sessions(), Some(2.0));
    drop(raw);
    until("Ada is gone", || sessions() == Some(1.0)).await;
    edge.running.as_ref().unwrap().handle().stop();
    until("Bob is gone", || sessions() == Some(0.0)).await;
    edge.link.leave(Duration::from_secs(10)).await;
    until("the edge has left", || one.metric("roost_link_edges") == 0.0).await;
    assert_eq!(one.metric("roost_link_edges_lost_total"), 0.0, "in good order");
    drop(stays);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_dies_takes_its_sessions_with_it() {
    let town = town_with(config());
    let one = town.router();
    let (north, south) = (town.edge().await, town.edge().await);
    let mut ada = Raw::enter(north.addr, "u_ada").await;
    let _bob = Raw::enter(south.addr, "u_bob").await;
    let online = |user: &str| one.router.online(&[crate::harness::id(user)])[0];
    assert!(online("u_ada") && online("u_bob"));
    drop(south);
    until("Bob is offline", || !online("u_bob")).await;
    assert!(matches!(ada.call(FrameBody::Sync(pb::Sync::default())).await, FrameBody::Changed(_)));
}
