//! Health, metrics and version, on a port of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::Notify;

use crate::metrics::Sources;

/// Where the node is in its life. It only moves forward.
#[derive(Default)]
pub(crate) struct Phase {
    now: AtomicU8,
    /// Somebody asked it to drain.
    asked: Notify,
}

impl Phase {
    const STARTING: u8 = 0;
    const READY: u8 = 1;
    const DRAINING: u8 = 2;

    pub(crate) fn ready(&self) {
        self.now.fetch_max(Self::READY, Ordering::AcqRel);
    }

    pub(crate) fn draining(&self) {
        self.now.fetch_max(Self::DRAINING, Ordering::AcqRel);
    }

    /// Asks the node to drain and stop, as SIGTERM does.
    fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits until somebody does.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    fn name(&self) -> &'static str {
        match self.now.load(Ordering::Acquire) {
            Self::STARTING => "starting",
            Self::READY => "ready",
            _ => "draining",
        }
    }
}

/// What the pages tell.
#[derive(Clone)]
pub(crate) struct Admin {
    pub phase: Arc<Phase>,
    pub sources: Arc<Sources>,
}

/// The admin pages.
pub(crate) fn service(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/drain", post(drain))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "here are /livez, /readyz, /metrics, /version and POST /drain\n")
        })
        .with_state(admin)
}

/// 200 if clients should be sent here, 503 if not; the body says why.
async fn ready(State(admin): State<Admin>) -> Response {
    let phase = admin.phase.name();
    let Sources { look, front } = &*admin.sources;
    let mut well = phase == "ready";
    let mut told = json!({ "phase": phase });
    if let Some(store) = &look.store {
        let failure = store.failure();
        well &= failure.is_none();
        told["store"] = failure.unwrap_or_else(|| "ok".to_owned()).into();
    }
    if let Some(front) = front {
        let room = front.memory.is_open();
        well &= room;
        told["memory"] = if room { "ok" } else { "nearly full" }.into();
    }
    if let Some(routers) = look.routers() {
        well &= routers > 0;
        told["routers"] = routers.into();
    }
    if let Some(fleet) = look.bus.tell() {
        told["redis"] = fleet;
    }
    told["ready"] = well.into();
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(told)).into_response()
}

/// As SIGTERM: 202, and the node drains, then stops.
async fn drain(State(admin): State<Admin>) -> Response {
    admin.phase.ask();
    (StatusCode::ACCEPTED, Json(json!({ "draining": true, "sessions": admin.sources.sessions() }))).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.sources.render()).into_response()
}

async fn version() -> Json<serde_json::Value> {
    Json(json!({ "name": "roost", "version": env!("CARGO_PKG_VERSION"), "protocol": ["roost.v1.pb", "roost.v1.json"] }))
}
