//! A text message of a peer that speaks JSON: the input is the message.
//!
//! What holds: what becomes a frame survives both encodings; what another reader of JSON refuses is refused; errors do
//! not repeat the peer's words; the limit on users is the same in both encodings.

use bytes::BytesMut;
use roost_wire::{Encoding, FrameError};
use serde_json::Value;

use crate::frames;

pub(crate) fn run(input: &[u8]) {
    let mut rest = input;
    let decoded = Encoding::Json.decode(&mut rest);
    assert!(rest.is_empty(), "a message holds one frame");
    if std::str::from_utf8(input).is_err() {
        return; // Of a text message it never is: RFC 6455 §8.1.
    }
    let value = match serde_json::from_slice::<Value>(input) {
        Ok(value) => value,
        // Names we do not know are passed over with their values, whatever those mean.
        Err(error)
            if !matches!(decoded, Err(FrameError::Json(_)))
                && ["number out of range", "hex escape"].iter().any(|what| error.to_string().contains(what)) =>
        {
            return;
        }
        Err(error) => {
            assert!(!matches!(decoded, Ok(Some(_))), "another reader of JSON refuses it: {error}");
            Value::Null
        }
    };
    match decoded {
        Ok(None) => assert!(input.is_empty(), "something must come of bytes"),
        Ok(Some(frame)) => {
            let rid = value.get("rid").and_then(Value::as_u64).unwrap_or(0);
            assert_eq!(rid, frame.rid);
            let name = frame.body.as_ref().expect("a frame has a body").name();
            assert!(value.get(name).is_some(), "{name} in {value}");
            frames::check(&frame);
            let mut again = BytesMut::new();
            Encoding::Json.encode(&frame, &mut again);
            let again: Value = serde_json::from_slice(&again).expect("JSON");
            assert!(is_part(&again, Some(&value)), "{again} was understood of {value}");
        }
        Err(FrameError::Json(text)) => {
            let ours = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b' ';
            assert!(text.bytes().all(ours) && text.len() < 120, "not the peer's words: {text}");
        }
        Err(error @ (FrameError::Empty { .. } | FrameError::TooManyUsers { .. })) => {
            assert_eq!(error.rid(), value.get("rid").and_then(Value::as_u64).unwrap_or(0));
        }
        Err(error) => panic!("an error of the other encoding: {error}"),
    }
}

/// Whether everything that we understood was said: `ours` stands in `theirs` at the same places, or says nothing.
fn is_part(ours: &Value, theirs: Option<&Value>) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Some(Value::Object(theirs))) => {
            ours.iter().all(|(name, ours)| is_part(ours, theirs.get(name)))
        }
        (Value::Array(ours), Some(Value::Array(theirs))) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| is_part(ours, Some(theirs)))
        }
        (ours, Some(theirs)) => ours == theirs,
        (Value::Bool(said), None) => !said,
        (Value::Number(number), None) => number.as_u64() == Some(0),
        (Value::String(text), None) => text.is_empty(),
        (Value::Array(items), None) => items.is_empty(),
        (Value::Null | Value::Object(_), None) => false,
    }
}
