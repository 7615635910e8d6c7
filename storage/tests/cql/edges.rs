//! Where one bucket ends and the next begins; two nodes that append to one conversation.

use roost_storage::testkit::conformance::{append, conv, entry, group, user};
use roost_storage::testkit::run;
use roost_storage::{
    APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Append, Appended, CqlStore, Entry, IndexUpdate, Member, MemberChange, Range,
    Store,
};
use roost_wire::Seq;
use roost_wire::pb::{Body, Role};

use super::two;

async fn say(store: &CqlStore, expected: Seq, count: u64) -> Appended {
    let entries = (expected..expected + count).map(|seq| entry(seq, "u_ada", &seq.to_string())).collect();
    let index = vec![IndexUpdate { user: user("u_bob"), head: Some(expected + count - 1), read: None }];
    store.append(Append { entries, index, ..append("c_1", expected, "") }).await.unwrap()
}

/// Appends until the head is `head`.
async fn fill(store: &CqlStore, head: Seq) {
    let member = |id: &str| Member { user: user(id), role: Role::Member };
    store.create(group("c_1"), vec![member("u_ada"), member("u_bob")]).await.unwrap();
    let mut at = 0;
    while at < head {
        let count = (APPEND_ENTRIES_MAX as u64).min(head - at);
        assert!(matches!(say(store, at + 1, count).await, Appended::Stored { .. }));
        at += count;
    }
}

