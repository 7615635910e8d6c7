//! How many sessions fit.

use serde::Serialize;

use super::facts::{Facts, IoUring};
use crate::admission::Reserve;
use crate::descriptors;

/// Kernel memory of an idle session: socket, inode, file, dentry and what waits for its bytes (measured:
/// `benches/results`).
pub(crate) const KERNEL_BYTES: u64 = 4000;
/// User memory of an idle session: the table in ARCHITECTURE.md, with what the allocator rounds up.
pub(crate) const USER_BYTES: u64 = 400;
/// What the node itself takes, with the caches of its store.
const NODE_BYTES: u64 = 128 << 20;
/// Descriptors that a ring's table of them may have (`IORING_MAX_FIXED_FILES`).
const RING_FILES_MAX: u64 = 1 << 20;
/// Locked memory of one ring.
const RING_BYTES: u64 = 86 << 10;

/// Most sessions, by what bounds them. `None`: this does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Capacity {
    /// By the memory that is available, less the reserve.
    pub(crate) memory: Option<u64>,
    /// By descriptors of this process.
    pub(crate) descriptors: Option<u64>,
    /// By rings and their tables.
    pub(crate) rings: Option<u64>,
    /// By descriptors of the whole machine.
    pub(crate) machine_files: Option<u64>,
}

impl Capacity {
    pub(crate) fn of(facts: &Facts) -> Self {
        let memory = facts.memory.map(|memory| {
            let reserve_bytes = Reserve::default().bytes(memory.total_bytes).unwrap_or(0);
            memory.available_bytes.saturating_sub(reserve_bytes + NODE_BYTES) / (KERNEL_BYTES + USER_BYTES)
        });
        let nofile = facts.descriptors.reach();
        let descriptors = (nofile != u64::MAX).then(|| descriptors::beside_reserve(nofile));
        Self { memory, descriptors, rings: rings(facts, nofile), machine_files: machine_files(facts) }
    }

    /// Most sessions with descriptors: the poll driver.
    pub(crate) fn poll(&self) -> Option<u64> {
        [self.memory, self.descriptors, self.machine_files].into_iter().flatten().min()
    }

    /// Most sessions with rings.
    pub(crate) fn uring(&self) -> Option<u64> {
        [self.memory, self.rings, self.machine_files].into_iter().flatten().min()
    }
}

/// A ring has a descriptor and a table with as many as the process may have.
fn rings(facts: &Facts, nofile: u64) -> Option<u64> {
    if facts.io_uring != IoUring::Works {
        return Some(0);
    }
    let by_descriptors = descriptors::beside_reserve(nofile);
    let by_memlock = if facts.ipc_lock { None } else { facts.memlock.reach().checked_div(RING_BYTES) };
    let rings = by_memlock.map_or(by_descriptors, |rings| rings.min(by_descriptors));
    rings.checked_mul(nofile.min(RING_FILES_MAX))
}

fn machine_files(facts: &Facts) -> Option<u64> {
    let sysctls = &facts.sysctls;
    Some(sysctls.file_max?.saturating_sub(sysctls.files_open.unwrap_or(0)))
}
