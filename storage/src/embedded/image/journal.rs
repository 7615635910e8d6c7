//! Reads the journals of fjall, without changing them.
//!
//! Fjall itself cuts a journal at the first byte it does not understand, without a word, and takes what is before for
//! all there ever was. It also believes lengths of up to 4 GiB, and leaves the number of a batch out of its checksum.
//! So the journals are read here first: an end that cannot be read is shown to the ledger before it is cut.
//!
//! ```text
//! N.jnl  = batch*, then zeros to the allocated end
//! batch  = 1 count u32 seqno u64, item*, 3 xxh3-of-the-items u64 "FJL" 3
//! item   = 2 type u8 compression u8 keyspace u64 key-length u16 value-length u32 stored-length u32 key value
//! ```
//! All little-endian (fjall 3, format 3).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use xxhash_rust::xxh3::Xxh3Default;

/// Most bytes of a value: far above what an append may carry, far below what a wrong length says.
const VALUE_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Most items of a batch: 1024 writes of the queue, each with members and rows.
const BATCH_ITEMS_MAX: u32 = 16 * 1024 * 1024;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: &[u8; 4] = b"FJL\x03";
const START_BYTES: usize = 13;
const ITEM_BYTES: usize = 21;
const END_BYTES: usize = 13;

/// One change of one key.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) keyspace: u64,
    pub(crate) key: Vec<u8>,
    /// `None`: the key is removed.
    pub(crate) value: Option<Vec<u8>>,
}

/// What one commit wrote.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Where it begins in its file.
    pub(crate) at: u64,
    /// Where it ends.
    pub(crate) end: u64,
    pub(crate) seqno: u64,
    pub(crate) items: Vec<Item>,
}

/// What stands at a place of a journal.
pub(crate) enum Next {
    Batch(Batch),
    /// Nothing but zeros, or the end of the file.
    Empty,
    /// Something that is no whole batch.
    Torn(String),
}

/// A journal, read from front to back.
pub(crate) struct Journal {
    pub(crate) path: PathBuf,
    pub(crate) id: u64,
    file: File,
    pub(crate) len: u64,
    /// Bytes of the file from `from` on.
    buffer: Vec<u8>,
    from: u64,
    /// Where the next batch is looked for.
    pub(crate) at: u64,
}

/// The journals in `data`, in the order they were written. `Err` names a file whose name makes no sense.
pub(crate) fn list(data: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for found in std::fs::read_dir(data)? {
        let path = found?.path();
        if path.extension().is_some_and(|extension| extension == "jnl")
            && let Some(id) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            journals.push((id, path));
        }
    }
    journals.sort_unstable();
    Ok(journals)
}

