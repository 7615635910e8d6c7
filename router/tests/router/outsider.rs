//! Whoever is no member learns nothing, whatever he asks.

use proptest::prelude::*;
use roost_wire::FrameBody;
use roost_wire::pb::{self, Kind};

use crate::harness::{Got, House, house, resending, sending};

const SECRETS: [&str; 4] = ["the-password", "Secret Birds", "ada", "bob"];

fn commands(conv: &str, n: u64, name: &str) -> Vec<FrameBody> {
    let c = || conv.to_owned();
    let users = || vec!["mallory".to_owned()];
    vec![
        FrameBody::Send(sending(conv, name, "x")),
        FrameBody::Send(resending(conv, "1", "the guess", Some(n))),
        FrameBody::Ack(pb::Ack { conv: c(), seq: n }),
        FrameBody::Read(pb::Read { conv: c(), seq: n }),
        FrameBody::Typing(pb::Typing { conv: c(), user: String::new(), on: true }),
        FrameBody::Get(pb::Get { conv: c() }),
        FrameBody::Update(pb::Update { conv: c(), name: Some(name.into()), open: Some(true) }),
        FrameBody::Members(pb::Members { conv: c(), add: users(), ..pb::Members::default() }),
        FrameBody::Members(pb::Members { conv: c(), remove: users(), ..pb::Members::default() }),
        FrameBody::Join(pb::Join { conv: c() }),
        FrameBody::Leave(pb::Leave { conv: c() }),
        FrameBody::History(pb::History { conv: c(), after: Some(n), before: None, limit: 10 }),
        FrameBody::History(pb::History { conv: c(), after: None, before: Some(n), limit: 10 }),
        FrameBody::Sync(pb::Sync { since: name.into(), limit: 10 }),
        FrameBody::Subscribe(pb::Subscribe { channel: c() }),
        FrameBody::Publish(pb::Publish { channel: c(), ..pb::Publish::default() }),
        FrameBody::Create(pb::Create { kind: Kind::Direct.into(), members: vec![c()], ..pb::Create::default() }),
        FrameBody::Search(pb::Search { prefix: name.into(), limit: 10 }),
        FrameBody::Unwatch(pb::Unwatch { users: users() }),
        FrameBody::Refresh(pb::Refresh { token: name.into() }),
    ]
}

async fn probe(order: &[(usize, bool, u64, String)]) {
    let house: House = house();
    let [ada, _bob, mallory] = [house.enter("ada").await, house.enter("bob").await, house.enter("mallory").await];
    let direct = house.direct(&ada, "bob").await;
    let create =
        pb::Create { kind: Kind::Group.into(), name: "Secret Birds".into(), members: vec!["bob".into()], open: false };
    let group = house.create(&ada, create).await.conv;
    for conv in [&direct, &group] {
        house.send(&ada, conv, "1", "the-password").await;
    }
    house.settle().await;
    house.told(&mallory);
    for (which, in_group, n, name) in order {
        let conv = if *in_group { &group } else { &direct };
        let commands = commands(conv, *n, name);
        let body = commands[which % commands.len()].clone();
        // An answer of any kind is fine, what it says is judged below.
        let _ = house.ask(&mallory, body).await;
        house.send(&ada, conv, &format!("{which}-{n}-{name}"), "the-password again").await;
    }
    house.settle().await;
    for got in house.told(&mallory) {
        let shown = match &got {
            Got::Push(_) => panic!("a push to an outsider: {got:?}"),
            Got::Reply(Some(frame)) => serde_json::to_string(frame).unwrap(),
            other => format!("{other:?}"),
        };
        for secret in SECRETS {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    let log = house.page(&ada, &group).await;
    assert!(log.iter().all(|entry| entry.from == "ada"), "an outsider wrote something");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn f06_no_reply_to_an_outsider_reveals_anything(
        order in prop::collection::vec((0usize..64, any::<bool>(), 0u64..5, "[x-z]{1,8}"), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(probe(&order));
    }
}

#[tokio::test(start_paused = true)]
async fn f06_every_command_of_an_outsider_is_refused_where_a_conversation_is_named() {
    let all: Vec<_> = (0..20).flat_map(|which| [(which, true, 1, "x".into()), (which, false, 1, "y".into())]).collect();
    probe(&all).await;
}
