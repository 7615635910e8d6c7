//! Clients that move between networks.

use std::time::Duration;

use roost_wire::FrameBody;

use super::client::{pause, run, serve, udp};
use crate::support::{publish, send};

/// Clients change their address ten times while they talk.
fn ten_moves(steered: bool) {
    const CLIENTS: usize = 12;
    let quic = serve(|edge| edge.shards = 4, |quic| quic.steered = steered);
    run(async {
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let endpoint = quic.endpoint();
            clients.push((quic.session(&endpoint, &format!("guest{number}")).await, endpoint));
        }
        for step in 0..10 {
            for (client, endpoint) in &mut clients {
                let before = endpoint.local_addr().unwrap();
                endpoint.rebind(udp()).unwrap();
                assert_ne!(endpoint.local_addr().unwrap(), before);
                for talk in 0..3 {
                    let rid = 10 + 10 * step + talk;
                    let body = if talk == 1 { publish("on the way") } else { send("on the way") };
                    client.say(rid, body).await;
                    assert!(matches!(client.reply(rid).await, FrameBody::Sent(_)), "after move {step}");
                }
            }
        }
    });
    let metrics = quic.server.handle().metrics();
    let counted = metrics.quic.expect("QUIC is on");
    // Nobody had to connect again, and every shard had some.
    assert_eq!(counted.handshakes, CLIENTS as u64);
    assert!(counted.migrations >= 10 * CLIENTS as u64, "{counted:?}");
    assert_eq!(counted.dropped_stray + counted.dropped_forward, 0, "{counted:?}");
    assert_eq!(counted.forwarded > 0, !steered, "{counted:?}");
}

#[test]
fn f02_a_session_survives_ten_changes_of_address_where_the_kernel_steers() {
    ten_moves(true);
}

#[test]
fn f02_a_session_survives_ten_changes_of_address_where_shards_hand_datagrams_on() {
    ten_moves(false);
}

#[test]
fn a_client_that_is_gone_is_let_go_by_its_silence() {
    let heartbeat = Duration::from_millis(200);
    let quic = serve(|edge| edge.shard.heartbeat = heartbeat, |_| {});
    run(async {
        let endpoint = quic.endpoint();
        let client = quic.session(&endpoint, "ada").await;
        // What it sends now goes nowhere.
        endpoint.rebind(udp()).unwrap();
        let _silent = client.connection.clone();
        std::mem::forget(client);
        drop(endpoint);
        quic.server.until("let go", |metrics| metrics.total.closed_heartbeat == 1);
    });
    quic.server.until("gone", |metrics| metrics.connections_open() == 0);
}

#[test]
fn a_client_that_never_opens_its_stream_is_let_go() {
    let quic = serve(|_| {}, |quic| quic.open_within = Duration::from_millis(300));
    run(async {
        let endpoint = quic.endpoint();
        let connection = quic.connect(&endpoint).await.unwrap();
        let ended = connection.closed().await;
        assert_eq!(super::client::code(&ended), Some(4003), "{ended}");
        while quic.server.handle().metrics().quic.is_none_or(|counted| counted.failed_late == 0) {
            pause().await;
        }
    });
}
