//! SEND: answers, pushes, resends, order.

use std::collections::HashMap;

use roost_router::RouterConfig;
use roost_storage::testkit::Op;
use roost_storage::{EmbeddedOptions, EmbeddedStore, Store};
use roost_wire::link::Up;
use roost_wire::{FrameBody, pb};
use std::sync::Arc;

use crate::harness::{Client, Got, House, house, house_with, resending, sending, text};

#[tokio::test(start_paused = true)]
async fn f07_a_direct_message_reaches_every_device_of_both_but_the_sending_session() {
    let house = house();
    let phone = house.enter_on("ada", "phone", "").await;
    let laptop = house.enter_on("ada", "laptop", "").await;
    let [bob, tablet] = [house.enter_on("bob", "phone", "").await, house.enter_on("bob", "tablet", "").await];
    let eve = house.enter("eve").await;
    let conv = house.direct(&phone, "bob").await;
    house.settle().await;
    for client in [&phone, &laptop, &bob, &tablet, &eve] {
        house.told(client);
    }
    let sent = house.send(&phone, &conv, "1", "hi").await;
    assert_eq!((sent.seq, sent.dup), (1, false));
    for client in [&laptop, &bob, &tablet] {
        let entries = house.entries(client);
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].seq, entries[0].from.as_str(), &entries[0].body), (1, "ada", &text("hi")));
    }
    assert!(house.entries(&phone).is_empty() && house.told(&eve).is_empty());
}

#[tokio::test(start_paused = true)]
async fn f09_same_pair_gives_the_same_conversation_also_when_raced() {
    let house = house();
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let create =
        |other: &str| FrameBody::Create(pb::Create { kind: 1, members: vec![other.into()], ..pb::Create::default() });
    let rids: Vec<u64> = (0..10).map(|_| house.command(&ada, create("bob"))).collect();
    let others: Vec<u64> = (0..10).map(|_| house.command(&bob, create("ada"))).collect();
    let mut convs = std::collections::HashSet::new();
    for (client, rid) in rids.iter().map(|rid| (&ada, rid)).chain(others.iter().map(|rid| (&bob, rid))) {
        let Ok(FrameBody::Conversation(made)) = house.reply(client, *rid).await else { panic!() };
        assert_eq!(made.members.len(), 2);
        convs.insert(made.conv);
    }
    assert_eq!(convs.len(), 1);
    house.settle().await;
    // Each side hears of it at most once: it was made once.
    let news =
        |client: &Client| house.pushes(client).iter().filter(|body| matches!(body, FrameBody::Changed(_))).count();
    assert_eq!(news(&ada) + news(&bob), 1);
}

#[tokio::test(start_paused = true)]
async fn f09_a_direct_conversation_opens_again_while_the_other_is_away() {
    let house = house();
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let conv = house.direct(&ada, "bob").await;
    house.leave(&bob);
    assert_eq!(house.direct(&ada, "bob").await, conv);
}

#[tokio::test(start_paused = true)]
async fn f09_notes_to_oneself_are_a_direct_conversation_of_one() {
    let house = house();
    let ada = house.enter("ada").await;
    let conv = house.direct(&ada, "ada").await;
    assert_eq!(house.send(&ada, &conv, "1", "milk").await.seq, 1);
    let rows = house.sync(&ada, "", 0).await.rows;
    assert_eq!(rows[0].peer.as_ref().map(|peer| peer.user.as_str()), Some("ada"));
}

