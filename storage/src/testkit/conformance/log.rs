//! Conversations and their logs.
#![allow(missing_docs, reason = "each name is the rule")]

use roost_wire::pb::{Body, Event, Kind, Role};

use super::{append, change, conv, entry, group, head, make, member, stored, user};
use crate::{
    APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Append, Appended, CONFLICT_ENTRIES_MAX, ConvMeta, Entry, Member, Range,
    Store, StoreError,
};

pub async fn a_new_conversation_has_an_empty_log_its_members_and_their_rows<S: Store>(store: S) {
    let asked = ConvMeta { head: 99, changed: 99, open: true, ..group("c_1") };
    let members = vec![member("u_bob", Role::Member), member("u_ada", Role::Owner)];
    let (meta, made) = store.create(asked.clone(), members).await.unwrap();
    assert!(made);
    assert!(meta.changed > 0, "making it is a change");
    assert_eq!(meta, ConvMeta { head: 0, changed: meta.changed, ..asked });
    assert_eq!(store.metas(&[conv("c_1")]).await.unwrap(), [Some(meta.clone())]);
    assert_eq!(store.range(&conv("c_1"), Range::After(0), 10).await.unwrap(), []);
    let members = store.members(&conv("c_1")).await.unwrap();
    assert_eq!(members, [member("u_ada", Role::Owner), member("u_bob", Role::Member)]);
    let rows = store.rows(&conv("c_1"), &[user("u_ada"), user("u_eve"), user("u_bob")]).await.unwrap();
    assert_eq!(rows[1], None);
    let row = rows[0].as_ref().unwrap();
    assert_eq!((row.head, row.read, row.delivered, row.role), (0, 0, 0, Some(Role::Owner)));
    assert_eq!(row.changed, meta.changed);
    assert_eq!(rows[2].as_ref().unwrap().role, Some(Role::Member));
}

pub async fn creating_again_changes_nothing_and_says_so<S: Store>(store: S) {
    let first = make(&store, "c_1", &["u_ada"]).await;
    let other = ConvMeta { name: "Fish".into(), kind: Kind::Direct, ..group("c_1") };
    let (meta, made) = store.create(other, vec![member("u_eve", Role::Owner)]).await.unwrap();
    assert!(!made);
    assert_eq!(meta, first);
    assert_eq!(store.members(&conv("c_1")).await.unwrap(), [member("u_ada", Role::Owner)]);
    assert_eq!(store.rows(&conv("c_1"), &[user("u_eve")]).await.unwrap(), [None]);
}

pub async fn a_conversation_that_breaks_a_rule_is_refused<S: Store>(store: S) {
    let no_kind = ConvMeta { kind: Kind::Unspecified, ..group("c_1") };
    let long_name = ConvMeta { name: "x".repeat(crate::NAME_BYTES_MAX + 1), ..group("c_1") };
    for (meta, members) in [
        (no_kind, vec![]),
        (long_name, vec![]),
        (group("c_1"), vec![Member { user: user("u_ada"), role: Role::Unspecified }]),
    ] {
        let error = store.create(meta.clone(), members).await.unwrap_err();
        assert!(matches!(error, StoreError::BadRequest(_)), "{meta:?}: {error}");
    }
    assert_eq!(store.metas(&[conv("c_1")]).await.unwrap(), [None]);
}

pub async fn entries_are_numbered_without_gaps_and_come_back_as_they_were<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada"]).await;
    let event = Event { users: vec!["u_bob".into()], role: Role::Admin.into(), kind: 1, ..Event::default() };
    let odd = Entry {
        seq: 2,
        ts_ms: u64::MAX,
        from: user(&"x".repeat(64)),
        cmid: "\0ü".into(),
        body: Body { text: "\0 🐦 ".repeat(100), event: Some(event) },
    };
    let silent = Entry { ts_ms: 0, cmid: String::new(), body: Body::default(), ..entry(3, "u_bob", "") };
    let first = stored(store.append(append("c_1", 1, "a")).await);
    let entries = vec![odd.clone(), silent.clone()];
    let second = stored(store.append(Append { entries, ..append("c_1", 2, "") }).await);
    assert!(second > first, "stamps rise");
    let log = store.range(&conv("c_1"), Range::After(0), 10).await.unwrap();
    assert_eq!(log, [entry(1, "u_ada", "a"), odd, silent]);
    let meta = store.metas(&[conv("c_1")]).await.unwrap().remove(0).unwrap();
    assert_eq!((meta.head, meta.changed), (3, second));
}

pub async fn an_append_to_an_unknown_conversation_is_refused<S: Store>(store: S) {
    assert_eq!(store.append(append("c_1", 1, "a")).await, Err(StoreError::NoConversation));
    assert_eq!(store.metas(&[conv("c_1")]).await.unwrap(), [None]);
    assert_eq!(store.last_entries(&[conv("c_1")]).await.unwrap(), [None]);
}

