//! Devices and presence, wherever people are connected.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use roost_router::RouterConfig;
use roost_wire::{CloseCode, FrameBody, pb};

use super::{HandBus, Nodes, nodes, nodes_with};
use crate::harness::{Client, Faulty, Got, House};

type Node = House<Faulty, HandBus>;

fn closed(node: &Node, client: &Client) -> bool {
    node.told(client).iter().any(|got| matches!(got, Got::Close(CloseCode::Replaced)))
}

#[tokio::test(start_paused = true)]
async fn f07_a_device_that_connects_elsewhere_ends_its_older_session() {
    // Whatever the wall clocks say: the second node is an hour behind.
    for behind_ms in [0, 3_600_000] {
        let nodes = nodes(2);
        let [a, b] = nodes.nodes.as_slice() else { panic!() };
        b.env.now_ms.fetch_sub(behind_ms, Relaxed);
        nodes.beat().await;
        let first = a.enter_on("ada", "phone", "").await;
        let laptop = a.enter_on("ada", "laptop", "").await;
        nodes.settle().await;
        let late = nodes.take(1);
        // The other node knows that there was something, if not what.
        nodes.beat().await;
        let second = b.enter_on("ada", "phone", "").await;
        nodes.deliver().await;
        assert!(closed(a, &first), "{behind_ms} ms behind");
        // News of the older session comes late: the newer one stays.
        nodes.hear(1, late).await;
        assert!(!closed(a, &laptop) && !closed(b, &second));
        assert_eq!((nodes.metric(0, "roost_router_sessions"), nodes.metric(1, "roost_router_sessions")), (1, 1));
        // Its end is no end of the user.
        a.leave(&first);
        a.leave(&laptop);
        nodes.deliver().await;
        assert_eq!(nodes.metric(0, "roost_router_sessions"), 0);
        // And back again.
        nodes.pass(Duration::from_secs(1)).await;
        let third = a.enter_on("ada", "phone", "").await;
        nodes.deliver().await;
        assert!(closed(b, &second) && !closed(a, &third));
    }
}

