//! The store in a real Cassandra: every rule of the trait, and what only a store of many nodes has to keep.

#[path = "../steps/mod.rs"]
mod steps;

mod clock;
mod edges;
mod left;
mod lost;
mod model;
mod schema;
mod server;

use std::sync::OnceLock;
use std::time::Duration;

use roost_storage::{CqlOptions, CqlStore};
use server::Server;

/// One server for all tests of this file: it ends with the process.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(1, 21, false))
}

/// Two stores, as two nodes have them, in a keyspace of their own.
async fn two() -> (CqlStore, CqlStore) {
    let options = server().options();
    let first = server().open(&options).await;
    (first, CqlStore::connect(options).await.unwrap())
}

/// Tokens are held back by the usual margin.
mod conformance {
    use super::*;

    async fn open() -> (CqlStore, ()) {
        let options = server().options();
        (server().open(&options).await, ())
    }

    roost_storage::conformance!(async || open().await);
}

#[test]
fn a_margin_is_two_requests_and_what_clocks_differ_by() {
    let options = CqlOptions { request_timeout: Duration::from_secs(3), ..CqlOptions::default() };
    assert_eq!(options.settle(), Duration::from_secs(7));
}