pub async fn an_append_that_breaks_a_rule_is_refused_and_writes_nothing<S: Store>(store: S) {
    let made = make(&store, "c_1", &["u_ada"]).await;
    let good = Append { name: Some("Fish".into()), index: vec![head("u_ada", 9)], ..append("c_1", 1, "a") };
    let with = |entries: Vec<Entry>| Append { entries, ..good.clone() };
    let many = (1..=APPEND_ENTRIES_MAX as u64 + 1).map(|seq| entry(seq, "u_ada", "x")).collect();
    for (name, bad) in [
        ("no entries", with(vec![])),
        ("too many entries", with(many)),
        ("too many bytes", with(vec![entry(1, "u_ada", &"x".repeat(APPEND_BYTES_MAX))])),
        ("numbered from elsewhere", with(vec![entry(2, "u_ada", "a")])),
        ("numbered with a gap", with(vec![entry(1, "u_ada", "a"), entry(3, "u_ada", "b")])),
        ("seq 0", Append { expected: 0, ..with(vec![entry(0, "u_ada", "a")]) }),
        ("the last seq", Append { expected: u64::MAX, ..with(vec![entry(u64::MAX, "u_ada", "a")]) }),
        ("no role", Append { members: vec![change("u_bob", Some(Role::Unspecified))], ..good.clone() }),
        ("long name", Append { name: Some("x".repeat(crate::NAME_BYTES_MAX + 1)), ..good.clone() }),
    ] {
        let result = store.append(bad).await;
        assert!(matches!(result, Err(StoreError::BadRequest(_))), "{name}: {result:?}");
    }
    assert_eq!(store.metas(&[conv("c_1")]).await.unwrap(), [Some(made)]);
    assert_eq!(store.rows(&conv("c_1"), &[user("u_ada")]).await.unwrap()[0].as_ref().unwrap().head, 0);
    stored(store.append(good).await);
}

pub async fn an_append_at_another_head_gets_the_tail_and_writes_nothing<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada", "u_bob"]).await;
    for seq in 1..=5 {
        stored(store.append(append("c_1", seq, &seq.to_string())).await);
    }
    let before = store.metas(&[conv("c_1")]).await.unwrap();
    for (expected, tail) in [(5, 5..6), (2, 2..6), (1, 1..6), (7, 0..0), (100, 0..0)] {
        let late = Append {
            index: vec![head("u_bob", 50)],
            members: vec![change("u_eve", Some(Role::Member)), change("u_bob", None)],
            name: Some("Fish".into()),
            open: Some(true),
            ..append("c_1", expected, "late")
        };
        let tail = tail.map(|seq| entry(seq, "u_ada", &seq.to_string())).collect();
        assert_eq!(store.append(late).await, Ok(Appended::Conflict { tail, head: 5 }), "expected {expected}");
    }
    assert_eq!(store.metas(&[conv("c_1")]).await.unwrap(), before);
    let members = store.members(&conv("c_1")).await.unwrap();
    assert_eq!(members, [member("u_ada", Role::Owner), member("u_bob", Role::Member)]);
    assert_eq!(store.rows(&conv("c_1"), &[user("u_bob")]).await.unwrap()[0].as_ref().unwrap().head, 0);
    stored(store.append(append("c_1", 6, "6")).await);
}

pub async fn a_long_tail_is_cut<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada"]).await;
    let length = CONFLICT_ENTRIES_MAX as u64 + 10;
    for first in (1..=length).step_by(100) {
        let entries = (first..=length.min(first + 99)).map(|seq| entry(seq, "u_ada", "x")).collect();
        stored(store.append(Append { entries, ..append("c_1", first, "") }).await);
    }
    match store.append(append("c_1", 3, "late")).await {
        Ok(Appended::Conflict { tail, head }) => {
            assert_eq!(head, length);
            assert_eq!((tail.len(), tail[0].seq), (CONFLICT_ENTRIES_MAX, 3));
        }
        other => panic!("{other:?}"),
    }
}

