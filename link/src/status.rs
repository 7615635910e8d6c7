//! Errors of the protocol as gRPC tells them, and back.

use roost_wire::{ErrorCode, pb};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

const CODE: &str = "roost-code";
const RETRYABLE: &str = "roost-retryable";
const RETRY_AFTER_MS: &str = "roost-retry-after-ms";

/// An error as a status: the nearest of gRPC's codes, ours in the metadata.
pub(crate) fn to_status(error: pb::Error) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(CODE, error.code.into());
    metadata.insert(RETRYABLE, if error.retryable { "true" } else { "false" }.parse().expect("it is ASCII"));
    if error.retry_after_ms > 0 {
        metadata.insert(RETRY_AFTER_MS, error.retry_after_ms.into());
    }
    Status::with_metadata(grpc_code(error.code), error.message, metadata)
}

/// The error in a status of ours. Of another one: 502 if the call may have been taken, else 503.
pub(crate) fn from_status(status: &Status) -> pb::Error {
    let metadata = status.metadata();
    let text = |key| metadata.get(key).and_then(|value| value.to_str().ok());
    let number = |key| text(key).and_then(|text| text.parse::<u32>().ok());
    match number(CODE) {
        Some(code) => pb::Error {
            code,
            message: status.message().to_owned(),
            retryable: text(RETRYABLE) == Some("true"),
            retry_after_ms: number(RETRY_AFTER_MS).unwrap_or(0),
        },
        None if status.code() == Code::Unavailable => ErrorCode::Overloaded.because("no router answers"),
        None => ErrorCode::Unknown.error(),
    }
}

fn grpc_code(code: u32) -> Code {
    let Some(code) = ErrorCode::from_number(code) else { return Code::Unknown };
    match code {
        ErrorCode::Malformed | ErrorCode::UnknownCommand | ErrorCode::BadField | ErrorCode::BodyTooLarge => {
            Code::InvalidArgument
        }
        ErrorCode::BadToken | ErrorCode::TokenExpired => Code::Unauthenticated,
        ErrorCode::GuestsOff | ErrorCode::Forbidden | ErrorCode::NotMember | ErrorCode::RoleTooLow => {
            Code::PermissionDenied
        }
        ErrorCode::NoConversation | ErrorCode::NoUser => Code::NotFound,
        ErrorCode::CmidConflict => Code::AlreadyExists,
        ErrorCode::NotConnected
        | ErrorCode::AlreadyConnected
        | ErrorCode::WrongKind
        | ErrorCode::TooManyMembers
        | ErrorCode::TooManyWatches => Code::FailedPrecondition,
        ErrorCode::RateLimited | ErrorCode::TooManyInFlight | ErrorCode::DiskFull => Code::ResourceExhausted,
        ErrorCode::Internal => Code::Internal,
        ErrorCode::Unavailable | ErrorCode::Overloaded => Code::Unavailable,
        // 502, and what newer versions add.
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_way_there_and_back() {
        for code in ErrorCode::ALL {
            let error = pb::Error { retry_after_ms: 7, ..code.because("because") };
            let status = to_status(error.clone());
            assert_eq!(from_status(&status), error);
            assert!(status.code() != Code::Ok && status.code() != Code::Unimplemented, "{code:?}");
            assert_eq!(status.code() == Code::Unknown, *code == ErrorCode::Unknown, "{code:?} has a code of its own");
        }
    }

    #[test]
    fn a_status_of_others_says_whether_it_may_have_been_done() {
        assert_eq!(from_status(&Status::unavailable("no")).code, ErrorCode::Overloaded.number());
        assert_eq!(from_status(&Status::deadline_exceeded("no")).code, ErrorCode::Unknown.number());
    }
}
