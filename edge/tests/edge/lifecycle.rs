//! Start, drain, stop.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use roost_edge::{BindError, DriverKind, Edge, EdgeConfig, HttpIo, HttpService, Upstream};
use roost_wire::link::Up;
use roost_wire::{Encoding, FrameBody, pb};

use crate::support::{Client, Heard, config, send, serve};

#[test]
fn a_second_server_on_the_same_port_is_refused_and_told_what_to_do() {
    let server = serve(config());
    let mut second = config();
    second.listen = server.addr;
    let Err(error) = Edge::bind(second) else { panic!("two servers share a port") };
    assert!(matches!(error, BindError::InUse { addr } if addr == server.addr));
    assert!(error.to_string().contains("stop the other server"), "{error}");
}

#[test]
fn a_server_can_start_again_on_the_port_it_just_left() {
    let server = serve(config());
    let mut again = config();
    again.listen = server.addr;
    let ada = Client::connect(server.addr, Encoding::Json, "ada");
    server.handle().stop();
    server.running.join();
    // Our side closed first, so its half of the connection is in TIME_WAIT now.
    drop(ada);
    let server = serve(again);
    Client::connect(server.addr, Encoding::Json, "ada");
}

#[test]
fn draining_stops_accepting_and_asks_sessions_to_move() {
    let server = serve(config());
    let mut ada = Client::connect(server.addr, Encoding::Json, "ada");
    let mut bob = Client::connect(server.addr, Encoding::Protobuf, "bob");
    server.handle().drain("maintenance", Duration::ZERO, Duration::from_millis(500));
    for client in [&mut ada, &mut bob] {
        let frame = client.hear_frame();
        assert!(matches!(&frame.body, Some(FrameBody::Goaway(away)) if away.reason == "maintenance"), "{frame:?}");
    }
    // It is served until the deadline.
    ada.say(5, send("last words"));
    assert_eq!(ada.hear_frame().rid, 5);
    server.until("the listener is closed", |_| TcpStream::connect(server.addr).is_err());
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.hear_close(), Some(4000));
    }
    server.until("all gone", |metrics| metrics.connections_open() == 0);
}

#[test]
fn stopping_closes_every_session_with_1001_and_ends_the_threads() {
    let server = serve(config());
    let mut clients: Vec<Client> =
        (0..50).map(|number| Client::connect(server.addr, Encoding::Json, &format!("g{number}"))).collect();
    let idle = TcpStream::connect(server.addr).unwrap();
    server.until("all in", |metrics| metrics.connections_open() == 51);
    let (handle, router) = (server.handle().clone(), server.router.clone());
    handle.stop();
    for client in &mut clients {
        assert_eq!(client.hear_close(), Some(1001));
    }
    server.running.join();
    assert_eq!(handle.metrics().connections_open(), 0);
    assert_eq!(router.gone.lock().unwrap().len(), 50, "the router was told of each");
    for client in &mut clients {
        assert_eq!(client.hear(), Heard::End);
    }
    drop(idle);
    // A handle outlives its edge harmlessly.
    handle.stop();
    handle.drain("late", Duration::ZERO, Duration::ZERO);
    assert!(TcpStream::connect(handle.local_addr()).is_err());
}

struct Faulty;

impl Upstream for Faulty {
    fn submit(&self, _: &mut Vec<Up>) {
        panic!("a fault of ours, for the test");
    }
}

impl HttpService for Faulty {
    fn serve(&self, _: HttpIo, _: SocketAddr) {}
}

#[test]
fn a_shard_that_panics_ends_the_edge_instead_of_leaving_sessions_deaf() {
    let bound = Edge::bind(config()).unwrap();
    let addr = bound.local_addr();
    let running = bound.start(Arc::new(Faulty), Arc::new(Faulty)).unwrap();
    let mut bystander = Client::open(addr, Encoding::Json);
    let mut trigger = Client::open(addr, Encoding::Json);
    trigger.say(1, FrameBody::Connect(pb::Connect { guest: "ada".into(), ..Default::default() }));
    running.join();
    assert!(TcpStream::connect(addr).is_err());
    assert!(matches!(bystander.hear(), Heard::Closed(Some(1001)) | Heard::End));
}

#[cfg(target_os = "linux")]
#[test]
fn threads_are_named_for_what_they_do() {
    // The io_uring driver accepts for itself.
    let server = serve(EdgeConfig { driver: DriverKind::Poll, ..config() });
    let names = || -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok()).collect()
    };
    // A thread names itself once it runs.
    for name in ["roost-shard-0\n", "roost-shard-1\n", "roost-accept\n"] {
        server.until(name, |_| names().iter().any(|other| other == name));
    }
}
