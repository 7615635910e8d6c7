//! Conversations in memory: what is known of each, and the commands waiting at it.
//!
//! Invariants:
//! - at most one task works on a conversation at a time, so its commands keep their order;
//! - what is cached is a hint: appending is compare-and-set, and whatever is in doubt is read again.

pub(crate) mod cache;
pub(crate) mod create;
pub(crate) mod heard;
pub(crate) mod ids;
pub(crate) mod lease;
pub(crate) mod load;
pub(crate) mod members;
pub(crate) mod roles;
pub(crate) mod roster;
pub(crate) mod view;

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use hashbrown::HashMap;
use roost_storage::ConvMeta;
use roost_wire::link::SessionKey;
use roost_wire::pb::Kind;
use roost_wire::{ConvId, Seq, UserId};
use smallvec::SmallVec;

use crate::appender::dedup::Recents;
use crate::appender::queue::Work;
use crate::lock::Mutex;
use lease::Checked;
use roster::Roster;

/// One conversation in memory.
pub(crate) struct Conversation {
    pub(crate) id: ConvId,
    /// Was used since the cache last looked.
    pub(crate) touched: AtomicBool,
    pub(crate) state: Mutex<State>,
}

/// What changes of it.
#[derive(Default)]
pub(crate) struct State {
    /// Commands in the order they came.
    pub(crate) queue: VecDeque<Work>,
    /// A task works on the queue.
    pub(crate) running: bool,
    /// A look at the log is due, to push what an append of unknown outcome may have written.
    pub(crate) settling: bool,
    /// What was read; `None` before the first use and after a doubt.
    pub(crate) loaded: Option<Box<Loaded>>,
    /// The last seq that was pushed from here. `None`: nothing was.
    pub(crate) told: Option<Seq>,
    /// The first seq of an append of this node whose outcome is unknown. As long as the log ends below it the append may
    /// still get in; what the log then has is told, to the other nodes as well.
    pub(crate) doubtful: Option<Seq>,
    /// How often the log was looked at since that append.
    pub(crate) looks: u32,
}

/// What is known of a conversation.
pub(crate) struct Loaded {
    pub(crate) meta: ConvMeta,
    /// False for a channel that nobody published to yet.
    pub(crate) exists: bool,
    pub(crate) roster: Roster,
    pub(crate) recents: Recents,
    /// Marks of members as they are stored (delivered, read), as far as they were looked at. Small conversations only.
    pub(crate) marks: HashMap<UserId, (Seq, Seq)>,
    /// When a session's TYPING was last passed on.
    pub(crate) typing: SmallVec<[(SessionKey, u64, bool); 1]>,
    /// Sessions of members have joined the topic, and those to come will: the number under which they do.
    pub(crate) interest: Option<u64>,
    /// When all this was so in the store.
    pub(crate) checked: Checked,
}

impl Loaded {
    pub(crate) fn is_channel(&self) -> bool {
        self.meta.kind == Kind::Channel
    }
}

impl State {
    /// The log reaches up to `head`, and that was told: what became of a doubtful append below it is known.
    pub(crate) fn decided(&mut self, head: Seq) {
        self.doubtful.take_if(|seq| *seq <= head);
    }
}

impl Conversation {
    pub(crate) fn new(id: ConvId) -> Self {
        Self { id, touched: AtomicBool::new(true), state: Mutex::default() }
    }

    /// Runs `look` if the conversation is loaded.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&mut Loaded) -> T) -> Option<T> {
        self.state.lock().loaded.as_deref_mut().map(look)
    }
}
