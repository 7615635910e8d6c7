//! The kinds of faults: what they are called, and how often each happened.

use std::fmt;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal,)+) => {
        /// A kind of fault. Each has a random stream of its own, so that one more kind changes nothing in the others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[doc = $doc])+ $kind,)+ }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Its name, for reports and for its random stream.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }
        }
    };
}

kinds! {
    /// What a connection carries arrives seconds late for a while.
    LinkDelay = "link delay",
    /// A connection is cut: what is under way is lost, both ends hear of it.
    LinkCut = "link cut",
    /// A connection goes silent in one direction or both, and nobody is told.
    LinkSilent = "link half-open",
    /// An app does not read for a while.
    LinkStall = "reader stalled",
    /// Every connection is cut at once.
    Storm = "reconnect storm",
    /// The sender's connection is cut between the durable append and SENT.
    AckLost = "acknowledgement lost",
    /// An app is killed; its disk stays.
    ClientKill = "client killed",
    /// A node is killed at whatever step it is.
    NodeKill = "node killed",
    /// A node is killed between a durable append of its own and the answer to it.
    NodeKillAtWrite = "node killed at a write",
    /// All nodes are killed at once.
    AllKill = "all nodes killed",
    /// A node drains: its sessions move, then it stops.
    Drain = "node drained",
    /// Reads and writes of the store take long for a while.
    StoreSlow = "store slow",
    /// The store refuses a call: nothing was done.
    StoreRefuse = "store refused",
    /// The store does what it is asked to, and the answer is lost.
    StoreAnswerLost = "store answer lost",
    /// The store does what it is asked to, and no answer ever comes.
    StoreHang = "store hung",
    /// The store's host dies: what it had not synced is lost, but for a prefix.
    StoreCrash = "store crashed",
    /// Writes that were lost with the host.
    WritesLost = "unsynced write lost",
    /// A clock stands elsewhere than others from the start.
    ClockSkew = "clock skewed",
    /// A node's wall clock jumps.
    ClockJump = "clock jumped",
    /// A parcel between nodes is lost.
    BusLoss = "bus parcel lost",
    /// A parcel between nodes arrives twice.
    BusDuplicate = "bus parcel doubled",
    /// A parcel between nodes is overtaken by later ones.
    BusReorder = "bus parcel late",
    /// Two nodes hear nothing of each other for a while, or one nothing of the other.
    BusPartition = "bus partition",
    /// A datagram of QUIC is lost.
    DatagramLoss = "datagram lost",
    /// A datagram is overtaken by later ones.
    DatagramReorder = "datagram late",
    /// A datagram arrives twice.
    DatagramDuplicate = "datagram doubled",
    /// A datagram arrives with another bit, or cut.
    DatagramSpoilt = "datagram spoilt",
    /// A stranger sends a datagram once more that it has overheard, from an address of its own or as if from the sender's.
    DatagramReplay = "datagram replayed",
    /// Datagrams of a client do not come through for a while.
    UdpBlocked = "UDP blocked",
    /// A client has another address from now on, and may or may not know.
    AddressChange = "address changed",
    /// A client moves its session to another transport, or to another connection of the same.
    Move = "session moved",
    /// One of the two connections breaks at the moment when a session is handed over.
    MoveCut = "cut at a hand-over",
}

/// How often each kind happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    pub(crate) fn add(&mut self, fault: Fault, count: u64) {
        self.0[fault as usize] += count;
    }

    /// How often `fault` happened.
    #[must_use]
    pub const fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Every kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.iter().map(|fault| (*fault, self.of(*fault)))
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl std::ops::AddAssign<&Self> for FaultCounts {
    fn add_assign(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

/// A table, one kind a line.
impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(fault, count)| writeln!(f, "{count:>10}  {}", fault.name()))
    }
}
