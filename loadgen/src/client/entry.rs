//! Reads the one frame that comes most, a pushed ENTRY, without copying it.
//!
//! Field numbers are those of `roost.proto`; a property test holds this reader to the compiled messages.

/// A pushed entry, as far as a client of the generator looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed<'a> {
    pub conv: &'a str,
    pub seq: u64,
    pub text: &'a [u8],
}

/// Reads a protobuf frame (without the length before it) if it is a plain pushed ENTRY.
///
/// `None` for every other frame, and for one that is unusual in any way: decode it in full.
pub(crate) fn pushed(frame: &[u8]) -> Option<Pushed<'_>> {
    let mut fields = Fields(frame);
    let (32, Value::Bytes(entry)) = fields.next()? else { return None };
    if !fields.0.is_empty() {
        return None;
    }
    let mut found = Pushed { conv: "", seq: 0, text: b"" };
    let mut fields = Fields(entry);
    while !fields.0.is_empty() {
        match fields.next()? {
            (1, Value::Bytes(conv)) => found.conv = std::str::from_utf8(conv).ok()?,
            (2, Value::Number(seq)) => found.seq = seq,
            (3 | 4, Value::Bytes(_)) | (5, Value::Number(_)) => {}
            (6, Value::Bytes(body)) => {
                let mut body = Fields(body);
                let (1, Value::Bytes(text)) = body.next()? else { return None };
                if !body.0.is_empty() {
                    return None;
                }
                found.text = text;
            }
            _ => return None,
        }
    }
    Some(found)
}

/// Takes the varint at the front of `bytes`; `None` if it is cut or too long.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            // The tenth byte has room for one bit.
            if at == 9 && *byte > 1 {
                return None;
            }
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            2 => {
                let len = usize::try_from(varint(&mut self.0)?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use roost_wire::FrameBody;
    use roost_wire::pb::{Body, Entry, Frame};

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        (".{0,40}", 0..u64::MAX, ".{0,9}", ".{0,9}", 0..u64::MAX, ".{0,200}").prop_map(
            |(conv, seq, from, cmid, ts, text)| Entry {
                conv,
                seq,
                from,
                cmid,
                ts,
                body: Some(Body { text, event: None }),
            },
        )
    }

    proptest! {
        #[test]
        fn reads_what_the_compiled_messages_read(entry in entry(), rid in 0..2u64) {
            let text = entry.body.clone().unwrap().text;
            let frame = Frame { rid, body: Some(FrameBody::Entry(entry.clone())) }.encode_to_vec();
            match pushed(&frame) {
                Some(found) => {
                    prop_assert_eq!(rid, 0);
                    prop_assert_eq!((found.conv, found.seq), (&*entry.conv, entry.seq));
                    prop_assert_eq!(found.text, text.as_bytes());
                }
                // A body without text has no first field.
                None => prop_assert!(rid > 0 || text.is_empty()),
            }
        }

        #[test]
        fn any_bytes_are_survived_and_what_is_read_is_an_entry(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(found) = pushed(&bytes) {
                let frame = Frame::decode(&bytes[..]);
                if let Ok(Frame { body: Some(FrameBody::Entry(entry)), .. }) = frame {
                    prop_assert_eq!((found.conv, found.seq), (&*entry.conv, entry.seq));
                }
            }
        }
    }
}
