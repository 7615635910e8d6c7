//! More connections than one table of descriptors holds, with the poll driver: each shard has a table of its own.

use std::io::Read;
use std::net::TcpStream;

use roost_edge::{DriverKind, EdgeConfig};
use roost_wire::Encoding;

use crate::far::{Far, all_are_served, is_child, limit_descriptors, obey, sessions};
use crate::support::{Client, Heard, PATIENCE, config, serve};

/// Descriptors of a table.
const DESCRIPTORS: u64 = 128;
/// Connections held: more than four tables would hold.
const MANY: usize = 600;

#[test]
fn shards_with_tables_of_their_own_hold_more_than_one_table_does() {
    if is_child() {
        limit_descriptors(DESCRIPTORS);
        let tables = EdgeConfig { driver: DriverKind::Poll, shards: 8, connections_max: 2000, ..config() };
        return obey(&serve(EdgeConfig { descriptors_max: 90, ..tables }));
    }
    let mut far = Far::start("poll_tables::shards_with_tables_of_their_own_hold_more_than_one_table_does");
    let mut clients = sessions(&far, 0..MANY);
    assert_eq!((far.counted("open"), far.counted("refused"), far.counted("errors")), (MANY as u64, 0, 0));
    all_are_served(&mut clients, 5);
    assert!(far.counted("descriptors") < DESCRIPTORS);
    far.counted("publish");
    for client in &mut clients {
        assert_eq!(client.entry(), "to all");
    }
    // Half of them go; others get their descriptors.
    clients.drain(..MANY / 2);
    far.until("open", MANY as u64 / 2);
    clients.extend(sessions(&far, MANY..MANY + MANY / 2));
    all_are_served(&mut clients, 6);
    assert_eq!((far.counted("open"), far.counted("refused"), far.counted("errors")), (MANY as u64, 0, 0));
    // No copy of a descriptor holds a connection, or the listener, beyond its end.
    let addr = far.addr;
    far.counted("stop");
    for client in &mut clients {
        assert_eq!(client.hear_close(), Some(1001));
        assert_eq!(client.hear(), Heard::End);
    }
    assert!(TcpStream::connect(addr).is_err());
    far.ends_well();
}

#[test]
fn a_connection_that_such_a_shard_refuses_hears_why_and_the_next_one_is_not_taken_for_it() {
    let tables = EdgeConfig { driver: DriverKind::Poll, shards: 8, connections_max: 16, ..config() };
    let server = serve(EdgeConfig { descriptors_max: 15, ..tables });
    let mut clients: Vec<Client> =
        (0..16).map(|number| Client::connect(server.addr, Encoding::Json, &format!("g{number}"))).collect();
    for _ in 0..3 {
        let mut refused = TcpStream::connect(server.addr).unwrap();
        refused.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        refused.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    clients.truncate(8);
    server.until("room", |metrics| metrics.connections_open() == 8);
    clients.extend((16..24).map(|number| Client::connect(server.addr, Encoding::Json, &format!("g{number}"))));
    all_are_served(&mut clients, 5);
}
