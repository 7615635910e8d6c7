//! Who is where. [`local`] says it of this node; [`bus`] is the seam to the other nodes on the same store.
//!
//! - [`bus`]: what is told, and by what means;
//! - `post`: this node's side of telling; `hear`: its side of being told;
//! - [`peers`]: what is known of each other node: which parcels came, and who is there;
//! - [`redis`]: a bus.
//!
//! Invariants:
//! - a parcel is acted upon at most once, in any order; news of who is where in the order they were posted;
//! - a session is ended for another one of its device only if that one's node knew of it before it registered its own;
//! - a parcel that is lost is noticed by the next one or by a heartbeat, and then doubted: every session of this node
//!   is told to sync, and nothing that is cached counts before it was compared with the store;
//! - what concerns some users is posted to the nodes where they are known to be, and to those of which that is not
//!   known for certain; `recent` and [`bus::Notice::Blind`] make good what knowing late costs;
//! - without a bus ([`bus::Alone`]) none of this runs.
//!
//! Absent on purpose: anything that decides. What may be written or read is decided by the store, whatever was heard.

pub(crate) mod bus;
pub(crate) mod hear;
pub(crate) mod local;
pub(crate) mod peers;
pub(crate) mod post;
mod recent;
pub mod redis;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::Mutex;
use roost_wire::link::SessionKey;
use tokio::time::Instant;

use crate::sharded::Sharded;
use bus::{Bus, NodeId};
use peers::Peers;
use recent::Recent;

/// What a router keeps for the sake of other nodes.
pub(crate) struct Cluster<B> {
    bus: B,
    /// There are no other nodes.
    pub(crate) alone: bool,
    node: NodeId,
    incarnation: u64,
    /// When it was made.
    pub(crate) began: Instant,
    /// The last number given to a parcel.
    posted: AtomicU64,
    /// The last number given to a parcel for one node. A node is never forgotten: it may remember the numbers.
    direct: Mutex<BTreeMap<NodeId, u64>>,
    recent: Recent,
    peers: Mutex<Peers>,
    /// The number that was next when each session of this node was about to be registered: whoever knows of it, or of
    /// a higher one, knows of something that came after the session.
    numbers: Sharded<HashMap<SessionKey, u64>>,
    /// How often something was doubted.
    doubts: AtomicU64,
    telling: Mutex<Telling>,
    /// Another node wants to know who is here.
    asked: AtomicBool,
    /// The list of who is here that is being told.
    listing: Mutex<Option<Listing>>,
}

/// How far a list of who is here was told.
#[derive(Default)]
struct Listing {
    /// The part of the table of local sessions that comes next.
    place: usize,
    /// The part of the list that comes next.
    part: u32,
}

/// Doubts as the sessions are told of them.
#[derive(Default)]
struct Telling {
    told: Option<Instant>,
    due: bool,
}

impl<B: Bus> Cluster<B> {
    pub(crate) fn new(bus: B) -> Self {
        let alone = bus.is_alone();
        Self {
            alone,
            recent: Recent::new(!alone),
            direct: Mutex::default(),
            node: bus.node(),
            incarnation: bus.incarnation(),
            began: Instant::now(),
            bus,
            posted: AtomicU64::new(0),
            peers: Mutex::default(),
            numbers: Sharded::default(),
            doubts: AtomicU64::new(0),
            telling: Mutex::default(),
            asked: AtomicBool::new(false),
            listing: Mutex::default(),
        }
    }

    /// Rises with every doubt: what was read before counts no more. Always 0 without other nodes.
    pub(crate) fn doubts(&self) -> u64 {
        self.doubts.load(Relaxed)
    }
}
