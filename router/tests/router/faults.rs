//! The store fails: what is told is never wrong, and nothing is doubled.

use std::time::Duration;

use roost_storage::testkit::{Effect, Op};
use roost_storage::{Append, Entry, Store, StoreError};
use roost_wire::{ConvId, FrameBody, pb};

use crate::harness::{Client, House, house, resending, sending, text, user};

async fn pair() -> (House, Client, Client, String) {
    let house = house();
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let conv = house.direct(&ada, "bob").await;
    house.send(&ada, &conv, "0", "first").await;
    house.settle().await;
    house.told(&ada);
    house.told(&bob);
    (house, ada, bob, conv)
}

#[tokio::test(start_paused = true)]
async fn f14_an_append_that_certainly_failed_says_so_and_a_resend_stores_it_once() {
    for (error, code) in [
        (StoreError::Unavailable("x".into()), 501),
        (StoreError::DiskFull, 504),
        (StoreError::Damaged("x".into()), 500),
    ] {
        let (house, ada, bob, conv) = pair().await;
        house.store.inject(Op::Append, 1, Effect::Refuse(error));
        let refused = house.try_send(&ada, sending(&conv, "1", "hi")).await.unwrap_err();
        assert_eq!((refused.code, refused.retryable), (code, true));
        assert!(house.entries(&bob).is_empty());
        let sent = house.try_send(&ada, resending(&conv, "1", "hi", Some(1))).await.unwrap();
        assert_eq!((sent.seq, sent.dup), (2, false));
        assert_eq!(house.page(&ada, &conv).await.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn f14_an_append_of_unknown_outcome_is_found_in_the_log_or_done_again() {
    let unknown = || StoreError::Unknown("x".into());
    for (name, effect) in [
        ("written", Effect::LoseAnswer(unknown())),
        ("not written", Effect::Refuse(unknown())),
        ("written, no answer", Effect::Hang),
    ] {
        let (house, ada, bob, conv) = pair().await;
        house.store.inject(Op::Append, 1, effect);
        let sent = house.try_send(&ada, sending(&conv, "1", "hi")).await.unwrap();
        assert_eq!((sent.seq, sent.dup), (2, false), "{name}");
        let pushed: Vec<_> = house.entries(&bob).iter().map(|entry| entry.seq).collect();
        assert_eq!(pushed, [2], "{name}");
        assert!(house.entries(&ada).is_empty(), "{name}: the sending session was told by SENT");
        assert_eq!(house.send(&ada, &conv, "2", "next").await.seq, 3, "{name}");
        assert_eq!(house.page(&ada, &conv).await.len(), 3, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn f14_an_outcome_that_cannot_be_found_out_is_502_and_readers_still_get_the_entry() {
    let unavailable = || StoreError::Unavailable("x".into());
    for written in [true, false] {
        let (house, ada, bob, conv) = pair().await;
        let unknown = StoreError::Unknown("x".into());
        let effect = if written { Effect::LoseAnswer(unknown) } else { Effect::Refuse(unknown) };
        house.store.inject(Op::Append, 1, effect);
        house.store.inject(Op::Range, 1, Effect::Refuse(unavailable()));
        let refused = house.try_send(&ada, sending(&conv, "1", "hi")).await.unwrap_err();
        assert_eq!((refused.code, refused.retryable), (502, true));
        assert!(house.store.spent());
        // Nobody asks again, yet the reader hears of what was written.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(house.entries(&bob).len(), usize::from(written));
        let sent = house.try_send(&ada, resending(&conv, "1", "hi", Some(1))).await.unwrap();
        assert_eq!((sent.seq, sent.dup), (2, written));
        assert_eq!(house.page(&ada, &conv).await.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn f14_a_certain_failure_after_an_unknown_one_is_not_certain() {
    let (house, ada, _bob, conv) = pair().await;
    house.store.inject(Op::Append, 1, Effect::Refuse(StoreError::Unknown("x".into())));
    house.store.inject(Op::Append, 2, Effect::Refuse(StoreError::Unavailable("x".into())));
    let refused = house.try_send(&ada, sending(&conv, "1", "hi")).await.unwrap_err();
    assert_eq!(refused.code, 502);
}

#[tokio::test(start_paused = true)]
async fn f14_a_resend_that_cannot_be_looked_up_is_not_denied() {
    let (house, ada, _bob, conv) = pair().await;
    let house = house.restarted(roost_router::RouterConfig::default());
    let client = house.enter("ada").await;
    house.store.inject(Op::Metas, 1, Effect::Refuse(StoreError::Unavailable("x".into())));
    let refused = house.try_send(&client, resending(&conv, "0", "first", Some(0))).await.unwrap_err();
    assert_eq!(refused.code, 502);
    house.store.inject(Op::Metas, 1, Effect::Refuse(StoreError::Unavailable("x".into())));
    let refused = house.try_send(&client, sending(&conv, "9", "new")).await.unwrap_err();
    assert_eq!(refused.code, 501, "a first try that met no store is certainly not stored");
    drop(ada);
}

fn foreign(conv: &str, seq: u64, from: &str, cmid: &str) -> Append {
    let body = text("from elsewhere").unwrap();
    let entry = Entry { seq, ts_ms: 5, from: user(from), cmid: cmid.into(), body };
    Append {
        conv: ConvId::new(conv).unwrap(),
        expected: seq,
        entries: vec![entry],
        index: Vec::new(),
        members: Vec::new(),
        name: None,
        open: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_met_at_the_new_head_and_its_entries_are_pushed() {
    let (house, ada, bob, conv) = pair().await;
    for seq in 2..=400 {
        house.store.append(foreign(&conv, seq, "bob", &seq.to_string())).await.unwrap();
    }
    let sent = house.try_send(&ada, sending(&conv, "1", "hi")).await.unwrap();
    assert_eq!(sent.seq, 401);
    let pushed: Vec<_> = house.entries(&bob).iter().map(|entry| entry.seq).collect();
    assert_eq!(pushed, (2..=401).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn f14_an_earlier_success_is_met_in_a_conflict() {
    let (house, ada, _bob, conv) = pair().await;
    let mut append = foreign(&conv, 2, "ada", "1");
    append.entries[0].body = text("hi").unwrap();
    house.store.append(append).await.unwrap();
    let sent = house.try_send(&ada, resending(&conv, "1", "hi", Some(1))).await.unwrap();
    assert_eq!((sent.seq, sent.dup), (2, true));
    assert_eq!(house.page(&ada, &conv).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn f08_a_change_of_members_of_unknown_outcome_happens_once() {
    for effect in [
        Effect::LoseAnswer(StoreError::Unknown("x".into())),
        Effect::Refuse(StoreError::Unknown("x".into())),
        Effect::Hang,
    ] {
        let house = house();
        let [ada, bob, eve] = [house.enter("ada").await, house.enter("bob").await, house.enter("eve").await];
        let conv = house.group(&ada, &["bob"]).await;
        house.send(&ada, &conv, "0", "hi").await;
        house.settle().await;
        house.told(&eve);
        house.told(&bob);
        house.store.inject(Op::Append, 1, effect);
        let add = pb::Members { conv: conv.clone(), add: vec!["eve".into()], ..pb::Members::default() };
        let Ok(FrameBody::Conversation(after)) = house.ask(&ada, FrameBody::Members(add)).await else { panic!() };
        assert_eq!(after.members.len(), 3);
        assert_eq!(house.page(&eve, &conv).await.len(), 2);
        house.settle().await;
        let pushes = house.pushes(&eve);
        assert!(pushes.iter().any(|body| matches!(body, FrameBody::Changed(_))), "{pushes:?}");
        assert_eq!(house.entries(&bob).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn reads_that_fail_are_answered_with_the_stores_state() {
    let (house, ada, _bob, conv) = pair().await;
    let history = FrameBody::History(pb::History { conv: conv.clone(), ..pb::History::default() });
    for (op, body) in [
        (Op::Range, history),
        (Op::Index, FrameBody::Sync(pb::Sync::default())),
        (Op::Search, FrameBody::Search(pb::Search { prefix: "a b".into(), limit: 0 })),
        (Op::Users, FrameBody::Watch(pb::Watch { users: vec!["bob".into()] })),
        (Op::Create, FrameBody::Create(pb::Create { kind: 2, ..pb::Create::default() })),
    ] {
        house.store.inject(op, 1, Effect::Refuse(StoreError::Unavailable("x".into())));
        assert_eq!(house.refused(&ada, body).await, 501, "{op:?}");
        assert!(house.store.spent());
    }
}

#[tokio::test(start_paused = true)]
async fn f15_a_mark_that_could_not_be_written_is_written_later() {
    let (house, ada, bob, conv) = pair().await;
    house.store.inject(Op::Mark, 1, Effect::Refuse(StoreError::Unavailable("x".into())));
    let read = pb::Read { conv: conv.clone(), seq: 1 };
    assert_eq!(house.refused(&bob, FrameBody::Read(read)).await, 501);
    house.settle().await;
    assert_eq!(house.sync(&bob, "", 0).await.rows[0].read, 1);
    let receipts = house.pushes(&ada);
    assert!(receipts.iter().any(|body| matches!(body, FrameBody::Receipt(receipt) if receipt.read == 1)));
}
