//! The public HTTP API and the web client, on the same port as the sockets.

mod answer;
mod api;
mod assets;
mod transports;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::backend::Backend;
use crate::guests::Guests;

pub(crate) use self::transports::Transports;

/// A kept-alive connection must begin its next request within this time.
pub(crate) const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// Bytes hyper may buffer for one connection.
pub(crate) const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Largest body of a request.
const BODY_BYTES_MAX: usize = 128 * 1024;

/// What requests need.
#[derive(Clone)]
pub(crate) struct Api {
    pub backend: Backend,
    pub guests: Arc<Guests>,
    pub transports: Arc<Transports>,
}

/// The other end of a request's connection.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// Every path of the public port but the WebSocket's.
pub(crate) fn service(api: Api) -> Router {
    Router::new()
        .route("/v1/guest", post(api::guest))
        .route("/v1/refresh", post(api::refresh))
        .route("/v1/publish", post(api::publish))
        .route("/v1/transports", get(transports::tell))
        .route("/ws", get(api::upgrade_needed))
        .fallback(assets::serve)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}
