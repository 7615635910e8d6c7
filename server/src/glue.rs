//! The wiring of edge and router in one process: commands up, envelopes down, nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use roost_edge::{EdgeHandle, HttpIo, HttpService, Upstream};
use roost_router::{Downstream, Router, SystemEnv};
use roost_storage::EmbeddedStore;
use roost_wire::CloseCode;
use roost_wire::link::{Down, Up};

use crate::guests::Guests;
use crate::http::Peer;

/// The router of this binary.
pub(crate) type NodeRouter = Router<EmbeddedStore, EdgeLink, SystemEnv>;

/// The way down: the mailboxes of this process's edge.
pub(crate) struct EdgeLink(pub EdgeHandle);

impl Downstream for EdgeLink {
    fn shards(&self) -> u16 {
        self.0.shards()
    }

    fn post(&self, shard: u16, batch: &mut Vec<Down>) {
        self.0.post(shard, batch);
    }
}

/// The way up.
pub(crate) struct RouterLink {
    pub router: Arc<NodeRouter>,
    pub guests: Arc<Guests>,
    /// Where refusals go.
    pub edge: EdgeHandle,
}

impl Upstream for RouterLink {
    fn submit(&self, batch: &mut Vec<Up>) {
        batch.retain(|up| self.admit(up));
        self.router.submit(batch);
    }
}

impl RouterLink {
    /// False: a guest above what its address may bring, and told so.
    fn admit(&self, up: &Up) -> bool {
        let Up::Connect { session, rid, connect, bearer, peer } = up else { return true };
        if connect.guest.is_empty() || !connect.token.is_empty() || bearer.is_some() {
            return true;
        }
        let Err(error) = self.guests.enter(peer.ip()) else { return true };
        let refused = Down::Refused { session: *session, rid: *rid, error, close: CloseCode::Overloaded };
        self.edge.post(session.shard(), &mut vec![refused]);
        false
    }
}

/// HTTP on connections that are no WebSocket.
pub(crate) struct Pages {
    pub runtime: tokio::runtime::Handle,
    pub service: axum::Router,
}

impl HttpService for Pages {
    fn serve(&self, io: HttpIo, peer: SocketAddr) {
        let pages = hyper_util::service::TowerToHyperService::new(self.service.clone());
        let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            hyper::service::Service::call(&pages, request)
        });
        self.runtime.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .header_read_timeout(crate::http::HEAD_WITHIN)
                .max_buf_size(crate::http::BUFFER_BYTES_MAX)
                // The next request of a kept connection might be an upgrade, which only a new one can become: a proxy
                // that reuses connections would get 426.
                .keep_alive(false)
                // Who ends its sending side behind a request still waits for the answer.
                .half_close(true)
                .serve_connection(hyper_util::rt::TokioIo::new(io), service);
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "an HTTP connection failed");
            }
        });
    }
}
