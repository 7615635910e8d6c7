//! Type, length and value, as frames (RFC 9114 §7.1) and capsules (RFC 9297 §3.2) have them, from bytes cut anywhere.

use web_transport_proto::VarInt;

/// Most bytes of a type and a length.
const HEAD_BYTES_MAX: usize = 16;

/// Reads one after the other. It keeps no bytes of a value.
#[derive(Debug, Default)]
pub(super) struct Tlvs {
    head: [u8; HEAD_BYTES_MAX],
    filled: u8,
    /// Of the one that is under way.
    current: Option<(u64, u64)>,
}

/// A part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) kind: u64,
    pub(super) bytes: &'a [u8],
    /// Bytes of the value behind these.
    pub(super) left: u64,
}

impl Tlvs {
    /// The next part in `input`, which moves on. `None`: more input is needed. Each has a first part once its length is known,
    /// which may be empty, and a last one, with nothing left.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        let begins = self.current.is_none();
        let (kind, left) = match self.current {
            Some(current) if !input.is_empty() => current,
            Some(_) => return None,
            None => self.begin(input)?,
        };
        let (bytes, rest) = input.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(input.len()));
        *input = rest;
        let left = left - bytes.len() as u64;
        self.current = (left > 0).then_some((kind, left));
        debug_assert!(begins || !bytes.is_empty());
        Some(Piece { kind, bytes, left })
    }

    /// Reads type and length.
    fn begin(&mut self, input: &mut &[u8]) -> Option<(u64, u64)> {
        loop {
            let (byte, rest) = input.split_first()?;
            *input = rest;
            // Sixteen bytes are two varints, so it never overflows.
            *self.head.get_mut(usize::from(self.filled))? = *byte;
            self.filled += 1;
            let mut head = &self.head[..usize::from(self.filled)];
            if let (Ok(kind), Ok(bytes)) = (VarInt::decode(&mut head), VarInt::decode(&mut head)) {
                self.filled = 0;
                return Some((kind.into_inner(), bytes.into_inner()));
            }
        }
    }
}
