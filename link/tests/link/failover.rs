//! Routers that come and go while sessions stay.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use roost_client::{Client, Event, Events};
use roost_wire::{CloseCode, ConvId, ErrorCode, FrameBody, pb};

use crate::harness::{EdgeNode, RouterNode, config, id, town, town_with, until, within};
use crate::raw::{Raw, direct, group, made, publish, send, text_of};

const USERS: usize = 12;
const SENDS: usize = 50;

/// What a reader saw.
#[derive(Default)]
struct Seen {
    /// Texts by conversation, in the order they were shown.
    shown: HashMap<String, Vec<String>>,
    cuts: usize,
}

/// Reads until `done` says that all readers together have seen all.
async fn read(mut events: Events, count: Arc<AtomicUsize>, total: usize) -> Seen {
    let mut seen = Seen::default();
    let mut last: HashMap<String, u64> = HashMap::new();
    while count.load(Relaxed) < total {
        let Ok(event) = tokio::time::timeout(Duration::from_millis(100), events.recv()).await else { continue };
        match event.expect("the client lives") {
            Event::Entry(entry) => {
                let before = last.insert(entry.conv.clone(), entry.seq);
                assert!(before.is_none_or(|before| entry.seq == before + 1), "{} after {before:?}", entry.seq);
                let text = entry.body.unwrap_or_default().text;
                if !text.is_empty() {
                    seen.shown.entry(entry.conv).or_default().push(text);
                    count.fetch_add(1, Relaxed);
                }
            }
            Event::Disconnected { reason, .. } => {
                eprintln!("cut: {reason}");
                seen.cuts += 1;
            }
            bad @ (Event::Skipped { .. } | Event::Rejected { .. } | Event::Ended(_)) => panic!("{bad:?}"),
            _ => {}
        }
    }
    seen
}

struct Load {
    edges: Vec<EdgeNode>,
    clients: Vec<Client>,
    readers: Vec<tokio::task::JoinHandle<Seen>>,
    convs: Vec<ConvId>,
    channel: ConvId,
    seen: Arc<AtomicUsize>,
}

/// Of each pair of users both see all of one conversation; all see the channel.
const TOTAL: usize = USERS * SENDS * 2 + USERS * SENDS;

impl Load {
    async fn new(edges: Vec<EdgeNode>) -> Self {
        let (mut clients, mut convs, mut readers) = (Vec::new(), Vec::new(), Vec::new());
        let (channel, seen) = (ConvId::channel("news").unwrap(), Arc::new(AtomicUsize::new(0)));
        for n in 0..USERS {
            let (client, events) = edges[n % edges.len()].client(&format!("u_{n}"), "phone").await;
            within("subscribing", client.subscribe(&channel)).await.unwrap();
            readers.push(tokio::spawn(read(events, Arc::clone(&seen), TOTAL)));
            clients.push(client);
        }
        for n in 0..USERS / 2 {
            let made = within("a conversation", clients[2 * n].create_direct(&id(&format!("u_{}", 2 * n + 1)))).await;
            convs.push(ConvId::new(&made.unwrap().conv).unwrap());
        }
        Self { edges, clients, readers, convs, channel, seen }
    }

