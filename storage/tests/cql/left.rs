//! A writer dies between the log and its effects: whoever looks next finds everything, and a resend too.

use std::time::Duration;

use roost_storage::cql::{Death, Lost};
use roost_storage::testkit::conformance::{append, conv, entry, group, user};
use roost_storage::testkit::run;
use roost_storage::{
    Append, Appended, ConvMeta, CqlOptions, CqlStore, IndexUpdate, Member, MemberChange, Range, Store, StoreError,
};
use roost_wire::pb::Role;

use super::{server, two};

fn member(id: &str) -> Member {
    Member { user: user(id), role: Role::Member }
}

/// Ada and Bob; then Ada says one thing, Eve joins, and the name changes: all in one append whose writer dies.
async fn dies(store: &CqlStore, death: Death) {
    store.create(group("c_1"), vec![member("u_ada"), member("u_bob")]).await.unwrap();
    assert!(matches!(store.append(append("c_1", 1, "one")).await, Ok(Appended::Stored { .. })));
    store.faults().die(death);
    let raise = |id: &str, read| IndexUpdate { user: user(id), head: Some(3), read };
    let change = Append {
        entries: vec![entry(2, "u_ada", "two"), entry(3, "u_ada", "three")],
        index: vec![raise("u_ada", Some(3)), raise("u_bob", None), raise("u_eve", Some(1))],
        members: vec![MemberChange { user: user("u_eve"), role: Some(Role::Admin) }],
        name: Some("Owls".to_owned()),
        open: Some(true),
        ..append("c_1", 2, "")
    };
    assert!(matches!(store.append(change).await, Err(StoreError::Unknown(_))), "the writer died");
}

/// All that the append did can be found.
async fn whole(store: &CqlStore, seen_by: &str) {
    let meta = store.metas(&[conv("c_1")]).await.unwrap().remove(0).unwrap();
    assert_eq!((meta.head, meta.name.as_str(), meta.open), (3, "Owls", true), "{seen_by}");
    let members = store.members(&conv("c_1")).await.unwrap();
    assert_eq!(members, [member("u_ada"), member("u_bob"), Member { user: user("u_eve"), role: Role::Admin }]);
    for (id, head, read) in [("u_ada", 3, 3), ("u_bob", 3, 0), ("u_eve", 3, 1)] {
        let page = store.index(&user(id), 0, 9).await.unwrap();
        assert_eq!((page.rows.len(), page.rows[0].head, page.rows[0].read), (1, head, read), "{seen_by}: {id}");
        assert!(page.rows[0].changed <= meta.changed, "{seen_by}: {id}");
    }
}

/// How another node may come upon the conversation first.
#[derive(Clone, Copy, Debug)]
enum Look {
    Metas,
    Members,
    Rows,
    Range,
    RangeBefore,
    LastEntries,
    Conflict,
    Append,
    Create,
}

async fn look(store: &CqlStore, look: Look) {
    let id = conv("c_1");
    match look {
        Look::Metas => drop(store.metas(&[id]).await.unwrap()),
        Look::Members => assert_eq!(store.members(&id).await.unwrap().len(), 3),
        Look::Rows => {
            let rows = store.rows(&id, &[user("u_eve"), user("u_bob")]).await.unwrap();
            assert!(rows.iter().all(|row| row.as_ref().is_some_and(|row| row.head == 3)), "{rows:?}");
        }
        Look::Range => assert_eq!(store.range(&id, Range::After(1), 9).await.unwrap().len(), 2),
        Look::RangeBefore => assert_eq!(store.range(&id, Range::Before(u64::MAX), 9).await.unwrap().len(), 3),
        Look::LastEntries => assert_eq!(store.last_entries(&[id]).await.unwrap()[0].as_ref().unwrap().seq, 3),
        Look::Conflict => {
            // A resend through another node: the tail has it, and it can be found before that is answered.
            let answer = store.append(append("c_1", 2, "two")).await.unwrap();
            let Appended::Conflict { tail, head } = answer else { panic!("{answer:?}") };
            assert_eq!((head, tail.len(), tail[0].cmid.as_str()), (3, 2, "u_ada/two"));
        }
        Look::Append => {
            // One who knows no better than to go on: nothing of the one before gets lost.
            let answer = store.append(append("c_1", 4, "four")).await.unwrap();
            assert!(matches!(answer, Appended::Stored { .. }), "{answer:?}");
        }
        Look::Create => {
            let (meta, made) = store.create(group("c_1"), vec![]).await.unwrap();
            assert_eq!((made, meta.head), (false, 3));
        }
    }
}

#[test]
fn whoever_looks_after_a_writer_died_finds_all_that_it_wrote() {
    let looks = [
        Look::Metas,
        Look::Members,
        Look::Rows,
        Look::Range,
        Look::RangeBefore,
        Look::LastEntries,
        Look::Conflict,
        Look::Create,
    ];
    run(async {
        for (place, way) in looks.into_iter().enumerate() {
            // At another place each time: after the log, and after one or more of its effects.
            let death = if place % 3 == 0 { Death::AfterLog } else { Death::AmidEffects(place) };
            let (dead, other) = two().await;
            dies(&dead, death).await;
            look(&other, way).await;
            // Only the index of users, which looks at no conversation, shows that it was this look that mended it.
            let rows = other.index(&user("u_eve"), 0, 9).await.unwrap().rows;
            assert_eq!((rows.len(), rows[0].head), (1, 3), "{way:?} after {death:?}");
            assert_eq!(other.metrics().repairs.load(std::sync::atomic::Ordering::Relaxed), 1, "{way:?}");
            whole(&other, "the one who looked").await;
            whole(&dead, "the one who died, back again").await;
        }
    });
}