pub async fn f23_a_log_is_read_in_pages_both_ways<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada"]).await;
    for seq in 1..=10 {
        stored(store.append(append("c_1", seq, "x")).await);
    }
    for (range, limit, seqs) in [
        (Range::After(0), 3, 1..4),
        (Range::After(3), 3, 4..7),
        (Range::After(8), 3, 9..11),
        (Range::After(10), 3, 0..0),
        (Range::After(u64::MAX), 3, 0..0),
        (Range::After(0), 0, 0..0),
        (Range::After(0), usize::MAX, 1..11),
        (Range::Before(u64::MAX), 3, 8..11),
        (Range::Before(8), 3, 5..8),
        (Range::Before(3), 3, 1..3),
        (Range::Before(1), 3, 0..0),
        (Range::Before(0), 3, 0..0),
        (Range::Before(11), 0, 0..0),
        (Range::Before(11), usize::MAX, 1..11),
    ] {
        let page = store.range(&conv("c_1"), range, limit).await.unwrap();
        let found: Vec<u64> = page.iter().map(|entry| entry.seq).collect();
        assert_eq!(found, seqs.collect::<Vec<u64>>(), "{range:?}, at most {limit}");
    }
}

pub async fn reading_what_is_not_there_gives_nothing<S: Store>(store: S) {
    assert_eq!(store.range(&conv("c_1"), Range::After(0), 9).await.unwrap(), []);
    assert_eq!(store.range(&conv("c_1"), Range::Before(9), 9).await.unwrap(), []);
    assert_eq!(store.members(&conv("c_1")).await.unwrap(), []);
    assert_eq!(store.rows(&conv("c_1"), &[user("u_ada")]).await.unwrap(), [None]);
    assert_eq!(store.users(&[user("u_ada")]).await.unwrap(), [None]);
    assert_eq!(store.search("", 9).await.unwrap(), []);
    assert_eq!(store.last_change(&user("u_ada")).await.unwrap(), 0);
    let page = store.index(&user("u_ada"), 0, 9).await.unwrap();
    assert_eq!((page.rows, page.stamp, page.more), (vec![], 0, false));
    assert_eq!(store.metas(&[]).await.unwrap(), []);
    store.mark(vec![]).await.unwrap();
    store.put_users(vec![]).await.unwrap();
}

pub async fn answers_keep_the_order_of_the_question<S: Store>(store: S) {
    for id in ["c_1", "c_2", "c_3"] {
        make(&store, id, &["u_ada"]).await;
    }
    stored(store.append(append("c_3", 1, "three")).await);
    stored(store.append(append("c_1", 1, "one")).await);
    stored(store.append(append("c_1", 2, "uno")).await);
    let asked = [conv("c_3"), conv("c_9"), conv("c_2"), conv("c_1"), conv("c_3")];
    let last = store.last_entries(&asked).await.unwrap();
    let texts: Vec<_> = last.iter().map(|entry| entry.as_ref().map(|entry| entry.body.text.as_str())).collect();
    assert_eq!(texts, [Some("three"), None, None, Some("uno"), Some("three")]);
    let metas = store.metas(&asked).await.unwrap();
    let heads: Vec<_> = metas.iter().map(|meta| meta.as_ref().map(|meta| meta.head)).collect();
    assert_eq!(heads, [Some(1), None, Some(0), Some(2), Some(1)]);
}

pub async fn an_append_changes_the_name_and_openness_it_carries<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada"]).await;
    for (name, open, want) in [
        (Some("Fish"), None, ("Fish", false)),
        (None, Some(true), ("Fish", true)),
        (None, None, ("Fish", true)),
        (Some(""), Some(false), ("", false)),
    ] {
        let head = store.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().head;
        let change = Append { name: name.map(str::to_owned), open, ..append("c_1", head + 1, "x") };
        stored(store.append(change).await);
        let meta = store.metas(&[conv("c_1")]).await.unwrap().remove(0).unwrap();
        assert_eq!((meta.name.as_str(), meta.open), want);
    }
}

pub async fn conversations_whose_ids_begin_alike_stay_apart<S: Store>(store: S) {
    for id in ["c_1", "c_11", "c_1-", "c_1."] {
        make(&store, id, &["u_ada", "u_ad", "u_adaa"]).await;
        stored(store.append(append(id, 1, id)).await);
    }
    for id in ["c_1", "c_11", "c_1-", "c_1."] {
        let log = store.range(&conv(id), Range::After(0), 10).await.unwrap();
        assert_eq!(log, [entry(1, "u_ada", id)]);
        assert_eq!(store.members(&conv(id)).await.unwrap().len(), 3);
    }
    assert_eq!(store.index(&user("u_ad"), 0, 100).await.unwrap().rows.len(), 4);
}

pub async fn channels_have_logs_like_any_other<S: Store>(store: S) {
    let meta = ConvMeta { kind: Kind::Channel, name: "news".into(), ..group("news") };
    store.create(meta, vec![]).await.unwrap();
    stored(store.append(append("news", 1, "hello")).await);
    assert_eq!(store.metas(&[conv("news")]).await.unwrap()[0].as_ref().unwrap().kind, Kind::Channel);
    assert_eq!(store.members(&conv("news")).await.unwrap(), []);
}
