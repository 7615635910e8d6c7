//! Users and the search for them.
#![allow(missing_docs, reason = "each name is the rule")]

use super::user;
use crate::{NAME_BYTES_MAX, Store, StoreError, User};

fn named(id: &str, name: &str) -> User {
    User { user: user(id), name: name.to_owned(), created_ms: 1_790_000_000_000, last_seen_ms: 0 }
}

async fn found<S: Store>(store: &S, prefix: &str, limit: usize) -> Vec<String> {
    let users = store.search(prefix, limit).await.unwrap();
    users.into_iter().map(|user| user.user.to_string()).collect()
}

pub async fn users_come_back_in_the_order_asked<S: Store>(store: S) {
    let (ada, bob) = (named("u_ada", "Ada"), User { last_seen_ms: 7, ..named("u_bob", "Bob") });
    store.put_users(vec![ada.clone(), bob.clone()]).await.unwrap();
    let asked = [user("u_bob"), user("u_eve"), user("u_ada"), user("u_bob")];
    assert_eq!(store.users(&asked).await.unwrap(), [Some(bob.clone()), None, Some(ada), Some(bob)]);
}

pub async fn a_newer_record_replaces_the_older_but_last_seen_never_goes_back<S: Store>(store: S) {
    store.put_users(vec![User { last_seen_ms: 50, ..named("u_ada", "Ada") }]).await.unwrap();
    let newer = User { created_ms: 3, last_seen_ms: 20, ..named("u_ada", "Ada L.") };
    store.put_users(vec![newer.clone()]).await.unwrap();
    let kept = User { last_seen_ms: 50, ..newer.clone() };
    assert_eq!(store.users(&[user("u_ada")]).await.unwrap(), [Some(kept)]);
    // Twice in one call: the last one stands, the highest time too.
    let twice = vec![User { last_seen_ms: 90, ..newer.clone() }, User { last_seen_ms: 60, ..named("u_ada", "A") }];
    store.put_users(twice).await.unwrap();
    let last = User { last_seen_ms: 90, ..named("u_ada", "A") };
    assert_eq!(store.users(&[user("u_ada")]).await.unwrap(), [Some(last)]);
    assert_eq!(found(&store, "", 10).await, ["u_ada"]);
}

pub async fn search_finds_prefixes_whatever_the_case<S: Store>(store: S) {
    let names = [("u_1", "Ada"), ("u_2", "adam"), ("u_3", "Bob"), ("u_4", "Äda"), ("u_5", "ΑΣΑ")];
    store.put_users(names.map(|(id, name)| named(id, name)).to_vec()).await.unwrap();
    for (prefix, want) in [
        ("ad", &["u_1", "u_2"][..]),
        ("ADA", &["u_1", "u_2"]),
        ("adam", &["u_2"]),
        ("adams", &[]),
        ("d", &[]),
        ("ä", &["u_4"]),
        ("ΑΣ", &["u_5"]),
        ("", &["u_1", "u_2", "u_3", "u_4", "u_5"]),
    ] {
        assert_eq!(found(&store, prefix, 10).await, want, "{prefix:?}");
    }
}

pub async fn search_is_ordered_by_name_then_id_and_cut<S: Store>(store: S) {
    let names = [("u_9", "ada"), ("u_1", "Adam"), ("u_2", "ADA"), ("u_3", "ad"), ("u_4", "ada b")];
    store.put_users(names.map(|(id, name)| named(id, name)).to_vec()).await.unwrap();
    assert_eq!(found(&store, "ad", 10).await, ["u_3", "u_2", "u_9", "u_4", "u_1"]);
    assert_eq!(found(&store, "ad", 2).await, ["u_3", "u_2"]);
    assert_eq!(found(&store, "ad", 0).await, [""; 0]);
}

pub async fn search_follows_a_change_of_name<S: Store>(store: S) {
    store.put_users(vec![named("u_1", "Ada")]).await.unwrap();
    store.put_users(vec![named("u_1", "Eve")]).await.unwrap();
    assert_eq!(found(&store, "ada", 10).await, [""; 0]);
    assert_eq!(found(&store, "eve", 10).await, ["u_1"]);
    // There and back again within one call, and a change of case alone.
    store.put_users(vec![named("u_1", "Ada"), named("u_1", "Eve"), named("u_1", "EVE")]).await.unwrap();
    assert_eq!(found(&store, "ada", 10).await, [""; 0]);
    assert_eq!(store.search("eve", 10).await.unwrap(), [named("u_1", "EVE")]);
}

pub async fn names_of_any_characters_are_kept_and_found<S: Store>(store: S) {
    let names =
        [("u_1", ""), ("u_2", "\0"), ("u_3", "\0a"), ("u_4", "\u{1}"), ("u_5", "a\0b"), ("u_6", "🐦 "), ("u_7", "a")];
    let users = names.map(|(id, name)| named(id, name)).to_vec();
    store.put_users(users.clone()).await.unwrap();
    assert_eq!(found(&store, "", 10).await, ["u_1", "u_2", "u_3", "u_4", "u_7", "u_5", "u_6"]);
    for (prefix, want) in [("\0", &["u_2", "u_3"][..]), ("a\0", &["u_5"]), ("🐦", &["u_6"]), ("\u{1}", &["u_4"])] {
        assert_eq!(found(&store, prefix, 10).await, want, "{prefix:?}");
    }
    let ids = names.map(|(id, _)| user(id));
    assert_eq!(store.users(&ids).await.unwrap(), users.into_iter().map(Some).collect::<Vec<_>>());
}

pub async fn a_name_above_the_limit_is_refused<S: Store>(store: S) {
    let users = |bytes| vec![named("u_1", "Ada"), named("u_2", &"x".repeat(bytes))];
    let error = store.put_users(users(NAME_BYTES_MAX + 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::BadRequest(_)));
    assert_eq!(found(&store, "", 10).await, [""; 0], "all or nothing");
    store.put_users(users(NAME_BYTES_MAX)).await.unwrap();
    assert_eq!(found(&store, "x", 10).await, ["u_2"]);
}
