//! The real binary: users whose network lets no UDP through come in all the same.

mod common;

use common::run;

#[test]
fn users_enter_by_quic_where_it_comes_through_and_by_websocket_where_not() {
    let run = run(&["udp-blocked", "--clients", "20", "--rate", "20"]);
    assert_eq!(run.code, 0, "{}", run.output);
    let report = run.report.as_ref().expect("a report");
    assert_eq!(report["format"], "roost-load-udp-blocked/1");
    let worlds = report["worlds"].as_array().unwrap();
    let told: Vec<_> = worlds.iter().map(|world| (world["udp"].as_str().unwrap(), &world["ways"])).collect();
    let [("open", open), ("refused", refused), ("swallowed", swallowed)] = told[..] else { panic!("{report:#}") };
    // A machine that stalls for a quarter of a second lets a WebSocket win the race.
    assert!(open["QUIC"].as_u64() > Some(10), "{report:#}");
    assert_eq!((refused["WebSocket"].as_u64(), swallowed["WebSocket"].as_u64()), (Some(20), Some(20)), "{report:#}");
    for world in worlds {
        assert_eq!((world["acknowledged"].as_u64(), world["stored"].as_u64()), (Some(20), Some(20)), "{report:#}");
        assert!(world["failed"].as_object().unwrap().is_empty(), "{report:#}");
    }
    // Who waits for a datagram that never comes waits for the head start of QUIC at least.
    assert!(worlds[2]["session_us"]["min"].as_u64() >= Some(250_000), "{report:#}");
}