/// The log around the edge reads the same from every side, by a node that knows it and by one that does not.
async fn reads_well(store: &CqlStore, head: Seq) {
    let seqs = |log: Vec<Entry>| log.into_iter().map(|entry| entry.seq).collect::<Vec<_>>();
    assert_eq!(store.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().head, head);
    assert_eq!(store.last_entries(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().seq, head);
    let all = store.range(&conv("c_1"), Range::After(0), usize::MAX).await.unwrap();
    assert_eq!(seqs(all), (1..=head).collect::<Vec<_>>());
    for at in [4000, 4090, 4094, 4095, 4096, 4097, 4200, 4350, 4351, 4352].into_iter().filter(|at| *at < head) {
        let after = store.range(&conv("c_1"), Range::After(at), 10).await.unwrap();
        assert_eq!(seqs(after), (at + 1..=head.min(at + 10)).collect::<Vec<_>>(), "after {at} of {head}");
        let before = store.range(&conv("c_1"), Range::Before(at), 300).await.unwrap();
        assert_eq!(seqs(before), (at - 300..at).collect::<Vec<_>>(), "before {at} of {head}");
    }
    let last = store.range(&conv("c_1"), Range::Before(u64::MAX), 300).await.unwrap();
    assert_eq!(seqs(last), (head - 299..=head).collect::<Vec<_>>());
    assert_eq!(seqs(store.range(&conv("c_1"), Range::After(head), 10).await.unwrap()), [] as [u64; 0]);
    let row = store.rows(&conv("c_1"), &[user("u_bob")]).await.unwrap().remove(0).unwrap();
    assert_eq!(row.head, head);
}

#[test]
fn an_append_over_the_edge_of_a_bucket_is_one_append() {
    run(async {
        let (first, second) = two().await;
        fill(&first, 4090).await;
        reads_well(&second, 4090).await;
        // 4091 to 4290: stays in the first bucket, which is then full.
        assert!(matches!(say(&second, 4091, 200).await, Appended::Stored { .. }));
        reads_well(&first, 4290).await;
        // A node that thinks it is still at 4090 gets all of it.
        let answer = say(&first, 4091, 5).await;
        assert!(matches!(&answer, Appended::Conflict { tail, head: 4290 } if tail.len() == 200), "{answer:?}");
        // The first of the second bucket, by both, then one on top.
        let (a, b) = tokio::join!(say(&first, 4291, 3), say(&second, 4291, 4));
        let stored = [&a, &b].map(|answer| matches!(answer, Appended::Stored { .. }));
        assert_eq!(stored.iter().filter(|stored| **stored).count(), 1, "{a:?} {b:?}");
        let head = if stored[0] { 4293 } else { 4294 };
        let conflict = if stored[0] { b } else { a };
        assert!(
            matches!(&conflict, Appended::Conflict { tail, head: at } if *at == head && tail[0].seq == 4291),
            "{conflict:?}"
        );
        assert!(matches!(say(&second, head + 1, 1).await, Appended::Stored { .. }));
        reads_well(&first, head + 1).await;
        reads_well(&second, head + 1).await;
        assert!(matches!(say(&first, head + 2, 256).await, Appended::Stored { .. }));
        reads_well(&second, head + 257).await;
    });
}

#[test]
fn a_bucket_that_ends_exactly_is_followed_by_the_next() {
    run(async {
        let (first, second) = two().await;
        fill(&first, 4095).await;
        reads_well(&second, 4095).await;
        assert!(matches!(say(&second, 4096, 1).await, Appended::Stored { .. }));
        reads_well(&first, 4096).await;
        reads_well(&second, 4096).await;
        // Members and a new name are found behind the edge too.
        let members = vec![MemberChange { user: user("u_eve"), role: Some(Role::Member) }];
        let change = Append { members, name: Some("Owls".to_owned()), ..append("c_1", 4097, "x") };
        assert!(matches!(first.append(change).await, Ok(Appended::Stored { .. })));
        assert_eq!(second.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().name, "Owls");
        assert_eq!(second.members(&conv("c_1")).await.unwrap().len(), 3);
    });
}

#[test]
fn two_nodes_that_race_leave_a_gapless_log_with_every_entry_once() {
    const EACH: u64 = 60;
    run(async {
        let (first, second) = two().await;
        fill(&first, 1).await;
        let race = async |store: &CqlStore, name: &str| {
            let mut stored = Vec::new();
            let mut expected = 1;
            for turn in 0..EACH {
                loop {
                    let text = format!("{name}{turn}");
                    let index = vec![IndexUpdate { user: user("u_bob"), head: Some(expected), read: None }];
                    match store.append(Append { index, ..append("c_1", expected, &text) }).await.unwrap() {
                        Appended::Stored { .. } => {
                            stored.push((expected, text));
                            expected += 1;
                            break;
                        }
                        Appended::Conflict { tail, head } => {
                            assert!(tail.iter().zip(expected..).all(|(entry, seq)| entry.seq == seq));
                            expected = head + 1;
                        }
                    }
                }
            }
            stored
        };
        let (mut stored, more) = tokio::join!(race(&first, "a"), race(&second, "b"));
        stored.extend(more);
        stored.sort();
        let log = first.range(&conv("c_1"), Range::After(1), usize::MAX).await.unwrap();
        let log: Vec<_> = log.into_iter().map(|entry| (entry.seq, entry.body.text)).collect();
        assert_eq!(log, stored);
        assert_eq!(log.len() as u64, 2 * EACH);
        let row = second.rows(&conv("c_1"), &[user("u_bob")]).await.unwrap().remove(0).unwrap();
        assert_eq!(row.head, 1 + 2 * EACH);
    });
}

#[test]
fn the_largest_append_fits_into_one_batch() {
    run(async {
        let (first, second) = two().await;
        fill(&first, 0).await;
        let text = "x".repeat(APPEND_BYTES_MAX / APPEND_ENTRIES_MAX - 16);
        let entries: Vec<_> = (1..=APPEND_ENTRIES_MAX as u64)
            .map(|seq| Entry {
                body: Body { text: text.clone(), event: None },
                ..entry(seq, "u_ada", &seq.to_string())
            })
            .collect();
        let whole = Append { entries: entries.clone(), ..append("c_1", 1, "") };
        assert!(matches!(first.append(whole).await, Ok(Appended::Stored { .. })));
        assert_eq!(second.range(&conv("c_1"), Range::After(0), usize::MAX).await.unwrap(), entries);
    });
}

#[test]
fn a_large_group_is_made_whole() {
    run(async {
        let (first, second) = two().await;
        let id = |place| format!("u_{place:04}");
        let members: Vec<_> = (0..2_000).map(|place| Member { user: user(&id(place)), role: Role::Member }).collect();
        first.create(group("c_1"), members.clone()).await.unwrap();
        assert_eq!(second.members(&conv("c_1")).await.unwrap(), members);
        assert_eq!(second.index(&user("u_1999"), 0, 9).await.unwrap().rows.len(), 1);
    });
}
