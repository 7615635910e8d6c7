//! The body of a close frame: RFC 6455 §5.5.1 and §7.4.

use super::WsError;

/// Why the peer closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseBody<'a> {
    /// The code.
    pub code: u16,
    /// Words for people, possibly empty.
    pub reason: &'a str,
}

/// Reads the unmasked payload of a close frame; `None` if it is empty, which is allowed.
///
/// # Errors
/// [`WsError::Close`] for one byte or a code that may not be sent, [`WsError::NotUtf8`] for a reason that is no text.
pub fn decode(payload: &[u8]) -> Result<Option<CloseBody<'_>>, WsError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(WsError::Close),
        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
    };
    if !may_be_sent(code) {
        return Err(WsError::Close);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| WsError::NotUtf8)?;
    Ok(Some(CloseBody { code, reason }))
}

/// §7.4.1 and §7.4.2, with 1012 to 1014 as registered since.
const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
