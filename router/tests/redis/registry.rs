//! Who is on the table.

use std::time::Duration;

use roost_fixtures::redis::{Redis, RedisArgs};
use roost_router::redis::{ConnectError, Link, NodeRole, RedisBus, RedisOptions, node_id};
use roost_router::{Bus, Notice};

use crate::kit::{
    acquainted, cluster_name, join, metric, numbers, options, post, post_notice, redis, spec, take, until,
};

fn here() -> RedisOptions {
    options(&redis().url(), &cluster_name())
}

fn names(bus: &RedisBus) -> Vec<String> {
    bus.table().borrow().nodes().iter().map(|node| node.name.clone()).collect()
}

fn node_key(options: &RedisOptions, name: &str) -> String {
    format!("roost:{{{}}}:node:{}", options.cluster, node_id(name))
}

async fn refused(options: &RedisOptions, name: &str) -> ConnectError {
    let joined = RedisBus::connect(options.clone(), spec(name)).await;
    joined.map(|_| ()).expect_err("it may not join")
}

#[tokio::test]
async fn nodes_see_who_comes_who_leaves_and_who_dies() {
    let options = here();
    let (a, _a) = join(&options, "a").await;
    let (b, _b) = join(&options, "b").await;
    let (c, _c) = join(&options, "c").await;
    acquainted(&[&a, &b, &c]).await;
    assert_eq!(names(&a), ["a", "b", "c"]);
    let info = a.table().borrow().get(b.node()).cloned().unwrap();
    assert_eq!((info.name.as_str(), info.incarnation, info.version.as_str()), ("b", b.incarnation(), "0.1.0"));
    b.leave().await;
    until("b is off the table", || names(&a) == ["a", "c"]).await;
    // As a crash: nobody takes it off.
    drop((c, _c));
    until("c is off the table", || names(&a) == ["a"]).await;
    assert_eq!(a.health().link, Link::Up);
}

#[tokio::test]
async fn a_name_is_one_live_nodes_and_its_next_lifes_after_it_died() {
    let options = here();
    let (first, inbox) = join(&options, "twin").await;
    let error = refused(&options, "twin").await;
    assert!(matches!(&error, ConnectError::NameTaken { name, .. } if name == "twin"), "{error}");
    assert!(error.to_string().contains(&first.incarnation().to_string()), "{error}");
    assert_eq!(first.health().link, Link::Up, "the first one lives on");
    let before = first.incarnation();
    drop((first, inbox));
    let (second, _inbox) = join(&options, "twin").await;
    assert!(second.incarnation() > before);
}

#[tokio::test]
async fn a_node_whose_name_was_taken_while_it_slept_tells_and_hears_nothing() {
    let options = here();
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    let other = r#"999 {"name":"a","incarnation":999,"role":"all","bus_min":1,"bus_max":1}"#;
    redis().cli(&["set", &node_key(&options, "a"), other]).unwrap();
    until("a knows it", || matches!(a.health().link, Link::Superseded { .. })).await;
    let Link::Superseded { by } = a.health().link else { panic!() };
    assert!(by.contains("999"), "{by}");
    post(&a, None, 1, "ada");
    post(&b, Some(b.node()), 2, "bob");
    assert_eq!(numbers(&take(&mut inbox, 1).await), [2], "of a nothing came");
    assert!(a.leases().acquire("job").await.is_err());
    a.leave().await;
    let held = redis().cli(&["get", &node_key(&options, "a")]).unwrap();
    assert_eq!(held, other, "it takes nobody else off the table");
}

#[tokio::test]
async fn incarnations_rise_whatever_redis_forgot_and_whatever_the_clock_says() {
    let server = Redis::start().unwrap();
    let options = options(&server.url(), "c");
    let late = RedisOptions { clock: || 1_000, ..options.clone() };
    // Years ahead: what it says of itself is one thing, what its lives are numbered by another.
    let early = RedisOptions { clock: || 9_000_000_000_000, ..options.clone() };
    let mut last = 0;
    let lives =
        [(false, &options), (false, &early), (true, &options), (false, &late), (true, &late), (false, &options)];
    for (forget, options) in lives {
        if forget {
            server.cli(&["flushall"]).unwrap();
        }
        let (node, _inbox) = join(options, "a").await;
        assert!(node.incarnation() > last, "{} after {last}", node.incarnation());
        last = node.incarnation();
        node.leave().await;
    }
}

