//! Many callers at once.
#![allow(missing_docs, reason = "each name is the rule")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use roost_wire::Seq;
use roost_wire::pb::Role;

use super::{append, conv, entry, group, head, make, member, stored, user};
use crate::{Append, Appended, Range, Store};

/// Appends `text` wherever the head is; returns its seq.
async fn append_somewhere<S: Store>(store: &S, id: &str, text: &str) -> Seq {
    let mut expected = 1;
    loop {
        let index = vec![head("u_ada", expected), head("u_bob", expected)];
        match store.append(Append { index, ..append(id, expected, text) }).await.expect("append") {
            Appended::Stored { .. } => return expected,
            Appended::Conflict { tail, head } => {
                assert!(tail.iter().all(|entry| entry.body.text != text), "a conflict writes nothing");
                assert!(tail.iter().zip(expected..).all(|(entry, seq)| entry.seq == seq), "a tail has no gap");
                expected = head + 1;
            }
        }
    }
}

pub async fn racing_appends_leave_a_gapless_log_with_every_entry_once<S: Store>(store: S) {
    const TASKS: usize = 64;
    const EACH: usize = 4;
    make(&store, "c_1", &["u_ada", "u_bob"]).await;
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut seqs = Vec::new();
                for turn in 0..EACH {
                    let text = format!("{task}/{turn}");
                    seqs.push((append_somewhere(&*store, "c_1", &text).await, text));
                }
                seqs
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("a task"));
    }
    acknowledged.sort();
    let log = store.range(&conv("c_1"), Range::After(0), usize::MAX).await.unwrap();
    let stored: Vec<_> = log.into_iter().map(|entry| (entry.seq, entry.body.text)).collect();
    assert_eq!(stored, acknowledged, "what was acknowledged is the log, in its order");
    assert!(stored.iter().zip(1..).all(|((seq, _), place)| *seq == place));
    let texts: BTreeSet<_> = stored.iter().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), TASKS * EACH);
    let head = (TASKS * EACH) as Seq;
    assert_eq!(store.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().head, head);
    assert_eq!(store.rows(&conv("c_1"), &[user("u_bob")]).await.unwrap()[0].as_ref().unwrap().head, head);
}

pub async fn racing_creations_have_one_winner<S: Store>(store: S) {
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let meta = crate::ConvMeta { name: format!("name {task}"), ..group("c_1") };
                store.create(meta, vec![member(&format!("u_{task}"), Role::Owner)]).await.expect("create")
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("a task"));
    }
    assert_eq!(answers.iter().filter(|(_, made)| *made).count(), 1);
    assert!(answers.iter().all(|(meta, _)| *meta == answers[0].0), "all see the same conversation");
    assert_eq!(store.members(&conv("c_1")).await.unwrap().len(), 1);
}

pub async fn what_has_resolved_is_seen_by_every_read<S: Store>(store: S) {
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let id = format!("c_{task}");
                make(&*store, &id, &["u_ada", "u_bob"]).await;
                for seq in 1..=10 {
                    let index = vec![head("u_bob", seq)];
                    let stamp = stored(store.append(Append { index, ..append(&id, seq, "x") }).await);
                    assert_eq!(store.range(&conv(&id), Range::After(seq - 1), 9).await.unwrap().len(), 1);
                    let last = store.last_entries(&[conv(&id)]).await.unwrap();
                    assert_eq!(last, [Some(entry(seq, "u_ada", "x"))]);
                    assert_eq!(store.metas(&[conv(&id)]).await.unwrap()[0].as_ref().unwrap().changed, stamp);
                    let row = store.rows(&conv(&id), &[user("u_bob")]).await.unwrap().remove(0).unwrap();
                    assert_eq!((row.head, row.changed), (seq, stamp));
                    assert!(store.last_change(&user("u_bob")).await.unwrap() >= stamp);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task");
    }
}

/// A client that keeps paging sees, once all is quiet, the last state of every row: from the stamp it was given, but
/// never from above what was settled when it began a round.
pub async fn paging_an_index_while_others_write_misses_nothing<S: Store>(store: S) {
    const CONVS: usize = 8;
    const EACH: Seq = 40;
    for place in 0..CONVS {
        make(&store, &format!("c_{place}"), &["u_ada", "u_bob"]).await;
    }
    let (store, done) = (Arc::new(store), Arc::new(AtomicBool::new(false)));
    let reader = tokio::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        async move {
            let (mut token, mut heads) = (0, std::collections::BTreeMap::new());
            loop {
                let (quiet, settled) = (done.load(Relaxed), store.settled());
                let mut since = token;
                loop {
                    let page = store.index(&user("u_bob"), since, 3).await.expect("index");
                    for row in page.rows {
                        let head = heads.entry(row.conv).or_insert(0);
                        *head = row.head.max(*head);
                    }
                    if !page.more {
                        token = page.stamp.min(settled);
                        break;
                    }
                    assert!(page.stamp > since, "paging goes on");
                    since = page.stamp;
                }
                if quiet {
                    return heads;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let writers: Vec<_> = (0..CONVS)
        .map(|place| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for seq in 1..=EACH {
                    let id = format!("c_{place}");
                    let index = vec![head("u_bob", seq)];
                    stored(store.append(Append { index, ..append(&id, seq, "x") }).await);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    done.store(true, Relaxed);
    let heads = reader.await.expect("the reader");
    assert_eq!(heads.len(), CONVS);
    assert!(heads.values().all(|head| *head == EACH), "{heads:?}");
}

pub async fn a_dropped_append_happens_whole_or_not_at_all<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada", "u_bob"]).await;
    let store = Arc::new(store);
    for _ in 0..20 {
        let expected = store.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().head + 1;
        let entries = vec![entry(expected, "u_ada", "a"), entry(expected + 1, "u_ada", "b")];
        let index = vec![head("u_bob", expected + 1)];
        let whole = Append { entries, index, ..append("c_1", expected, "") };
        let task = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.append(whole).await }
        });
        tokio::task::yield_now().await;
        task.abort();
        let _ = task.await;
    }
    // Whatever happened before this append has happened.
    append_somewhere(&*store, "c_1", "last").await;
    let log = store.range(&conv("c_1"), Range::After(0), usize::MAX).await.unwrap();
    let texts: Vec<_> = log.iter().map(|entry| entry.body.text.as_str()).collect();
    assert_eq!(texts.len() % 2, 1);
    assert!(texts[..texts.len() - 1].chunks(2).all(|pair| pair == ["a", "b"]), "{texts:?}");
    assert_eq!(texts.last(), Some(&"last"));
    let row = store.rows(&conv("c_1"), &[user("u_bob")]).await.unwrap().remove(0).unwrap();
    assert_eq!(row.head, texts.len() as Seq);
}
