//! What all clients of a thread share: the ids of conversations, and what they write with.

use std::collections::HashMap;

use bytes::BytesMut;

use crate::plan::Conv;

/// The ids of conversations on the server, and back.
#[derive(Debug, Default)]
pub struct Names {
    ids: Vec<String>,
    by_id: HashMap<String, Conv>,
}

impl Names {
    /// Names conversations: the n-th id belongs to number n; an empty one is not known.
    #[must_use]
    pub fn new(ids: Vec<String>) -> Self {
        let known = ids.iter().enumerate().filter(|(_, id)| !id.is_empty());
        let by_id = known.map(|(conv, id)| (id.clone(), conv as Conv)).collect();
        Self { ids, by_id }
    }

    /// The id of a conversation; empty if it could not be made.
    #[must_use]
    pub fn id(&self, conv: Conv) -> &str {
        self.ids.get(conv as usize).map_or("", String::as_str)
    }

    pub(super) fn conv(&self, id: &str) -> Option<Conv> {
        self.by_id.get(id).copied()
    }
}

/// What all clients of a thread write with: scratch memory and masking keys.
#[derive(Debug)]
pub struct Pen {
    pub(super) payload: BytesMut,
    pub(super) text: String,
    state: u64,
}

impl Pen {
    /// Masking keys come from `seed`: they only keep proxies from being fooled, so they need not be secret here.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { payload: BytesMut::new(), text: String::new(), state: seed | 1 }
    }

    /// 64 bits (xorshift64).
    pub fn bits(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    pub(super) fn mask(&mut self) -> [u8; 4] {
        (self.bits() as u32).to_ne_bytes()
    }
}
