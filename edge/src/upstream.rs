//! What the edge needs of the rest of a node.

use std::net::SocketAddr;

use roost_wire::link::Up;

use crate::HttpIo;

/// Where commands go: the router in this process, or a link to one.
pub trait Upstream: Send + Sync + 'static {
    /// Takes the commands of one shard turn, leaving `batch` empty. Called on a shard thread: never blocks.
    fn submit(&self, batch: &mut Vec<Up>);
}

/// Serves the HTTP requests that are no upgrade to a session.
pub trait HttpService: Send + Sync + 'static {
    /// Serves one connection's requests on an in-memory stream. Called on a shard thread: must only spawn.
    fn serve(&self, io: HttpIo, peer: SocketAddr);
}