#[tokio::test(start_paused = true)]
async fn f14_a_resend_of_what_is_stored_is_answered_with_it_though_its_sender_has_left() {
    for recent_entries_max in [64, 1] {
        let house = house_with(RouterConfig { recent_entries_max, ..RouterConfig::default() });
        let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
        let conv = house.group(&ada, &["bob"]).await;
        let seq = house.send(&bob, &conv, "b1", "hi").await.seq;
        house.ask(&bob, FrameBody::Leave(pb::Leave { conv: conv.clone() })).await.expect("he may");
        house.send(&ada, &conv, "a1", "gone?").await;
        let again = house.try_send(&bob, resending(&conv, "b1", "hi", Some(0))).await.expect("it is stored");
        assert_eq!((again.seq, again.dup), (seq, true), "remembered: {recent_entries_max}");
        for send in [resending(&conv, "b2", "more", Some(0)), sending(&conv, "b3", "more")] {
            let refused = house.try_send(&bob, send).await.expect_err("he is no member");
            assert_eq!(refused.code, 301, "certainly not stored");
        }
    }
}

/// What is asked again, and what it must be answered.
struct Resend {
    name: &'static str,
    restart: bool,
    send: fn(&str) -> pb::Send,
    want: Result<(u64, bool), u32>,
}

#[tokio::test(start_paused = true)]
async fn f14_a_resend_is_answered_with_the_entry_it_made() {
    let cases = [
        Resend { name: "in memory", restart: false, send: |c| sending(c, "199", "n"), want: Ok((199, true)) },
        Resend { name: "after a restart", restart: true, send: |c| sending(c, "200", "n"), want: Ok((200, true)) },
        Resend {
            name: "far back, seen",
            restart: false,
            send: |c| resending(c, "1", "hi", Some(0)),
            want: Ok((1, true)),
        },
        Resend {
            name: "far back, restarted",
            restart: true,
            send: |c| resending(c, "1", "hi", Some(0)),
            want: Ok((1, true)),
        },
        Resend { name: "without seen", restart: true, send: |c| resending(c, "100", "n", None), want: Ok((100, true)) },
        Resend { name: "other body", restart: false, send: |c| sending(c, "200", "other"), want: Err(303) },
        Resend { name: "other body, far", restart: true, send: |c| resending(c, "1", "x", Some(0)), want: Err(303) },
        Resend {
            name: "never stored",
            restart: true,
            send: |c| resending(c, "new", "x", Some(0)),
            want: Ok((201, false)),
        },
        Resend {
            name: "seen above it",
            restart: true,
            send: |c| resending(c, "new", "x", Some(200)),
            want: Ok((201, false)),
        },
    ];
    for case in cases {
        let mut house = house();
        let ada = house.enter("ada").await;
        let conv = house.direct(&ada, "ada").await;
        house.send(&ada, &conv, "1", "hi").await;
        for n in 2..=200 {
            house.send(&ada, &conv, &n.to_string(), "n").await;
        }
        let send = (case.send)(&conv);
        if case.restart {
            house.settle().await;
            house = house.restarted(RouterConfig::default());
        }
        let ada = if case.restart { house.enter("ada").await } else { ada };
        let got = house.try_send(&ada, send).await.map(|sent| (sent.seq, sent.dup)).map_err(|error| error.code);
        assert_eq!(got, case.want, "{}", case.name);
        let stored = house.page(&ada, &conv).await;
        assert_eq!(stored.len(), if case.want == Ok((201, false)) { 201 } else { 200 }, "{}", case.name);
    }
}

