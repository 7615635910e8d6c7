//! The seam between nodes: what a node tells the others, and what it may rely on when it hears them.
//!
//! Nothing here decides anything: the log does. A bus may delay, reorder, double and lose parcels, or carry none at
//! all for hours; a node is then slower to tell its sessions, and never wrong. What a bus must not do is forge: a
//! parcel comes from the node it names, whole.
//!
//! Every parcel of a node's life has a number, 1, 2, 3…, so that whoever hears the next one, or a heartbeat, notices
//! that one is missing. See [`crate::Router::hear`] for what follows from that.

use std::fmt;
use std::sync::Arc;

use roost_storage::{Entry, Member};
use roost_wire::link::Envelope;
use roost_wire::{ConvId, UserId};

/// Names a node among those that share a store. Whoever sets nodes up sees to it that no two have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// Sixteen hexadecimal digits.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The way to the other nodes. Given to [`crate::Router::with_bus`]; what arrives is handed to
/// [`crate::Router::hear`], and [`crate::Router::beat`] is called on a timer.
pub trait Bus: Send + Sync + 'static {
    /// Whether there are no other nodes: nothing is posted or heard then, and nothing is done for their sake. It never
    /// changes.
    fn is_alone(&self) -> bool {
        false
    }

    /// This node.
    fn node(&self) -> NodeId;

    /// The number of this node's life: it rises with every start of its process, and stays as it is while it lives.
    fn incarnation(&self) -> u64;

    /// Sends `parcel` to the node `to`, or to every other node if that is `None`; or loses it. Never blocks, and never
    /// calls a router before it returns: it is called under locks.
    fn post(&self, to: Option<NodeId>, parcel: Parcel);
}

/// No other nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Bus for Alone {
    fn is_alone(&self) -> bool {
        true
    }

    fn node(&self) -> NodeId {
        NodeId(0)
    }

    fn incarnation(&self) -> u64 {
        0
    }

    fn post(&self, _to: Option<NodeId>, _parcel: Parcel) {}
}

/// What a node tells others. Cloning shares what is large.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Who tells it.
    pub from: NodeId,
    /// In which of its lives. Parcels of an earlier life than the last one heard count for nothing.
    pub incarnation: u64,
    /// It is for one node, and has a number among those for that node in this life; else among those for all.
    pub direct: bool,
    /// 1, 2, 3… in each life. A [`Notice::Heartbeat`] takes no number: it repeats the last one given to all, 0 if none
    /// was.
    pub number: u64,
    /// What.
    pub notice: Notice,
}

/// How much of what a node told was known to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of which node.
    pub node: NodeId,
    /// Of which of its lives.
    pub incarnation: u64,
    /// The highest number that it was known to have given in that life.
    pub number: u64,
}

/// What can be told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Entries of a log that are durable.
    Appended {
        /// The conversation.
        conv: ConvId,
        /// At least one, their seqs rising by one.
        entries: Arc<[Entry]>,
        /// The members after the last of these entries, in rising order of their ids. `None` for a channel, and for a
        /// conversation of more than `interest_threshold` members.
        members: Option<Arc<[Member]>>,
    },
    /// The log of a conversation moved, and the sender cannot say how: its readers are to sync.
    Missed {
        /// The conversation.
        conv: ConvId,
    },
    /// A push to the sessions of some users: TYPING, RECEIPT, CHANGED.
    Push {
        /// To whom.
        to: To,
        /// What.
        envelope: Arc<Envelope>,
    },
    /// A session was registered. An older one of the same user and device ends, wherever it is: one that the sender
    /// knew of. Of two that are registered while neither node knows of the other one both live.
    SessionTaken {
        /// Whose.
        user: UserId,
        /// The device's name.
        device: Arc<str>,
        /// What the sender knew of each other node before it registered the session.
        knew: Arc<[Known]>,
    },
    /// The user's first session on this node was registered.
    Came {
        /// Who.
        user: UserId,
        /// The name in the token, if the user may have no record.
        name: Option<Arc<str>>,
    },
    /// The user's last session on this node ended.
    Gone {
        /// Who.
        user: UserId,
    },
    /// Nothing but: I live, and the last number I gave is this parcel's.
    Heartbeat {
        /// The last number given to parcels for one node, of each node that got any.
        direct: Arc<[(NodeId, u64)]>,
    },
    /// The sender did not know who is at the receiver, or not all of them: what it told may be missing there.
    Blind,
    /// Every session of the user is to end, wherever it is.
    Disconnect {
        /// Whose.
        user: UserId,
    },
    /// The node stops in good order: its users are gone, and nothing follows.
    Leaving,
    /// The sender does not know who is at `of`, which answers with [`Notice::Users`].
    Ask {
        /// Who is asked.
        of: NodeId,
    },
    /// All who have sessions on this node, in parts.
    Users {
        /// This part; 0 begins a new list.
        part: u32,
        /// No more parts follow.
        last: bool,
        /// Who, each with the name of a token as in [`Notice::Came`].
        users: Arc<[(UserId, Option<Arc<str>>)]>,
    },
}

/// Whose sessions a push is for.
#[derive(Clone, Debug)]
pub enum To {
    /// These users.
    Users(Arc<[UserId]>),
    /// These members.
    Members {
        /// In rising order of their ids.
        members: Arc<[Member]>,
        /// But not this user.
        but: Option<UserId>,
    },
}