    /// Everybody sends; each message is acknowledged, whatever `happens` meanwhile, and seen once and in order by all
    /// who are to see it.
    async fn run<F: Future<Output = ()>>(self, happens: F) -> (Vec<EdgeNode>, Vec<Client>) {
        let mut sending = Vec::new();
        for (n, client) in self.clients.iter().enumerate() {
            let (client, conv, channel) = (client.clone(), self.convs[n / 2].clone(), self.channel.clone());
            sending.push(tokio::spawn(async move {
                let mut sent = Vec::new();
                for m in 0..SENDS {
                    sent.push(client.send(&conv, format!("{n}:{m}")));
                    if m == 0 && n == 0 {
                        for c in 0..SENDS {
                            sent.push(client.publish(&channel, format!("c{c}")));
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                for sent in sent {
                    within("an acknowledgement", sent).await.unwrap();
                }
            }));
        }
        happens.await;
        for sending in sending {
            sending.await.unwrap();
        }
        let seen = Arc::clone(&self.seen);
        until(&format!("all {TOTAL} are seen"), || seen.load(Relaxed) >= TOTAL).await;
        for (n, reader) in self.readers.into_iter().enumerate() {
            let seen = reader.await.unwrap();
            assert_eq!(seen.cuts, 0, "the socket of u_{n} stayed");
            let conv = &seen.shown[self.convs[n / 2].as_str()];
            assert_eq!(conv.len(), 2 * SENDS, "each once");
            for of in [n, n ^ 1] {
                let own = conv.iter().filter(|text| text.starts_with(&format!("{of}:")));
                assert!(own.eq((0..SENDS).map(|m| format!("{of}:{m}")).collect::<Vec<_>>().iter()), "u_{n}: {conv:?}");
            }
            assert_eq!(seen.shown[self.channel.as_str()].len(), SENDS);
        }
        (self.edges, self.clients)
    }
}

fn sessions(router: &RouterNode) -> f64 {
    router.router.metrics().get("roost_router_sessions").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn f30_a_router_is_killed_under_load_and_nobody_notices_but_by_a_sync() {
    let town = town();
    let (mut one, two) = (town.router(), town.router());
    let load = Load::new(vec![town.edge().await, town.edge().await]).await;
    assert!(sessions(&one) > 0.0 && sessions(&two) > 0.0, "both have some");
    let (edges, _clients) = load
        .run(async {
            tokio::time::sleep(Duration::from_millis(800)).await;
            one.kill();
        })
        .await;
    assert_eq!(sessions(&two), USERS as f64, "all are there");
    assert!(edges.iter().all(|edge| edge.metric("roost_link_resumed_total") > 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_are_replaced_under_load_and_no_command_fails() {
    let town = town();
    let (mut one, mut two) = (town.router(), town.router());
    let load = Load::new(vec![town.edge().await, town.edge().await]).await;
    let (edges, _clients) = load
        .run(async {
            for old in [&mut one, &mut two] {
                tokio::time::sleep(Duration::from_millis(400)).await;
                let new = town.router();
                until("the new one has edges", || new.fabric.metrics().get("roost_link_edges") == Some(2.0)).await;
                within("all leave", old.link.leave(Duration::from_secs(30))).await;
                assert_eq!(sessions(old), 0.0, "none is left behind");
                *old = new;
            }
        })
        .await;
    for edge in &edges {
        assert_eq!(edge.metric("roost_link_answered_lost_total"), 0.0, "no command was lost");
        assert_eq!(edge.metric("roost_link_goodbyes_total"), 2.0);
    }
    assert_eq!(sessions(&one) + sessions(&two), USERS as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_watched_and_subscribed_to_goes_with_it() {
    let town = town();
    let mut one = town.router();
    let edge = town.edge().await;
    let (mut ada, bob) = (Raw::enter(edge.addr, "u_ada").await, Raw::enter(edge.addr, "u_bob").await);
    made(&mut ada, direct("u_bob")).await;
    let watched = ada.call(FrameBody::Watch(pb::Watch { users: vec!["u_bob".into()] })).await;
    assert!(matches!(watched, FrameBody::Presence(presence) if presence.users[0].online));
    ada.call(FrameBody::Subscribe(pb::Subscribe { channel: "news".into() })).await;
    ada.call(FrameBody::Subscribe(pb::Subscribe { channel: "left".into() })).await;
    ada.call(FrameBody::Unsubscribe(pb::Unsubscribe { channel: "left".into() })).await;
    ada.pushes_so_far().await;
    let two = town.router();
    until("it is linked", || edge.link.routers() == 2).await;
    one.kill();
    // Presence as it is, then CHANGED: behind everything that was repeated. The two routers may have doubted each other
    // when they met.
    let (mut presence, mut synced) = (false, false);
    while !synced {
        match ada.push().await {
            FrameBody::Presence(_) => presence = true,
            FrameBody::Changed(changed) => synced = presence && changed.more,
            other => panic!("{other:?}"),
        }
    }
    let mut carl = Raw::enter(edge.addr, "u_carl").await;
    carl.call(publish("left", "no")).await;
    carl.call(publish("news", "yes")).await;
    assert_eq!(text_of(&ada.push().await), Some("yes"));
    drop(bob);
    let gone = ada.push().await;
    assert!(matches!(gone, FrameBody::Presence(presence) if !presence.users[0].online));
    assert_eq!(two.router.metrics().get("roost_router_sessions_adopted_total"), Some(2.0));
    let topics = edge.running.as_ref().unwrap().handle().metrics();
    let topics = topics.iter().find(|sample| sample.name == "roost_topic_memberships").unwrap().value;
    assert_eq!(topics, 1.0, "the names of the router that is gone are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_router_sockets_stay_and_newcomers_are_told_to_wait() {
    let town = town();
    let mut one = town.router();
    let edge = town.edge().await;
    let mut ada = Raw::enter(edge.addr, "u_ada").await;
    let _bob = Raw::enter(edge.addr, "u_bob").await;
    let conv = made(&mut ada, direct("u_bob")).await;
    one.kill();
    until("it is known", || edge.link.routers() == 0).await;
    let refused = ada.call(send(&conv, "1")).await;
    let FrameBody::Error(error) = refused else { panic!("{refused:?}") };
    assert_eq!(error.code, ErrorCode::Overloaded.number());
    assert!(error.retryable && error.retry_after_ms > 0);
    let (mut newcomer, answer) = Raw::knock(edge.addr, "u_carl").await;
    assert!(matches!(answer.body, Some(FrameBody::Error(error)) if error.retryable && error.retry_after_ms > 0));
    assert_eq!(newcomer.frame().await, None, "closed");
    let guest = edge.link.guest("Dora").await.unwrap_err();
    assert_eq!(guest.code, ErrorCode::Overloaded.number());
    let two = town.router();
    let changed = ada.push().await;
    assert!(matches!(changed, FrameBody::Changed(changed) if changed.more), "the same socket, and it is to sync");
    assert!(matches!(ada.call(send(&conv, "1")).await, FrameBody::Sent(sent) if sent.seq == 1));
    until("Bob came along", || sessions(&two) == 2.0).await;
    assert!(edge.link.guest("Dora").await.is_ok_and(|made| made.name == "Dora"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_groups_reach_those_who_moved() {
    let town = town();
    let mut one = town.router_with(&town.config, None);
    town.announce(&one);
    let edge = town.edge().await;
    let mut ada = Raw::enter(edge.addr, "u_ada").await;
    let names: Vec<String> = (0..510).map(|n| format!("u_{n}")).collect();
    let mut joined = Vec::new();
    for name in &names {
        joined.push(Raw::enter(edge.addr, name).await);
    }
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let conv = made(&mut ada, group(&users)).await;
    let more: Vec<String> = (510..520).map(|n| format!("u_{n}")).collect();
    for name in &more {
        joined.push(Raw::enter(edge.addr, name).await);
    }
    let add = pb::Members { conv: conv.clone(), add: more, ..pb::Members::default() };
    assert!(matches!(ada.call(FrameBody::Members(add)).await, FrameBody::Conversation(_)));
    let _two = town.router();
    until("it is linked", || edge.link.routers() == 2).await;
    one.kill();
    until("all have moved", || edge.metric("roost_link_resumed_total") >= 521.0).await;
    assert!(matches!(ada.call(send(&conv, "all")).await, FrameBody::Sent(_)));
    for reader in [0, 255, 519] {
        let mut got = 0;
        while got == 0 {
            got += usize::from(text_of(&joined[reader].push().await) == Some("all"));
        }
        let again = joined[reader].pushes_so_far().await;
        assert!(again.iter().all(|body| text_of(body).is_none()), "once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_of_the_device_is_not_replaced_by_one_that_is_brought() {
    let town = town();
    let mut one = town.router();
    let edge = town.edge().await;
    let mut old = Raw::enter(edge.addr, "u_ada").await;
    one.kill();
    until("it is known", || edge.link.routers() == 0).await;
    // The same device comes again, at another edge, before the old session has a router.
    let two = town.router_with(&town.config, None);
    let slow = town_with(config());
    slow.announce(&two);
    let other = slow.edge().await;
    let mut new = Raw::enter(other.addr, "u_ada").await;
    town.announce(&two);
    assert_eq!(old.closed().await, Some(CloseCode::Drain.number()), "it may come again");
    assert!(matches!(new.call(FrameBody::Sync(pb::Sync::default())).await, FrameBody::Changed(_)));
    assert_eq!(sessions(&two), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_die_one_after_the_other_while_sessions_are_being_brought_along() {
    // At 100 sessions a second bringing takes longer than the next router lives.
    let town = town_with(roost_link::LinkConfig { resumes_per_second: 100, ..config() });
    let mut routers = std::collections::VecDeque::from([town.router(), town.router()]);
    let load = Load::new(vec![town.edge().await, town.edge().await]).await;
    let (edges, _clients) = load
        .run(async {
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_millis(250)).await;
                routers.push_back(town.router());
                drop(routers.pop_front());
            }
        })
        .await;
    assert!(edges.iter().all(|edge| edge.metric("roost_link_lost_total") >= 5.0));
}