impl Journal {
    pub(crate) fn open(id: u64, path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), id, file, len, buffer: Vec::new(), from: 0, at: 0 })
    }

    /// Reads what stands at `self.at`, and steps over it if it is a batch.
    pub(crate) fn next(&mut self) -> io::Result<Next> {
        let next = self.parse()?;
        match &next {
            Next::Batch(batch) => self.at = batch.end,
            Next::Torn(_) if self.rest_is_zero()? => return Ok(Next::Empty),
            Next::Empty | Next::Torn(_) => {}
        }
        Ok(next)
    }

    /// Looks for the next whole batch behind something torn; false if there is none.
    ///
    /// Only batches that lead to the end of the file without a further hole are taken: a text that looks like a batch,
    /// within one that is damaged, does not.
    pub(crate) fn skip_to_next(&mut self) -> io::Result<bool> {
        let torn = self.at;
        while self.skip_to_candidate()? {
            let candidate = self.at;
            while let Next::Batch(batch) = self.parse()? {
                self.at = batch.end;
            }
            if self.at > candidate && self.rest_is_zero()? {
                self.at = candidate;
                return Ok(true);
            }
            self.at = candidate;
        }
        self.at = torn;
        Ok(false)
    }

    /// Steps to the next place that looks like the beginning of a batch; false if there is none.
    fn skip_to_candidate(&mut self) -> io::Result<bool> {
        const LOOK_BYTES: usize = START_BYTES + 3;
        loop {
            let from = self.at + 1;
            let len = CHUNK_BYTES.min(self.len.saturating_sub(from) as usize);
            if len < LOOK_BYTES {
                return Ok(false);
            }
            let Some(chunk) = self.slice(from, len)? else { return Ok(false) };
            let looks_like_one = |bytes: &[u8]| {
                let count = u32::from_le_bytes(part(bytes, 1));
                bytes[0] == START
                    && (1..=BATCH_ITEMS_MAX).contains(&count)
                    && bytes[START_BYTES] == ITEM
                    && bytes[START_BYTES + 1] <= 1
                    && bytes[START_BYTES + 2] <= 1
            };
            if let Some(place) = chunk.windows(LOOK_BYTES).position(looks_like_one) {
                self.at = from + place as u64;
                return Ok(true);
            }
            // The last bytes of this chunk are looked at again with the next.
            self.at = from + (len - LOOK_BYTES) as u64;
        }
    }

    fn parse(&mut self) -> io::Result<Next> {
        let torn = |why: &str| Ok(Next::Torn(why.to_owned()));
        let begin = self.at;
        let Some(head) = self.bytes::<START_BYTES>(begin)? else { return torn("it ends within a batch") };
        let count = u32::from_le_bytes(part(&head, 1));
        let seqno = u64::from_le_bytes(part(&head, 5));
        if head[0] != START || count == 0 || count > BATCH_ITEMS_MAX {
            return torn("no batch begins there");
        }
        let mut at = begin + START_BYTES as u64;
        let mut items = Vec::new();
        let mut hash = Xxh3Default::new();
        for _ in 0..count {
            let Some(head) = self.bytes::<ITEM_BYTES>(at)? else { return torn("it ends within a batch") };
            let key_len = usize::from(u16::from_le_bytes(part(&head, 11)));
            let (value_len, stored_len) = (u32::from_le_bytes(part(&head, 13)), u32::from_le_bytes(part(&head, 17)));
            let compressed = head[2] == 1;
            let fits = value_len <= VALUE_BYTES_MAX
                && stored_len <= VALUE_BYTES_MAX
                && (compressed || value_len == stored_len);
            if head[0] != ITEM || head[1] > 1 || head[2] > 1 || key_len == 0 || !fits {
                return torn("a batch has an item that makes no sense");
            }
            let len = key_len + stored_len as usize;
            let Some(body) = self.slice(at + ITEM_BYTES as u64, len)? else { return torn("it ends within a batch") };
            hash.update(&head);
            hash.update(body);
            let (key, stored) = body.split_at(key_len);
            let value =
                if compressed { Stored::Lz4(stored.to_vec(), value_len) } else { Stored::Plain(stored.to_vec()) };
            items.push((u64::from_le_bytes(part(&head, 3)), key.to_vec(), (head[1] == 0).then_some(value)));
            at += (ITEM_BYTES + len) as u64;
        }
        let Some(tail) = self.bytes::<END_BYTES>(at)? else { return torn("it ends within a batch") };
        if tail[0] != END || part(&tail, 9) != *TRAILER {
            return torn("a batch has no end");
        }
        if u64::from_le_bytes(part(&tail, 1)) != hash.digest() {
            return torn("a batch has a wrong checksum");
        }
        let end = at + END_BYTES as u64;
        let mut whole = Vec::with_capacity(items.len());
        for (keyspace, key, value) in items {
            let Ok(value) = value.map(Stored::plain).transpose() else {
                return torn("a batch has a value that cannot be decompressed");
            };
            whole.push(Item { keyspace, key, value });
        }
        Ok(Next::Batch(Batch { at: begin, end, seqno, items: whole }))
    }

    /// True if from `self.at` on there is nothing but zeros. Holes of the file are not read.
    fn rest_is_zero(&mut self) -> io::Result<bool> {
        let mut at = self.at;
        while at < self.len {
            match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
                Ok(data) => at = data.max(at),
                Err(rustix::io::Errno::NXIO) => return Ok(true),
                Err(_) => {} // a file system that does not tell: read it all
            }
            let len = CHUNK_BYTES.min((self.len - at) as usize);
            let mut chunk = vec![0; len];
            self.file.read_exact_at(&mut chunk, at)?;
            if chunk.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += len as u64;
        }
        Ok(true)
    }

    fn bytes<const N: usize>(&mut self, at: u64) -> io::Result<Option<[u8; N]>> {
        Ok(self.slice(at, N)?.map(|bytes| part(bytes, 0)))
    }

    /// The bytes from `at` on; `None` if the file ends before.
    fn slice(&mut self, at: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if at + len as u64 > self.len {
            return Ok(None);
        }
        let held = self.from + self.buffer.len() as u64;
        if at < self.from || at + len as u64 > held {
            let wanted = len.max(CHUNK_BYTES).min((self.len - at) as usize);
            self.buffer.resize(wanted, 0);
            self.file.read_exact_at(&mut self.buffer, at)?;
            self.from = at;
        }
        let begin = (at - self.from) as usize;
        Ok(Some(&self.buffer[begin..begin + len]))
    }
}

/// A value as it stands in the journal. It is decompressed only after the checksum of its batch was right.
enum Stored {
    Plain(Vec<u8>),
    Lz4(Vec<u8>, u32),
}

impl Stored {
    fn plain(self) -> Result<Vec<u8>, lz4_flex::block::DecompressError> {
        match self {
            Self::Plain(bytes) => Ok(bytes),
            Self::Lz4(bytes, len) => lz4_flex::block::decompress(&bytes, len as usize),
        }
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}