#[tokio::test(start_paused = true)]
async fn f07_news_of_an_older_session_end_no_newer_one_on_a_node_that_began_since() {
    for (name, behind_ms, restarts) in
        [("equal clocks", 0, true), ("a clock that is behind", 3_600_000, true), ("the same life", 3_600_000, false)]
    {
        let mut nodes = nodes(2);
        nodes.nodes[0].env.now_ms.fetch_sub(behind_ms, Relaxed);
        let before = nodes.nodes[0].enter_on("ada", "phone", "").await;
        nodes.deliver().await;
        let older = nodes.nodes[1].enter_on("ada", "phone", "").await;
        nodes.settle().await;
        let late = nodes.take(0);
        if restarts {
            nodes.restart(0, 2);
        } else {
            nodes.nodes[0].leave(&before);
        }
        let newer = nodes.nodes[0].enter_on("ada", "phone", "").await;
        nodes.hear(0, late).await;
        assert!(!closed(&nodes.nodes[0], &newer), "{name}");
        assert_eq!(nodes.metric(0, "roost_router_sessions"), 1, "{name}");
        // It heard of the older one only after its own began: neither is known to be the newer one, both live.
        nodes.deliver().await;
        assert!(!closed(&nodes.nodes[1], &older), "{name}");
        // The next one ends both, wherever it is.
        let last = nodes.nodes[1].enter_on("ada", "phone", "").await;
        nodes.deliver().await;
        assert!(closed(&nodes.nodes[0], &newer) && closed(&nodes.nodes[1], &older), "{name}");
        assert!(!closed(&nodes.nodes[1], &last), "{name}");
        assert_eq!((nodes.metric(0, "roost_router_sessions"), nodes.metric(1, "roost_router_sessions")), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn f07_of_two_sessions_that_begin_at_once_none_ends_the_other() {
    let nodes = nodes(2);
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    nodes.beat().await;
    let (first, second) = (a.enter_on("ada", "phone", "").await, b.enter_on("ada", "phone", "").await);
    nodes.deliver().await;
    assert!(!closed(a, &first) && !closed(b, &second), "at least one must live");
    nodes.beat().await;
    let third = a.enter_on("ada", "phone", "").await;
    nodes.deliver().await;
    assert!(closed(a, &first) && closed(b, &second) && !closed(a, &third));
}

fn watch(users: &[&str]) -> FrameBody {
    FrameBody::Watch(pb::Watch { users: users.iter().map(ToString::to_string).collect() })
}

async fn sees(node: &Node, client: &Client, user: &str) -> bool {
    let Ok(FrameBody::Presence(presence)) = node.ask(client, watch(&[user])).await else { panic!() };
    presence.users[0].online
}

/// The changes of presence a session was pushed.
fn changes(node: &Node, client: &Client) -> Vec<bool> {
    let online = |body| match body {
        FrameBody::Presence(presence) => Some(presence.users[0].online),
        _ => None,
    };
    node.pushes(client).into_iter().filter_map(online).collect()
}

/// Longer than changes of presence are held back.
const HELD: Duration = Duration::from_millis(700);

async fn hold(nodes: &Nodes) {
    nodes.deliver().await;
    nodes.pass(HELD).await;
    nodes.deliver().await;
}

#[tokio::test(start_paused = true)]
async fn f28_a_person_is_online_wherever_the_session_is_and_not_once_its_node_is_gone() {
    let nodes = nodes(3);
    let (a, _, ada, bob) = nodes.ada_and_bob().await;
    let both = [ada.user.clone(), bob.user.clone()];
    for node in &nodes.nodes {
        assert_eq!(node.router.online(&both), [true, true]);
    }
    // The node with Bob says nothing any more.
    for _ in 0..6 {
        nodes.pass(Duration::from_secs(1)).await;
        [0, 2].into_iter().for_each(|place| nodes.nodes[place].router.beat());
        nodes.deliver().await;
    }
    assert_eq!(a.router.online(&both), [true, false]);
    assert_eq!(nodes.nodes[2].router.online(&both), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn f17_presence_is_seen_from_every_node() {
    let nodes = nodes(3);
    let [a, b, c] = nodes.nodes.as_slice() else { panic!() };
    let (ada, bob) = (a.enter("ada").await, b.enter("bob").await);
    nodes.deliver().await;
    a.direct(&ada, "bob").await;
    nodes.deliver().await;
    assert!(sees(a, &ada, "bob").await);
    let also_bob = c.enter_on("bob", "laptop", "").await;
    hold(&nodes).await;
    a.told(&ada);
    b.leave(&bob);
    hold(&nodes).await;
    assert_eq!(changes(a, &ada), Vec::<bool>::new(), "he is still on the third node");
    c.leave(&also_bob);
    hold(&nodes).await;
    assert_eq!(changes(a, &ada), [false]);
    b.enter("bob").await;
    hold(&nodes).await;
    assert_eq!(changes(a, &ada), [true]);
    // A node that dies takes its users with it.
    nodes.beat().await;
    nodes.pass(Duration::from_secs(6)).await;
    a.router.beat();
    hold(&nodes).await;
    assert_eq!(changes(a, &ada), [false]);
    assert!(!sees(a, &ada, "bob").await);
    // When it is heard again, so are they: it is asked who is there.
    for _ in 0..3 {
        nodes.beat().await;
    }
    hold(&nodes).await;
    assert_eq!(changes(a, &ada), [true]);
}

#[tokio::test(start_paused = true)]
async fn f17_comings_and_goings_that_were_lost_are_put_right() {
    let nodes = nodes(2);
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    let (ada, bob, cyd) = (a.enter("ada").await, b.enter("bob").await, b.enter("cyd").await);
    nodes.deliver().await;
    a.group(&ada, &["bob", "cyd", "ada"]).await;
    nodes.deliver().await;
    b.leave(&bob);
    nodes.settle().await;
    nodes.lose_all().await;
    assert!(sees(a, &ada, "bob").await, "nobody knows better yet");
    for _ in 0..3 {
        nodes.beat().await;
        nodes.pass(HELD).await;
    }
    nodes.beat().await;
    assert!(!sees(a, &ada, "bob").await);
    assert!(sees(a, &ada, "cyd").await);
    assert_eq!(nodes.metric(0, "roost_router_users_elsewhere"), 1);
    let _ = cyd;
}

#[tokio::test(start_paused = true)]
async fn news_of_a_user_count_in_the_order_they_were_posted() {
    let nodes = nodes(2);
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    let ada = a.enter("ada").await;
    let bob = b.enter("bob").await;
    nodes.deliver().await;
    a.direct(&ada, "bob").await;
    nodes.deliver().await;
    b.leave(&bob);
    b.enter("bob").await;
    nodes.settle().await;
    let mut parcels = nodes.take(0);
    parcels.reverse();
    nodes.hear(0, parcels).await;
    assert!(sees(a, &ada, "bob").await);
}

#[tokio::test(start_paused = true)]
async fn a_user_without_a_record_is_known_to_the_other_nodes_while_online() {
    let nodes = nodes(2);
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    let ada = a.enter("ada").await;
    b.enter("bob").await;
    nodes.deliver().await;
    let create = pb::Create { kind: pb::Kind::Direct.into(), members: vec!["bob".into()], ..pb::Create::default() };
    let made = a.create(&ada, create).await;
    assert_eq!(made.members.iter().find(|member| member.user == "bob").map(|member| member.name.as_str()), Some("bob"));
}

#[tokio::test(start_paused = true)]
async fn users_beyond_the_limit_look_offline() {
    let nodes = nodes_with(2, RouterConfig { users_elsewhere_max: 3, ..RouterConfig::default() });
    let [a, b] = nodes.nodes.as_slice() else { panic!() };
    for user in ["bob", "cyd", "dan", "eve", "fay"] {
        b.enter(user).await;
    }
    nodes.beat().await;
    a.router.beat();
    assert_eq!(nodes.metric(0, "roost_router_users_elsewhere"), 3);
    assert_eq!(nodes.metric(0, "roost_router_users_elsewhere_dropped_total"), 2);
}