#[tokio::test(start_paused = true)]
async fn f14_the_same_cmid_twice_in_one_batch_is_stored_once() {
    let house = house();
    let ada = house.enter("ada").await;
    let conv = house.direct(&ada, "ada").await;
    let sends = [("1", "a"), ("2", "b"), ("1", "a"), ("2", "other"), ("3", "c")];
    let up = |(place, (cmid, body)): (usize, (&str, &str))| Up::Command {
        session: ada.key,
        user: ada.user.clone(),
        rid: 100 + place as u64,
        body: FrameBody::Send(sending(&conv, cmid, body)),
    };
    house.router.submit(&mut sends.into_iter().enumerate().map(up).collect());
    let mut got = Vec::new();
    for rid in 100..105 {
        got.push(match house.reply(&ada, rid).await {
            Ok(FrameBody::Sent(sent)) => Ok((sent.seq, sent.dup)),
            Err(error) => Err(error.code),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(got, [Ok((1, false)), Ok((2, false)), Ok((1, true)), Err(303), Ok((3, false))]);
    assert_eq!(house.page(&ada, &conv).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn f14_a_resend_too_far_back_is_neither_confirmed_nor_denied() {
    let house =
        house_with(RouterConfig { resend_seen_entries_max: 10, recent_entries_max: 4, ..RouterConfig::default() });
    let ada = house.enter("ada").await;
    let conv = house.direct(&ada, "ada").await;
    for n in 0..30 {
        house.send(&ada, &conv, &n.to_string(), "n").await;
    }
    let refused = house.try_send(&ada, resending(&conv, "0", "n", Some(0))).await.unwrap_err();
    assert_eq!((refused.code, refused.retryable), (502, true));
    assert_eq!(house.page(&ada, &conv).await.len(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_breaks_a_rule_is_refused_with_its_code() {
    let house = house();
    let [ada, _bob, eve] = [house.enter("ada").await, house.enter("bob").await, house.enter("eve").await];
    let conv = house.direct(&ada, "bob").await;
    house.send(&ada, &conv, "0", "hi").await;
    let event = Some(pb::Body { text: String::new(), event: Some(pb::Event::default()) });
    let cases: [(&str, &Client, pb::Send, u32); 10] = [
        ("no such conversation", &ada, sending("c_dnone", "1", "x"), 300),
        ("not a member", &eve, sending(&conv, "1", "x"), 301),
        ("no cmid", &ada, sending(&conv, "", "x"), 104),
        ("long cmid", &ada, sending(&conv, &"x".repeat(65), "x"), 104),
        ("no body", &ada, pb::Send { body: None, ..sending(&conv, "1", "x") }, 104),
        ("nothing said", &ada, sending(&conv, "1", ""), 104),
        ("an event of the server", &ada, pb::Send { body: event, ..sending(&conv, "1", "x") }, 104),
        ("a large body", &ada, sending(&conv, "1", &"x".repeat(32 * 1024 + 1)), 403),
        ("a channel", &ada, sending("news", "1", "x"), 305),
        ("no id", &ada, sending("c d", "1", "x"), 104),
    ];
    for (name, client, send, code) in cases {
        assert_eq!(house.refused(client, FrameBody::Send(send)).await, code, "{name}");
    }
    assert_eq!(house.page(&ada, &conv).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_without_rid_is_answered_once_all_the_same() {
    let house = house();
    let ada = house.enter("ada").await;
    let conv = house.direct(&ada, "ada").await;
    house.send(&ada, &conv, "0", "hi").await;
    house.settle().await;
    house.told(&ada);
    let read = pb::Read { conv: conv.clone(), seq: 1 };
    let ack = pb::Ack { conv: conv.clone(), seq: 1 };
    for (body, fails) in [
        (FrameBody::Send(sending(&conv, "1", "x")), false),
        (FrameBody::Send(sending(&conv, "", "x")), true),
        (FrameBody::Send(sending("c_dnone", "1", "x")), true),
        (FrameBody::Read(read), false),
        (FrameBody::Ack(ack.clone()), false),
        (FrameBody::Ack(pb::Ack { seq: 99, ..ack }), true),
        (FrameBody::Get(pb::Get { conv: conv.clone() }), false),
        (FrameBody::Search(pb::Search { prefix: "a".into(), limit: 1 }), false),
        (FrameBody::Hello(pb::Hello::default()), true),
    ] {
        house.command_as(&ada, 0, body.clone());
        house.settle().await;
        let replies: Vec<_> = house.told(&ada).into_iter().filter(|got| matches!(got, Got::Reply(_))).collect();
        let [Got::Reply(frame)] = replies.as_slice() else { panic!("{body:?}: {replies:?}") };
        assert_eq!(frame.is_some(), fails, "{body:?}: {frame:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sends_that_meet_are_appended_as_one_batch() {
    let house = house();
    let ada = house.enter("ada").await;
    let conv = house.direct(&ada, "ada").await;
    let up = |n: u64| Up::Command {
        session: ada.key,
        user: ada.user.clone(),
        rid: 1000 + n,
        body: FrameBody::Send(sending(&conv, &n.to_string(), "x")),
    };
    let before = house.store.calls(Op::Append);
    house.router.submit(&mut (0..300).map(up).collect());
    for n in 0..300 {
        assert!(house.reply(&ada, 1000 + n).await.is_ok());
    }
    assert_eq!(house.store.calls(Op::Append) - before, 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_answers_503_and_stores_nothing_of_it() {
    let house = house_with(RouterConfig { appends_queued_max: 4, ..RouterConfig::default() });
    let ada = house.enter("ada").await;
    let conv = house.direct(&ada, "ada").await;
    let up = |n: u64| Up::Command {
        session: ada.key,
        user: ada.user.clone(),
        rid: 1000 + n,
        body: FrameBody::Send(sending(&conv, &n.to_string(), "x")),
    };
    house.router.submit(&mut (0..6).map(up).collect());
    let mut codes = Vec::new();
    for n in 0..6 {
        codes.push(house.reply(&ada, 1000 + n).await.map(|_| ()).map_err(|error| (error.code, error.retryable)));
    }
    assert_eq!(codes[..4], [const { Ok(()) }; 4]);
    assert_eq!(codes[4..], [const { Err((503, true)) }; 2]);
    assert_eq!(house.page(&ada, &conv).await.len(), 4);
}

async fn many_senders<S: Store>(house: &House<S>) {
    const SENDERS: u64 = 12;
    const SENDS: u64 = 50;
    let mut clients = Vec::new();
    for n in 0..SENDERS {
        clients.push(house.enter(&format!("user{n}")).await);
    }
    let others: Vec<String> = (1..SENDERS).map(|n| format!("user{n}")).collect();
    let conv = house.group(&clients[0], &others.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for round in 0..SENDS {
        for client in &clients {
            house.command_as(client, 1000 + round, FrameBody::Send(sending(&conv, &round.to_string(), "x")));
        }
        tokio::task::yield_now().await;
    }
    for round in 0..SENDS {
        for client in &clients {
            assert!(house.reply(client, 1000 + round).await.is_ok());
        }
    }
    house.settle().await;
    let mut log = house.page(&clients[0], &conv).await;
    let after = pb::History { conv: conv.clone(), after: Some(500), before: None, limit: 500 };
    let Ok(FrameBody::Page(rest)) = house.ask(&clients[0], FrameBody::History(after)).await else { panic!() };
    log.extend(rest.entries);
    assert_eq!(log.len() as u64, SENDERS * SENDS);
    let mut next: HashMap<&str, u64> = HashMap::new();
    for (place, entry) in log.iter().enumerate() {
        assert_eq!(entry.seq, place as u64 + 1, "gapless");
        let round = next.entry(&entry.from).or_default();
        assert_eq!(entry.cmid, round.to_string(), "each once, in the order of its sender");
        *round += 1;
    }
    for client in &clients {
        let told = house.told(client);
        let seqs = told.iter().filter_map(|got| match got {
            Got::Push(FrameBody::Entry(entry)) => Some(entry.seq),
            Got::Reply(Some(pb::Frame { body: Some(FrameBody::Sent(sent)), .. })) => Some(sent.seq),
            _ => None,
        });
        assert!(seqs.eq(1..=SENDERS * SENDS), "replies and pushes together are the log, in order");
    }
}

#[tokio::test(start_paused = true)]
async fn f07_many_senders_make_one_gapless_log_that_everybody_sees_in_order() {
    many_senders(&house()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f14_many_senders_on_the_embedded_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), &EmbeddedOptions::default()).unwrap();
    many_senders(&House::over(Arc::new(store), RouterConfig::default())).await;
}
