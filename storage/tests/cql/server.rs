//! Real servers for tests, with a keyspace for each that asks.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use roost_fixtures::cassandra::{Cassandra, Options};
use roost_storage::{CqlOptions, CqlStore, Replication};

/// Servers, and how many keyspaces they have.
pub(crate) struct Server {
    pub(crate) cassandra: Mutex<Cassandra>,
    pub(crate) contact_points: Vec<SocketAddr>,
    nodes: usize,
    keyspaces: AtomicU32,
}

impl Server {
    /// `durable`: nothing is lost when a node is killed.
    pub(crate) fn start(nodes: usize, block: u8, durable: bool) -> Self {
        let options = Options {
            nodes,
            block,
            durable,
            heap_mib: if durable { 512 } else { 1024 },
            // Where nothing is to fail, a busy machine is no reason to.
            server_timeout: Duration::from_secs(if durable { 2 } else { 8 }),
            ..Options::default()
        };
        let cassandra = Cassandra::start(&options).unwrap();
        let contact_points = cassandra.contact_points();
        Self { cassandra: Mutex::new(cassandra), contact_points, nodes, keyspaces: AtomicU32::new(0) }
    }

    /// Settings with a keyspace of their own.
    pub(crate) fn options(&self) -> CqlOptions {
        let keyspace = format!("roost_{}", self.keyspaces.fetch_add(1, Relaxed));
        CqlOptions {
            contact_points: self.contact_points.iter().map(ToString::to_string).collect(),
            keyspace,
            request_timeout: Duration::from_secs(if self.nodes == 1 { 10 } else { 3 }),
            ..CqlOptions::default()
        }
    }

    pub(crate) fn replication(&self) -> Replication {
        Replication { factor: self.nodes as u8, datacenter: None }
    }

    /// A store in the keyspace of `options`, which is made if need be.
    pub(crate) async fn open(&self, options: &CqlOptions) -> CqlStore {
        CqlStore::migrate(options, &self.replication()).await.unwrap();
        CqlStore::connect(options.clone()).await.unwrap()
    }
}
