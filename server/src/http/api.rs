//! `/v1/guest`, `/v1/refresh` and `/v1/publish`.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use roost_router::Credentials;
use roost_wire::{ErrorCode, pb};
use serde::{Deserialize, Serialize};

use super::answer::Refusal;
use super::{Api, Peer};

#[derive(Deserialize)]
pub(super) struct Guest {
    name: String,
}

/// What a client keeps.
#[derive(Serialize)]
pub(super) struct Entered {
    user: String,
    name: String,
    token: String,
    expires: u64,
}

impl From<Credentials> for Entered {
    fn from(credentials: Credentials) -> Self {
        Self {
            user: credentials.user.into(),
            name: credentials.name,
            token: credentials.token,
            expires: credentials.expires_ms,
        }
    }
}

/// A new guest with a display name.
pub(super) async fn guest(
    State(api): State<Api>,
    Extension(Peer(peer)): Extension<Peer>,
    body: Result<Json<Guest>, JsonRejection>,
) -> Result<Json<Entered>, Refusal> {
    let Json(guest) = body?;
    api.guests.enter(peer.ip())?;
    Ok(Json(api.backend.guest(&guest.name).await?.into()))
}

/// A newer token for the holder of a valid one.
pub(super) async fn refresh(State(api): State<Api>, headers: HeaderMap) -> Result<Json<Entered>, Refusal> {
    Ok(Json(api.backend.refresh(bearer(&headers)?).await?.into()))
}

#[derive(Deserialize)]
pub(super) struct Publish {
    channel: String,
    body: pb::Body,
    #[serde(default)]
    cmid: String,
    #[serde(default)]
    attempt: u32,
    seen: Option<u64>,
}

/// A publish by a backend, with a service token.
pub(super) async fn publish(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Json<Publish>, JsonRejection>,
) -> Result<Json<pb::Sent>, Refusal> {
    let token = bearer(&headers)?;
    let Json(Publish { channel, body, cmid, attempt, seen }) = body?;
    let publish = pb::Publish { channel, body: Some(body), cmid, attempt, seen };
    Ok(Json(api.backend.publish(token, publish).await?))
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| ErrorCode::BadToken.because("an Authorization: Bearer header is needed").into())
}

/// A plain GET on the WebSocket's path (RFC 9110 §15.5.22).
pub(super) async fn upgrade_needed() -> Response {
    (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")], "connect here with WebSocket\n").into_response()
}