#[test]
fn the_next_append_makes_good_what_the_one_before_left() {
    run(async {
        let (dead, other) = two().await;
        dies(&dead, Death::AfterLog).await;
        look(&other, Look::Append).await;
        let row = other.rows(&conv("c_1"), &[user("u_eve")]).await.unwrap().remove(0).unwrap();
        assert_eq!((row.head, row.role), (3, Some(Role::Admin)));
    });
}

#[test]
fn a_creation_that_was_left_is_finished_by_who_looks() {
    run(async {
        for death in [Death::AfterLog, Death::AmidEffects(1), Death::AmidEffects(3)] {
            let (dead, other) = two().await;
            dead.faults().die(death);
            let meta = ConvMeta { open: true, ..group("c_1") };
            let answer = dead.create(meta, vec![member("u_ada"), member("u_bob")]).await;
            assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
            let (meta, made) = other.create(group("c_1"), vec![]).await.unwrap();
            assert_eq!((made, meta.name.as_str(), meta.open), (false, "Birds", true));
            assert_eq!(other.members(&conv("c_1")).await.unwrap(), [member("u_ada"), member("u_bob")]);
            assert_eq!(other.index(&user("u_bob"), 0, 9).await.unwrap().rows.len(), 1);
        }
    });
}

#[test]
fn effects_made_good_late_are_told_to_who_has_synced_since() {
    run(async {
        let options = CqlOptions { settle: Some(Duration::ZERO), ..server().options() };
        let (dead, other) = (server().open(&options).await, server().open(&options).await);
        dies(&dead, Death::AfterLog).await;
        // Bob syncs with another conversation that came later: his token is above the stamp of the append.
        other.create(group("c_2"), vec![member("u_bob")]).await.unwrap();
        let token = other.index(&user("u_bob"), 0, 9).await.unwrap().stamp;
        look(&other, Look::Metas).await;
        assert!(other.last_change(&user("u_bob")).await.unwrap() > token, "he is not fresh");
        let rows = other.index(&user("u_bob"), token, 9).await.unwrap().rows;
        assert_eq!((rows.len(), rows[0].conv.as_str(), rows[0].head), (1, "c_1", 3));
    });
}

#[test]
fn effects_that_come_late_are_told_with_a_later_stamp() {
    run(async {
        let settle = Some(Duration::ZERO);
        let options = CqlOptions { settle, request_timeout: Duration::from_secs(4), ..server().options() };
        let (slow, other) = (server().open(&options).await, server().open(&options).await);
        for id in ["c_1", "c_2"] {
            slow.create(group(id), vec![member("u_bob")]).await.unwrap();
        }
        slow.faults().pause(Duration::from_millis(2_300));
        let writes = tokio::spawn({
            let slow = slow.clone();
            let index = vec![IndexUpdate { user: user("u_bob"), head: Some(1), read: None }];
            async move { slow.append(Append { index, ..append("c_1", 1, "one") }).await.unwrap() }
        });
        // Meanwhile Bob reads something newer elsewhere, and syncs.
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let index = vec![IndexUpdate { user: user("u_bob"), head: Some(1), read: None }];
        other.append(Append { index, ..append("c_2", 1, "two") }).await.unwrap();
        let token = other.index(&user("u_bob"), 0, 9).await.unwrap().stamp;
        let Appended::Stored { stamp } = writes.await.unwrap() else { panic!("a conflict with nobody") };
        assert!(stamp < token, "the append began before");
        let rows = other.index(&user("u_bob"), token, 9).await.unwrap().rows;
        assert_eq!((rows.len(), rows[0].conv.as_str(), rows[0].head), (1, "c_1", 1));
    });
}

#[test]
fn an_append_without_an_answer_is_looked_for_before_anything_is_claimed() {
    run(async {
        let (store, other) = two().await;
        store.create(group("c_1"), vec![member("u_bob")]).await.unwrap();
        // Done, and only the answer is lost.
        store.faults().lose(Lost::Answer);
        assert!(matches!(store.append(append("c_1", 1, "one")).await, Ok(Appended::Stored { .. })));
        // Lost on its way: it is not there, but who can know that it will not come.
        store.faults().lose(Lost::Request);
        let answer = store.append(append("c_1", 2, "two")).await;
        assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
        // Meanwhile another has the seq: now it is certain.
        assert!(matches!(other.append(append("c_1", 2, "theirs")).await, Ok(Appended::Stored { .. })));
        store.faults().lose(Lost::Request);
        let answer = store.append(append("c_1", 2, "two")).await.unwrap();
        assert!(matches!(&answer, Appended::Conflict { tail, head: 2 } if tail[0].body.text == "theirs"), "{answer:?}");
        let log = other.range(&conv("c_1"), Range::After(0), 9).await.unwrap();
        assert_eq!(log.iter().map(|entry| entry.body.text.as_str()).collect::<Vec<_>>(), ["one", "theirs"]);
    });
}
