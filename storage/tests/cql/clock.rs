//! Stamps of nodes whose idea of the time differs by an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use roost_storage::testkit::conformance::{append, conv, group, user};
use roost_storage::testkit::run;
use roost_storage::{Append, Appended, CqlOptions, CqlStore, IndexUpdate, Member, Stamp, Store};
use roost_wire::pb::Role;

use super::{server, two};

const HOUR_MS: i64 = 3_600_000;

async fn say(store: &CqlStore, id: &str) -> Stamp {
    let head = store.metas(&[conv(id)]).await.unwrap()[0].as_ref().unwrap().head;
    let index = vec![IndexUpdate { user: user("u_bob"), head: Some(head + 1), read: None }];
    match store.append(Append { index, ..append(id, head + 1, "x") }).await.unwrap() {
        Appended::Stored { stamp } => stamp,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_conversation_changes_upwards_whatever_its_writers_think_of_the_time() {
    run(async {
        let (ahead, behind) = two().await;
        ahead.shift_clock(HOUR_MS);
        behind.shift_clock(-HOUR_MS);
        ahead.create(group("c_1"), vec![Member { user: user("u_bob"), role: Role::Member }]).await.unwrap();
        let mut last = 0;
        for turn in 0..6 {
            let store = if turn % 2 == 0 { &ahead } else { &behind };
            let stamp = say(store, "c_1").await;
            assert!(stamp > last, "turn {turn}");
            last = stamp;
            assert_eq!(behind.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().changed, stamp);
        }
        let row = behind.rows(&conv("c_1"), &[user("u_bob")]).await.unwrap().remove(0).unwrap();
        assert_eq!((row.head, row.changed), (6, last));
    });
}

/// A node looks at the servers' clock, and never at its own: that of the process may be anywhere.
#[test]
fn tokens_of_one_node_miss_nothing_that_another_writes() {
    run(async {
        let options = CqlOptions { settle: Some(Duration::from_secs(2)), ..server().options() };
        let (reads, writes) = (server().open(&options).await, server().open(&options).await);
        for id in ["c_1", "c_2"] {
            writes.create(group(id), vec![Member { user: user("u_bob"), role: Role::Member }]).await.unwrap();
        }
        let (mut token, mut heads) = (0, BTreeMap::new());
        let mut sync = async || {
            let settled = reads.settled();
            let page = reads.index(&user("u_bob"), token, 9).await.unwrap();
            token = page.stamp.min(settled);
            heads.extend(page.rows.into_iter().map(|row| (row.conv.as_str().to_owned(), row.head)));
            heads.clone()
        };
        for turn in 1..=8_u64 {
            say(&writes, "c_1").await;
            let told = sync().await;
            assert_eq!(told["c_1"], turn, "turn {turn}");
            say(&writes, "c_2").await;
        }
        assert_eq!(sync().await["c_2"], 8);
    });
}

#[test]
fn no_source_of_the_store_reads_the_clock_of_the_machine() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cql");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("SystemTime"), "{}", path.display());
        files += 1;
    }
    assert!(files > 10);
}
