//! The store that fails on demand does so when it was told to, and only then.

use std::time::Duration;

use roost_storage::testkit::conformance::{append, conv, group};
use roost_storage::testkit::{Effect, FaultyStore, Op, run};
use roost_storage::{Appended, MemoryStore, Store, StoreError};

fn refused() -> StoreError {
    StoreError::Unavailable("a test says so".into())
}

#[test]
fn the_nth_call_fails_once_and_the_others_go_through() {
    run(async {
        let store = FaultyStore::new(MemoryStore::default());
        store.create(group("c_1"), vec![]).await.unwrap();
        store.inject(Op::Append, 2, Effect::Refuse(refused()));
        store.inject(Op::Append, 3, Effect::Refuse(StoreError::DiskFull));
        assert!(matches!(store.append(append("c_1", 1, "a")).await, Ok(Appended::Stored { .. })));
        assert!(store.metas(&[conv("c_1")]).await.is_ok(), "other operations do not count");
        assert_eq!(store.append(append("c_1", 2, "b")).await, Err(refused()));
        assert_eq!(store.append(append("c_1", 2, "b")).await, Err(StoreError::DiskFull));
        assert!(store.spent());
        assert!(matches!(store.append(append("c_1", 2, "b")).await, Ok(Appended::Stored { .. })));
        assert_eq!(store.calls(Op::Append), 4);
    });
}

#[test]
fn a_lost_answer_hides_a_write_that_happened() {
    run(async {
        let store = FaultyStore::new(MemoryStore::default());
        store.create(group("c_1"), vec![]).await.unwrap();
        let unknown = StoreError::Unknown("the line broke".into());
        store.inject(Op::Append, 1, Effect::LoseAnswer(unknown.clone()));
        assert_eq!(store.append(append("c_1", 1, "a")).await, Err(unknown));
        let metas = store.inner().metas(&[conv("c_1")]).await.unwrap();
        assert_eq!(metas[0].as_ref().unwrap().head, 1);
    });
}

#[test]
fn a_hanging_call_never_answers_but_happened() {
    run(async {
        let store = FaultyStore::new(MemoryStore::default());
        store.create(group("c_1"), vec![]).await.unwrap();
        store.inject(Op::Append, 1, Effect::Hang);
        let answer = tokio::time::timeout(Duration::from_millis(20), store.append(append("c_1", 1, "a"))).await;
        assert!(answer.is_err());
        let metas = store.metas(&[conv("c_1")]).await.unwrap();
        assert_eq!(metas[0].as_ref().unwrap().head, 1);
    });
}
