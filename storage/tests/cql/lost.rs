//! Servers that lost what they acknowledged, as a single one does that syncs its commit log from time to time and is killed:
//! nodes that remember more go on with what is left.

use roost_storage::testkit::conformance::{append, conv, group, user};
use roost_storage::testkit::run;
use roost_storage::{Appended, CqlStore, Member, Store};
use roost_wire::pb::Role;
use std::sync::atomic::Ordering::Relaxed;

use super::schema::session;
use super::server;

async fn three_said(store: &CqlStore) {
    let members = ["u_ada", "u_bob"].map(|id| Member { user: user(id), role: Role::Member });
    store.create(group("c_1"), members.to_vec()).await.unwrap();
    for seq in 1..=3 {
        assert!(matches!(store.append(append("c_1", seq, "x")).await, Ok(Appended::Stored { .. })));
    }
}

#[test]
fn a_conversation_that_lost_its_end_goes_on_below_what_was_remembered() {
    run(async {
        let options = server().options();
        let store = server().open(&options).await;
        three_said(&store).await;
        let (raw, table) = (session(&options).await, format!("{}.log", options.keyspace));
        for lost in [
            format!("UPDATE {table} SET head = 1, done = 1 WHERE conv = 'c_1' AND bucket = 0"),
            format!("DELETE FROM {table} WHERE conv = 'c_1' AND bucket = 0 AND seq IN (2, 3)"),
        ] {
            raw.query_unpaged(lost, ()).await.unwrap();
        }
        let answer = store.append(append("c_1", 4, "four")).await.unwrap();
        assert!(matches!(&answer, Appended::Conflict { tail, head: 1 } if tail.is_empty()), "{answer:?}");
        assert_eq!(store.metrics().losses.load(Relaxed), 1, "told once");
        let answer = store.append(append("c_1", 2, "two again")).await.unwrap();
        assert!(matches!(answer, Appended::Stored { .. }), "{answer:?}");
        assert_eq!(store.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().head, 2);
        assert_eq!(store.metrics().losses.load(Relaxed), 1);
    });
}

#[test]
fn a_conversation_that_vanished_can_be_made_anew() {
    run(async {
        let options = server().options();
        let store = server().open(&options).await;
        three_said(&store).await;
        let raw = session(&options).await;
        for table in ["log", "members", "index_rows"] {
            raw.query_unpaged(format!("TRUNCATE {}.{table}", options.keyspace), ()).await.unwrap();
        }
        assert_eq!(store.metas(&[conv("c_1")]).await.unwrap(), [None]);
        three_said(&store).await;
        let rows = store.index(&user("u_bob"), 0, 9).await.unwrap().rows;
        assert_eq!(rows.len(), 1, "rows that were known are written again");
    });
}
