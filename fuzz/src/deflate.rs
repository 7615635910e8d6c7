//! Compressed messages of a peer, and our own, beside zlib.
//!
//! The first byte chooses the kind, the limit, and whether the rest is compressed or to be compressed. What holds: we
//! inflate what zlib inflates and to the same bytes, or both refuse; what we compress zlib inflates.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};
use roost_wire::ws::{Deflater, Inflater, MessageKind, WsError};

/// Limits of messages once they are inflated, in bytes.
const LIMITS: [usize; 4] = [0, 100, 65_536, 1 << 20];
/// What the sender of a message leaves out, RFC 7692 §7.2.1, and a last, empty block: a stream that was not cut ends
/// with it.
const END: [u8; 6] = [0, 0, 0xff, 0xff, 0x03, 0x00];

thread_local! {
    /// One for many messages, as in a shard: to make it takes longer than to use it.
    static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::new());
}

pub(crate) fn run(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let kind = if choice & 1 == 0 { MessageKind::Binary } else { MessageKind::Text };
    let limit = LIMITS[usize::from(choice >> 1) % LIMITS.len()];
    if choice & 8 == 0 { inflate(kind, limit, rest) } else { compress(rest) }
}

fn inflate(kind: MessageKind, limit: usize, compressed: &[u8]) {
    let mut inflater = Inflater::new();
    let ours = inflater.inflate(kind, compressed, limit).map(<[u8]>::to_vec);
    // Nothing of it is left for the next message of whatever connection.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(inflater.inflate(MessageKind::Text, &hello, 5), Ok(&b"Hello"[..]), "RFC 7692 §7.2.3.1");
    let theirs = zlib(compressed, limit);
    match (ours, theirs) {
        (Ok(ours), Zlib::Whole(theirs)) => {
            assert!(ours == theirs, "{} B and {} B", ours.len(), theirs.len());
            assert!(kind == MessageKind::Binary || std::str::from_utf8(&ours).is_ok(), "text is UTF-8");
        }
        (Err(WsError::NotUtf8), Zlib::Whole(theirs)) => {
            assert!(kind == MessageKind::Text && std::str::from_utf8(&theirs).is_err(), "zlib has text");
        }
        // Told before the stream is seen to be wrong, or too long.
        (Err(WsError::NotUtf8), _) => assert_eq!(kind, MessageKind::Text),
        // What is wrong as well as too long is told as what is seen first.
        (Err(WsError::Inflated { max }), Zlib::TooLong | Zlib::Wrong) => assert_eq!(max, limit as u64),
        (Err(WsError::Deflate), Zlib::Wrong | Zlib::TooLong) => {}
        (ours, theirs) => panic!("{:?} and {theirs:?}", ours.map(|ours| ours.len())),
    }
}

/// What zlib makes of a message.
#[derive(Debug)]
enum Zlib {
    Whole(Vec<u8>),
    TooLong,
    Wrong,
}

fn zlib(compressed: &[u8], limit: usize) -> Zlib {
    let mut state = Decompress::new(false);
    let mut out = Vec::new();
    let mut part = [0; 4096];
    let mut made_before_end = 0;
    for (ending, input) in [(false, compressed), (true, &END[..])] {
        let mut rest = input;
        loop {
            let (taken_before, made_before) = (state.total_in(), state.total_out());
            let Ok(status) = state.decompress(rest, &mut part, FlushDecompress::None) else { return Zlib::Wrong };
            let (taken, made) = (state.total_in() - taken_before, state.total_out() - made_before);
            rest = &rest[usize::try_from(taken).expect("a length")..];
            out.extend_from_slice(&part[..usize::try_from(made).expect("a length")]);
            if out.len() > limit {
                return Zlib::TooLong;
            }
            match status {
                Status::StreamEnd if rest.is_empty() && ending => {
                    // The end of a message that is whole adds nothing.
                    return if made_before_end == out.len() { Zlib::Whole(out) } else { Zlib::Wrong };
                }
                // §7.2.3.5: a block marked as the last is not the end of the message.
                Status::StreamEnd => state.reset(false),
                _ if taken == 0 && made == 0 => break,
                _ => {}
            }
        }
        made_before_end = out.len();
    }
    Zlib::Wrong
}

fn compress(payload: &[u8]) {
    DEFLATER.with_borrow_mut(|deflater| compress_by(deflater, payload));
}

fn compress_by(deflater: &mut Deflater, payload: &[u8]) {
    let Some(compressed) = deflater.compress(payload).map(<[u8]>::to_vec) else { return };
    assert!(compressed.len() < payload.len(), "else it is sent as it is");
    let again = deflater.compress(payload).expect("the same again");
    assert_eq!(again, compressed, "nothing of one message is in the next");
    let Zlib::Whole(theirs) = zlib(&compressed, payload.len()) else { panic!("zlib refuses it") };
    assert!(theirs == payload, "{} B became {} B", payload.len(), theirs.len());
    let mut inflater = Inflater::new();
    assert_eq!(inflater.inflate(MessageKind::Binary, &compressed, payload.len()), Ok(payload));
}
