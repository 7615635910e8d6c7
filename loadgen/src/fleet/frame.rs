//! Messages on a connection: four bytes of length, big-endian, then JSON.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one message: a second's histograms take some ten thousand, a scenario with a large graph some million.
pub(super) const BYTES_MAX: usize = 64 << 20;
/// Bytes of a message of somebody who has not proved who it is.
pub(super) const BYTES_MAX_UNPROVED: usize = 4096;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The connection ended, or was silent for too long.
    #[error("{}", told(.0))]
    Io(#[from] io::Error),
    /// More than is allowed.
    #[error("a message of {len} B, {max} B are allowed")]
    TooLarge { len: usize, max: usize },
    /// Not what is said here.
    #[error("a message that makes no sense: {0}")]
    Nonsense(#[from] serde_json::Error),
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the connection ended".into()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "nothing was heard for too long".into(),
        _ => error.to_string(),
    }
}

/// Reads one message of `max` bytes at most. How long it waits is the connection's affair.
pub(super) fn read<M: DeserializeOwned>(from: &mut impl Read, max: usize) -> Result<M, FrameError> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if len > max {
        return Err(FrameError::TooLarge { len, max });
    }
    // As much as comes, not as much as was promised.
    let mut body = Vec::new();
    from.take(len as u64).read_to_end(&mut body)?;
    if body.len() < len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(serde_json::from_slice(&body)?)
}

/// Writes one message.
pub(super) fn write<M: Serialize>(to: &mut impl Write, message: &M) -> Result<(), FrameError> {
    let body = serde_json::to_vec(message)?;
    if body.len() > BYTES_MAX {
        return Err(FrameError::TooLarge { len: body.len(), max: BYTES_MAX });
    }
    let mut bytes = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    to.write_all(&bytes)?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_the_rest_stays() {
        let mut bytes = Vec::new();
        write(&mut bytes, &("one", 1)).unwrap();
        write(&mut bytes, &("two", 2)).unwrap();
        let mut rest = &bytes[..];
        assert_eq!(read::<(String, u32)>(&mut rest, 100).unwrap(), ("one".into(), 1));
        assert_eq!(read::<(String, u32)>(&mut rest, 100).unwrap(), ("two".into(), 2));
        assert!(matches!(read::<u32>(&mut rest, 100), Err(FrameError::Io(_))));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        let error = read::<u32>(&mut &[0xff, 0xff, 0xff, 0xff, b'1'][..], BYTES_MAX_UNPROVED).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { max: BYTES_MAX_UNPROVED, .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read::<Vec<String>>(&mut &bytes[..], 1 << 20);
        }
    }
}