#[tokio::test]
async fn after_a_flush_all_are_on_the_table_again_and_nothing_told_meanwhile_is_lost() {
    let server = Redis::start().unwrap();
    let options = options(&server.url(), "c");
    let often = RedisOptions { tick_every: Duration::from_millis(40), ..options.clone() };
    let (a, _a) = join(&often, "a").await;
    let (b, mut inbox) = join(&RedisOptions { tick_every: Duration::from_secs(1), ..options }, "b").await;
    acquainted(&[&a, &b]).await;
    // Until a has read a table without b on it.
    let mut number = 0;
    until("a misses b", || {
        server.cli(&["flushall"]).unwrap();
        number += 1;
        post(&a, None, number, "ada");
        a.health().nodes == 1
    })
    .await;
    post(&a, None, number + 1, "ada");
    let heard = numbers(&take(&mut inbox, number as usize + 1).await);
    assert_eq!(heard, (1..=number + 1).collect::<Vec<u64>>());
    let on_it = |name: &str| server.cli(&["exists", &node_key(&often, name)]).unwrap() == "1";
    until("both are on it", || on_it("a") && on_it("b") && a.health().nodes == 2).await;
    assert!(matches!((a.health().link, b.health().link), (Link::Up, Link::Up)));
}

#[tokio::test]
async fn a_node_without_a_common_version_is_refused_with_the_reason() {
    let options = here();
    let (_old, _inbox) = join(&RedisOptions { versions: (1, 2), ..options.clone() }, "old").await;
    let newer = RedisOptions { versions: (3, 4), ..options.clone() };
    let error = refused(&newer, "new").await;
    let ConnectError::Versions { name, theirs, ours, .. } = &error else { panic!("{error}") };
    assert_eq!((name.as_str(), *theirs, *ours), ("old", (1, 2), (3, 4)));
    assert!(error.to_string().contains("(1, 2)"), "{error}");
    // It left nothing behind, and one that overlaps may come.
    assert_eq!(redis().cli(&["exists", &node_key(&options, "new")]).unwrap(), "0");
    let (_between, _inbox) = join(&RedisOptions { versions: (2, 3), ..options }, "between").await;
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_is_told_and_survived() {
    let options = here();
    let fast = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64 + 3_600_000;
    let (a, _a) = join(&RedisOptions { clock: fast, ..options.clone() }, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    assert!(a.health().clock_off && a.health().clock_skew_ms > 3_590_000, "{:?}", a.health());
    assert!(!b.health().clock_off, "{:?}", b.health());
    assert!(metric(&a, "roost_redis_clock_skew_milliseconds") > 3_590_000);
    post(&a, None, 1, "ada");
    take(&mut inbox, 1).await;
}

#[tokio::test]
async fn an_edge_is_on_the_table_and_is_told_nothing() {
    let options = here();
    let edge = roost_router::redis::NodeSpec { role: NodeRole::Edge, ..spec("edge") };
    let (edge, mut heard) = RedisBus::connect(options.clone(), edge).await.unwrap();
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&edge, &a, &b]).await;
    let table = edge.table().borrow().clone();
    assert_eq!(table.routers().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    post(&a, None, 1, "ada");
    take(&mut inbox, 1).await;
    post_notice(&a, Some(edge.node()), 7, Notice::Blind);
    assert_eq!(numbers(&take(&mut heard, 1).await), [7], "but what is for it alone");
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_named_with_what_to_do() {
    let password = Some("sesame".to_owned());
    let guarded = Redis::with(RedisArgs { password: password.clone(), ..RedisArgs::default() }).unwrap();
    let mut gone = Redis::start().unwrap();
    gone.stop();
    let address = |port| format!("redis://127.0.0.1:{port}");
    let quick = |url: &str| RedisOptions { start_within: Duration::from_millis(300), ..options(url, "c") };
    for (options, says) in [
        (quick(&address(guarded.port())), "refuses the password"),
        (RedisOptions { password: Some("abracadabra".into()), ..quick(&guarded.url()) }, "refuses the password"),
        (RedisOptions { username: Some("ada".into()), ..quick(&guarded.url()) }, "refuses the password"),
        (quick(&gone.url()), "cannot be reached"),
        (quick(&redis().url().replace("redis:", "redis-cluster:")), "redis-cluster:// is for Redis Cluster alone"),
        (quick("gopher://127.0.0.1"), "cannot be used"),
        (quick("127.0.0.1"), "cannot be used"),
    ] {
        let error = refused(&options, "a").await.to_string();
        assert!(error.contains(says), "{}: {error}", options.address());
        assert!(!error.contains("sesame") && !error.contains("abracadabra"), "{error}");
    }
    let (_right, _inbox) = join(&quick(&guarded.url()), "a").await;
    for name in ["", "a b", "a/b", &"x".repeat(65)] {
        let error = refused(&here(), name).await;
        assert!(matches!(error, ConnectError::Options(_)), "{error}");
    }
}

#[tokio::test]
async fn a_password_that_changes_is_named_and_the_right_one_is_taken_again() {
    let password = Some("sesame".to_owned());
    let server = Redis::with(RedisArgs { password, ..RedisArgs::default() }).unwrap();
    let options = options(&server.url(), "c");
    let (a, _a) = join(&options, "a").await;
    server.cli(&["config", "set", "requirepass", "abracadabra"]).unwrap();
    let port = server.port().to_string();
    let cli = |args: &[&str]| {
        let mut cli = std::process::Command::new("redis-cli");
        cli.args(["-p", &port, "-e"]).args(args).env("REDISCLI_AUTH", "abracadabra");
        assert!(cli.output().unwrap().status.success());
    };
    cli(&["client", "kill", "type", "normal"]);
    cli(&["client", "kill", "type", "pubsub"]);
    until(
        "it says what to do",
        || matches!(a.health().link, Link::Down { why, .. } if why.contains("set user and password")),
    )
    .await;
    cli(&["config", "set", "requirepass", "sesame"]);
    until("it is back", || a.health().link == Link::Up && !a.health().deaf).await;
}

#[tokio::test]
async fn tls_is_spoken_to_a_server_whose_certificate_is_known_and_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let [cert, key] = ["pem", "key"].map(|end| folder.path().join(format!("{name}.{end}")));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        [cert, key]
    };
    let ([cert, key], [stranger, _]) = (certificate("server"), certificate("stranger"));
    let port = roost_fixtures::redis::free_port().unwrap();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let more = [
        ["--tls-port".to_owned(), port.to_string()],
        ["--tls-cert-file".to_owned(), path(&cert)],
        ["--tls-key-file".to_owned(), path(&key)],
        ["--tls-ca-cert-file".to_owned(), path(&cert)],
        ["--tls-auth-clients".to_owned(), "no".to_owned()],
    ];
    let more = more.into_iter().flatten().collect();
    let _server = Redis::with(RedisArgs { more, ..RedisArgs::default() }).unwrap();
    let known = RedisOptions {
        ca_file: Some(cert),
        start_within: Duration::from_millis(300),
        ..options(&format!("rediss://127.0.0.1:{port}"), "c")
    };
    let (a, _a) = join(&known, "a").await;
    let (b, mut inbox) = join(&known, "b").await;
    acquainted(&[&a, &b]).await;
    post(&a, None, 1, "ada");
    take(&mut inbox, 1).await;
    let error = refused(&RedisOptions { ca_file: Some(stranger.clone()), ..known.clone() }, "c").await;
    assert!(matches!(error, ConnectError::Unfit { .. }), "{error}");
    assert!(error.to_string().contains("name the file of the certificates"), "{error}");
    let nothing = folder.path().join("nothing");
    let error = refused(&RedisOptions { ca_file: Some(nothing), ..known }, "c").await;
    assert!(matches!(error, ConnectError::Options(_)), "{error}");
}

