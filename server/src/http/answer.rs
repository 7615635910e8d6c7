//! Errors of the HTTP API: a status and the ERROR body of the socket.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use roost_wire::{ErrorCode, pb};
use serde_json::json;

/// A refusal: `{"error":{"code":…,"message":…,"retryable":…}}`.
#[derive(Debug)]
pub(super) struct Refusal(pb::Error);

impl From<pb::Error> for Refusal {
    fn from(error: pb::Error) -> Self {
        Self(error)
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self(code.error())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::BodyTooLarge.into(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ErrorCode::Malformed.because("Content-Type must be application/json").into()
            }
            _ => ErrorCode::Malformed.because("the body is not the JSON that is expected here").into(),
        }
    }
}

/// The status that fits an error code.
fn status(code: u32) -> StatusCode {
    match ErrorCode::from_number(code) {
        Some(ErrorCode::BadToken | ErrorCode::TokenExpired) => StatusCode::UNAUTHORIZED,
        Some(ErrorCode::GuestsOff | ErrorCode::Forbidden | ErrorCode::NotMember | ErrorCode::RoleTooLow) => {
            StatusCode::FORBIDDEN
        }
        Some(ErrorCode::NoConversation | ErrorCode::NoUser) => StatusCode::NOT_FOUND,
        Some(ErrorCode::CmidConflict | ErrorCode::WrongKind) => StatusCode::CONFLICT,
        Some(ErrorCode::BodyTooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Some(ErrorCode::RateLimited) => StatusCode::TOO_MANY_REQUESTS,
        Some(ErrorCode::DiskFull) => StatusCode::INSUFFICIENT_STORAGE,
        Some(ErrorCode::Unavailable | ErrorCode::Overloaded | ErrorCode::Unknown) => StatusCode::SERVICE_UNAVAILABLE,
        Some(code) if code.number() < 500 => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry_after_ms = self.0.retry_after_ms;
        let mut response = (status(self.0.code), Json(json!({ "error": self.0 }))).into_response();
        if retry_after_ms > 0 {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_ms.div_ceil(1000)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_a_status_of_its_family() {
        for code in ErrorCode::ALL {
            let status = status(code.number());
            assert!(status.is_client_error() || code.number() >= 500, "{code:?} {status}");
        }
    }
}
