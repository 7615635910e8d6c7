//! `/v1/transports`: how else than by WebSocket a page may come.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;

use super::Api;
use crate::tls::Tls;

/// What the node takes besides.
pub(crate) struct Transports {
    /// The UDP port of QUIC, if it takes that.
    pub quic_port: Option<u16>,
    pub tls: Option<Arc<Tls>>,
}

#[derive(Serialize)]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    webtransport: Option<WebTransport>,
}

#[derive(Serialize)]
struct WebTransport {
    port: u16,
    /// Of a self-made certificate: browsers take it by this.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_sha256: Option<String>,
}

/// Where WebTransport is offered; nothing, if it is not.
pub(super) async fn tell(State(api): State<Api>) -> impl IntoResponse {
    let Transports { quic_port, tls } = &*api.transports;
    let certificate_sha256 = tls.as_ref().and_then(|tls| tls.dev_sha256());
    let webtransport = quic_port.map(|port| WebTransport { port, certificate_sha256 });
    ([(header::CACHE_CONTROL, "no-store")], Json(Told { webtransport }))
}
