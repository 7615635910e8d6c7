//! The frame of fjall's table and version files: sections, then a table of contents, then a trailer.
//!
//! ```text
//! contents = "TOC!" count u32, (position u64, length u64, name-length u16, name)*
//! trailer  = "SFA!" 1 0 xxh3-128-of-the-contents, position u64 and length u64 of the contents
//! ```
//! Fjall reserves memory for as many sections as are announced before it looks at the checksum, so this looks first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

const TRAILER_BYTES: usize = 4 + 1 + 1 + 16 + 8 + 8;
/// Most bytes of a table of contents; a real one has some hundred.
const CONTENTS_BYTES_MAX: u64 = 64 * 1024;
const CHUNK_BYTES: usize = 256 * 1024;

/// A section's name with its position and length in bytes.
pub(crate) type Section = (Vec<u8>, u64, u64);

/// The sections of an archive, or what is wrong with its frame.
pub(crate) fn sections(file: &File) -> io::Result<Result<Vec<Section>, &'static str>> {
    let len = file.metadata()?.len();
    let Some(trailer_at) = len.checked_sub(TRAILER_BYTES as u64) else { return Ok(Err("it is cut short")) };
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, trailer_at)?;
    let number = |at: usize| trailer[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let (position, contents_len) = (number(22), number(30));
    if !trailer.starts_with(b"SFA!\x01\x00") {
        return Ok(Err("it does not end as it should"));
    }
    if contents_len > CONTENTS_BYTES_MAX || position.checked_add(contents_len) != Some(trailer_at) {
        return Ok(Err("its length is not what it says"));
    }
    let mut contents = vec![0; contents_len as usize];
    file.read_exact_at(&mut contents, position)?;
    if xxh3_128(&contents).to_le_bytes() != trailer[6..22] {
        return Ok(Err("its table of contents has a wrong checksum"));
    }
    Ok(parse(&contents, position).ok_or("its table of contents makes no sense"))
}

fn parse(contents: &[u8], limit: u64) -> Option<Vec<Section>> {
    let mut rest = contents.strip_prefix(b"TOC!")?;
    let mut take = |len: usize| {
        let (taken, left) = rest.split_at_checked(len)?;
        rest = left;
        Some(taken)
    };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let count = number(take(4)?);
    let mut sections = Vec::new();
    for _ in 0..count {
        let (position, len) = (number(take(8)?), number(take(8)?));
        let name_len = number(take(2)?) as usize;
        let name = take(name_len)?.to_vec();
        if position.checked_add(len)? > limit {
            return None;
        }
        sections.push((name, position, len));
    }
    Some(sections)
}

/// The xxh3-128 of a whole file, with `step` told how many bytes were read.
pub(crate) fn checksum(file: &File, step: &mut dyn FnMut(u64)) -> io::Result<u128> {
    let mut hash = Xxh3Default::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut chunk, at)?;
        if read == 0 {
            return Ok(hash.digest128());
        }
        hash.update(&chunk[..read]);
        at += read as u64;
        step(read as u64);
    }
}
