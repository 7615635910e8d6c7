//! The wiring of edge and backend in one process: commands up, HTTP aside, nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use roost_edge::{EdgeHandle, HttpIo, HttpService, Upstream};
use roost_wire::CloseCode;
use roost_wire::link::{Down, Up};

use crate::backend::Backend;
use crate::guests::Guests;
use crate::http::Peer;

/// The way up from the shards, past the limit of guests.
pub(crate) struct Gate {
    pub backend: Backend,
    pub guests: Arc<Guests>,
    /// Where refusals go.
    pub edge: EdgeHandle,
}

impl Upstream for Gate {
    fn submit(&self, batch: &mut Vec<Up>) {
        batch.retain(|up| self.admit(up));
        self.backend.submit(batch);
    }
}

impl Gate {
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
