//! How large a reply becomes, from above, in either encoding: pages are cut to what a client accepts.

use roost_wire::limits::SERVER_FRAME_BYTES_MAX;
use roost_wire::pb;

/// Room that is left for the frame around a list.
const FRAME_BYTES: usize = 1024;
/// Names, numbers and punctuation of one item in JSON.
const ITEM_BYTES: usize = 256;

/// Bytes that the items of one reply may have.
pub(crate) const ITEMS_BYTES_MAX: usize = SERVER_FRAME_BYTES_MAX - FRAME_BYTES;

/// Bytes of `text` as a JSON string, never fewer than in protobuf.
fn text_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 2
}

/// Bytes of an entry, from above.
pub(crate) fn entry_bytes(entry: &pb::Entry) -> usize {
    let body = entry.body.as_ref().map_or(0, |body| {
        let event = body.event.as_ref().map_or(0, |event| {
            event.users.iter().map(|user| user.len() + 3).sum::<usize>() + text_bytes(&event.name) + ITEM_BYTES
        });
        text_bytes(&body.text) + event
    });
    entry.conv.len() + entry.from.len() + text_bytes(&entry.cmid) + body + ITEM_BYTES
}

/// Bytes of a row, from above.
pub(crate) fn row_bytes(row: &pb::Row) -> usize {
    let peer = row.peer.as_ref().map_or(0, |peer| peer.user.len() + text_bytes(&peer.name) + ITEM_BYTES);
    let last = row.last.as_ref().map_or(0, entry_bytes);
    row.conv.len() + text_bytes(&row.name) + peer + last + 2 * ITEM_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #[test]
        fn an_estimate_is_never_below_either_encoding(text in "\\PC{0,64}|[\\x00-\\x7f]{0,64}", seq: u64, users in prop::collection::vec("[a-z]{1,64}", 0..20)) {
            let event = pb::Event { kind: 1, users, name: text.clone(), role: 2 };
            let body = pb::Body { text: text.clone(), event: Some(event) };
            let entry = pb::Entry { conv: "c_1".into(), seq, from: "u".into(), cmid: text.clone(), ts: seq, body: Some(body) };
            let peer = pb::Member { user: "u".into(), role: 1, name: text.clone(), ..pb::Member::default() };
            prop_assert!(entry_bytes(&entry) >= serde_json::to_vec(&entry).unwrap().len());
            prop_assert!(entry_bytes(&entry) >= entry.encoded_len());
            let row = pb::Row { conv: "c_1".into(), name: text, head: seq, last: Some(entry), peer: Some(peer), ..pb::Row::default() };
            prop_assert!(row_bytes(&row) >= serde_json::to_vec(&row).unwrap().len());
            prop_assert!(row_bytes(&row) >= row.encoded_len());
        }
    }
}