#[tokio::test]
async fn without_redis_a_node_starts_alone_and_joins_when_it_is_there() {
    let mut server = Redis::start().unwrap();
    server.stop();
    let start_within = Duration::from_millis(100);
    let options = RedisOptions { start_within, start_without: true, ..options(&server.url(), "c") };
    let (a, _a) = join(&options, "a").await;
    until("it knows that it is alone", || matches!(a.health().link, Link::Down { .. })).await;
    server.start_again().unwrap();
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    post(&a, None, 1, "ada");
    take(&mut inbox, 1).await;
}

#[tokio::test]
async fn nodes_find_and_hear_each_other_while_redis_is_out_of_memory() {
    let server = Redis::with(RedisArgs { maxmemory_bytes: Some(1), ..RedisArgs::default() }).unwrap();
    let options = options(&server.url(), "c");
    let (a, _a) = join(&options, "a").await;
    let (b, mut inbox) = join(&options, "b").await;
    acquainted(&[&a, &b]).await;
    until("a says so", || a.health().out_of_memory).await;
    assert_eq!(metric(&a, "roost_redis_out_of_memory"), 1);
    post(&a, None, 1, "ada");
    take(&mut inbox, 1).await;
    server.cli(&["config", "set", "maxmemory", "0"]).unwrap();
    until("a says no more", || !a.health().out_of_memory).await;
}
