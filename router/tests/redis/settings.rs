//! Settings that all nodes share.

use std::sync::Arc;

use roost_fixtures::redis::Redis;
use roost_router::redis::{Followed, Refused, SETTINGS_BYTES_MAX, SettingsError};
use tokio::sync::watch::Receiver;

use crate::kit::{NEVER, cluster_name, join, metric, options, redis, until};

/// Settings of this test: a number.
fn check(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

#[tokio::test]
async fn a_change_is_followed_by_all_nodes_and_a_bad_one_is_refused_and_told() {
    let options = options(&redis().url(), &cluster_name());
    let (a, _a) = join(&options, "a").await;
    let (b, _b) = join(&options, "b").await;
    assert_eq!(a.settings().get().await.unwrap(), None);
    let (at_a, at_b) = (a.settings().follow(check), b.settings().follow(check));
    let first = a.settings().set("1", Some(0)).await.unwrap();
    let used = |version, value| {
        let mine = |followed: &Receiver<Arc<Followed<u32>>>| {
            let followed = followed.borrow();
            followed.version == version && followed.value.as_deref() == Some(&value)
        };
        mine(&at_a) && mine(&at_b)
    };
    until("both use it", || used(first, 1)).await;
    let bad = b.settings().set("many", Some(first)).await.unwrap();
    let refused = Some(Refused { version: bad, reason: "\"many\" is no number".to_owned() });
    until("both refuse it", || at_a.borrow().refused == refused && at_b.borrow().refused == refused).await;
    assert!(used(first, 1), "the last good one goes on");
    assert_eq!(metric(&a, "roost_redis_config_refused_total"), 1);
    let good = b.settings().set("3", None).await.unwrap();
    assert!(good > bad && bad > first);
    until("both use the next one", || used(good, 3)).await;
    assert_eq!(at_a.borrow().refused, None);
    assert_eq!(metric(&a, "roost_redis_config_version"), good);
}

#[tokio::test]
async fn whoever_changes_what_another_one_changed_meanwhile_is_told() {
    let options = options(&redis().url(), &cluster_name());
    let (a, _a) = join(&options, "a").await;
    let settings = a.settings();
    let first = settings.set("1", None).await.unwrap();
    assert_eq!(settings.set("2", Some(0)).await, Err(SettingsError::Changed(first)));
    assert_eq!(settings.set("2", Some(first - 1)).await, Err(SettingsError::Changed(first)));
    let second = settings.set("2", Some(first)).await.unwrap();
    let read = settings.get().await.unwrap().unwrap();
    assert_eq!((read.version, read.text.as_str()), (second, "2"));
    let large = "x".repeat(SETTINGS_BYTES_MAX + 1);
    assert_eq!(settings.set(&large, None).await, Err(SettingsError::TooLarge(large.len())));
}

#[tokio::test]
async fn what_redis_forgot_is_put_back_by_who_uses_it() {
    let server = Redis::start().unwrap();
    let options = options(&server.url(), "c");
    let (a, _a) = join(&options, "a").await;
    let (b, _b) = join(&options, "b").await;
    let at_a = a.settings().follow(check);
    let version = a.settings().set("1", None).await.unwrap();
    until("a uses it", || at_a.borrow().version == version).await;
    server.cli(&["flushall"]).unwrap();
    // Any news has it looked for at once.
    server.cli(&["publish", "roost:c:news", "config"]).unwrap();
    let read = || async { b.settings().get().await.unwrap() };
    let mut back = read().await;
    let deadline = tokio::time::Instant::now() + NEVER;
    while back.is_none() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        back = read().await;
    }
    assert_eq!(back.map(|setting| (setting.version, setting.text)), Some((version, "1".to_owned())));
    let next = b.settings().set("2", Some(version)).await.unwrap();
    until("a follows", || at_a.borrow().version == next).await;
}
