//! A binary message of a peer that speaks protobuf: the input is the message, any number of frames.
//!
//! What holds: what becomes a frame survives both encodings; a frame that is cut is an error; after an error that lets
//! decoding go on, it goes on behind the frame, and no error is given for the same bytes twice.

use bytes::BytesMut;
use roost_wire::{Encoding, FrameError};

use crate::frames;

pub(crate) fn run(input: &[u8]) {
    let mut rest = input;
    loop {
        let before = rest.len();
        match Encoding::Protobuf.decode(&mut rest) {
            Ok(None) => {
                assert!(rest.is_empty());
                return;
            }
            Ok(Some(frame)) => {
                assert!(rest.len() < before, "it moves on");
                frames::check(&frame);
                let mut out = BytesMut::new();
                Encoding::Protobuf.encode(&frame, &mut out);
                for cut in (1..out.len()).step_by(1 + out.len() / 16) {
                    assert_eq!(Encoding::Protobuf.decode(&mut &out[..cut]), Err(FrameError::Protobuf), "cut at {cut}");
                }
            }
            Err(FrameError::Empty { .. } | FrameError::TooManyUsers { .. }) => {
                assert!(rest.len() < before, "it moves on");
            }
            Err(FrameError::Protobuf) => return,
            Err(error) => panic!("an error of the other encoding: {error}"),
        }
    }
}
